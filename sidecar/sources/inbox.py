"""Changes delivered by sources, until the loop takes them.

The only place where a source's thread and the loop's thread meet.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from sidecar.model.change import Change, Problem
from sidecar.model.objects import Key


class Inbox:
    """A `Sink` that keeps the newest of each object until the reconciler takes it.

    ``wake`` is called, from the source's thread, after each publication. An object that changed a
    hundred times between two looks is taken once.
    """

    def __init__(self, origins: Iterable[str], wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._missing = set(origins)
        self._changes: dict[Key, Change] = {}
        # replaced, never changed
        self._problems: Mapping[str, tuple[Problem, ...]] = MappingProxyType({})

    def publish(self, origin: str, changes: Sequence[Change], problems: Sequence[Problem]) -> None:
        with self._lock:
            for change in changes:
                self._changes[change.key] = change
            if self._problems.get(origin, ()) != (found := tuple(problems)):
                self._problems = MappingProxyType({**self._problems, origin: found})
            self._missing.discard(origin)
        self._wake()

    def take(self) -> list[Change]:
        """All changes since the last call."""
        with self._lock:
            taken, self._changes = self._changes, {}
        return list(taken.values())

    def missing(self) -> frozenset[str]:
        """The origins that have not synced once yet."""
        with self._lock:
            return frozenset(self._missing)

    def problems(self) -> Mapping[str, tuple[Problem, ...]]:
        """origin -> what it could not use, now. The same object for as long as it is the same."""
        with self._lock:
            return self._problems
