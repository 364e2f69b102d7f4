"""Who is older: Routes in the order of their age, for a few owners at a time.

Must not know what they are in order for. Pure.
"""

import bisect
from collections.abc import Collection, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from sidecar.model.objects import Key

_K = TypeVar("_K")


class Age(NamedTuple):
    """A Route's place among others; smaller is older. ``owner``: whose it is."""

    created_seconds: float
    uid: str
    route: Key
    owner: str


class Queues(Generic[_K]):
    """Of each key, the ages that stand there, the oldest first."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        self._queues: dict[_K, list[Age]] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    @property
    def keys(self) -> Collection[_K]:
        """Those at which somebody stands."""
        return self._queues.keys()

    def add(self, key: _K, age: Age) -> None:
        bisect.insort(self._queues.setdefault(key, []), age)

    def remove(self, key: _K, age: Age) -> None:
        """``age`` stands at ``key``."""
        take_out(self._queues[key], age)
        if not self._queues[key]:
            del self._queues[key]

    def at(self, key: _K) -> Sequence[Age]:
        return self._queues.get(key, ())

    def first(self, key: _K) -> Age | None:
        queue = self._queues.get(key)
        return queue[0] if queue else None


class Seniority:
    """Ages by their owners: who is the oldest, of all, of one owner, of all others."""

    __slots__ = ("_by_owner", "_firsts")

    def __init__(self) -> None:
        self._by_owner = Queues[str]()
        #: The oldest of each owner.
        self._firsts: list[Age] = []

    def __bool__(self) -> bool:
        return bool(self._by_owner)

    def __iter__(self) -> Iterator[str]:
        """The owners."""
        return iter(self._by_owner.keys)

    def add(self, age: Age) -> None:
        former = self.oldest_of(age.owner)
        self._by_owner.add(age.owner, age)
        replace(self._firsts, former, self.oldest_of(age.owner))

    def remove(self, age: Age) -> None:
        """``age`` is there."""
        former = self.oldest_of(age.owner)
        self._by_owner.remove(age.owner, age)
        replace(self._firsts, former, self.oldest_of(age.owner))

    def of(self, owner: str) -> Sequence[Age]:
        return self._by_owner.at(owner)

    @property
    def oldest(self) -> Age | None:
        return self._firsts[0] if self._firsts else None

    def oldest_of(self, owner: str) -> Age | None:
        return self._by_owner.first(owner)

    def oldest_but(self, owner: str) -> Age | None:
        """The oldest of all other owners."""
        return next((age for age in self._firsts[:2] if age.owner != owner), None)


def take_out(ordered: list[Age], age: Age) -> None:
    """Remove ``age``, which is there, from a sorted list."""
    del ordered[bisect.bisect_left(ordered, age)]


def replace(ordered: list[Age], former: Age | None, latter: Age | None) -> None:
    """Put ``latter`` into a sorted list instead of ``former``."""
    if former is latter:
        return
    if former is not None:
        take_out(ordered, former)
    if latter is not None:
        bisect.insort(ordered, latter)
