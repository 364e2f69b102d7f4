"""What a source is, and what it hands over.

A source only says what changed; it never decides what a change means. The store compares, so a
doubled or reordered publication does no harm. Imports no I/O.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sidecar.model.objects import Key, Object


class Change(NamedTuple):
    """An object as it is now; ``object`` is None when it is gone."""

    key: Key
    object: Object | None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something of a source that could not be used, for a person to mend.

    ``where``: file and document, or the API's path. ``key``: the object, where it could be told.
    ``field``: the path inside it, or "". ``message``: the value, what would be right, and what is
    used meanwhile.
    """

    where: str
    key: Key | None
    field: str
    message: str

    def __str__(self) -> str:
        parts = [self.where, str(self.key) if self.key else "", self.field, self.message]
        return ": ".join(part for part in parts if part)


class Sink(Protocol):
    """Takes what a source found; called from the source's own thread."""

    def publish(self, origin: str, changes: Sequence[Change], problems: Sequence[Problem]) -> None:
        """Hand over what changed since the last call for ``origin``, and *all* problems that
        ``origin`` has now. The first call for an origin means that it has synced once, and holds
        all of its objects.
        """


class Source(Protocol):
    """Something to watch."""

    @property
    def origins(self) -> tuple[str, ...]:
        """Names of all that must sync before anything may be programmed."""

    def load(self, sink: Sink) -> None:
        """Read everything once and publish it. Raises SourceError when it cannot be read."""

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Publish everything, then what changes, until ``stop`` is set; survives all errors."""
