"""What somebody else changed in HAProxy, in words for the log.

Compares two looks at a unit between which the sidecar itself changed nothing. What HAProxy does by
itself (sessions, and health where it is checked) is no change. Pure.
"""

from collections.abc import Iterator

from sidecar.common.text import cut, few, shown
from sidecar.haproxy.operations import State
from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.model.pool import PARKED, Address

# More changes than this are only counted, and longer names of servers are cut.
_SHOWN_MAX = 4
_NAME_MAX = 40

_IN: dict[State, str] = {"ready": "ready", "drain": "in drain", "maint": "in maint"}


def changes(before: ObservedUnit, now: ObservedUnit) -> tuple[str, ...]:
    """What of ``now`` is not as it was, a phrase for each server and for what leads to it."""
    return tuple(_changes(before, now))


def summary(changes: tuple[str, ...]) -> str:
    """``changes`` as one short text."""
    return few(changes, _SHOWN_MAX, "; ")


def _changes(before: ObservedUnit, now: ObservedUnit) -> Iterator[str]:
    for name, was in before.servers.items():
        server = now.servers.get(name)
        if server is None:
            yield f"{cut(name, _NAME_MAX)} was deleted, was {_whole(was)}"
        elif found := list(_differences(was, server)):
            is_, was_ = (" and ".join(words) for words in zip(*found, strict=True))
            yield f"{cut(name, _NAME_MAX)} is {is_}, was {was_}"
    for name, server in now.servers.items():
        if name not in before.servers:
            yield f"{cut(name, _NAME_MAX)} was added, is {_whole(server)}"
    for name in sorted(before.attributes.keys() | now.attributes.keys()):
        value, former = now.attributes.get(name), before.attributes.get(name)
        if value != former:
            yield f"{name} is {_value(value)}, was {_value(former)}"
    if now.open != before.open:
        yield f"it is {'open' if now.open else 'closed'} to clients, was not"


def _differences(was: ObservedServer, now: ObservedServer) -> Iterator[tuple[str, str]]:
    """Pairs of words: what is, what was."""
    if now.state != was.state:
        yield _IN[now.state], _IN[was.state]
    if now.address != was.address:
        yield _at(now.address), _at(was.address)
    if now.weight != was.weight:
        yield f"of weight {now.weight}", f"of weight {was.weight}"
    if None not in (now.maxconn, was.maxconn) and now.maxconn != was.maxconn:
        yield f"of maxconn {now.maxconn}", f"of maxconn {was.maxconn}"
    if (now.checks == "on") != (was.checks == "on"):
        yield _checked(now), _checked(was)
    elif now.checks == "none" and now.up != was.up and now.state == was.state:
        yield ("up", "down") if now.up else ("down", "up")


def _value(text: str | None) -> str:
    return "not set" if text is None else shown(text)


def _checked(server: ObservedServer) -> str:
    return "checked" if server.checks == "on" else "not checked"


def _whole(server: ObservedServer) -> str:
    return f"{_IN[server.state]} and {_at(server.address)}"


def _at(address: Address) -> str:
    return "parked" if address == PARKED else f"at {address}"
