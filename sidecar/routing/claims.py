"""Who owns which port: a pure allocator over the claims of our Routes.

A claim is a Route's wish for a port. The oldest claim wins (creationTimestamp, then UID); the
others wait, and the next oldest gets the port when the owner goes. Whether an owner has servers
plays no part, or a port would change hands whenever somebody scales to zero.

Ports given to ``auto`` claims are kept for as long as the Route lives: pass `Ledger.auto_ports`
of the last life as ``kept``. Must not look at Services or endpoints, and imports no I/O.
"""

import bisect
from collections.abc import Iterable, Mapping

from sidecar.listeners.tcp import AUTO, judge, port_number
from sidecar.model.objects import Key, Route
from sidecar.model.pool import Pool, PortPool
from sidecar.model.verdicts import Reason, Verdict
from sidecar.routing.auto_ports import AutoQueue, Claim, claim_of, remove


class Ledger:
    """All claims, and who owns what.

    An update costs what changed, not how many wait: between two updates an ``auto`` Route owns its
    port or has none, and none is without a port while its class has a free one and its namespace
    may have more of them (`AutoQueue`).

    ``router_name``: whose Routes are ours. ``kept``: Route UID -> the port that it got as
    ``auto`` before; it counts when a Route of that UID is first seen. None: in a cluster each Route
    has it in its annotation (`Route.kept_port`), so that all replicas agree; one that has none
    waits until it is written there (`proposed_ports`).
    """

    def __init__(self, router_name: str, pool: Pool, kept: Mapping[str, int] | None) -> None:
        self._router_name = router_name
        self._pool = pool
        self._routes: dict[Key, Route] = {}
        self._refused: dict[Key, Verdict] = {}
        # Route -> the port in whose queue it stands; None for an `auto` Route that found no port
        self._places: dict[Key, int | None] = {}
        # port -> its claims, oldest first
        self._queues: dict[int, list[Claim]] = {}
        self._kept = None if kept is None else dict(kept)
        self._proposed: dict[Key, int] = {}
        #: Those without a port of whom something else is said since the last update.
        self.restated: frozenset[Key] = frozenset()
        # `auto` Route -> the class that it takes from
        self._auto: dict[Key, PortPool] = {}
        # port -> the `auto` Routes in its queue: one, but within an update
        self._autos_at: dict[int, set[Key]] = {}
        # class -> its ports that nobody claims, in order, and its `auto` Routes without one
        self._free = {item.name: sorted(item.ports) for item in pool.classes}
        self._homeless = {
            item.name: AutoQueue(item.auto_ports_per_namespace, len(item.ports))
            for item in pool.classes
        }
        # port -> those of the latter that lost it, and have it in their annotation still
        self._lost: dict[int, set[Key]] = {}
        #: Grows whenever `auto_ports` may be different.
        self.auto_changes = 0

    def update(self, changed: Mapping[Key, Route | None]) -> set[int]:
        """Take Routes as they are now (None: gone); the ports whose queue is different."""
        ports: set[int] = set()
        # `auto` Route that is still the same one -> its port
        had: dict[Key, int] = {}
        for key, route in changed.items():
            port = self._places.get(key)
            if key in self._auto and route and route.uid == self._routes[key].uid and port:
                had[key] = port
            ports |= self._leave(key)
        for key, route in changed.items():
            if route is not None and route.router_name == self._router_name:
                self._routes[key] = route
                if self._kept is None:
                    kept = port_number(route.kept_port)
                else:
                    kept = had.get(key, self._kept.pop(route.uid, None))
                ports |= self._enter(route, kept)
        ports |= self._displace_autos(ports)
        # Last, so that at a first sync `auto` does not take what somebody else names.
        reproposed: set[Key] = set()
        if self._kept is not None:
            ports |= self._place_autos()
        else:
            ports |= self._return_autos(ports)
            reproposed = self._propose()
        self.restated = frozenset(reproposed | self._take_moved())
        return ports

    def __contains__(self, key: Key) -> bool:
        """Whether the Route is there and names this router."""
        return key in self._routes

    def owner(self, port: int) -> Route | None:
        """The Route that has ``port``."""
        queue = self._queues.get(port)
        return self._routes[queue[0].route] if queue else None

    def owned(self, key: Key) -> int | None:
        """The port that the Route has, or None."""
        port = self._places.get(key)
        return port if port is not None and self._queues[port][0].route == key else None

    def queue(self, port: int) -> list[Key]:
        """The Routes that claim ``port``, its owner first."""
        return [claim.route for claim in self._queues.get(port, ())]

    @property
    def auto_ports(self) -> Mapping[str, int]:
        """Route UID -> port, of the ``auto`` Routes that exist now."""
        return {
            self._routes[key].uid: port for port, keys in self._autos_at.items() for key in keys
        }

    def auto_pool(self, key: Key) -> PortPool | None:
        """The class that an ``auto`` Route takes its port from; None for any other Route."""
        return self._auto.get(key)

    def auto_share(self, namespace: str, pool: PortPool) -> int:
        """How many ports of ``pool`` the namespace has by ``auto``."""
        return self._homeless[pool.name].ports(namespace)

    @property
    def proposed_ports(self) -> Mapping[Key, int]:
        """``auto`` Route -> the port that should be written to it: of those that have none, where
        Routes keep their ports themselves. Another mapping whenever it is different."""
        return self._proposed

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
        port = self._places[key]
        if port is None and key in self._proposed:
            return Verdict(
                key,
                None,
                Reason.PORT_PENDING,
                f'a port for "{AUTO}" is on its way: the leading replica of this router writes it'
                " to an annotation, as its component auto-ports allows",
            )
        if port is None and claim_of(route) not in self._homeless[self._auto[key].name]:
            pool = self._auto[key]
            # It does not say which of the two: thousands may wait, and nothing of theirs is to
            # change whenever one of the others gets a port.
            return Verdict(
                key,
                None,
                Reason.QUOTA_EXCEEDED,
                f"other Routes of namespace {key.namespace!r} have, or are next for, the"
                f' {pool.auto_ports_per_namespace} ports of pool {pool.name!r} that "{AUTO}" gives'
                " a namespace (auto_ports_per_namespace); delete one of them, or name a port",
            )
        if port is None:
            pool = self._auto[key]
            return Verdict(
                key,
                None,
                Reason.POOL_EXHAUSTED,
                f"all ports of pool {pool.name!r} ({pool.shown_ports}) are taken, where"
                f' "{AUTO}" takes from; free one, give the pool more, or write a port of another'
                " pool",
            )
        owner = self._queues[port][0].route
        if owner == key:
            return Verdict(key, port, Reason.ADMITTED, "")
        # It does not say by whom: thousands may wait, and nothing of theirs is to change whenever
        # the owner does; nor would another namespace's be theirs to know.
        return Verdict(
            key,
            port,
            Reason.PORT_ALREADY_CLAIMED,
            f"port {port} is claimed by an older Route; this one gets it when that goes,"
            f' or ask for another port or "{AUTO}"',
        )

    def _leave(self, key: Key) -> set[int]:
        route = self._routes.get(key)
        if route is None:
            return set()
        port = self._places.get(key)
        if port is not None:
            self._dequeue(route, port)
        elif key in self._auto:
            self._take_in(route)
        for memory in (self._routes, self._refused, self._places, self._auto):
            memory.pop(key, None)
        return set() if port is None else {port}

    def _enter(self, route: Route, had: int | None) -> set[int]:
        """``had``: the port that it has had until now, should it be `auto`."""
        judged = judge(route, self._pool)
        if isinstance(judged, Verdict):
            self._refused[route.key] = judged
            return set()
        if isinstance(judged, int):
            self._enqueue(route, judged)
            return {judged}
        self._auto[route.key] = judged
        pool_class = None if had is None else self._pool.by_port.get(had)
        if had is None or pool_class is None or not pool_class.allows(route.namespace):
            self._make_homeless(route)
            return set()
        self._enqueue(route, had)
        return {had}

    def _displace_autos(self, ports: Iterable[int]) -> set[int]:
        """Take the ``auto`` Routes that lost their port to an older claim out of its queue.

        ``ports``: those whose queue just changed; nowhere else can one have lost.
        """
        lost = [
            (port, key)
            for port in ports
            for key in self._autos_at.get(port, ())
            if self._queues[port][0].route != key
        ]
        for port, key in lost:
            self._dequeue(self._routes[key], port)
            self._make_homeless(self._routes[key])
            if self._kept is None:
                self._lost.setdefault(port, set()).add(key)
        return {port for port, _ in lost}

    def _return_autos(self, ports: set[int]) -> set[int]:
        """Give ``auto`` Routes back what stands in their annotation, where nobody older claims it
        any more: a replica that starts now would, and who is told what stands there already hears
        nothing of it.

        ``ports``: those whose queue just changed.
        """
        returned = [
            (port, key)
            for port in ports & self._lost.keys()
            for key in self._lost[port]
            if port not in self._queues or claim_of(self._routes[key]) < self._queues[port][0]
        ]
        for port, key in returned:
            self._take_in(self._routes[key])
            self._enqueue(self._routes[key], port)
        entered = {port for port, _ in returned}
        return entered | self._displace_autos(entered)

    def _place_autos(self) -> set[int]:
        """Give a port to each ``auto`` Route that has none, as far as there are any."""
        placed: set[int] = set()
        for name, homeless in self._homeless.items():
            for claim, port in list(zip(homeless.next, self._free[name], strict=False)):
                self._take_in(self._routes[claim.route])
                self._enqueue(self._routes[claim.route], port)
                placed.add(port)
        return placed

    def _take_moved(self) -> set[Key]:
        """The `auto` Routes without a port whose namespace has enough ports now, or had before."""
        moved: set[Key] = set()
        for homeless in self._homeless.values():
            moved |= {key for key in homeless.moved if self._places.get(key, 0) is None}
            homeless.moved.clear()
        return moved

    def _propose(self) -> set[Key]:
        """Choose a port for each ``auto`` Route that has none; what was chosen stays so, while it
        is free. Those whose choice came or went."""
        proposed: dict[Key, int] = {}
        for name, homeless in self._homeless.items():
            free = self._free[name]
            first = [claim.route for claim in homeless.next[: len(free)]]
            # It may be written already, and on its way back to us.
            stays = {
                key: port
                for key in first
                if (port := self._proposed.get(key)) is not None and port not in self._queues
            }
            taken = set(stays.values())
            others = (port for port in free if port not in taken)
            proposed |= {key: stays[key] if key in stays else next(others) for key in first}
        changed = proposed.keys() ^ self._proposed.keys()
        if proposed != self._proposed:
            self._proposed = proposed
        return changed

    def _make_homeless(self, route: Route) -> None:
        self._places[route.key] = None
        self._homeless[self._auto[route.key].name].join(claim_of(route))

    def _take_in(self, route: Route) -> None:
        """The opposite of `_make_homeless`."""
        self._homeless[self._auto[route.key].name].leave(claim_of(route))
        if (port := port_number(route.kept_port)) in self._lost:
            self._lost[port].discard(route.key)
            if not self._lost[port]:
                del self._lost[port]

    def _enqueue(self, route: Route, port: int) -> None:
        pool_class = self._pool.by_port[port].name
        if port not in self._queues:
            self._queues[port] = []
            remove(self._free[pool_class], port)
        bisect.insort(self._queues[port], claim_of(route))
        self._places[route.key] = port
        if route.key in self._auto:
            self._autos_at.setdefault(port, set()).add(route.key)
            self._homeless[pool_class].count(route.namespace, 1)
            self.auto_changes += 1

    def _dequeue(self, route: Route, port: int) -> None:
        pool_class = self._pool.by_port[port].name
        remove(self._queues[port], claim_of(route))
        if not self._queues[port]:
            del self._queues[port]
            bisect.insort(self._free[pool_class], port)
        if route.key in self._auto:
            self._autos_at[port].discard(route.key)
            if not self._autos_at[port]:
                del self._autos_at[port]
            self._homeless[pool_class].count(route.namespace, -1)
            self.auto_changes += 1
