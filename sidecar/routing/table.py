"""From objects to what each unit should be, kept up to date change by change.

Joins store, claims and endpoints. Recomputes only the units that a change can touch, so the cost
of an event does not grow with the number of Routes; the result is the same as from scratch. Must
not know of HAProxy, slots or time, and imports no I/O.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from sidecar.listeners.host_rules import WebClaim
from sidecar.listeners.tcp import TCPPorts
from sidecar.model.change import Change
from sidecar.model.desired import ClaimKey, Unit
from sidecar.model.header_actions import NO_HEADER_NAMES
from sidecar.model.objects import Cause, Key, Route
from sidecar.model.verdicts import Reason, Verdict
from sidecar.policies.base import Way
from sidecar.policies.registry import policies_of
from sidecar.routing.auto_ports import PortAllocator
from sidecar.routing.claimed import Changed, Claimed
from sidecar.routing.endpoints import Parts, Resolution, resolve
from sidecar.routing.host_certificates import Shown
from sidecar.routing.ledger import Ledger
from sidecar.routing.own_addresses import Denied, Listening, own_addresses
from sidecar.routing.port_attributes import port_attributes
from sidecar.routing.store import Store
from sidecar.routing.users import Users
from sidecar.routing.web import Web, WebRoutes

#: Of a port that is shared.
_NO_SERVERS = Resolution((), Reason.ADMITTED, "")


class Routing:
    """What is wanted of each unit, and what is said of each Route.

    ``denied``: whether the settings forbid servers this IP. ``kept``: see `PortAllocator`.
    ``listening``: where the router is, which is denied always.
    """

    def __init__(
        self,
        ports: TCPPorts,
        router_name: str,
        denied: Callable[[str], bool],
        kept: Mapping[str, int] | None,
        listening: Listening,
        web: Web | None,
        web_routes: WebRoutes,
    ) -> None:
        #: For who explains; nobody else may change it.
        self.store = Store()
        self._ports = ports
        self._router_name = router_name
        self._ledger = Ledger(router_name, ports.pool, kept, web.rules if web else None)
        #: Those by host, to read; None where no listener is configured for them.
        self.web = web
        self._web_routes = web_routes
        if web:
            web.tls.secret = self.store.secret
        self._listening = listening
        #: What no server may be, now.
        self.denied = Denied(denied, own_addresses(listening, self.store))
        self._users = Users(self.store)
        self._names: frozenset[str] | None = frozenset()
        # what `_names` was made of
        self._outside: frozenset[str] = frozenset()
        # Routes by host that have nothing of a HAProxy that was met since the last change
        self._unserved: set[Key] = set()
        # unit -> who has it, to tell when it changes hands
        self._owners: dict[Unit, Key] = {}
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
        # Route -> what touched it
        why = self.web.tls.touched(dirty) if self.web else {}
        why |= {key: cause for key, cause in dirty.items() if key.kind == "Route"}
        routes = {key: self.store.route(key) for key in why}
        touched = set(routes)
        selves = self._follow_own_addresses(dirty)
        touched |= selves.keys()
        why = {**selves, **why}
        units, causes = set[Unit](), dict[Unit, Cause]()
        for unit in self._changed_units(routes, touched):
            before, now = self._owners.get(unit), self._owner(unit)
            # Whether a port is shared may be new though the oldest is the same Route.
            alike = unit in self._ports.classes and not self.is_shared(unit)
            if before == now and (now is None or alike):
                continue
            units.add(unit)
            cause = next((why[key] for key in (now, before, *routes) if key in why), None)
            if cause:
                causes[unit] = cause
            if before == now:
                continue  # and has other keys
            # Thousands may wait behind them; for those it is still somebody else's.
            touched |= {key for key in (before, now) if key}
            if now:
                self._owners[unit] = now
            else:
                self._owners.pop(unit, None)
                self._parts.pop(unit, None)
        touched |= self._ledger.restated | self._unserved
        self._unserved = set()
        for key in touched:
            self._index(key)
        for key, cause in dirty.items():
            users = self._users.of(key)
            touched |= users
            for user in users:
                why.setdefault(user, cause)
        for key in touched:
            if (owned := self.owned(key)) is not None:
                units.add(owned)
                if key in why:
                    causes[owned] = why[key]
        for unit in units:
            if (claimed := self._claimed.pop(unit, None)) and unit in self._owners:
                self._parts[unit] = claimed.resolution.parts
        return Changed(frozenset(units), frozenset(touched), causes)

    def claim(self, unit: Unit) -> Claimed | None:
        """What ``unit`` should be; None when nobody owns it."""
        claimed = self._claimed.get(unit)
        owner = self._owners.get(unit)
        route = self.store.route(owner) if owner else None
        if claimed is None and route is not None and self.is_shared(unit):
            claimed = Claimed(unit, route, _NO_SERVERS, keys=self._keys(unit), shared=True)
        elif claimed is None and route is not None:
            resolution = resolve(route, self.store, self.denied_at(unit), self._parts.pop(unit, {}))
            claim = self.web.claim(route.key) if self.web and self.web.owner(unit) else None
            way: Way = claim.termination if claim else "port"
            names = self.web.header_names if self.web else NO_HEADER_NAMES
            policies = policies_of(route, way, names)
            told = (
                self.web.attributes(unit, policies)
                if self.web and claim
                else port_attributes(route.key, policies)
            )
            claimed = Claimed(unit, route, resolution, policies, self._keys(unit), told)
        if claimed is not None:
            self._claimed[unit] = claimed
        return claimed

    def denied_at(self, unit: Unit | None) -> Denied:
        """What no server of ``unit`` may be, now."""
        return self.denied.reached_from(self._ports.source(unit))

    def knows(self, unit: Unit) -> bool:
        """Whether `claim` has its answer at hand: somebody asked since ``unit`` last changed."""
        return unit in self._claimed or unit not in self._owners

    def has(self, key: Key) -> bool:
        """Whether the Route is there and is this router's."""
        return key in self._ledger or (self.web is not None and key in self.web)

    @property
    def claimed(self) -> Mapping[Unit, Claimed]:
        """unit -> its Route and servers, of all that somebody owns."""
        return {unit: claimed for unit in self._owners if (claimed := self.claim(unit))}

    @property
    def names(self) -> frozenset[str]:
        """The names outside the cluster that our Routes lead to, and the router's own: what DNS has
        to be asked for. The same object for as long as they are the same."""
        if self._names is None or self._outside is not self._users.names:
            self._outside = self._users.names
            self._names = self._outside | self.denied.own.names
        return self._names

    @property
    def autos(self) -> PortAllocator:
        """The ports of ``auto`` Routes, to read."""
        return self._ledger.autos

    def verdicts(self) -> list[Verdict]:
        """What is said of every Route that names this router, by namespace and name."""
        ours = {route.key for route in self._ledger.routes}
        ours |= {route.key for route in self.web.routes} if self.web else set()
        found = map(self.verdict, ours)
        return sorted((item for item in found if item), key=lambda item: item.route)

    def verdict(self, key: Key) -> Verdict | None:
        """What is said of one Route; None when it does not name this router."""
        verdict = self.web.verdict(key) if self.web else None
        if verdict is None:
            verdict = self._ledger.verdict(key)
        unit = self.owned(key)
        claimed = None if unit is None else self.claim(unit)
        if verdict is None or claimed is None or not verdict.admitted:
            return verdict
        resolution = claimed.resolution
        told = (verdict.message, resolution.message, *claimed.policies.notes)
        message = "; ".join(filter(None, told))
        return replace(verdict, reason=resolution.reason, message=message)

    def queue(self, key: ClaimKey) -> list[Key]:
        """The Routes that claim ``key``, its owner first, then the oldest."""
        return self._ledger.queue(key)

    def owner(self, unit: Unit) -> Key | None:
        """The Route that has ``unit``; of those that share it, the oldest."""
        return self._owners.get(unit)

    def owners(self, unit: Unit) -> list[Key]:
        """The Route that has ``unit``; all those that share it."""
        owner = self._owners.get(unit)
        if owner is not None and self.is_shared(unit):
            (key,) = self._ports.keys(unit)
            return [route for route in self._ledger.queue(key) if self._ledger.shares(route)]
        return [] if owner is None else [owner]

    def is_shared(self, unit: Unit) -> bool:
        """Whether ``unit`` is of a port that Routes share by SNI now."""
        if unit not in self._ports.classes:
            return False
        (key,) = self._ports.keys(unit)
        return self._ledger.is_shared(key)

    def shared_host(self, route: Key) -> WebClaim | None:
        """The host that a Route is served for on a port that it shares."""
        serves = self.web is not None and self.web.unit(route) is not None
        return self.web.claim(route) if self.web and serves and self.web.port(route) else None

    def needs(self, route: Key) -> list[Unit]:
        """The units by which clients get to a Route: its own, and of one that shares a port, that
        of the port; none while it has none."""
        unit, shared = self.owned(route), self._ledger.shares(route)
        found = [] if unit is None else [unit]
        return [*found, self._ports.unit(shared)] if found and shared else found

    def owned(self, route: Key) -> Unit | None:
        """The unit that a Route has; None while it is refused or waits."""
        key = self._ledger.owned(route)
        if key is not None:
            return self._ports.unit(key)
        return self.web.unit(route) if self.web else None

    @property
    def by_host(self) -> Mapping[Unit, WebClaim]:
        """unit -> the host and path that its Route has, of those by host."""
        web = self.web
        if web is None:
            return {}
        return {
            unit: claim
            for unit, owner in self._owners.items()
            if unit not in self._ports.classes and (claim := web.claim(owner))
        }

    def subject(self, unit: Unit) -> str:
        """What a Route has with ``unit``, for a person: ``port 30000``, ``shop.example/cart``."""
        if unit in self._ports.classes:
            return self._ports.title(unit)
        owner = self._owners.get(unit)
        claim = self.web.claim(owner) if self.web and owner else None
        if claim is None or owner is None or self.web is None:
            return unit
        port = self.web.port(owner)
        return f"host {claim.pattern}{claim.path}" + (f" on port {port}" if port else "")

    def is_handed(
        self, key: ClaimKey, unit: Unit, takes: Callable[[Unit], bool] = lambda _: True
    ) -> bool:
        """Whether ``key`` should lead to another unit than this, one that ``takes`` it."""
        granted = self.web.granted(key) if self.web else None
        return granted is not None and granted != unit and takes(granted)

    @property
    def has_shown_certificates(self) -> bool:
        """Whether HAProxy was seen since the certificates that are wanted changed; a host with
        another one is led anywhere only then."""
        return self.web is None or self.web.certificates.is_shown

    def serve(self, shown: Shown) -> Changed:
        """HAProxy serves these certificates; see `Web.serve`."""
        units, routes = self.web.serve(shown) if self.web else (set[Unit](), set[Key]())
        for unit in units:
            if claimed := self._claimed.pop(unit, None):
                self._parts[unit] = claimed.resolution.parts
        return Changed(frozenset(units), frozenset(routes))

    def certified(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, str]]:
        """Of those that `serve` has: why, for the history."""
        for unit in units:
            owner = self._owners.get(unit)
            claim = self.web.claim(owner) if self.web and owner else None
            if self.web and owner and claim:
                does = "serves" if self.web.certificates.is_served(owner) else "does not serve"
                yield unit, f"HAProxy {does} the certificate of {claim.pattern}"

    def adopt(self, leads: Mapping[ClaimKey, Unit]) -> None:
        """HAProxy was met, which all units are compared with then. ``leads``: see `Web.adopt`."""
        web = self.web
        if web is None:
            return
        for unit in web.adopt(leads):
            self._claimed.pop(unit, None)
            self._parts.pop(unit, None)
            before, owner = self._owners.pop(unit, None), self._owner(unit)
            if owner:
                self._owners[unit] = owner
            for key in (before, owner):
                if key:
                    self._index(key)
        # Of all others it is said when they are compared.
        self._unserved = {route.key for route in web.routes if web.unit(route.key) is None}

    def _changed_units(self, routes: Mapping[Key, Route | None], touched: set[Key]) -> set[Unit]:
        """Take Routes as they are now; the units that may have changed hands by it. Those of which
        something else is to be said are added to ``touched``."""
        web, ours = self.web, (self._router_name, self._web_routes)
        by_host = {
            key: route if web and route and web.is_for(route, *ours) else None
            for key, route in routes.items()
        }
        by_port = {key: None if by_host[key] else route for key, route in routes.items()}
        units = {self._ports.unit(key) for key in self._ledger.update(by_port)}
        if web is None:
            return units
        # One that is by host in no way before or now is of no matter to it.
        found = {**self._ledger.sharing, **{key: item for key, item in by_host.items() if item}}
        known = {key: route for key, route in found.items() if route or key in web}
        more, restated = web.update(known) if known else (web.settle(), set())
        touched |= restated
        return units | more

    def _owner(self, unit: Unit) -> Key | None:
        by_host = self.web.owner(unit) if self.web else None
        if by_host or unit not in self._ports.classes:
            return by_host
        (key,) = self._ports.keys(unit)
        owner = self._ledger.owner(key)
        return owner.key if owner else None

    def _keys(self, unit: Unit) -> frozenset[ClaimKey]:
        if unit in self._ports.classes:
            return self._ports.keys(unit)
        return self.web.keys(unit) if self.web else frozenset()

    def _index(self, key: Key) -> None:
        self._users.place(key, self.store.route(key) if self.owned(key) is not None else None)

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
        for name in self._users.names:
            if before.has_name(name) != own.has_name(name):
                found |= self._users.of_name(name)
        return dict.fromkeys(found, cause)
