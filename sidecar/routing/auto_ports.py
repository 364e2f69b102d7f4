"""The `auto` Routes that wait for a port of one class: who is next, and whose namespace has enough.

Owns the limit per namespace, so that one cannot take the others' ports. Must not know which ports
there are, nor who has which. Pure. What a change costs does not grow with the number that wait.
"""

import bisect
import sys
from collections import Counter
from typing import NamedTuple, TypeVar

from sidecar.model.objects import Key, Route

_T = TypeVar("_T", int, "Claim")


class Claim(NamedTuple):
    """A Route's place in a queue; smaller is older."""

    created_seconds: float
    uid: str
    route: Key


def claim_of(route: Route) -> Claim:
    return Claim(route.created_seconds, route.uid, route.key)


def remove(ordered: list[_T], item: _T) -> None:
    """Take ``item``, which is there, out of a sorted list."""
    del ordered[bisect.bisect_left(ordered, item)]


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
        remove(self.next, claim)
        self.moved.add(claim.route)
