"""Short ways to ask the core: who gets a port, and which servers a Route has."""

import ipaddress
from collections.abc import Iterable, Mapping

from parts import host_rules
from stand import ROUTER, changes, pool_of, route, service, slice_

from sidecar.haproxy.naming import frontend_name
from sidecar.haproxy.operations import ClosePort, OpenPort
from sidecar.listeners.tcp import TCPPorts, key_of, unit_of
from sidecar.model.desired import Unit
from sidecar.model.objects import Endpoint, EndpointSet, Key, Route, Service
from sidecar.model.pool import Pool
from sidecar.model.verdicts import Verdict
from sidecar.routing.endpoints import Resolution, resolve
from sidecar.routing.ledger import Ledger
from sidecar.routing.own_addresses import Denied, denier
from sidecar.routing.store import Store
from sidecar.settings.schema import DENIED_BY_DEFAULT

#: Three ports for everybody, two for one team.
POOL = pool_of(
    {"ports": ["30000-30002"], "auto_ports_per_namespace": 3},
    {"ports": ["31000-31001"], "auto_ports_per_namespace": 2, "namespaces": ["team-a"]},
)

#: The first of them, and more, as a kind of listener.
PORTS = TCPPorts(pool_of({"ports": ["30000-30099"]}))

DENIED = denier(ipaddress.ip_network(network) for network in DENIED_BY_DEFAULT)


class PortLedger:
    """A `Ledger`, spoken to in ports."""

    def __init__(self, pool: Pool = POOL, kept: Mapping[str, int] | None = None) -> None:
        self.ledger = Ledger(ROUTER, pool, kept, host_rules())
        self.verdict = self.ledger.verdict

    def update(self, changed: Mapping[Key, Route | None]) -> set[int]:
        """The ports whose queue is different."""
        return {int(key.name) for key in self.ledger.update(changed)}

    def owner(self, port: int) -> Route | None:
        return self.ledger.owner(key_of(port))

    def owned(self, route: Key) -> int | None:
        key = self.ledger.owned(route)
        return int(key.name) if key else None

    def queue(self, port: int) -> list[Key]:
        return self.ledger.queue(key_of(port))

    @property
    def routes(self) -> Iterable[Route]:
        return self.ledger.routes

    @property
    def auto_ports(self) -> Mapping[str, int]:
        return self.ledger.autos.ports

    @property
    def proposed_ports(self) -> Mapping[Key, int]:
        return self.ledger.autos.proposed


def take(ledger: PortLedger, *routes: Route, gone: Iterable[Route] = ()) -> set[int]:
    """One update of the ledger."""
    now: dict[Key, Route | None] = {item.key: item for item in routes}
    return ledger.update(now | {item.key: None for item in gone})


def units(*ports: int) -> frozenset[Unit]:
    return frozenset(map(unit_of, ports))


def opening(port: int) -> OpenPort:
    return OpenPort(unit_of(port), key_of(port), frontend_name(port))


def closing(port: int) -> ClosePort:
    return ClosePort(unit_of(port), key_of(port), frontend_name(port))


def fed(*routes: Route, pool: Pool = POOL, kept: Mapping[str, int] | None = None) -> PortLedger:
    ledger = PortLedger(pool, kept or {})
    take(ledger, *routes)
    return ledger


def refusal(ledger: PortLedger, of: Route) -> Verdict:
    verdict = ledger.verdict(of.key)
    assert verdict is not None
    assert not verdict.admitted
    assert ledger.owned(of.key) is None
    return verdict


def resolved(item: Route, *objects: Service | EndpointSet) -> Resolution:
    store = Store()
    store.apply(changes(*objects))
    return resolve(item, store, Denied(DENIED))


def web(*endpoints: Endpoint | str) -> Resolution:
    """The plainest Route and Service, with these endpoints."""
    return resolved(route(), service(), slice_(endpoints=endpoints))


def servers(resolution: Resolution) -> dict[str, tuple[str, int | None]]:
    """``ip:port`` -> state and weight."""
    return {str(item.address): (item.state, item.weight) for item in resolution.servers}
