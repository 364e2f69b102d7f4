"""Who owns which key: the claims of our Routes, the oldest first.

A claim is a Route's wish for a key, a port say. The oldest claim wins (creationTimestamp, then
UID); the others wait, and the next oldest gets the key when the owner goes. Whether an owner has
servers plays no part, or a port would change hands whenever somebody scales to zero. Must not look
at Services or endpoints, nor know what a key is. Pure.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sidecar.common.queues import Queues
from sidecar.model.desired import ClaimKey
from sidecar.model.objects import Key, Route


class Claim(NamedTuple):
    """A Route's place in a queue; smaller is older."""

    created_seconds: float
    uid: str
    route: Key


def claim_of(route: Route) -> Claim:
    return Claim(route.created_seconds, route.uid, route.key)


class ClaimQueues:
    """A queue for each key that somebody claims; a Route stands in one at most."""

    def __init__(self) -> None:
        self._queues = Queues[ClaimKey, Claim]()
        self._places: dict[Key, ClaimKey] = {}

    def __contains__(self, key: ClaimKey) -> bool:
        """Whether anybody claims ``key``."""
        return key in self._queues

    def enter(self, claim: Claim, key: ClaimKey) -> None:
        self._queues.add(key, claim)
        self._places[claim.route] = key

    def leave(self, claim: Claim) -> None:
        """``claim`` stands in some queue."""
        self._queues.remove(self._places.pop(claim.route), claim)

    def place(self, route: Key) -> ClaimKey | None:
        """The key in whose queue the Route stands."""
        return self._places.get(route)

    def claims(self, key: ClaimKey) -> Sequence[Claim]:
        """The owner's first."""
        return self._queues.at(key)

    def owner(self, key: ClaimKey) -> Key | None:
        """The Route that has ``key``."""
        first = self._queues.first(key)
        return first.route if first else None

    def owned(self, route: Key) -> ClaimKey | None:
        """The key that the Route has."""
        key = self._places.get(route)
        return key if key is not None and self.owner(key) == route else None
