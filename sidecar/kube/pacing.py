"""How often something may be written: due keys, token buckets, and conflicting writers.

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
    # when we wrote it, or last saw that somebody else did
    at: float
    strikes: int = 0
    struck: bool = False
    until: float = float("-inf")


class Contention:
    """Notices that somebody else rewrites what we write, and makes us the one who gives way: of
    that object, since what becomes of one says nothing of others (OpenShift's contention tracker
    stops all of them at five; one restored backup would do that).

    What has been at peace for twice the longest pause is forgotten, so what is kept is bounded by
    how much may be written in that time.
    """

    def __init__(self) -> None:
        # object -> what we wrote of it, and how that went; the one at peace for longest first
        self._objects: dict[str, _Contended] = {}

    def wrote(self, uid: str, value: object, now: float) -> None:
        """``value`` is what we made of it now."""
        self._forget(now)
        known = self._objects.pop(uid, None) or _Contended(value, value, now)
        known.former, known.wrote, known.struck, known.at = known.wrote, value, False, now
        self._objects[uid] = known

    def wait_seconds(self, uid: str, value: object, now: float) -> float:
        """How long to leave the object alone that has ``value`` now, where we want another."""
        self._forget(now)
        known = self._objects.get(uid)
        if known is None or value in (known.wrote, known.former):
            return 0.0
        if not known.struck:
            known.strikes += 1
            pause = CONTENTION_FIRST_SECONDS * 2.0 ** min(known.strikes - 1, 16)
            known.until = now + min(pause, CONTENTION_LONGEST_SECONDS)
            known.struck, known.at = True, now
            self._objects[uid] = self._objects.pop(uid)
        return max(0.0, known.until - now)

    def strikes(self, uid: str) -> int:
        """How often in a row somebody else changed it."""
        known = self._objects.get(uid)
        return known.strikes if known else 0

    def __len__(self) -> int:
        return len(self._objects)

    def _forget(self, now: float) -> None:
        while self._objects:
            uid, known = next(iter(self._objects.items()))
            if now - known.at <= 2 * CONTENTION_LONGEST_SECONDS:
                return
            del self._objects[uid]
