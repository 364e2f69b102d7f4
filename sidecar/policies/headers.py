"""Which headers of requests and responses a Route sets and deletes: ``spec.httpHeaders``. Pure.

HAProxy has a rule for each name that the settings list, and each value in a map: text, never an
expression. What cannot be told it is named in the Route's message, and the rest holds.
"""

import re
from collections.abc import Iterable, Mapping

from sidecar.common.text import cut, shown
from sidecar.model.header_actions import MESSAGES, HeaderAction, HeaderNames, Messages
from sidecar.model.pool import ROUTE_HEADERS_MAX_BYTES
from sidecar.policies.base import HTTP, POLICIES_ATTRIBUTE, Policies, Way, add_letters

#: The attributes: ``name:entry`` of each header, see `entry_of`, with blanks between them; before
#: these ``:,name,name,``, so that HAProxy looks up no others.
ATTRIBUTES: Mapping[Messages, str] = {"request": "request_headers", "response": "response_headers"}

#: Among the letters of policies: the Route says something of headers.
LETTERS: Mapping[Messages, str] = {"request": "Q", "response": "A"}

#: A Route's settings of either kind, all together: HAProxy has room for them beside its own
#: (tune.maxrewrite in haproxy.cfg), and answers 500 where it has none left.
TOTAL_MAX_BYTES = ROUTE_HEADERS_MAX_BYTES

#: What a header takes in HAProxy's buffer beside its name and value.
_OVERHEAD_BYTES = 16

#: What is for the router alone to say, in lower case; OpenShift's API server refuses it.
FORBIDDEN = ("strict-transport-security", "proxy", "cookie", "set-cookie")

FIELD = "spec.httpHeaders"

#: What stands for itself in an entry; anything else does as %XX. Not "+", which url_dec may take
#: for a blank, nor what a command's word cannot have.
_SAFE = frozenset(
    b"!#$&()*,-./:=>?@[]^_`{|}~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

#: A percent sign that is not doubled, and whether an expression begins there.
_PERCENT = re.compile(r"%%|(%(?:\{[^}]*\})?\[)|(%)")


def entry_of(value: str | None) -> str:
    """The word in HAProxy's map: how a header's value is written there; None: it is deleted."""
    if value is None:
        return "delete"
    encoded = (chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in value.encode())
    return "=" + "".join(encoded)


def unheeded(actions: Iterable[HeaderAction], way: Way) -> tuple[str, ...]:
    """Of a Route that is served that ``way``: the field, where it has no effect."""
    return (FIELD,) if any(actions) and way not in HTTP else ()


def with_headers(
    policies: Policies, actions: Iterable[HeaderAction], names: HeaderNames
) -> Policies:
    """``policies``, and what a Route that HAProxy speaks HTTP for wishes by these."""
    told, notes = dict(policies.told), list(policies.notes)
    found: dict[Messages, dict[str, str]] = {messages: {} for messages in MESSAGES}
    room = dict.fromkeys(MESSAGES, TOTAL_MAX_BYTES)
    for action in actions:
        messages, name = action.messages, action.name.lower()
        try:
            value = _usable(action, names, found[messages], room[messages])
        except ValueError as exc:
            notes.append(str(exc))
            continue
        found[messages][name] = entry_of(value)
        if value is not None:
            room[messages] -= _size(name, value)
    for messages, entries in found.items():
        if entries:
            listed = sorted(entries)
            fields = (f"{name}:{entries[name]}" for name in listed)
            told[ATTRIBUTES[messages]] = " ".join((f":,{','.join(listed)},", *fields))
            add_letters(told, POLICIES_ATTRIBUTE, LETTERS[messages])
    return Policies(policies.values, tuple(notes), told)


def _usable(
    action: HeaderAction, names: HeaderNames, others: Mapping[str, str], room: int
) -> str | None:
    """The header's value, None: it is deleted. Raises ValueError, which says where the problem is
    and what would be right."""
    if action.problem:
        raise ValueError(action.problem)
    where, name = f"{action.where}.name", action.name.lower()
    if name in FORBIDDEN:
        raise ValueError(f"{where}: {shown(action.name)} is not for Routes; leave it out")
    if name not in map(str.lower, names.of(action.messages)):
        # Not with those that it can: a status has little room, and others may have to be named.
        raise ValueError(
            f"{where}: {cut(shown(action.name), 80)} is not in web.route_headers.{action.messages}"
            " of this router's settings; add it there"
        )
    if name in others:
        raise ValueError(f"{where}: {shown(action.name)} is there before; the first one counts")
    if action.value is None:
        return None
    where, value = f"{action.where}.action.set.value", _literal(action)
    if (size := _size(name, value)) > room:
        raise ValueError(
            f"{where}: of {size} bytes with its name, for which there is no room; all that a Route"
            f" sets of {action.messages}s may have {TOTAL_MAX_BYTES}, write less"
        )
    return value


def _literal(action: HeaderAction) -> str:
    """The value that clients or servers are to get."""
    where, text = f"{action.where}.action.set.value", (action.value or "").strip(" \t")
    if not text:
        raise ValueError(f"{where}: empty; write the header's value")
    if _CONTROL.search(text):
        raise ValueError(f"{where}: {shown(text)} has a control character; write text without")
    for found in _PERCENT.finditer(text):
        if found[1]:
            raise ValueError(
                f"{where}: {shown(text)} is an expression, and HAProxy can be told only text while"
                " it runs; write the value itself, or have it in web.headers of the router"
            )
        if found[2]:
            raise ValueError(f"{where}: {shown(text)} has a single %; write %% for it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where}: {shown(text)} is not valid text; write UTF-8") from None
    return text.replace("%%", "%")


def _size(name: str, value: str) -> int:
    return len(name) + len(value.encode()) + _OVERHEAD_BYTES
