"""Which Route owns which port: judges each Route alone, queues its claim, says what became of it.

A Route claims all of a port, or, where that may be shared by SNI, the port for one host. The oldest
claim says which of the two the port is for: the others of its sort are served beside it, as far as
their hosts allow (`sidecar.routing.web`), and those of the other sort wait.

Joins the queues of `sidecar.routing.claims` and the allocator of `sidecar.routing.auto_ports`. Must
not look at Services or endpoints. Pure.
"""

from collections.abc import Iterable, Mapping

from sidecar.listeners.host_rules import HostRules
from sidecar.listeners.host_rules import judge as judge_host
from sidecar.listeners.tcp import AUTO, is_for_host, judge, key_of
from sidecar.model.desired import ClaimKey
from sidecar.model.objects import Key, Route
from sidecar.model.pool import Pool
from sidecar.model.verdicts import Reason, Refusal, Verdict
from sidecar.policies.allowed_sources import refusal
from sidecar.routing.auto_ports import PortAllocator
from sidecar.routing.claims import ClaimQueues, claim_of


class Ledger:
    """All claims, and who owns what. An update costs what changed, not how many wait.

    ``router_name``: whose Routes are ours. ``kept``: see `PortAllocator`. ``rules``: for the hosts
    of those that share a port; None: none is shared.
    """

    def __init__(
        self,
        router_name: str,
        pool: Pool,
        kept: Mapping[str, int] | None,
        rules: HostRules | None,
    ) -> None:
        self._router_name = router_name
        self._pool = pool
        self._rules = rules
        self._keeps_itself = kept is None
        self._routes: dict[Key, Route] = {}
        self._refused: dict[Key, Verdict] = {}
        self._queues = ClaimQueues()
        #: The ports of `auto` Routes; changed here only.
        self.autos = PortAllocator(pool, kept, self._queues)
        #: Those without a port of whom something else is said since the last update.
        self.restated: frozenset[Key] = frozenset()
        #: Those of the last update, and who stands in a queue with them that is of another sort
        #: now: as they are if they share their port, else None.
        self.sharing: Mapping[Key, Route | None] = {}
        # those that keep their port, and are not to be served
        self._barred: dict[Key, Refusal] = {}
        # those that claim a port for their host, and the ports that such a one has
        self._for_host: set[Key] = set()
        self._shared: set[int] = set()

    def update(self, changed: Mapping[Key, Route | None]) -> set[ClaimKey]:
        """Take Routes as they are now (None: gone); the keys whose queue is different."""
        ports: set[int] = set()
        # `auto` Route that is still the same one -> its port
        had: dict[Key, int] = {}
        for key, route in changed.items():
            former = self._routes.get(key)
            if former is None:
                continue
            port = self.autos.port(key)
            if port and route and route.uid == former.uid and not self._keeps_itself:
                had[key] = port
            ports |= self._leave(former)
        for key, route in changed.items():
            if route is not None and route.router_name == self._router_name:
                self._routes[key] = route
                ports |= self._enter(route, had.get(key) or self.autos.recall(route))
        more, restated = self.autos.settle(ports)
        self.restated = frozenset(restated)
        self.sharing = self._sharing_now(changed, ports | more)
        return {key_of(port) for port in ports | more}

    def __contains__(self, key: Key) -> bool:
        """Whether the Route is there and names this router."""
        return key in self._routes

    def owner(self, key: ClaimKey) -> Route | None:
        """The Route that has ``key``, and is to be served; of those that share it, the oldest."""
        owner = self._queues.owner(key)
        return self._routes[owner] if owner and owner not in self._barred else None

    def owned(self, route: Key) -> ClaimKey | None:
        """The key that the Route has for itself."""
        without = route in self._for_host or route in self._barred
        return None if without else self._queues.owned(route)

    def is_shared(self, key: ClaimKey) -> bool:
        """Whether ``key`` is for those who claim it for a host."""
        return self._queues.owner(key) in self._for_host

    def shares(self, route: Key) -> ClaimKey | None:
        """The key that the Route shares, if it is its turn, whether its host is its own or not."""
        key = self._queues.place(route) if route in self._for_host else None
        return key if key and self.is_shared(key) else None

    def queue(self, key: ClaimKey) -> list[Key]:
        """The Routes that claim ``key``, its owner first; those of both sorts."""
        return [claim.route for claim in self._queues.claims(key)]

    @property
    def routes(self) -> Iterable[Route]:
        """All Routes that name this router."""
        return self._routes.values()

    def verdict(self, key: Key) -> Verdict | None:
        """Whether the Route owns its port; None when it is not ours."""
        route = self._routes.get(key)
        if route is None:
            return None
        if refused := self._refused.get(key):
            return refused
        place = self._queues.place(key)
        if place is None:
            return self._without_port(route)
        port = int(place.name)
        if self._queues.owner(place) == key and (barred := self._barred.get(key)):
            return Verdict(key, port, barred.reason, barred.message)
        if self._queues.owner(place) == key or self.shares(key):
            return Verdict(key, port, Reason.ADMITTED, "")
        # It does not say by whom: thousands may wait, and nothing of theirs is to change whenever
        # the owner does; nor would another namespace's be theirs to know.
        return Verdict(
            key,
            port,
            Reason.PORT_ALREADY_CLAIMED,
            f"port {port} is claimed by an older Route; wait until it is released, or request"
            f' another port or "{AUTO}"',
        )

    def _without_port(self, route: Route) -> Verdict:
        """Why an `auto` Route has no port yet."""
        key, autos = route.key, self.autos
        pool = autos.pool_of(key)
        if pool is None:
            raise ValueError(f"{key} is no auto Route, and stands in no queue")
        if key in autos.proposed:
            return Verdict(
                key,
                None,
                Reason.PORT_PENDING,
                f'waiting for the leading replica to assign an "{AUTO}" port (needs the component'
                " auto-ports)",
            )
        if not autos.is_next(route):
            # It does not say which of the two: thousands may wait, and nothing of theirs is to
            # change whenever one of the others gets a port.
            return Verdict(
                key,
                None,
                Reason.QUOTA_EXCEEDED,
                f"namespace {key.namespace!r} has used up its {pool.auto_ports_per_namespace}"
                f' "{AUTO}" ports of pool {pool.name!r} (auto_ports_per_namespace): other Routes'
                " have them, or are next to get them; delete one of those Routes, or set a port"
                " number",
            )
        return Verdict(
            key,
            None,
            Reason.POOL_EXHAUSTED,
            f'all ports of pool {pool.name!r} ({pool.shown_ports}), which "{AUTO}" uses, are'
            " taken; free one, add ports, or set a port of another pool",
        )

    def _sharing_now(
        self, changed: Iterable[Key], ports: Iterable[int]
    ) -> Mapping[Key, Route | None]:
        """See `sharing`. ``ports``: those whose queue just changed."""
        affected = set(changed)
        for port in ports:
            if self.is_shared(key_of(port)) != (port in self._shared):
                self._shared ^= {port}
                affected |= self._for_host.intersection(self.queue(key_of(port)))
        return {key: self._routes[key] if self.shares(key) else None for key in affected}

    def _leave(self, route: Route) -> set[int]:
        """The ports whose queue is different then."""
        key = route.key
        del self._routes[key]
        self._refused.pop(key, None)
        self._barred.pop(key, None)
        self._for_host.discard(key)
        if self.autos.pool_of(key):
            port = self.autos.leave(route)
            return set() if port is None else {port}
        place = self._queues.place(key)
        if place is None:
            return set()
        self._queues.leave(claim_of(route))
        if place not in self._queues:
            self.autos.freed(int(place.name))
        return {int(place.name)}

    def _enter(self, route: Route, had: int | None) -> set[int]:
        """``had``: the port that it has had until now, should it be `auto`."""
        judged = judge(route, self._pool)
        if isinstance(judged, Verdict):
            self._refused[route.key] = judged
            return set()
        # Like this it keeps its port: another namespace's must not get it by what it wishes.
        barred = refusal(route)
        if not isinstance(judged, int):
            if barred:
                self._barred[route.key] = barred
            port = self.autos.join(route, judged, had)
            return set() if port is None else {port}
        if self._rules and is_for_host(route, judged, self._pool):
            asked = judge_host(route, self._rules)
            if isinstance(asked, Refusal):
                self._refused[route.key] = Verdict(route.key, judged, asked.reason, asked.message)
                return set()
            self._for_host.add(route.key)
        elif barred:
            self._barred[route.key] = barred
        if key_of(judged) not in self._queues:
            self.autos.taken(judged)
        self._queues.enter(claim_of(route), key_of(judged))
        return {judged}
