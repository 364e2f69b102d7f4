"""Who is older: Routes in the order of their age, for a few owners at a time.

Must not know what they are in order for. Pure.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sidecar.common.queues import Queues, replace
from sidecar.model.objects import Key


class Age(NamedTuple):
    """A Route's place among others; smaller is older. ``owner``: whose it is."""

    created_seconds: float
    uid: str
    route: Key
    owner: str


class Seniority:
    """Ages by their owners: who is the oldest, of all, of one owner, of all others."""

    __slots__ = ("_by_owner", "_firsts")

    def __init__(self) -> None:
        self._by_owner = Queues[str, Age]()
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
