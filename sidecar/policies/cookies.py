"""The session cookie, which keeps a client on its server: whether a Route has it, and its name.

HAProxy knows it by one name, `web.cookie_name`; rules of haproxy.cfg rename it on the way to the
client and back, where a Route has another one. Pure.
"""

import re
from collections.abc import Mapping

from sidecar.model.objects import Key
from sidecar.policies.base import (
    HTTP,
    OTHER_PREFIX,
    POLICIES_ATTRIBUTE,
    Policies,
    Policy,
    parse_switch,
    route_mark,
)

#: The attribute: its name, where it has one of its own.
COOKIES = "cookies"

#: Among the letters: it has none; it has another name.
_NONE, NAMED = "c", "k"

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")

#: Of a Route, in the name of its cookie.
_DIGITS = 8


def _parse_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("write at most 128 letters, digits, _ and -")
    return text


def _tells_switch(is_off: bool) -> Mapping[str, str]:
    return {POLICIES_ATTRIBUTE: _NONE} if is_off else {}


def _tells_name(name: str) -> Mapping[str, str]:
    return {COOKIES: name, POLICIES_ATTRIBUTE: NAMED}


DISABLE_COOKIES = Policy(
    "disable_cookies",
    "disable cookies",
    parse_switch,
    "it has one until fixed",
    HTTP,
    _tells_switch,
)
COOKIE_NAME = Policy(
    "cookie_name",
    "name of the cookie",
    _parse_name,
    "using the default until fixed",
    HTTP,
    _tells_name,
    OTHER_PREFIX,
)


def own_cookie(route: Key, path: str, policies: Policies, common: str) -> str:
    """The name that a Route with ``path`` has, which wishes none; "" for the ``common`` one. One of
    several that share a host has a name of its own, or clients would lose their servers on the way
    from one to another: each would overwrite the cookie of the other. Only with a path a Route can
    be of several, and of these at most one has none, so that may have the ``common`` one, which
    costs nothing."""
    says_so = COOKIES in policies.told or policies.get(DISABLE_COOKIES)
    if says_so or path in ("", "/"):
        return ""
    return f"{common}-{route_mark(route, _DIGITS)}"
