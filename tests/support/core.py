"""Short ways to ask the core: who gets a port, and which servers a Route has."""

import ipaddress
from collections.abc import Iterable, Mapping

from stand import ROUTER, changes, pool_of, route, service, slice_

from sidecar.model.objects import Endpoint, EndpointSet, Key, Route, Service
from sidecar.model.pool import Pool
from sidecar.model.verdicts import Verdict
from sidecar.routing.claims import Ledger
from sidecar.routing.endpoints import Resolution, denier, resolve
from sidecar.routing.own_addresses import Denied
from sidecar.routing.store import Store
from sidecar.settings.schema import DENIED_BY_DEFAULT

#: Three ports for everybody, two for one team.
POOL = pool_of(
    {"ports": ["30000-30002"], "auto_ports_per_namespace": 3},
    {"ports": ["31000-31001"], "auto_ports_per_namespace": 2, "namespaces": ["team-a"]},
)

DENIED = denier(ipaddress.ip_network(network) for network in DENIED_BY_DEFAULT)


def take(ledger: Ledger, *routes: Route, gone: Iterable[Route] = ()) -> set[int]:
    """One update of the ledger."""
    now: dict[Key, Route | None] = {item.key: item for item in routes}
    return ledger.update(now | {item.key: None for item in gone})


def fed(*routes: Route, pool: Pool = POOL, kept: Mapping[str, int] | None = None) -> Ledger:
    ledger = Ledger(ROUTER, pool, kept or {})
    take(ledger, *routes)
    return ledger


def refusal(ledger: Ledger, of: Route) -> Verdict:
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
