"""A plan as a difference: applying it in thought ends where the planner wanted to be."""

from typing import get_args

from sidecar.haproxy.operations import (
    AddServer,
    ClosePort,
    DeleteServer,
    EnableHealth,
    EndSession,
    EndSessions,
    OpenPort,
    Operation,
    SetAddress,
    SetHealth,
    SetState,
    SetWeight,
)
from sidecar.haproxy.state import ObservedPort, ObservedServer
from sidecar.model.pool import PARKED, Address
from sidecar.planning.diff import after, difference

A, B = Address("10.0.0.1", 9000), Address("10.0.0.2", 9000)
BEFORE = ObservedPort(
    30000,
    False,
    {
        "s1": ObservedServer("s1", A, "ready", 256, True, 5),
        "s2": ObservedServer("s2", PARKED, "maint", 256, True, 5),
        "x1": ObservedServer("x1", B, "maint", 1, True, 5),
    },
)

OPERATIONS: dict[Operation, list[str]] = {
    OpenPort(30000): ["- closed", "+ open"],
    ClosePort(30000): [],
    SetAddress(30000, "s2", B): ["+ s2 10.0.0.2:9000 maint, weight 256"],
    SetAddress(30000, "s1", PARKED): ["- s1 10.0.0.1:9000 ready, weight 256"],
    SetWeight(30000, "s1", 7): [
        "- s1 10.0.0.1:9000 ready, weight 256",
        "+ s1 10.0.0.1:9000 ready, weight 7",
    ],
    SetState(30000, "s1", "drain"): [
        "- s1 10.0.0.1:9000 ready, weight 256",
        "+ s1 10.0.0.1:9000 drain, weight 256",
    ],
    SetHealth(30000, "s1", "down"): [
        "- s1 10.0.0.1:9000 ready, weight 256",
        "+ s1 10.0.0.1:9000 ready, down, weight 256",
    ],
    AddServer(30000, "x2", B, 9, ()): ["+ x2 10.0.0.2:9000 maint, weight 9"],
    DeleteServer(30000, "x1"): ["- x1 10.0.0.2:9000 maint, weight 1"],
    EnableHealth(30000, "s1"): [],
    EndSessions(30000, "s1", 1, all=True): [],
    EndSession(30000, "0x1"): [],
}


def test_each_operation_changes_what_it_says() -> None:
    for operation, lines in OPERATIONS.items():
        assert list(difference(BEFORE, after(BEFORE, [operation]))) == lines, operation
    assert {type(operation) for operation in OPERATIONS} == set(get_args(Operation)), "all kinds"
    assert after(BEFORE, []) == BEFORE
