"""How much each client, by its address, may ask of a Route. Pure.

Several annotations that mean something only together: three limits, and the one that switches them
on. Unlike in OpenShift's router as many as a limit says are served, and one more is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.model.objects import Key
from sidecar.policies.base import (
    EVERY_WAY,
    GUARDING_FLAGS,
    HTTP,
    Policy,
    Way,
    parse_number,
    parse_switch,
    route_mark,
)

#: The attribute: by what HAProxy knows the Route, and the limits in the order of `_LIMITS`, with
#: "/" between them and nothing where there is none.
LIMITS = "limits"

#: Among the letters: clients are counted.
_LIMITED = "l"

#: For one key the Route, in hexadecimal digits, and the longest address have to fit into the table.
_DIGITS = 16


RATE_LIMIT_CONNECTIONS = Policy(
    "rate-limit-connections",
    "rate limits",
    parse_switch,
    "limiting nothing until fixed",
)


def _limit(name: str, title: str, ways: frozenset[Way]) -> Policy[int]:
    name = f"{RATE_LIMIT_CONNECTIONS.name}.{name}"
    return Policy(name, title, parse_number, "without this limit until fixed", ways)


#: At a time; in 3 seconds; in 10 seconds.
_LIMITS = (
    _limit("concurrent-tcp", "limit of concurrent connections", EVERY_WAY),
    _limit("rate-tcp", "limit of new connections", EVERY_WAY),
    _limit("rate-http", "limit of requests", HTTP),
)

RATE_LIMITS = (RATE_LIMIT_CONNECTIONS, *_LIMITS)


def together(values: Mapping[str, Any]) -> tuple[Mapping[str, str], Sequence[str]]:
    """Of a Route's ``values``, by name: what HAProxy is told of its backend because of these
    together, and what its author is."""
    switch = RATE_LIMIT_CONNECTIONS
    limits = [policy for policy in _LIMITS if policy.name in values]
    if limits and switch.name not in values:
        named = ", ".join(policy.annotation for policy in limits)
        return {}, (f"without effect until {switch.annotation} is true: {named}",)
    if not values.get(switch.name):
        return {}, ()
    if not limits:
        every = ", ".join(policy.annotation for policy in _LIMITS)
        return {}, (f"{switch.annotation} limits nothing by itself; add one of {every}",)
    found = (str(values.get(policy.name, "")) for policy in _LIMITS)
    return {LIMITS: "/".join(found), GUARDING_FLAGS: _LIMITED}, ()


def limits_of(route: Key, limits: str) -> str:
    """The attribute of ``route``. ``limits``: as told. Clients are counted by Route, as another
    one may get its backend while they are still counted."""
    return f"{mark_of(route)}/{limits}"


def mark_of(route: Key) -> str:
    """By what HAProxy knows ``route``: short, and as long for any."""
    return route_mark(route, _DIGITS)
