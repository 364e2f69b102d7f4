"""How often something may be written: keys that are due, token buckets, and somebody else's hand.

Reads no clock: ``now`` is given, in monotonic seconds. Pure.
"""

import heapq
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

#: After somebody else changed what we wrote we wait this long before we write it again, twice as
#: long after each further time, up to the longest.
CONTENTION_FIRST_SECONDS = 5.0
CONTENTION_LONGEST_SECONDS = 600.0

#: With so many objects contended it is no hand that slipped but another router: each further one
#: waits the longest time at once (OpenShift's contention tracker stops at five, too).
CONTENDED_MAX = 5


class DueKeys(Generic[K]):
    """Keys to look at, each once, in the order of their times."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        # (time, running number, key); an entry that `_due` does not confirm is void
        self._heap: list[tuple[float, int, K]] = []
        self._number = 0

    def add(self, key: K, at: float) -> None:
        """Look at ``key`` at that time, or earlier if that was said before."""
        if at < self._due.get(key, float("inf")):
            self._due[key] = at
            self._number += 1
            heapq.heappush(self._heap, (at, self._number, key))

    def take(self, now: float) -> K | None:
        """The key that has been due for longest; it is not due any more."""
        if self.next_at() > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._due[key]
        return key

    def next_at(self) -> float:
        """When the next key is due; infinite when none is."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")

    def __len__(self) -> int:
        return len(self._due)


class TokenBucket:
    """``burst`` at once, then ``per_second``."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = float(burst)
        self._at = float("-inf")

    def wait_seconds(self, now: float) -> float:
        """How long until there is a token; 0.0 when there is one."""
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._per_second)

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        self._fill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _fill(self, now: float) -> None:
        gained = max(0.0, now - self._at) * self._per_second
        self._tokens = min(float(self._burst), self._tokens + gained)
        self._at = max(now, self._at)


@dataclass(slots=True)
class _Contended:
    wrote: object
    # before that: a watch that is behind brings it once more
    former: object
    strikes: int = 0
    struck: bool = False
    struck_at: float = float("-inf")
    until: float = float("-inf")


class Contention:
    """Notices that somebody else rewrites what we write, and makes us the one who gives way."""

    def __init__(self) -> None:
        # object -> what we wrote of it, and how that went
        self._objects: dict[str, _Contended] = {}

    def wrote(self, uid: str, value: object) -> None:
        """``value`` is what we made of it now."""
        known = self._objects.setdefault(uid, _Contended(value, value))
        known.former, known.wrote, known.struck = known.wrote, value, False

    def wait_seconds(self, uid: str, value: object, now: float) -> float:
        """How long to leave the object alone that has ``value`` now, where we want another."""
        known = self._objects.get(uid)
        if known is None or value in (known.wrote, known.former):
            return 0.0
        if not known.struck:
            if now - known.struck_at > 2 * CONTENTION_LONGEST_SECONDS:
                known.strikes = 0
            others = self.contended(now)
            known.strikes += 1
            pause = CONTENTION_FIRST_SECONDS * 2.0 ** min(known.strikes - 1, 16)
            if others >= CONTENDED_MAX:
                pause = CONTENTION_LONGEST_SECONDS
            known.until = now + min(pause, CONTENTION_LONGEST_SECONDS)
            known.struck, known.struck_at = True, now
        return max(0.0, known.until - now)

    def contended(self, now: float) -> int:
        """How many objects somebody else has changed lately."""
        since = now - CONTENTION_LONGEST_SECONDS
        return sum(item.struck_at > since for item in self._objects.values())

    def strikes(self, uid: str) -> int:
        """How often in a row somebody else changed it."""
        known = self._objects.get(uid)
        return known.strikes if known else 0

    def forget(self, uid: str) -> None:
        self._objects.pop(uid, None)
