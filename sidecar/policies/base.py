"""What a policy is: an annotation's name, and how its text is read. Pure.

A policy does not know who heeds it. A text that cannot be used is no reason to refuse a Route, but
for `sidecar.policies.allowed_sources`: what the settings say holds, and the Route's author is told.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, cast

from sidecar.model.objects import Key

T = TypeVar("T")

#: Where OpenShift's router, and we, have such annotations; and where it has a few others.
PREFIX, OTHER_PREFIX = "haproxy.router.openshift.io/", "router.openshift.io/"

#: How a Route is served: by a port, or by its host and with which termination.
Way = Literal["port", "http", "edge", "reencrypt", "passthrough"]

#: Those that HAProxy speaks HTTP on; and where it ends TLS for that.
HTTP: frozenset[Way] = frozenset({"http", "edge", "reencrypt"})
TLS_ENDED: frozenset[Way] = frozenset({"edge", "reencrypt"})
EVERY_WAY: frozenset[Way] = HTTP | {"port", "passthrough"}

#: The attribute of which several policies have a part: a letter each, which haproxy.cfg looks for.
POLICIES_ATTRIBUTE = "policies"

#: The same, of what no Route may be served without.
GUARDING_FLAGS = "flags"

#: HAProxy reads and counts no further.
_NUMBER_MAX = 2**31 - 1

_NUMBER = re.compile(r"\+?0*([1-9][0-9]{0,9})", re.ASCII)

#: As Go's strconv.ParseBool reads them.
_YES = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_NO = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def parse_switch(text: str) -> bool:
    """The text of one that is on or off."""
    if text not in _YES | _NO:
        raise ValueError("write true or false")
    return text in _YES


def parse_number(text: str) -> int:
    """The text of a limit."""
    found = _NUMBER.fullmatch(text)
    if not found or int(found[1]) > _NUMBER_MAX:
        raise ValueError(f"write a number from 1 to {_NUMBER_MAX}")
    return int(found[1])


def add_letters(told: dict[str, str], attribute: str, letters: str) -> None:
    """HAProxy is ``told`` these ``letters``, too, each once and in one order, or an attribute that
    stays as it is would be set anew."""
    told[attribute] = "".join(sorted({*told.get(attribute, ""), *letters}))


def route_mark(route: Key, digits: int) -> str:
    """By what HAProxy knows ``route`` where a name may be too long: so many hexadecimal digits."""
    return hashlib.sha256(route.title.encode()).hexdigest()[:digits]


def _nothing(_: Any) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Policy(Generic[T]):
    """One annotation. ``name``: its key without the ``prefix``. ``parse``: its value, of the text;
    raises ValueError, which says what would be right. ``otherwise``: what holds where it cannot be
    used. ``ways``: for which Routes it can be heeded. ``tells``: attribute -> what HAProxy is told
    of the Route's backend because of a value."""

    name: str
    title: str
    parse: Callable[[str], T]
    otherwise: str
    ways: frozenset[Way] = EVERY_WAY
    tells: Callable[[T], Mapping[str, str]] = _nothing
    prefix: str = PREFIX

    @property
    def annotation(self) -> str:
        """The annotation's key, unless a setting says otherwise."""
        return self.prefix + self.name


@dataclass(frozen=True, slots=True)
class Policies:
    """What one Route wishes. ``notes``: what of it cannot be used, for its author. ``told``: what
    HAProxy is to know of its backend, see `Policy.tells`."""

    values: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    told: Mapping[str, str] = field(default_factory=dict)

    def get(self, policy: Policy[T]) -> T | None:
        """None where the Route does not say, or nothing that can be used: then the settings do."""
        return cast("T | None", self.values.get(policy.name))


#: Of a Route that wishes nothing.
NO_POLICIES = Policies()
