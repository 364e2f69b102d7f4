"""How many connections each server of a unit may have at a time. Pure.

HAProxy shows these limits only where it is asked for each unit by itself, keeps them when a server
gets another address, and forgets them when it restarts. So an attribute of the unit says that its
servers may have any: it is told before the first of them gets one, and forgotten after it was seen
that none has. A unit without it is not asked for.

HAProxy 2.6 to 3.2 let nobody out of a server's queue while that has no limit; those who wait would
do so until their time is over. So a limit is lifted in two rounds, by way of a high one.
"""

from collections.abc import Iterator, Mapping

from sidecar.haproxy.operations import SetMaxconn
from sidecar.haproxy.state import ObservedUnit
from sidecar.model.desired import MAXCONN, Attributes
from sidecar.planning.slots import Assignment

_MANY = 2**31 - 1


def limit(
    observed: ObservedUnit, wants: Attributes, assignment: Assignment
) -> Iterator[SetMaxconn]:
    """What gives servers that the unit is to have their limit, and takes it from others.
    ``wants``: the attributes that it is to have."""
    if MAXCONN not in {*wants, *observed.attributes}:
        return
    wanted = int(wants.get(MAXCONN, "0"))
    has: Mapping[str, int | None] = {
        # One that is added has none.
        **dict.fromkeys(assignment.added, 0),
        # Before the unit had the attribute its servers had none.
        **{
            name: slot.maxconn if MAXCONN in observed.attributes else 0
            for name, slot in observed.servers.items()
        },
    }
    for name, maxconn in has.items():
        should = wanted if name in assignment.placed or name in assignment.added else 0
        if maxconn != should:
            lifted = not should and maxconn != _MANY
            yield SetMaxconn(observed.unit, name, _MANY if lifted else should)


def may_forget(observed: ObservedUnit, name: str) -> bool:
    """Whether the attribute ``name`` of the unit has done what it is there for."""
    return name != MAXCONN or not any(slot.maxconn for slot in observed.servers.values())
