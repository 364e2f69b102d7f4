"""Which server goes into which slot of a backend. Pure.

Sticky: an endpoint that is in a slot stays in it for as long as it lives, whatever else comes and
goes, because its sessions and HAProxy's figures hang on the slot. Keeps no memory of its own:
where everything is, HAProxy says, so a restarted sidecar decides as its predecessor did.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.model.desired import DesiredServer, Proto
from sidecar.model.pool import PARKED, Address

# Which of several slots with one address keeps it: the one that serves.
_KEEPS = {"ready": 0, "drain": 1, "maint": 2}


# What a server speaks -> how the names of those begin that are added for it. HAProxy shows nowhere
# which protocol a server was given, which never changes: the name says it to who comes later.
_H2 = "h2-"
_ADDED: Mapping[Proto, str] = {"": "x", "h2": _H2}


def proto_of(name: str) -> Proto:
    """What a server of this name speaks."""
    return "h2" if name.startswith(_H2) else ""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who belongs where.

    ``placed``: slot name -> the server that belongs there, in the slots' order.
    ``added``: name of a server that has to be added to the backend -> what it should be.
    ``left_out``: servers that should take connections, and for which there is no room.
    ``taken_busy``: slots among ``placed`` that are given away although sessions remain on them.
    """

    placed: Mapping[str, DesiredServer]
    added: Mapping[str, DesiredServer]
    left_out: tuple[DesiredServer, ...]
    taken_busy: tuple[str, ...]


def assign(
    servers: Sequence[DesiredServer],
    slots: Mapping[str, ObservedServer],
    *,
    reusable: Collection[str],
    at_most: int,
    can_add: bool,
    unfit: Collection[str],
) -> Assignment:
    """Give each of ``servers`` a slot, or a server of its own where HAProxy can add some; always
    the latter if it speaks another protocol than the slots.

    ``at_most``: how many servers of a Route may take connections; those that do already go first.

    ``reusable``: the pool's own slots. A server that was added for an endpoint goes with it; one
    that somebody else added may lack the pool's options. ``unfit``: such ones; they hold nothing.

    A slot is free when it is in maint, and parked or known to have no session left. Where nothing
    can be added, slots in maint that still have sessions are given away only if nothing else will
    come free, and a slot that serves only if there is no other slot at all.
    """
    holders = _holders(slots, unfit)
    ready = [server for server in servers if server.state == "ready"]
    over: tuple[DesiredServer, ...] = ()
    if len(ready) > at_most:
        serving = {slot.address for slot in slots.values() if slot.state == "ready"}
        ready.sort(key=lambda server: server.address not in serving)
        ready, over = ready[:at_most], tuple(ready[at_most:])
    placed: dict[str, DesiredServer] = {}
    waiting: list[DesiredServer] = []
    for server in ready:
        if holder := holders.get((server.address, server.proto)):
            placed[holder] = server
        else:
            waiting.append(server)
    for server in servers:
        # One that drains and has no slot here has no sessions here either: it needs none.
        drains = server.state == "drain"
        holder = holders.get((server.address, server.proto)) if drains else None
        if holder and slots[holder].state != "maint":
            placed[holder] = server
    if not waiting:
        return Assignment(placed, {}, over, ())
    vacant = [slots[name] for name in reusable if name in slots and name not in placed]
    names = _free(vacant)
    busy: list[str] = []
    fitting = [server for server in waiting if not server.proto]
    missing = len(fitting) - len(names)
    if missing > 0 and not can_add:
        busy = _busy(vacant, placed, alone=not names)[:missing]
        names += busy
    placed.update(zip(names, fitting, strict=False))
    rest = [*fitting[len(names) :], *(server for server in waiting if server.proto)]
    return Assignment(
        {name: placed[name] for name in slots if name in placed},
        _named(rest, slots) if can_add else {},
        over if can_add else (*rest, *over),
        tuple(busy),
    )


def _holders(
    slots: Mapping[str, ObservedServer], unfit: Collection[str]
) -> dict[tuple[Address, Proto], str]:
    """Address, and what is spoken there -> the slot that has it."""
    holders: dict[tuple[Address, Proto], str] = {}
    for name, slot in slots.items():
        if slot.address == PARKED or name in unfit:
            continue
        key = slot.address, proto_of(name)
        other = holders.setdefault(key, name)
        if other != name and _KEEPS[slot.state] < _KEEPS[slots[other].state]:
            holders[key] = name
    return holders


def is_idle(slot: ObservedServer) -> bool:
    """Whether nobody uses the slot. Where nobody counted, it may have sessions."""
    return slot.state == "maint" and (slot.address == PARKED or slot.sessions == 0)


def is_clean(observed: ObservedUnit) -> bool:
    """Whether no key leads to a unit, and nobody uses any of its slots."""
    return not observed.exposed and all(map(is_idle, observed.servers.values()))


def _free(vacant: Sequence[ObservedServer]) -> list[str]:
    """Slots that nobody uses: parked ones first, as an endpoint may want its former slot back."""
    free = [slot for slot in vacant if is_idle(slot)]
    free.sort(key=lambda slot: slot.address != PARKED)
    return [slot.name for slot in free]


def _busy(
    vacant: Sequence[ObservedServer], placed: Mapping[str, DesiredServer], *, alone: bool
) -> list[str]:
    """Slots that can be taken by force, the least used first; none while some will come free."""
    leaving = [slot for slot in vacant if slot.state != "maint"]
    # The planner lets one go on serving while the port would have no other server.
    kept = (
        alone
        and any(slot.state == "ready" for slot in leaving)
        and not any(server.state == "ready" for server in placed.values())
    )
    if len(leaving) > (1 if kept else 0):
        return []
    spent = [slot for slot in vacant if slot.state == "maint" and slot.sessions]
    spent.sort(key=lambda slot: slot.sessions or 0)
    return [slot.name for slot in spent or leaving]


def _named(
    servers: Iterable[DesiredServer], slots: Mapping[str, ObservedServer]
) -> dict[str, DesiredServer]:
    """Each of ``servers``, that are to be added, by a name that is not taken: ``x1``, ``h2-1``."""
    names = {proto: _new_names(prefix, slots) for proto, prefix in _ADDED.items()}
    return {next(names[server.proto]): server for server in servers}


def _new_names(prefix: str, slots: Mapping[str, ObservedServer]) -> Iterator[str]:
    return (name for number in itertools.count(1) if (name := f"{prefix}{number}") not in slots)
