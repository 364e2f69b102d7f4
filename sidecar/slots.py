"""Which server goes into which slot of a backend. Pure.

Sticky: an endpoint that is in a slot stays in it for as long as it lives, whatever else comes and
goes, because its sessions and HAProxy's figures hang on the slot. Keeps no memory of its own:
where everything is, HAProxy says, so a restarted sidecar decides as its predecessor did.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sidecar.endpoints import DesiredServer
from sidecar.observed import ObservedServer
from sidecar.pool import PARKED, Address

# Which of several slots with one address keeps it: the one that serves.
_KEEPS = {"ready": 0, "drain": 1, "maint": 2}


@dataclass(frozen=True, slots=True)
class Assignment:
    """``placed``: slot name -> the server that belongs there, in the slots' order.

    ``left_out``: servers that should take connections, and for which no slot is free.
    ``taken_busy``: slots among ``placed`` that are given away although sessions remain on them.
    """

    placed: Mapping[str, DesiredServer]
    left_out: tuple[DesiredServer, ...]
    taken_busy: tuple[str, ...]


def assign(servers: Sequence[DesiredServer], slots: Mapping[str, ObservedServer]) -> Assignment:
    """Give each of ``servers`` a slot, as far as there are any.

    A slot is free when it is in maint and no session is left on it. Slots in maint that still
    have sessions are given away only if nothing else will come free, and a slot that serves only
    if there is no other slot at all.
    """
    holders: dict[Address, str] = {}
    for name, slot in sorted(slots.items(), key=lambda item: _KEEPS[item[1].state]):
        holders.setdefault(slot.address, name)
    placed: dict[str, DesiredServer] = {}
    waiting: list[DesiredServer] = []
    for server in servers:
        holder = holders.get(server.address) if server.address != PARKED else None
        if server.state == "ready":
            if holder is None:
                waiting.append(server)
            else:
                placed[holder] = server
        elif holder is not None and slots[holder].state != "maint":
            # One that drains elsewhere has no slot to lose, and needs none.
            placed[holder] = server
    if not waiting:
        return Assignment(placed, (), ())
    vacant = [slot for name, slot in slots.items() if name not in placed]
    free = [slot for slot in vacant if slot.state == "maint" and not slot.sessions]
    # Parked ones first: the others may be wanted back by the endpoint that they had.
    free.sort(key=lambda slot: slot.address != PARKED)
    names = [slot.name for slot in free]
    busy: list[str] = []
    missing = len(waiting) - len(names)
    if missing > 0:
        leaving = [slot for slot in vacant if slot.state != "maint"]
        serving = [slot for slot in leaving if slot.state == "ready"]
        # The planner lets one go on serving while the port would have no other server.
        alone = not names and not any(server.state == "ready" for server in placed.values())
        if len(leaving) <= (1 if alone and serving else 0):
            spent = sorted(
                (slot for slot in vacant if slot.state == "maint" and slot.sessions),
                key=lambda slot: slot.sessions or 0,
            )
            busy = [slot.name for slot in (spent or leaving)[:missing]]
    names += busy
    placed.update(zip(names, waiting, strict=False))
    return Assignment(
        {name: placed[name] for name in slots if name in placed},
        tuple(waiting[len(names) :]),
        tuple(busy),
    )
