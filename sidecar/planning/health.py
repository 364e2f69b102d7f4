"""Health of servers, as planning sees to it: it is for HAProxy's checks to say, and where there are
none a server is up. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping

from sidecar.haproxy.operations import EnableHealth, Operation, SetHealth, SetState
from sidecar.haproxy.state import Checks, ObservedServer
from sidecar.model.desired import BackendClass, DesiredServer, Unit


def unfit(its_class: BackendClass, slots: Mapping[str, ObservedServer]) -> frozenset[str]:
    """Servers that somebody else added, and that differ from the class's in having checks or not:
    called unhealthy, or dead, one without them would stay so for ever, or be used for ever."""
    return frozenset(
        name
        for name, slot in slots.items()
        if name not in its_class.slot_set and (slot.checks == "none") != (its_class.check is None)
    )


def others_serve(placed: Mapping[str, DesiredServer], slots: Mapping[str, ObservedServer]) -> bool:
    """Whether the unit has a server that is up already and stays."""
    return any(
        server.state == "ready"
        and slots[name].address == server.address
        and slots[name].state == "ready"
        and slots[name].up
        for name, server in placed.items()
    )


def make_ready(unit: Unit, name: str, checks: Checks, *, waits: bool) -> Iterator[Operation]:
    """Out of maint. HAProxy takes a server that leaves maint for healthy; one that has checks and
    ``waits`` is called unhealthy while it drains, so that its first good check is what lets
    traffic in."""
    if checks == "off":
        yield EnableHealth(unit, name)
    if waits and checks != "none":
        yield SetState(unit, name, "drain")
        yield SetHealth(unit, name, "down")
    yield SetState(unit, name, "ready")


def mend_health(unit: Unit, slot: ObservedServer) -> Iterator[Operation]:
    """Health is for checks to say: they are turned on where somebody turned them off, and where
    there are none a server is up."""
    if slot.checks == "off":
        yield EnableHealth(unit, slot.name)
    elif slot.checks == "none" and not slot.up:
        yield SetHealth(unit, slot.name, "up")


def trust(
    unit: Unit,
    placed: Mapping[str, DesiredServer],
    slots: Mapping[str, ObservedServer],
    retire: Iterable[SetState],
) -> Iterator[Operation]:
    """The last server that is up leaves, and those that stay wait for a good check: they get
    traffic on trust, once. If they deserve none, their next checks take them down again."""
    staying = [name for name, server in placed.items() if server.state == "ready"]
    if any(slots[op.server].up for op in retire) and not any(slots[name].up for name in staying):
        yield from (SetHealth(unit, name, "up") for name in staying)
