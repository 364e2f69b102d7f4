"""From objects to what each port should lead to, kept up to date change by change.

Joins store, claims and endpoints. Recomputes only the ports that a change can touch, so the cost
of an event does not grow with the number of Routes; the result is the same as from scratch. Must
not know of HAProxy, slots or time, and imports no I/O.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sidecar.claims import Ledger
from sidecar.endpoints import Resolution, resolve
from sidecar.model import Key, Route
from sidecar.pool import Pool
from sidecar.sources.base import Change
from sidecar.store import Store
from sidecar.verdicts import Reason, Verdict


@dataclass(frozen=True, slots=True)
class Claimed:
    """A port that a Route owns, with the servers it should have."""

    port: int
    route: Route
    resolution: Resolution


@dataclass(frozen=True, slots=True)
class Changed:
    """What `Routing.apply` found: ``ports`` to compare, ``routes`` whose verdict may be new."""

    ports: frozenset[int]
    routes: frozenset[Key]


class Routing:
    """What is wanted of each port, and what is said of each Route.

    ``denied``: whether no server may have this IP. ``kept``: see `Ledger`.
    """

    def __init__(
        self,
        pool: Pool,
        router_name: str,
        denied: Callable[[str], bool],
        kept: Mapping[str, int],
    ) -> None:
        self._store = Store()
        self._ledger = Ledger(router_name, pool, kept)
        self._denied = denied
        # (namespace, Service name) -> the Routes of ours that lead to it
        self._users: dict[tuple[str, str], set[Key]] = {}
        self._targets: dict[Key, frozenset[tuple[str, str]]] = {}
        self._claimed: dict[int, Claimed] = {}

    def apply(self, changes: Iterable[Change]) -> Changed:
        """Take ``changes``; which ports and Routes should be looked at again."""
        dirty = self._store.apply(changes)
        routes = {key: self._store.route(key) for key in dirty if key.kind == "Route"}
        queues = self._ledger.update(routes)
        touched = set(routes)
        for port in queues:
            touched.update(self._ledger.queue(port))
            # An `auto` Route that lost its port stands in no queue when there is no other.
            if claimed := self._claimed.get(port):
                touched.add(claimed.route.key)
        for key in routes:
            self._index(key)
        for key in dirty:
            if key.kind == "Service":
                touched |= self._users.get((key.namespace, key.name), set())
        ports = queues | {
            owned for key in touched if (owned := self._ledger.owned(key)) is not None
        }
        return Changed(frozenset(port for port in ports if self._resolve(port)), frozenset(touched))

    @property
    def claimed(self) -> Mapping[int, Claimed]:
        """port -> its Route and servers, of the ports that somebody owns."""
        return self._claimed

    @property
    def auto_ports(self) -> Mapping[str, int]:
        """Route UID -> port, to be kept over a restart."""
        return self._ledger.auto_ports

    def verdicts(self) -> list[Verdict]:
        """What is said of every Route that names this router, by namespace and name."""
        found = (self.verdict(route.key) for route in self._ledger.routes)
        return sorted((item for item in found if item), key=lambda item: item.route)

    def verdict(self, key: Key) -> Verdict | None:
        """What is said of one Route; None when it does not name this router."""
        verdict = self._ledger.verdict(key)
        if verdict is None or not verdict.admitted or verdict.port is None:
            return verdict
        resolution = self._claimed[verdict.port].resolution
        if resolution.reason == Reason.ADMITTED and not resolution.message:
            return verdict
        return Verdict(key, verdict.port, resolution.reason, resolution.message)

    def owner_port(self, key: Key) -> int | None:
        """The port that a Route has; None while it is refused or waits."""
        return self._ledger.owned(key)

    def _index(self, key: Key) -> None:
        for service in self._targets.pop(key, frozenset()):
            self._users[service].discard(key)
            if not self._users[service]:
                del self._users[service]
        route = self._store.route(key)
        if route is not None and self._ledger.verdict(key) is not None:
            self._targets[key] = frozenset(
                (route.namespace, target.name) for target in route.targets
            )
            for service in self._targets[key]:
                self._users.setdefault(service, set()).add(key)

    def _resolve(self, port: int) -> bool:
        """Recompute one port; whether it is different now."""
        old = self._claimed.get(port)
        route = self._ledger.owner(port)
        if route is None:
            self._claimed.pop(port, None)
            return old is not None
        new = Claimed(port, route, resolve(route, self._store, self._denied))
        self._claimed[port] = new
        return new != old
