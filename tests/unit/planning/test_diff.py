"""A plan as a difference: applying it in thought ends where the planner wanted to be."""

from collections.abc import Sequence

from core import closing, opening

from sidecar.haproxy import operations
from sidecar.haproxy.operations import (
    AddServer,
    DeleteServer,
    EnableHealth,
    EndSession,
    EndSessions,
    KeyOperation,
    OpenPort,
    Operation,
    SetAddress,
    SetHealth,
    SetMaxconn,
    SetState,
    SetWeight,
)
from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.listeners.tcp import unit_of
from sidecar.model.pool import PARKED, Address
from sidecar.planning.diff import after, difference
from sidecar.planning.planner import Plan
from sidecar.planning.slots import Assignment

A, B = Address("10.0.0.1", 9000), Address("10.0.0.2", 9000)
BEFORE = ObservedUnit(
    unit_of(30000),
    frozenset(),
    {
        "s1": ObservedServer("s1", A, "ready", 256, True, 5),
        "s2": ObservedServer("s2", PARKED, "maint", 256, True, 5),
        "x1": ObservedServer("x1", B, "maint", 1, True, 5),
    },
)

EXPOSURES: dict[KeyOperation, list[str]] = {
    opening(30000): ["- closed", "+ open"],
    closing(30000): [],
}
OPERATIONS: dict[Operation, list[str]] = {
    SetAddress(unit_of(30000), "s2", B): ["+ s2 10.0.0.2:9000 maint, weight 256"],
    SetAddress(unit_of(30000), "s1", PARKED): ["- s1 10.0.0.1:9000 ready, weight 256"],
    SetWeight(unit_of(30000), "s1", 7): [
        "- s1 10.0.0.1:9000 ready, weight 256",
        "+ s1 10.0.0.1:9000 ready, weight 7",
    ],
    SetMaxconn(unit_of(30000), "s1", 7): [
        "- s1 10.0.0.1:9000 ready, weight 256",
        "+ s1 10.0.0.1:9000 ready, weight 256, maxconn 7",
    ],
    SetState(unit_of(30000), "s1", "drain"): [
        "- s1 10.0.0.1:9000 ready, weight 256",
        "+ s1 10.0.0.1:9000 drain, weight 256",
    ],
    SetHealth(unit_of(30000), "s1", "down"): [
        "- s1 10.0.0.1:9000 ready, weight 256",
        "+ s1 10.0.0.1:9000 ready, down, weight 256",
    ],
    AddServer(unit_of(30000), "x2", 9, ()): [],  # it leads nowhere yet
    DeleteServer(unit_of(30000), "x1"): ["- x1 10.0.0.2:9000 maint, weight 1"],
    EnableHealth(unit_of(30000), "s1"): [],
    EndSessions(unit_of(30000), "s1"): [],
    EndSession(unit_of(30000), "0x1"): [],
}


def planned(
    *tidy: Operation, conceal: Sequence[KeyOperation] = (), expose: Sequence[KeyOperation] = ()
) -> Plan:
    nobody = Assignment({}, {}, (), ())
    return Plan(BEFORE.unit, tuple(conceal), (), {}, (), (), tuple(expose), tidy, None, nobody)


def test_each_operation_changes_what_it_says() -> None:
    for operation, lines in OPERATIONS.items():
        assert list(difference(BEFORE, after(BEFORE, planned(operation)))) == lines, operation
    for exposure, lines in EXPOSURES.items():
        phase = "expose" if isinstance(exposure, OpenPort) else "conceal"
        item = planned(**{phase: [exposure]})
        assert list(difference(BEFORE, after(BEFORE, item))) == lines, exposure
    kinds = {
        kind
        for kind in vars(operations).values()
        if isinstance(kind, type)
        and kind.__module__ == operations.__name__
        and hasattr(kind, "unit")
    }
    tried = {type(operation) for operation in (*OPERATIONS, *EXPOSURES)}
    assert tried == kinds - {Operation, KeyOperation}, "all kinds"
    assert after(BEFORE, planned()) == BEFORE
