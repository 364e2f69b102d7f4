"""The ports of ``auto`` Routes: who gets which, who keeps his, and whose namespace has enough.

An ``auto`` Route owns a port or waits for one; none waits while its class has a free one and its
namespace may have more of them. Ports that were given are kept for as long as the Route lives.
Pure. What a change costs does not grow with the number that wait.
"""

import bisect
import sys
from collections import Counter
from collections.abc import Iterable, Mapping

from sidecar.common.queues import take_out
from sidecar.listeners.tcp import key_of, port_number
from sidecar.model.objects import Key, Route
from sidecar.model.pool import Pool, PortPool
from sidecar.routing.claims import Claim, ClaimQueues, claim_of


class PortAllocator:
    """Gives ``auto`` Routes ports of ``pool`` in ``queues``, where the others claim theirs, too.

    ``kept``: Route UID -> the port that it got before; it counts when a Route of that UID is first
    seen. None: in a cluster each Route has it in its annotation (`Route.kept_port`), so that all
    replicas agree; one that has none waits until it is written there (`proposed`).
    """

    def __init__(self, pool: Pool, kept: Mapping[str, int] | None, queues: ClaimQueues) -> None:
        self._pool = pool
        self._queues = queues
        self._kept = None if kept is None else dict(kept)
        #: ``auto`` Route -> the port that should be written to it: of those that have none, where
        #: Routes keep their ports themselves. Another mapping whenever it is different.
        self.proposed: Mapping[Key, int] = {}
        #: Grows whenever `ports` may be different.
        self.changes = 0
        # each `auto` Route, and the class that it takes from
        self._routes: dict[Key, Route] = {}
        self._classes: dict[Key, PortPool] = {}
        # port -> the `auto` Routes in its queue: one, but within an update
        self._at: dict[int, set[Key]] = {}
        # class -> its ports that nobody claims, in order, and its `auto` Routes without one
        self._free = {item.name: sorted(item.ports) for item in pool.classes}
        self._homeless = {
            item.name: AutoQueue(item.auto_ports_per_namespace, len(item.ports))
            for item in pool.classes
        }
        # port -> those of the latter that lost it, and have it in their annotation still
        self._lost: dict[int, set[Key]] = {}

    @property
    def ports(self) -> Mapping[str, int]:
        """Route UID -> port, of the ``auto`` Routes that exist now."""
        return {self._routes[key].uid: port for port, keys in self._at.items() for key in keys}

    def pool_of(self, route: Key) -> PortPool | None:
        """The class that an ``auto`` Route takes its port from; None for any other Route."""
        return self._classes.get(route)

    def share(self, namespace: str, pool: PortPool) -> int:
        """How many ports of ``pool`` the namespace has by ``auto``."""
        return self._homeless[pool.name].ports(namespace)

    def is_next(self, route: Route) -> bool:
        """Whether one that waits gets the next free port, as far as its namespace is concerned."""
        return claim_of(route) in self._homeless[self._classes[route.key].name]

    def port(self, route: Key) -> int | None:
        """The port in whose queue an ``auto`` Route stands."""
        place = self._queues.place(route)
        return int(place.name) if place and route in self._classes else None

    def taken(self, port: int) -> None:
        """Somebody claims ``port``, which nobody did."""
        take_out(self._free[self._pool.by_port[port].name], port)

    def freed(self, port: int) -> None:
        """The opposite of `taken`."""
        bisect.insort(self._free[self._pool.by_port[port].name], port)

    def recall(self, route: Route) -> int | None:
        """The port that a Route, which is seen for the first time, has had before."""
        if self._kept is None:
            return port_number(route.kept_port)
        return self._kept.pop(route.uid, None)

    def join(self, route: Route, pool_class: PortPool, had: int | None) -> int | None:
        """An ``auto`` Route came. ``had``: the port that it has had until now. Returns the port in
        whose queue it stands then."""
        self._routes[route.key] = route
        self._classes[route.key] = pool_class
        its_class = None if had is None else self._pool.by_port.get(had)
        if had is None or its_class is None or not its_class.allows(route.namespace):
            self._homeless[pool_class.name].join(claim_of(route))
            return None
        self._enter(route, had)
        return had

    def leave(self, route: Route) -> int | None:
        """An ``auto`` Route goes. Returns the port in whose queue it stood."""
        port = self.port(route.key)
        if port is None:
            self._take_in(route)
        else:
            self._depart(route, port)
        del self._routes[route.key], self._classes[route.key]
        return port

    def settle(self, ports: set[int]) -> tuple[set[int], set[Key]]:
        """After claims came and went, at the end of an update: no ``auto`` Route waits behind an
        older claim, and who can have a port has, or is proposed, one.

        ``ports``: those whose queue just changed. Returns the ports whose queue changed by it, and
        the Routes without a port of whom something else is to be said.
        """
        changed = self._displace(ports)
        reproposed: set[Key] = set()
        if self._kept is not None:
            # Last, so that at a first sync `auto` does not take what somebody else names.
            changed |= self._place()
        else:
            changed |= self._return(ports | changed)
            reproposed = self._propose()
        return changed, reproposed | self._take_moved()

    def _displace(self, ports: Iterable[int]) -> set[int]:
        """Take the ``auto`` Routes that lost their port to an older claim out of its queue.

        ``ports``: those whose queue just changed; nowhere else can one have lost.
        """
        lost = [
            (port, key)
            for port in ports
            for key in self._at.get(port, ())
            if self._queues.owner(key_of(port)) != key
        ]
        for port, key in lost:
            route = self._routes[key]
            self._depart(route, port)
            self._homeless[self._classes[key].name].join(claim_of(route))
            if self._kept is None:
                self._lost.setdefault(port, set()).add(key)
        return {port for port, _ in lost}

    def _return(self, ports: set[int]) -> set[int]:
        """Give ``auto`` Routes back what stands in their annotation, where nobody older claims it
        any more: a replica that starts now would, and who is told what stands there already hears
        nothing of it.

        ``ports``: those whose queue just changed.
        """
        returned = [
            (port, key)
            for port in ports & self._lost.keys()
            for key in self._lost[port]
            if not (claims := self._queues.claims(key_of(port)))
            or claim_of(self._routes[key]) < claims[0]
        ]
        for port, key in returned:
            self._take_in(self._routes[key])
            self._enter(self._routes[key], port)
        entered = {port for port, _ in returned}
        return entered | self._displace(entered)

    def _place(self) -> set[int]:
        """Give a port to each ``auto`` Route that has none, as far as there are any."""
        placed: set[int] = set()
        for name, homeless in self._homeless.items():
            for claim, port in list(zip(homeless.next, self._free[name], strict=False)):
                self._take_in(self._routes[claim.route])
                self._enter(self._routes[claim.route], port)
                placed.add(port)
        return placed

    def _take_moved(self) -> set[Key]:
        """The `auto` Routes without a port whose namespace has enough ports now, or had before."""
        moved: set[Key] = set()
        for homeless in self._homeless.values():
            moved |= {
                key
                for key in homeless.moved
                if key in self._classes and self._queues.place(key) is None
            }
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
                if (port := self.proposed.get(key)) is not None and key_of(port) not in self._queues
            }
            taken = set(stays.values())
            others = (port for port in free if port not in taken)
            proposed |= {key: stays[key] if key in stays else next(others) for key in first}
        changed = proposed.keys() ^ self.proposed.keys()
        if proposed != self.proposed:
            self.proposed = proposed
        return changed

    def _take_in(self, route: Route) -> None:
        """One that waited does not any more."""
        self._homeless[self._classes[route.key].name].leave(claim_of(route))
        if (port := port_number(route.kept_port)) in self._lost:
            self._lost[port].discard(route.key)
            if not self._lost[port]:
                del self._lost[port]

    def _enter(self, route: Route, port: int) -> None:
        if key_of(port) not in self._queues:
            self.taken(port)
        self._queues.enter(claim_of(route), key_of(port))
        self._at.setdefault(port, set()).add(route.key)
        self._homeless[self._pool.by_port[port].name].count(route.namespace, 1)
        self.changes += 1

    def _depart(self, route: Route, port: int) -> None:
        self._queues.leave(claim_of(route))
        if key_of(port) not in self._queues:
            self.freed(port)
        self._at[port].discard(route.key)
        if not self._at[port]:
            del self._at[port]
        self._homeless[self._pool.by_port[port].name].count(route.namespace, -1)
        self.changes += 1


class AutoQueue:
    """Who waits for one of ``ports_total`` ports. ``limit``: how many of them a namespace may have
    by `auto`; what it has beyond (the limit was higher, say) is not taken away."""

    def __init__(self, limit: int, ports_total: int) -> None:
        # Who may have all of them is limited by the pool alone.
        self._limit = limit if limit < ports_total else sys.maxsize
        #: Those that get the next free ports, the oldest first: of each namespace its oldest, and
        #: no more than it may have beside the ports that it has.
        self.next: list[Claim] = []
        #: Those that came into ``next`` or left it, since somebody last cleared it.
        self.moved: set[Key] = set()
        self._ports: Counter[str] = Counter()
        # namespace -> all of it that wait, the oldest first; those in `next` are the first of them
        self._waiting: dict[str, list[Claim]] = {}

    def __contains__(self, claim: Claim) -> bool:
        """Whether ``claim``, which waits, is in ``next``."""
        namespace = claim.route.namespace
        place = bisect.bisect_left(self._waiting[namespace], claim)
        return place < self._room(namespace)

    def ports(self, namespace: str) -> int:
        """How many ports the namespace has by `auto`."""
        return self._ports[namespace]

    def join(self, claim: Claim) -> None:
        namespace = claim.route.namespace
        waiting = self._waiting.setdefault(namespace, [])
        place, room = bisect.bisect_left(waiting, claim), self._room(namespace)
        waiting.insert(place, claim)
        if place < room:
            self._admit(claim)
            if len(waiting) > room:
                self._put_off(waiting[room])

    def leave(self, claim: Claim) -> None:
        namespace = claim.route.namespace
        waiting, room = self._waiting[namespace], self._room(namespace)
        place = bisect.bisect_left(waiting, claim)
        del waiting[place]
        if place < room:
            self._put_off(claim)
            if len(waiting) >= room:
                self._admit(waiting[room - 1])
        if not waiting:
            del self._waiting[namespace]

    def count(self, namespace: str, more: int) -> None:
        """The namespace has ``more`` ports than before, or fewer."""
        before = self._room(namespace)
        self._ports[namespace] += more
        if not self._ports[namespace]:
            del self._ports[namespace]
        waiting, room = self._waiting.get(namespace, []), self._room(namespace)
        for claim in waiting[before:room]:
            self._admit(claim)
        for claim in waiting[room:before]:
            self._put_off(claim)

    def _room(self, namespace: str) -> int:
        return max(0, self._limit - self._ports[namespace])

    def _admit(self, claim: Claim) -> None:
        bisect.insort(self.next, claim)
        self.moved.add(claim.route)

    def _put_off(self, claim: Claim) -> None:
        take_out(self.next, claim)
        self.moved.add(claim.route)
