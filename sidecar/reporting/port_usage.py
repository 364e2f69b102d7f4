"""All claims for a person: who has which port, who is waiting, which are free. Pure.

docs/reference.md documents the JSON (``ports --json``); names are permanent.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sidecar.haproxy.state import ObservedUnit
from sidecar.listeners.tcp import key_of, unit_of
from sidecar.model.desired import Unit
from sidecar.model.pool import Pool, format_ports
from sidecar.model.verdicts import Reason
from sidecar.routing.table import Routing


@dataclass(frozen=True, slots=True)
class ClaimedPort:
    """A port that is claimed, or open.

    ``state``: open, closed or unknown. ``owner``: the Route that has it; None if several share it
    by SNI: they are in ``shared``, each as ``host namespace/name``. ``waiting``: those that get it
    when the one before them goes, the oldest first.
    """

    port: int
    pool: str
    state: str
    owner: str | None
    waiting: tuple[str, ...]
    shared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FreePorts:
    """What nobody claims of a pool. ``free``: the ports, as a person writes them.
    ``auto_ports_per_namespace``: how many of a pool ``auto`` gives to one namespace."""

    name: str
    ports_total: int
    free_count: int
    free: str
    auto_ports_per_namespace: int


@dataclass(frozen=True, slots=True)
class Register:
    """All of it. ``without``: Routes that have no port and wait for none that somebody has."""

    ports: tuple[ClaimedPort, ...]
    pools: tuple[FreePorts, ...]
    without: tuple[str, ...]
    problems: tuple[str, ...]


def build_register(
    pool: Pool,
    routing: Routing,
    observed: Mapping[Unit, ObservedUnit],
    problems: tuple[str, ...],
) -> Register:
    """``observed`` may lack units."""
    ports, claimed = [], set[int]()
    for port in pool.ports:
        queue, seen = routing.queue(key_of(port)), observed.get(unit_of(port))
        shared, owners = routing.is_shared(unit_of(port)), routing.owners(unit_of(port))
        if queue:
            claimed.add(port)
        if queue or (seen and seen.open):
            ports.append(
                ClaimedPort(
                    port,
                    pool.by_port[port].name,
                    ("open" if seen.open else "closed") if seen else "unknown",
                    queue[0].title if queue and not shared else None,
                    tuple(key.title for key in queue if key not in owners),
                    tuple(
                        f"{claim.pattern} {key.title}"
                        for key in owners
                        if (claim := routing.shared_host(key))
                    ),
                )
            )
    pools = []
    for item in pool.classes:
        free = [port for port in item.ports if port not in claimed]
        pools.append(
            FreePorts(
                item.name,
                len(item.ports),
                len(free),
                format_ports(free),
                item.auto_ports_per_namespace,
            )
        )
    without = tuple(
        f"{verdict.route.title}: {verdict.reason}: {verdict.message}"
        for verdict in routing.verdicts()
        if routing.owned(verdict.route) is None and verdict.reason != Reason.PORT_ALREADY_CLAIMED
    )
    return Register(tuple(ports), tuple(pools), without, problems)


def register_json(register: Register) -> dict[str, Any]:
    """The register as JSON-ready data."""
    return asdict(register)
