"""The operations that bring one server to what it should be.

Must not know in which order plans do it (`sidecar.planning.planner`). Pure.
"""

from collections.abc import Iterable, Iterator

from sidecar.haproxy.operations import Operation, SetAddress, SetState, SetWeight
from sidecar.haproxy.state import ObservedServer
from sidecar.model.desired import DesiredServer, Unit
from sidecar.planning.health import make_ready, mend_health


def readdress(unit: Unit, slot: ObservedServer, server: DesiredServer) -> Iterator[Operation]:
    """Lead a slot, that nobody may get to meanwhile, to ``server``."""
    if slot.state != "maint":
        yield SetState(unit, slot.name, "maint")
    yield SetAddress(unit, slot.name, server.address)
    if server.weight is not None and slot.weight != server.weight:
        yield SetWeight(unit, slot.name, server.weight)


def keep_ready(
    unit: Unit, slot: ObservedServer, server: DesiredServer, *, waits: bool
) -> Iterable[Operation]:
    """A slot that leads to ``server`` already takes connections, too."""
    is_fit = slot.state == "ready" and slot.up and slot.checks != "off"
    if is_fit and server.weight in (None, slot.weight):
        return ()  # as nearly all are, each time
    return _mend(unit, slot, server, waits=waits)


def _mend(
    unit: Unit, slot: ObservedServer, server: DesiredServer, *, waits: bool
) -> Iterator[Operation]:
    if server.weight is not None and slot.weight != server.weight:
        yield SetWeight(unit, slot.name, server.weight)
    if slot.state == "maint":
        yield from make_ready(unit, slot.name, slot.checks, waits=waits)
    else:
        yield from mend_health(unit, slot)
    if slot.state == "drain":
        yield SetState(unit, slot.name, "ready")
