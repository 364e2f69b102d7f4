"""Sorted lists, a queue for each of many keys: what is least is first.

Must not know what stands in a queue, nor for what. Pure.
"""

import bisect
from collections.abc import Collection, Sequence
from typing import Any, Generic, Protocol, TypeVar


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


_K = TypeVar("_K")
_T = TypeVar("_T", bound=_Ordered)


class Queues(Generic[_K, _T]):
    """Of each key, what stands there, in order."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        self._queues: dict[_K, list[_T]] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __contains__(self, key: _K) -> bool:
        """Whether anything stands at ``key``."""
        return key in self._queues

    @property
    def keys(self) -> Collection[_K]:
        """Those at which something stands."""
        return self._queues.keys()

    def add(self, key: _K, item: _T) -> None:
        bisect.insort(self._queues.setdefault(key, []), item)

    def remove(self, key: _K, item: _T) -> None:
        """``item`` stands at ``key``."""
        take_out(self._queues[key], item)
        if not self._queues[key]:
            del self._queues[key]

    def at(self, key: _K) -> Sequence[_T]:
        return self._queues.get(key, ())

    def first(self, key: _K) -> _T | None:
        queue = self._queues.get(key)
        return queue[0] if queue else None


def take_out(ordered: list[_T], item: _T) -> None:
    """Remove ``item``, which is there, from a sorted list."""
    del ordered[bisect.bisect_left(ordered, item)]


def replace(ordered: list[_T], former: _T | None, latter: _T | None) -> None:
    """Put ``latter`` into a sorted list instead of ``former``."""
    if former is latter:
        return
    if former is not None:
        take_out(ordered, former)
    if latter is not None:
        bisect.insort(ordered, latter)
