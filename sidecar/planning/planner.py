"""From desired and observed to operations: a pure function per unit.

The invariant: at every instant between two operations, each connection that HAProxy accepts for a
unit is led to an endpoint that the unit's Route has (or had a moment ago), never to anybody
else's, and a unit that had a usable server keeps one. Plans of several units are carried out phase
by phase; the order that gives it:

1. ``conceal``: a key that is to lead nowhere, goes first.
2. ``rest`` and ``describe``: HAProxy is told what the rules that all units share are to know of
   this one. What guards its servers, as the CAs that they are verified by, is told while all of
   them are in ``maint``, where no connection outlives it, and the plan ends with it: nobody is made
   ready before HAProxy was looked at, and shows it. With whom it lets in, as a port's list of
   clients, the plan ends likewise.
3. ``add``: where no slot is free, or a server speaks another protocol than slots do, the backend
   gets more, which lead nowhere yet.
4. ``prepare``: a slot whose address changes goes to ``maint`` before (normally it is there
   already), then gets its address and weight; limits of servers are set.
5. The barrier: HAProxy is read back until it shows these addresses (`Plan.readback`). From 3.0
   on it applies an address *after* its reply; a slot made ready too early leads to its former
   endpoint.
6. ``activate``: new servers become ``ready``, and weights are set.
7. ``retire``: only then do the old servers ``drain`` or go to ``maint``.
8. ``expose``: keys begin to lead to the unit, and so never to what it had for others.
9. ``tidy``: what no connection waits for. Sessions whose time is over end, idle slots that were
   left are parked, idle added servers are deleted.
10. ``forget``: what HAProxy need not know of the unit any more; whom it lets in, when nothing else
   is left to do, since others may come then.

An empty plan means that observed equals desired. Applying a plan and planning again ends in an
empty one; each round is planned from a fresh look, so a lost, doubled or refused operation only
costs another round.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from sidecar.haproxy.operations import (
    AddServer,
    DeleteServer,
    EndSessions,
    KeyOperation,
    Operation,
    SetAddress,
    SetState,
)
from sidecar.haproxy.state import Checks, ObservedUnit
from sidecar.listeners.base import ListenerKind
from sidecar.model.desired import (
    Attributes,
    BackendClass,
    ClaimKey,
    DesiredServer,
    Unit,
)
from sidecar.model.pool import PARKED, Address
from sidecar.planning.health import make_ready, others_serve, trust, unfit
from sidecar.planning.limits import limit, may_forget
from sidecar.planning.server_steps import keep_ready, readdress
from sidecar.planning.slots import Assignment, assign, is_idle


@dataclass(frozen=True, slots=True)
class DesiredUnit:
    """What one unit should be.

    ``exposed``: the keys that should lead to it. ``servers``: sorted by address; empty for one
    that nobody claims. ``servers_max``: how many of them may take connections at most.
    ``drain_deadline_seconds``: after how long the sessions of a removed endpoint are ended; 0 means
    never. ``left_seconds``: slot -> for how long it has been without its endpoint.
    ``handed``: keys that lead here and are about to lead elsewhere: they are not concealed, and
    where there are no ``servers`` any more, none retires before they do.
    ``attributes``: what HAProxy is to know of it beside. ``waits``: more is to be done later.
    ``sessions_to_end``: how many of the overdue ones now. ``loops``: slots that lead to the router
    itself; their sessions are ended at once.
    """

    unit: Unit
    exposed: frozenset[ClaimKey]
    servers: tuple[DesiredServer, ...]
    servers_max: int = 65535
    drain_deadline_seconds: float = 0.0
    left_seconds: Mapping[str, float] = field(default_factory=dict)
    sessions_to_end: int = 0
    loops: frozenset[str] = frozenset()
    handed: frozenset[ClaimKey] = frozenset()
    attributes: Attributes = field(default_factory=dict)
    waits: bool = False


@dataclass(frozen=True, slots=True)
class SomeSessions:
    """So many sessions of a server that are to end. No command does that: their names have to be
    asked for first, see `EndSession`."""

    server: str
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The operations that turn one observed unit into the desired one, by phase.

    ``readback``: server name -> the address that HAProxy must show between ``prepare`` and
    ``activate``. ``ending``: part of tidying. ``assignment``: who got which slot, and who none.
    """

    unit: Unit
    conceal: tuple[KeyOperation, ...]
    prepare: tuple[Operation, ...]
    readback: Mapping[str, Address]
    activate: tuple[Operation, ...]
    retire: tuple[Operation, ...]
    expose: tuple[KeyOperation, ...]
    tidy: tuple[Operation, ...]
    ending: SomeSessions | None
    assignment: Assignment
    #: Keys that lead here until they lead elsewhere: the unit is not as desired before.
    handed: frozenset[ClaimKey] = frozenset()
    #: Servers that the backend gets before ``prepare``.
    add: tuple[AddServer, ...] = ()
    #: Servers that wait for what guards them.
    rest: tuple[Operation, ...] = ()
    describe: tuple[KeyOperation, ...] = ()
    forget: tuple[KeyOperation, ...] = ()
    #: The unit is not as desired even if nothing is to be done now.
    waits: bool = False

    @property
    def is_done(self) -> bool:
        """Whether the unit is as desired once it is carried out."""
        return not (self.handed or self.waits)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All of them, in their order."""
        return tuple(operation for phase in PHASES for operation in phase(self))

    @property
    def toggles(self) -> bool:
        """Whether a key begins or ceases to lead to the unit."""
        return bool(self.conceal or self.expose)

    @property
    def touched(self) -> frozenset[ClaimKey]:
        """The entries of maps, or frontends, that it changes."""
        phases = (self.conceal, self.describe, self.expose, self.forget)
        return frozenset(part.key for phase in phases for part in phase)

    @property
    def ends_sessions(self) -> bool:
        return self.ending is not None or any(isinstance(item, EndSessions) for item in self.tidy)

    def __bool__(self) -> bool:
        return bool(self.ending or any(phase(self) for phase in PHASES))


#: The operations of a plan by phase, in their order.
PHASES: tuple[Callable[[Plan], tuple[Operation, ...]], ...] = tuple(
    attrgetter(phase)
    for phase in (
        *("conceal", "rest", "describe", "add", "prepare"),
        *("activate", "retire", "expose"),
        *("tidy", "forget"),
    )
)


def plan(
    desired: DesiredUnit, observed: ObservedUnit, kind: ListenerKind, *, can_add: bool
) -> Plan:
    """The plan for one unit of ``kind``; ``can_add``: HAProxy can add and delete servers.

    A slot in maint with an address (see `leaving`) is given away or tidied only if ``observed``
    has its sessions.
    """
    unit, slots, its_class = desired.unit, observed.servers, kind.classes[desired.unit]
    assignment = assign(
        desired.servers,
        slots,
        reusable=its_class.slot_names,
        at_most=desired.servers_max,
        can_add=can_add,
        unfit=unfit(its_class, slots),
    )
    has = observed.attributes
    wants = {name: value for name, value in desired.attributes.items() if kind.takes(name, value)}
    news = sorted(wants.items() - has.items())
    describe = tuple(part for item in news for part in kind.describe(unit, *item))
    exposed = desired.exposed
    if any(kind.lacks(name, value) for name, value in desired.attributes.items()):
        exposed = frozenset()
    gone = observed.exposed - exposed - desired.handed
    conceal = tuple(kind.conceal(key, unit) for key in sorted(gone))
    if any(kind.guards(name) for name, _ in news):
        return _unguarded(observed, conceal, describe, assignment, desired.handed)
    if any(kind.judges(name) for name, _ in news):
        return _told(unit, conceal, (), {}, describe, assignment, desired.handed)
    waits = its_class.check is not None and others_serve(assignment.placed, slots)
    add: list[AddServer] = []
    prepare: list[Operation] = []
    readback: dict[str, Address] = {}
    activate: list[Operation] = []
    for name, server in assignment.placed.items():
        slot = slots[name]
        if slot.address != server.address:
            prepare += readdress(unit, slot, server)
            readback[name] = server.address
            activate += make_ready(unit, name, slot.checks, waits=waits)
        elif server.state == "ready":
            activate += keep_ready(unit, slot, server, waits=waits)
    for name, server in assignment.added.items():
        weight = 0 if server.weight is None else server.weight
        options = (*its_class.server_options, *(("proto", server.proto) if server.proto else ()))
        add.append(AddServer(unit, name, weight, options))
        prepare.append(SetAddress(unit, name, server.address))
        readback[name] = server.address
        checks: Checks = "off" if its_class.check else "none"
        activate += make_ready(unit, name, checks, waits=waits)
    prepare += limit(observed, wants, assignment)
    spared = _spared(observed, assignment)
    waits_to_hand = desired.handed and not desired.servers
    retire = () if waits_to_hand else tuple(_retire(observed, assignment, spared))
    if its_class.check is not None and not any(isinstance(op, SetState) for op in activate):
        activate += trust(unit, assignment.placed, slots, retire)
    tidy, ending = _tidy(desired, observed, its_class, assignment)
    expose = tuple(kind.expose(key, unit) for key in sorted(exposed - observed.exposed))
    # What asks for another one goes before that.
    former = sorted(has.keys() - wants.keys(), reverse=True)
    former = [name for name in former if may_forget(observed, name)]
    if conceal or prepare or activate or retire or expose or desired.waits:
        former = [name for name in former if not kind.judges(name)]
    return Plan(
        unit,
        conceal,
        tuple(prepare),
        readback,
        tuple(activate),
        retire,
        expose,
        tidy,
        ending,
        assignment,
        desired.handed,
        tuple(add),
        describe=describe,
        forget=tuple(part for name in former for part in kind.forget(unit, name)),
        waits=desired.waits,
    )


def _unguarded(
    observed: ObservedUnit,
    conceal: tuple[KeyOperation, ...],
    describe: tuple[KeyOperation, ...],
    assignment: Assignment,
    handed: frozenset[ClaimKey],
) -> Plan:
    """What guards the servers is not as it should be: that comes first, and alone; once nobody uses
    them, since until then a connection made by the former rules may still become one that HAProxy
    keeps for others. It keeps none to an address that the server does not have any more."""
    unit, slots = observed.unit, observed.servers
    rest: list[Operation] = []
    for name, slot in slots.items():
        if not is_idle(slot):
            rest += [SetState(unit, name, "maint")] if slot.state != "maint" else []
            rest += [EndSessions(unit, name)] if slot.address != PARKED else []
    readback: dict[str, Address] = {}
    if rest:
        describe = ()
    else:
        readback = {name: PARKED for name, slot in slots.items() if slot.address != PARKED}
        rest += [SetAddress(unit, name, PARKED) for name in readback]
    return _told(unit, conceal, tuple(rest), readback, describe, assignment, handed)


def _told(
    unit: Unit,
    conceal: tuple[KeyOperation, ...],
    rest: tuple[Operation, ...],
    readback: Mapping[str, Address],
    describe: tuple[KeyOperation, ...],
    assignment: Assignment,
    handed: frozenset[ClaimKey],
) -> Plan:
    """Of one that ends with what HAProxy is told, until it shows that."""
    return Plan(
        unit=unit,
        conceal=conceal,
        prepare=(),
        readback=readback,
        activate=(),
        retire=(),
        expose=(),
        tidy=(),
        ending=None,
        assignment=assignment,
        handed=handed,
        rest=rest,
        describe=describe,
    )


def _spared(observed: ObservedUnit, assignment: Assignment) -> str | None:
    """The slot that goes on serving though its endpoint left, because all slots are taken: until,
    in the next round, the first of the new endpoints has a slot, the unit has no other server."""
    coming = any(server.state == "ready" for server in assignment.placed.values())
    if coming or assignment.added or not assignment.left_out:
        return None
    return next((name for name, slot in observed.servers.items() if slot.state == "ready"), None)


def _retire(
    observed: ObservedUnit, assignment: Assignment, spared: str | None
) -> Iterator[SetState]:
    """Take out of service what is leaving, and what nobody wants any more."""
    for name, slot in observed.servers.items():
        server = assignment.placed.get(name)
        if name == spared or slot.state == "maint":
            continue
        if server is None:
            yield SetState(observed.unit, name, "maint")
        elif server.state == "drain" and slot.state == "ready":
            yield SetState(observed.unit, name, "drain")


def _tidy(
    desired: DesiredUnit, observed: ObservedUnit, its_class: BackendClass, assignment: Assignment
) -> tuple[tuple[Operation, ...], SomeSessions | None]:
    """End what is overdue; park or delete what is idle."""
    unit, deadline, budget = desired.unit, desired.drain_deadline_seconds, desired.sessions_to_end
    tidy: list[Operation] = []
    ending: SomeSessions | None = None
    for name, slot in observed.servers.items():
        if name in assignment.placed or slot.state != "maint":
            continue
        sessions = slot.sessions or 0
        overdue = 0 < deadline <= desired.left_seconds.get(name, 0.0)
        if is_idle(slot):
            if name not in its_class.slot_set:
                tidy.append(DeleteServer(unit, name))
            elif slot.address != PARKED:
                tidy.append(SetAddress(unit, name, PARKED))
        elif sessions and (name in desired.loops or (overdue and sessions <= budget)):
            tidy.append(EndSessions(unit, name))
            budget -= 0 if name in desired.loops else sessions
        elif sessions and overdue and budget > 0:
            ending, budget = SomeSessions(name, budget), 0
    return tuple(tidy), ending
