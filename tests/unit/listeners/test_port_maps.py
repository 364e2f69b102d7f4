"""`sidecar.listeners.port_maps`: what guards a port, told and saved."""

from stand import pool_of

from sidecar.haproxy.dialect import MAP_UNKNOWN
from sidecar.haproxy.maps import AddEntry, DeleteEntry
from sidecar.haproxy.operations import ClosePort, OpenPort, SetAddress, SetState
from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.listeners.port_maps import (
    NOBODY,
    PORT_GUARDS,
    PORT_LIMITS,
    PORT_SOURCES,
    PortMaps,
    between,
)
from sidecar.listeners.tcp import TCPPorts, key_of, unit_of
from sidecar.model.desired import Attributes, ClaimKey, DesiredServer
from sidecar.model.pool import PARKED, Address
from sidecar.planning.planner import DesiredUnit, Plan, plan

POOL = pool_of({"ports": ["30000-30001"], "slots": 2})
UNIT, KEY = unit_of(30000), key_of(30000)
OPEN, CLOSED = frozenset({KEY}), frozenset[ClaimKey]()
FILES = ("sources.map", "guards.map", "limits.map")
LISTED = {PORT_SOURCES: "a/4/0A", PORT_GUARDS: "a"}
A, B = (
    DesiredServer(Address(ip, 1), "ready", 256, "s", None, None) for ip in ("10.0.0.1", "10.0.0.2")
)


def ports() -> TCPPorts:
    return TCPPorts(POOL, maps=PortMaps(POOL_UNITS, *FILES, is_known=True))


POOL_UNITS = [unit_of(port) for port in POOL.ports]


def observed(has: Attributes, server: DesiredServer | None, *, is_open: bool) -> ObservedUnit:
    first = ObservedServer("s1", server.address if server else PARKED, "ready", 256, True, 9)
    if server is None:
        first = first._replace(state="maint")
    second = ObservedServer("s2", PARKED, "maint", 256, True, 9, 0)
    return ObservedUnit(UNIT, OPEN if is_open else CLOSED, {"s1": first, "s2": second}, has)


def planned(
    seen: ObservedUnit, wants: Attributes, *servers: DesiredServer, kind: TCPPorts | None = None
) -> Plan:
    kind = kind or ports()
    for item in kind.maps.maps:
        if item.name in seen.attributes:
            item.values = {UNIT: seen.attributes[item.name]}
    desired = DesiredUnit(UNIT, OPEN if servers else CLOSED, servers, attributes=wants)
    return plan(desired, seen, kind, can_add=False)


def kinds(item: Plan) -> list[type]:
    return [type(operation) for operation in item.operations]


def test_who_is_let_in_is_read_back_before_anybody_is() -> None:
    told = planned(observed({}, None, is_open=False), LISTED, A)
    assert kinds(told) == [AddEntry, AddEntry]
    assert [item.key.listener for item in told.describe] == [PORT_SOURCES, PORT_GUARDS]
    then = planned(observed(LISTED, None, is_open=False), LISTED, A)
    assert OpenPort in kinds(then)
    assert AddEntry not in kinds(then)


def test_it_goes_last_and_alone() -> None:
    gone = planned(observed(LISTED, A, is_open=True), {})
    assert kinds(gone) == [ClosePort, SetState]
    other = planned(observed(LISTED, A, is_open=True), {}, B)
    assert SetAddress in kinds(other)
    assert DeleteEntry not in kinds(other)
    last = planned(observed(LISTED, B, is_open=True), {}, B)
    assert kinds(last) == [DeleteEntry, DeleteEntry]
    assert [item.key.listener for item in last.forget] == [PORT_GUARDS, PORT_SOURCES]


def test_a_haproxy_without_the_maps_has_the_port_closed() -> None:
    kind = ports()
    answers = {f"show map {file}": min(MAP_UNKNOWN) for file in FILES}
    kind.parse(answers, [UNIT])
    assert [
        type(item) for item in planned(observed({}, A, is_open=True), LISTED, A, kind=kind).conceal
    ]
    assert kind.takes(PORT_LIMITS, "a/1//") is False
    # Others are of no matter.
    assert OpenPort in kinds(planned(observed({}, A, is_open=False), {}, A, kind=kind))
    limited = {PORT_LIMITS: "a/1//"}
    assert OpenPort in kinds(planned(observed({}, A, is_open=False), limited, A, kind=kind))


def test_one_that_cannot_be_asked_for_is_not() -> None:
    kind = TCPPorts(POOL)
    assert kind.questions(None, []) == ["show stat -1 1 -1"]
    assert kind.lacks(PORT_SOURCES, "a/4/0A")


def test_nothing_is_asked_for_of_a_port_without() -> None:
    kind = ports()
    assert kind.questions([UNIT], [KEY]) == ["show stat tcp-30000 1 -1"]
    assert kind.questions([UNIT], [ClaimKey(PORT_GUARDS, UNIT)])[1:] == [
        f"get map guards.map {UNIT}"
    ]
    assert kind.questions([], [ClaimKey(PORT_SOURCES, UNIT)]) == ["show map sources.map"]


def test_a_file_between_two_states_lets_nobody_in_where_the_route_is_another() -> None:
    saved, now = {"kept": "a", "gone": "a", "other": "a"}, {"kept": "a", "new": "b", "other": "b"}
    found = between(saved, now)
    assert found == {"kept": "a", "gone": "a", "new": "b", "other": NOBODY}
