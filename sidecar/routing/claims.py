"""Who owns which key: the claims of our Routes, the oldest first.

A claim is a Route's wish for a key, a port say. The oldest claim wins (creationTimestamp, then
UID); the others wait, and the next oldest gets the key when the owner goes. Whether an owner has
servers plays no part, or a port would change hands whenever somebody scales to zero. Must not look
at Services or endpoints, nor know what a key is. Pure.
"""

import bisect
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from sidecar.model.desired import ClaimKey
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


class ClaimQueues:
    """A queue for each key that somebody claims; a Route stands in one at most."""

    def __init__(self) -> None:
        self._queues: dict[ClaimKey, list[Claim]] = {}
        self._places: dict[Key, ClaimKey] = {}

    def __contains__(self, key: ClaimKey) -> bool:
        """Whether anybody claims ``key``."""
        return key in self._queues

    def enter(self, claim: Claim, key: ClaimKey) -> None:
        bisect.insort(self._queues.setdefault(key, []), claim)
        self._places[claim.route] = key

    def leave(self, claim: Claim) -> None:
        """``claim`` stands in some queue."""
        key = self._places.pop(claim.route)
        remove(self._queues[key], claim)
        if not self._queues[key]:
            del self._queues[key]

    def place(self, route: Key) -> ClaimKey | None:
        """The key in whose queue the Route stands."""
        return self._places.get(route)

    def claims(self, key: ClaimKey) -> Sequence[Claim]:
        """The owner's first."""
        return self._queues.get(key, ())

    def owner(self, key: ClaimKey) -> Key | None:
        """The Route that has ``key``."""
        queue = self._queues.get(key)
        return queue[0].route if queue else None

    def owned(self, route: Key) -> ClaimKey | None:
        """The key that the Route has."""
        key = self._places.get(route)
        return key if key is not None and self.owner(key) == route else None
