"""From desired and observed to operations: a pure function per port.

The invariant: at every instant between two operations, each connection that HAProxy accepts on a
port is led to an endpoint that the port's Route has (or had a moment ago), never to anybody
else's, and a port that had a usable server keeps one. The order that gives it:

1. ``prepare``: a port that closes, closes first. A slot whose address changes goes to ``maint``
   before (normally it is there already), then gets its address and weight.
2. The barrier: HAProxy is read back until it shows these addresses. From 3.0 on it applies an
   address *after* its reply; a slot made ready too early leads to its former endpoint.
3. ``activate``: new servers become ``ready`` and weights are set; then the port opens; only then
   do the old ones ``drain`` or go to ``maint``, and idle ones that left are parked.

An empty plan means that observed equals desired. Applying a plan and planning again ends in an
empty one; each round is planned from a fresh look, so a lost, doubled or refused operation only
costs another round.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sidecar.endpoints import DesiredServer
from sidecar.observed import ObservedPort, ObservedServer
from sidecar.operations import (
    ClosePort,
    OpenPort,
    Operation,
    SetAddress,
    SetState,
    SetWeight,
)
from sidecar.pool import PARKED, Address
from sidecar.slots import Assignment, assign


@dataclass(frozen=True, slots=True)
class DesiredPort:
    """What one port should be. ``servers``: sorted by address; empty for a port nobody claims."""

    port: int
    open: bool
    servers: tuple[DesiredServer, ...]


@dataclass(frozen=True, slots=True)
class PortPlan:
    """The operations that turn one observed port into the desired one.

    ``readback``: server name -> the address that HAProxy must show between ``prepare`` and
    ``activate``. ``assignment``: who got which slot, and who none.
    """

    port: int
    prepare: tuple[Operation, ...]
    readback: Mapping[str, Address]
    activate: tuple[Operation, ...]
    assignment: Assignment

    @property
    def operations(self) -> tuple[Operation, ...]:
        return self.prepare + self.activate

    def __bool__(self) -> bool:
        return bool(self.prepare or self.activate)


def plan(desired: DesiredPort, observed: ObservedPort) -> PortPlan:
    """The plan for one port. ``observed`` must have the sessions of slots that are in maint with
    an address (see `leaving`), else they count as idle."""
    port, slots = desired.port, observed.servers
    assignment = assign(desired.servers, slots)
    placed = assignment.placed
    prepare: list[Operation] = []
    readback: dict[str, Address] = {}
    activate: list[Operation] = []
    retire: list[Operation] = []
    if observed.open and not desired.open:
        prepare.append(ClosePort(port))
    for name, server in placed.items():
        slot = slots[name]
        if slot.address != server.address:
            if slot.state != "maint":
                prepare.append(SetState(port, name, "maint"))
            prepare.append(SetAddress(port, name, server.address))
            readback[name] = server.address
            if server.weight is not None and slot.weight != server.weight:
                prepare.append(SetWeight(port, name, server.weight))
            activate.append(SetState(port, name, "ready"))
        elif server.state == "drain":
            if slot.state == "ready":
                retire.append(SetState(port, name, "drain"))
        else:
            if server.weight is not None and slot.weight != server.weight:
                activate.append(SetWeight(port, name, server.weight))
            if slot.state != "ready":
                activate.append(SetState(port, name, "ready"))
    if desired.open and not observed.open:
        activate.append(OpenPort(port))
    retire.extend(_leave(port, observed, assignment))
    return PortPlan(port, tuple(prepare), readback, (*activate, *retire), assignment)


def _leave(port: int, observed: ObservedPort, assignment: Assignment) -> Iterator[Operation]:
    """Take out the servers that nobody wants any more, and park those that nobody uses."""
    placed = assignment.placed
    unwanted = [slot for name, slot in observed.servers.items() if name not in placed]
    serving = [slot for slot in unwanted if slot.state == "ready"]
    if assignment.left_out and not any(server.state == "ready" for server in placed.values()):
        # All slots are taken by servers that left. One goes on until, in the next round, the
        # first of the new ones has a slot: else the port would have no server for a moment.
        serving = serving[1:]
    for slot in unwanted:
        if slot.state == "drain" or slot in serving:
            yield SetState(port, slot.name, "maint")
        elif slot.state == "maint" and slot.address != PARKED and not slot.sessions:
            yield SetAddress(port, slot.name, PARKED)


def leaving(slots: Mapping[str, ObservedServer]) -> bool:
    """Whether sessions must be counted before `plan`: some slot is in maint with an address."""
    return any(slot.state == "maint" and slot.address != PARKED for slot in slots.values())


def used(slots: Mapping[str, ObservedServer]) -> bool:
    """Whether some slot has an endpoint, or had one that may still have sessions."""
    return any(slot.address != PARKED for slot in slots.values())
