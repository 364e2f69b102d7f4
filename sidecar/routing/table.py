"""From objects to what each unit should be, kept up to date change by change.

Joins store, claims and endpoints. Recomputes only the units that a change can touch, so the cost
of an event does not grow with the number of Routes; the result is the same as from scratch. Must
not know of HAProxy, slots or time, and imports no I/O.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from sidecar.listeners.tcp import TCPPorts
from sidecar.model.change import Change
from sidecar.model.desired import ClaimKey, Grant, Unit
from sidecar.model.objects import Cause, Key, Route
from sidecar.model.verdicts import Reason, Verdict
from sidecar.policies.base import NO_POLICIES, Policies
from sidecar.policies.registry import read
from sidecar.routing.auto_ports import PortAllocator
from sidecar.routing.endpoints import Parts, Resolution, resolve
from sidecar.routing.external_names import outside_name
from sidecar.routing.ledger import Ledger
from sidecar.routing.own_addresses import NOWHERE, Denied, Listening, own_addresses
from sidecar.routing.store import Store


@dataclass(frozen=True, slots=True)
class Claimed:
    """A unit that a Route owns, with the servers it should have, and what else the Route wishes."""

    unit: Unit
    route: Route
    resolution: Resolution
    policies: Policies = NO_POLICIES


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change may touch: ``units`` to compare, ``routes`` whose verdict may be new.
    ``causes``: unit -> one of the objects that made it so."""

    units: frozenset[Unit]
    routes: frozenset[Key]
    causes: Mapping[Unit, Cause] = field(default_factory=dict, compare=False)


class Routing:
    """What is wanted of each unit of ``kind``, and what is said of each Route.

    ``denied``: whether the settings forbid servers this IP. ``kept``: see `PortAllocator`.
    ``listening``: where the router is, which is denied always.
    """

    def __init__(
        self,
        kind: TCPPorts,
        router_name: str,
        denied: Callable[[str], bool],
        kept: Mapping[str, int] | None,
        listening: Listening = NOWHERE,
    ) -> None:
        #: For who explains; nobody else may change it.
        self.store = Store()
        self._kind = kind
        self._ledger = Ledger(router_name, kind.pool, kept)
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
        # unit -> who has it and why, to tell when it changes hands
        self._grants: dict[Unit, Grant] = {}
        # unit -> what it should be, as far as somebody asked since it last changed
        self._claimed: dict[Unit, Claimed] = {}
        # unit -> the parts of its last resolution, while `_claimed` lacks it
        self._parts: dict[Unit, Parts] = {}

    def apply(self, changes: Iterable[Change]) -> Changed:
        """Take ``changes``; which units and Routes should be looked at again.

        Nothing is resolved yet: a Service that changes a hundred times between two looks at its
        units costs one resolution.
        """
        dirty = self.store.apply(changes)
        routes = {key: self.store.route(key) for key in dirty if key.kind == "Route"}
        touched = set(routes)
        # Route -> what touched it
        why = {key: dirty[key] for key in routes}
        selves = self._follow_own_addresses(dirty)
        touched |= selves.keys()
        why = {**selves, **why}
        units, causes = set[Unit](), dict[Unit, Cause]()
        for claim_key in self._ledger.update(routes):
            unit, owner = self._kind.unit(claim_key), self._ledger.owner(claim_key)
            grant = self._grants.get(unit)
            before, now = grant.route if grant else None, owner.key if owner else None
            if before == now:
                continue
            units.add(unit)
            causes[unit] = next(dirty[key] for key in (now, before, *routes) if key in dirty)
            # Thousands may wait behind them; for those it is still somebody else's.
            touched |= {key for key in (before, now) if key}
            if now:
                self._grants[unit] = Grant(claim_key, now, unit)
            else:
                del self._grants[unit]
                self._parts.pop(unit, None)
        touched |= self._ledger.restated
        for key in touched:
            self._index(key)
        for key, cause in dirty.items():
            users = self._users_of(key)
            touched |= users
            for user in users:
                why.setdefault(user, cause)
        for key in touched:
            if (owned := self.owned(key)) is not None:
                units.add(owned)
                if key in why:
                    causes[owned] = why[key]
        for unit in units:
            if (claimed := self._claimed.pop(unit, None)) and unit in self._grants:
                self._parts[unit] = claimed.resolution.parts
        return Changed(frozenset(units), frozenset(touched), causes)

    def _users_of(self, key: Key) -> set[Key]:
        """The Routes that own something and lead to a Service, or by one to a name, that changed;
        keeps up with where the Service leads."""
        if key.kind == "Service":
            self._index_name((key.namespace, key.name))
            services = {(key.namespace, key.name)}
        elif key.kind == "DNSName":
            services = self._leading.get(key.name, set())
        else:
            return set()
        return {user for service in services for user in self._users.get(service, ())}

    def claim(self, unit: Unit) -> Claimed | None:
        """What ``unit`` should be; None when nobody owns it."""
        claimed = self._claimed.get(unit)
        grant = self._grants.get(unit)
        route = self.store.route(grant.route) if grant else None
        if claimed is None and route is not None:
            resolution = resolve(route, self.store, self.denied, self._parts.pop(unit, {}))
            claimed = Claimed(unit, route, resolution, read(route.wishes))
            self._claimed[unit] = claimed
        return claimed

    def knows(self, unit: Unit) -> bool:
        """Whether `claim` has its answer at hand: somebody asked since ``unit`` last changed."""
        return unit in self._claimed or unit not in self._grants

    def has(self, key: Key) -> bool:
        """Whether the Route is there and names this router."""
        return key in self._ledger

    @property
    def claimed(self) -> Mapping[Unit, Claimed]:
        """unit -> its Route and servers, of all that somebody owns."""
        return {unit: claimed for unit in self._grants if (claimed := self.claim(unit))}

    @property
    def names(self) -> frozenset[str]:
        """The names outside the cluster that our Routes lead to, and the router's own: what DNS has
        to be asked for. The same object for as long as they are the same."""
        if self._names is None:
            self._names = frozenset(self._leading) | self.denied.own.names
        return self._names

    @property
    def autos(self) -> PortAllocator:
        """The ports of ``auto`` Routes, to read."""
        return self._ledger.autos

    def verdicts(self) -> list[Verdict]:
        """What is said of every Route that names this router, by namespace and name."""
        found = (self.verdict(route.key) for route in self._ledger.routes)
        return sorted((item for item in found if item), key=lambda item: item.route)

    def verdict(self, key: Key) -> Verdict | None:
        """What is said of one Route; None when it does not name this router."""
        verdict = self._ledger.verdict(key)
        unit = self.owned(key)
        claimed = None if unit is None else self.claim(unit)
        if verdict is None or claimed is None:
            return verdict
        resolution = claimed.resolution
        notes = [note for note in (resolution.message, *claimed.policies.notes) if note]
        if resolution.reason == Reason.ADMITTED and not notes:
            return verdict
        return Verdict(key, verdict.port, resolution.reason, "; ".join(notes))

    def queue(self, key: ClaimKey) -> list[Key]:
        """The Routes that claim ``key``, its owner first, then the oldest."""
        return self._ledger.queue(key)

    def owner(self, unit: Unit) -> Key | None:
        """The Route that has ``unit``."""
        grant = self._grants.get(unit)
        return grant.route if grant else None

    def owned(self, route: Key) -> Unit | None:
        """The unit that a Route has; None while it is refused or waits."""
        key = self._ledger.owned(route)
        return None if key is None else self._kind.unit(key)

    def _index(self, key: Key) -> None:
        for service in self._targets.pop(key, frozenset()):
            self._users[service].discard(key)
            if not self._users[service]:
                del self._users[service]
            self._index_name(service)
        route = self.store.route(key)
        if route is not None and self.owned(key) is not None:
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
        units = [unit for unit, item in self._claimed.items() if not item.resolution.holds(own)]
        # To be resolved from nothing, as are those that were to be resolved anyway.
        self._parts.clear()
        found = {self._claimed.pop(unit).route.key for unit in units}
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
