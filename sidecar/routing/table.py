"""From objects to what each port should lead to, kept up to date change by change.

Joins store, claims and endpoints. Recomputes only the ports that a change can touch, so the cost
of an event does not grow with the number of Routes; the result is the same as from scratch. Must
not know of HAProxy, slots or time, and imports no I/O.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from sidecar.common.durations import parse_duration
from sidecar.common.text import shown
from sidecar.model.change import Change
from sidecar.model.objects import Cause, Key, Route
from sidecar.model.pool import Pool, PortPool
from sidecar.model.verdicts import Reason, Verdict
from sidecar.routing.claims import Ledger
from sidecar.routing.endpoints import Parts, Resolution, resolve
from sidecar.routing.external_names import outside_name
from sidecar.routing.own_addresses import NOWHERE, Denied, Listening, own_addresses
from sidecar.routing.store import Store


@dataclass(frozen=True, slots=True)
class Claimed:
    """A port that a Route owns, with the servers it should have.

    ``drain_deadline_seconds``: the Route's own; None where it names none, or none that is valid.
    """

    port: int
    route: Route
    resolution: Resolution
    drain_deadline_seconds: float | None


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change may touch: ``ports`` to compare, ``routes`` whose verdict may be new.
    ``causes``: port -> one of the objects that made it so."""

    ports: frozenset[int]
    routes: frozenset[Key]
    causes: Mapping[int, Cause] = field(default_factory=dict, compare=False)


class Routing:
    """What is wanted of each port, and what is said of each Route.

    ``denied``: whether the settings forbid servers this IP. ``kept``: see `Ledger`. ``listening``:
    where the router is, which is denied always.
    """

    def __init__(
        self,
        pool: Pool,
        router_name: str,
        denied: Callable[[str], bool],
        kept: Mapping[str, int] | None,
        listening: Listening = NOWHERE,
    ) -> None:
        #: For who explains; nobody else may change it.
        self.store = Store()
        self._ledger = Ledger(router_name, pool, kept)
        self._listening = listening
        #: What no server may be, now.
        self.denied = Denied(denied, own_addresses(listening, self.store))
        # (namespace, Service name) -> the Routes that lead to it and own a port: for those that
        # wait, it is of no matter
        self._users: dict[tuple[str, str], set[Key]] = {}
        self._targets: dict[Key, frozenset[tuple[str, str]]] = {}
        # (namespace, Service name) -> the name outside that it leads to; and the other way round
        self._outside: dict[tuple[str, str], str] = {}
        self._leading: dict[str, set[tuple[str, str]]] = {}
        self._names: frozenset[str] | None = frozenset()
        # port -> its owner, to tell when it changes hands
        self._owners: dict[int, Key] = {}
        # port -> what it should be, as far as somebody asked since it last changed
        self._claimed: dict[int, Claimed] = {}
        # port -> the parts of its last resolution, while `_claimed` lacks it
        self._parts: dict[int, Parts] = {}

    def apply(self, changes: Iterable[Change]) -> Changed:
        """Take ``changes``; which ports and Routes should be looked at again.

        Nothing is resolved yet: a Service that changes a hundred times between two looks at its
        ports costs one resolution.
        """
        dirty = self.store.apply(changes)
        routes = {key: self.store.route(key) for key in dirty if key.kind == "Route"}
        touched = set(routes)
        # Route -> what touched it
        why = {key: dirty[key] for key in routes}
        selves = self._follow_own_addresses(dirty)
        touched |= selves.keys()
        why = {**selves, **why}
        ports = set()
        causes: dict[int, Cause] = {}
        for port in self._ledger.update(routes):
            owner = self._ledger.owner(port)
            before, now = self._owners.get(port), owner.key if owner else None
            if before == now:
                continue
            ports.add(port)
            handed = next(dirty[key] for key in (now, before, *routes) if key in dirty)
            causes[port] = handed
            # Thousands may wait behind them; for those it is still somebody else's port.
            if before:
                touched.add(before)
            if now:
                touched.add(now)
                self._owners[port] = now
            else:
                del self._owners[port]
                self._parts.pop(port, None)
        touched |= self._ledger.restated
        for key in touched:
            self._index(key)
        for key in dirty:
            if key.kind == "Service":
                self._index_name((key.namespace, key.name))
                services = [(key.namespace, key.name)]
            elif key.kind == "DNSName":
                services = list(self._leading.get(key.name, ()))
            else:
                continue
            for service in services:
                users = self._users.get(service, set())
                touched |= users
                for user in users:
                    why.setdefault(user, dirty[key])
        for key in touched:
            if (owned := self._ledger.owned(key)) is not None:
                ports.add(owned)
                if cause := why.get(key):
                    causes[owned] = cause
        for port in ports:
            if (claimed := self._claimed.pop(port, None)) and port in self._owners:
                self._parts[port] = claimed.resolution.parts
        return Changed(frozenset(ports), frozenset(touched), causes)

    def claim(self, port: int) -> Claimed | None:
        """What ``port`` should be; None when nobody owns it."""
        claimed = self._claimed.get(port)
        route = self._ledger.owner(port)
        if claimed is None and route is not None:
            claimed = Claimed(
                port,
                route,
                resolve(route, self.store, self.denied, self._parts.pop(port, {})),
                _drain_deadline(route)[0],
            )
            self._claimed[port] = claimed
        return claimed

    def knows(self, port: int) -> bool:
        """Whether `claim` has its answer at hand: somebody asked since ``port`` last changed."""
        return port in self._claimed or port not in self._owners

    def has(self, key: Key) -> bool:
        """Whether the Route is there and names this router."""
        return key in self._ledger

    @property
    def claimed(self) -> Mapping[int, Claimed]:
        """port -> its Route and servers, of all ports that somebody owns."""
        return {port: claimed for port in self._owners if (claimed := self.claim(port))}

    @property
    def names(self) -> frozenset[str]:
        """The names outside the cluster that our Routes lead to, and the router's own: what DNS has
        to be asked for. The same object for as long as they are the same."""
        if self._names is None:
            self._names = frozenset(self._leading) | self.denied.own.names
        return self._names

    @property
    def auto_ports(self) -> Mapping[str, int]:
        """Route UID -> port, to be kept over a restart."""
        return self._ledger.auto_ports

    @property
    def auto_changes(self) -> int:
        """Grows whenever `auto_ports` may be different."""
        return self._ledger.auto_changes

    def auto_pool(self, key: Key) -> PortPool | None:
        """The class that an ``auto`` Route takes its port from; None for any other Route."""
        return self._ledger.auto_pool(key)

    def auto_share(self, namespace: str, pool: PortPool) -> int:
        """See `Ledger.auto_share`."""
        return self._ledger.auto_share(namespace, pool)

    @property
    def proposed_ports(self) -> Mapping[Key, int]:
        """See `Ledger.proposed_ports`."""
        return self._ledger.proposed_ports

    def verdicts(self) -> list[Verdict]:
        """What is said of every Route that names this router, by namespace and name."""
        found = (self.verdict(route.key) for route in self._ledger.routes)
        return sorted((item for item in found if item), key=lambda item: item.route)

    def verdict(self, key: Key) -> Verdict | None:
        """What is said of one Route; None when it does not name this router."""
        verdict = self._ledger.verdict(key)
        if verdict is None or not verdict.admitted or verdict.port is None:
            return verdict
        claimed = self.claim(verdict.port)
        if claimed is None:
            return verdict
        resolution = claimed.resolution
        notes = [note for note in (resolution.message, _drain_deadline(claimed.route)[1]) if note]
        if resolution.reason == Reason.ADMITTED and not notes:
            return verdict
        return Verdict(key, verdict.port, resolution.reason, "; ".join(notes))

    def queue(self, port: int) -> list[Key]:
        """The Routes that claim ``port``, its owner first, then the oldest."""
        return self._ledger.queue(port)

    def owner(self, port: int) -> Key | None:
        """The Route that has ``port``."""
        return self._owners.get(port)

    def owner_port(self, key: Key) -> int | None:
        """The port that a Route has; None while it is refused or waits."""
        return self._ledger.owned(key)

    def _index(self, key: Key) -> None:
        for service in self._targets.pop(key, frozenset()):
            self._users[service].discard(key)
            if not self._users[service]:
                del self._users[service]
            self._index_name(service)
        route = self.store.route(key)
        if route is not None and self._ledger.owned(key) is not None:
            self._targets[key] = frozenset(
                (route.namespace, target.name) for target in route.targets
            )
            for service in self._targets[key]:
                self._users.setdefault(service, set()).add(key)
                self._index_name(service)

    def _follow_own_addresses(self, dirty: Mapping[Key, Cause]) -> dict[Key, Cause]:
        """Keep up with the router's own addresses. The Routes whose servers are others by them,
        with what made it so."""
        before, published = self.denied.own, self._listening.published
        cause = next(
            (
                cause
                for key, cause in dirty.items()
                if key.kind in {"LocalAddresses", "ServiceAddresses"}
                or (key.kind == "DNSName" and before.has_name(key.name))
                or (key.kind == "Service" and (key.namespace, key.name) == published)
            ),
            None,
        )
        own = before if cause is None else own_addresses(self._listening, self.store)
        if cause is None or own == before:
            return {}
        self.denied = replace(self.denied, own=own)
        if own.names != before.names:
            self._names = None
        ports = [port for port, item in self._claimed.items() if not item.resolution.holds(own)]
        # To be resolved from nothing, as are those that were to be resolved anyway.
        self._parts.clear()
        found = {self._claimed.pop(port).route.key for port in ports}
        for name, services in self._leading.items():
            if before.has_name(name) != own.has_name(name):
                found |= {user for service in services for user in self._users[service]}
        return dict.fromkeys(found, cause)

    def _index_name(self, key: tuple[str, str]) -> None:
        """A Service, or who uses it, changed: keep up with the name that it leads to."""
        service = self.store.service(*key) if key in self._users else None
        now, before = outside_name(service) if service else None, self._outside.pop(key, None)
        if now is not None:
            self._outside[key] = now
        if before == now:
            return
        if before is not None:
            self._leading[before].discard(key)
            if not self._leading[before]:
                del self._leading[before]
        if now is not None:
            self._leading.setdefault(now, set()).add(key)
        self._names = None


def _drain_deadline(route: Route) -> tuple[float | None, str]:
    """The Route's own drain deadline in seconds, and what is wrong with it ("" if nothing)."""
    if route.drain_deadline is None:
        return None, ""
    try:
        return parse_duration(route.drain_deadline), ""
    except ValueError as exc:
        given = shown(route.drain_deadline)
        return None, f"drain deadline {given}: {exc}; until then the router's own holds"
