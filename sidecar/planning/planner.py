"""From desired and observed to operations: a pure function per port.

The invariant: at every instant between two operations, each connection that HAProxy accepts on a
port is led to an endpoint that the port's Route has (or had a moment ago), never to anybody
else's, and a port that had a usable server keeps one. The order that gives it:

1. ``prepare``: a port that closes, closes first. A slot whose address changes goes to ``maint``
   before (normally it is there already), then gets its address and weight; where no slot is free,
   servers are added.
2. The barrier: HAProxy is read back until it shows these addresses. From 3.0 on it applies an
   address *after* its reply; a slot made ready too early leads to its former endpoint.
3. ``activate``: new servers become ``ready`` and weights are set; then the port opens; only then
   do the old ones ``drain`` or go to ``maint``.
4. ``tidy``: what no connection waits for. Sessions whose time is over end, idle slots that were
   left are parked, idle added servers are deleted.

An empty plan means that observed equals desired. Applying a plan and planning again ends in an
empty one; each round is planned from a fresh look, so a lost, doubled or refused operation only
costs another round.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sidecar.haproxy.operations import (
    AddServer,
    ClosePort,
    DeleteServer,
    EnableHealth,
    EndSessions,
    OpenPort,
    Operation,
    SetAddress,
    SetHealth,
    SetState,
    SetWeight,
)
from sidecar.haproxy.state import Checks, ObservedPort, ObservedServer
from sidecar.model.pool import PARKED, Address, PortPool
from sidecar.planning.slots import Assignment, assign, is_idle
from sidecar.routing.endpoints import DesiredServer


@dataclass(frozen=True, slots=True)
class DesiredPort:
    """What one port should be.

    ``servers``: sorted by address; empty for a port nobody claims. ``servers_max``: how many of
    them may take connections at most. ``drain_deadline_seconds``: after how long the sessions of
    a removed endpoint are ended; 0 means never. ``left_seconds``: slot -> for how long it has
    been without its endpoint. ``sessions_to_end``: how many of the overdue ones now. ``loops``:
    slots that lead to the router itself; their sessions are ended at once.
    """

    port: int
    open: bool
    servers: tuple[DesiredServer, ...]
    servers_max: int = 65535
    drain_deadline_seconds: float = 0.0
    left_seconds: Mapping[str, float] = field(default_factory=dict)
    sessions_to_end: int = 0
    loops: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PortPlan:
    """The operations that turn one observed port into the desired one.

    ``readback``: server name -> the address that HAProxy must show between ``prepare`` and
    ``activate``. ``toggles``: the port opens or closes. ``assignment``: who got which slot, and who
    none.
    """

    port: int
    prepare: tuple[Operation, ...]
    readback: Mapping[str, Address]
    activate: tuple[Operation, ...]
    tidy: tuple[Operation, ...]
    toggles: bool
    assignment: Assignment

    @property
    def operations(self) -> tuple[Operation, ...]:
        return self.prepare + self.activate + self.tidy

    def __bool__(self) -> bool:
        return bool(self.prepare or self.activate or self.tidy)


def plan(
    desired: DesiredPort, observed: ObservedPort, pool: PortPool, *, can_add: bool
) -> PortPlan:
    """The plan for one port of ``pool``; ``can_add``: HAProxy can add and delete servers.

    A slot in maint with an address (see `leaving`) is given away or tidied only if ``observed``
    has its sessions.
    """
    port, slots = desired.port, observed.servers
    assignment = assign(
        desired.servers,
        slots,
        reusable=pool.slot_names,
        at_most=desired.servers_max,
        can_add=can_add,
        unfit=_unfit(pool, slots),
    )
    placed = assignment.placed
    waits = pool.check is not None and _others_serve(placed, slots)
    prepare: list[Operation] = []
    readback: dict[str, Address] = {}
    activate: list[Operation] = []
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
            activate += _make_ready(port, name, slot.checks, waits=waits)
        elif server.state == "ready":
            if server.weight is not None and slot.weight != server.weight:
                activate.append(SetWeight(port, name, server.weight))
            if slot.state == "maint":
                activate += _make_ready(port, name, slot.checks, waits=waits)
            else:
                activate += _mend_health(port, slot)
            if slot.state == "drain":
                activate.append(SetState(port, name, "ready"))
    for name, server in assignment.added.items():
        weight = 0 if server.weight is None else server.weight
        prepare.append(AddServer(port, name, server.address, weight, pool.server_options))
        readback[name] = server.address
        checks: Checks = "off" if pool.check else "none"
        activate += _make_ready(port, name, checks, waits=waits)
    if desired.open and not observed.open:
        activate.append(OpenPort(port))
    retire = list(_retire(observed, assignment, _spared(observed, assignment)))
    if pool.check is not None and not any(isinstance(op, SetState) for op in activate):
        activate += _trust(port, placed, slots, retire)
    activate += retire
    tidy = tuple(_tidy(desired, observed, pool, assignment))
    toggles = desired.open != observed.open
    return PortPlan(port, tuple(prepare), readback, tuple(activate), tidy, toggles, assignment)


def _unfit(pool: PortPool, slots: Mapping[str, ObservedServer]) -> frozenset[str]:
    """Servers that somebody else added, and that differ from the pool's in having checks or not:
    called unhealthy, or dead, one without them would stay so for ever, or be used for ever."""
    return frozenset(
        name
        for name, slot in slots.items()
        if name not in pool.slot_set and (slot.checks == "none") != (pool.check is None)
    )


def _others_serve(placed: Mapping[str, DesiredServer], slots: Mapping[str, ObservedServer]) -> bool:
    """Whether the port has a server that is up already and stays."""
    return any(
        server.state == "ready"
        and slots[name].address == server.address
        and slots[name].state == "ready"
        and slots[name].up
        for name, server in placed.items()
    )


def _make_ready(port: int, name: str, checks: Checks, *, waits: bool) -> Iterator[Operation]:
    """Out of maint. HAProxy takes a server that leaves maint for healthy; one that has checks and
    ``waits`` is called unhealthy while it drains, so that its first good check is what lets
    traffic in."""
    if checks == "off":
        yield EnableHealth(port, name)
    if waits and checks != "none":
        yield SetState(port, name, "drain")
        yield SetHealth(port, name, "down")
    yield SetState(port, name, "ready")


def _mend_health(port: int, slot: ObservedServer) -> Iterator[Operation]:
    """Health is for checks to say: they are turned on where somebody turned them off, and where
    there are none a server is up."""
    if slot.checks == "off":
        yield EnableHealth(port, slot.name)
    elif slot.checks == "none" and not slot.up:
        yield SetHealth(port, slot.name, "up")


def _trust(
    port: int,
    placed: Mapping[str, DesiredServer],
    slots: Mapping[str, ObservedServer],
    retire: Iterable[SetState],
) -> Iterator[Operation]:
    """The last server that is up leaves, and those that stay wait for a good check: they get
    traffic on trust, once. If they deserve none, their next checks take them down again."""
    staying = [name for name, server in placed.items() if server.state == "ready"]
    if any(slots[op.server].up for op in retire) and not any(slots[name].up for name in staying):
        yield from (SetHealth(port, name, "up") for name in staying)


def _spared(observed: ObservedPort, assignment: Assignment) -> str | None:
    """The slot that goes on serving though its endpoint left, because all slots are taken: until,
    in the next round, the first of the new endpoints has a slot, the port has no other server."""
    coming = any(server.state == "ready" for server in assignment.placed.values())
    if coming or assignment.added or not assignment.left_out:
        return None
    return next((name for name, slot in observed.servers.items() if slot.state == "ready"), None)


def _retire(
    observed: ObservedPort, assignment: Assignment, spared: str | None
) -> Iterator[SetState]:
    """Take out of service what is leaving, and what nobody wants any more."""
    for name, slot in observed.servers.items():
        server = assignment.placed.get(name)
        if name == spared or slot.state == "maint":
            continue
        if server is None:
            yield SetState(observed.port, name, "maint")
        elif server.state == "drain" and slot.state == "ready":
            yield SetState(observed.port, name, "drain")


def _tidy(
    desired: DesiredPort, observed: ObservedPort, pool: PortPool, assignment: Assignment
) -> Iterator[Operation]:
    """End what is overdue; park or delete what is idle."""
    port, deadline, budget = desired.port, desired.drain_deadline_seconds, desired.sessions_to_end
    for name, slot in observed.servers.items():
        if name in assignment.placed or slot.state != "maint":
            continue
        if not is_idle(slot):
            if slot.sessions and name in desired.loops:
                yield EndSessions(port, name, slot.sessions, all=True)
            elif (
                slot.sessions and budget > 0 and 0 < deadline <= desired.left_seconds.get(name, 0.0)
            ):
                count = min(budget, slot.sessions)
                yield EndSessions(port, name, count, all=count == slot.sessions)
                budget -= count
        elif name not in pool.slot_set:
            yield DeleteServer(port, name)
        elif slot.address != PARKED:
            yield SetAddress(port, name, PARKED)
