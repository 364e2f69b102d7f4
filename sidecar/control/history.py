"""What was done to HAProxy lately, and because of what: the last operations, in memory only.

Owns who is to blame for the change of a unit that is under way. Written by the loop's thread, read
by any; the loop is never held up. Nothing is decided on it.
"""

import heapq
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from sidecar.common.errors import CommandRefusedError, LocalProtocolError
from sidecar.haproxy.operations import Operation, Outcome
from sidecar.listeners.base import ListenerKind
from sidecar.model.desired import Unit
from sidecar.model.objects import Cause

#: So many operations are remembered, and so many causes of each.
OPERATIONS_MAX = 1000
CAUSES_MAX = 3

#: So many of those that only bring a HAProxy that was not known to what is desired: they are as
#: many as there are units, and push out nothing that happened.
MEETING_MAX = 200


class Met(NamedTuple):
    """A HAProxy that was not known was met: a cause."""

    pid: int

    def __str__(self) -> str:
        return f"found HAProxy with PID {self.pid}"


#: What somebody or something did; or words for what nobody did.
Blamed = Cause | Met | str


class Entry(NamedTuple):
    """One operation. ``at_seconds``: Unix time of its reply. ``duration_seconds``: of all that were
    sent together. ``causes``: the last ones since the unit was last as desired."""

    at_seconds: float
    operation: Operation
    outcome: Outcome
    duration_seconds: float
    causes: tuple[Blamed, ...]


@dataclass(frozen=True, slots=True)
class EntryReport:
    """The same for programs: ``/api/history``. ``reply``: HAProxy's own words; "" is its usual
    yes."""

    at_seconds: float
    port: int | None
    command: str
    done: bool
    reply: str
    duration_seconds: float
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """What ``/api/history`` has: the last operations, or those on one unit, the newest first.
    ``router_name``, ``socket``: whose. ``complete_since_seconds``: as of `History`."""

    router_name: str
    socket: str
    operations_total: int
    complete_since_seconds: float | None
    entries: tuple[EntryReport, ...]


class History:
    """Of the units of ``kind``. ``clock``: Unix time in seconds."""

    def __init__(self, kind: ListenerKind, clock: Callable[[], float]) -> None:
        self._kind = kind
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=OPERATIONS_MAX)
        # those that went well, and whose only cause is a meeting
        self._meetings: deque[Entry] = deque(maxlen=MEETING_MAX)
        # Unix time of the newest that is not remembered any more
        self._forgotten_at: float | None = None
        # unit -> when it was last changed, Unix time
        self._changed_at: dict[Unit, float] = {}
        # unit -> why it is being changed
        self._causes: dict[Unit, deque[Blamed]] = {}
        self._total = 0

    def blame(self, unit: Unit, cause: Blamed) -> None:
        """What is done to ``unit`` from now on, until `settled`, is because of ``cause``."""
        known = self._causes.setdefault(unit, deque(maxlen=CAUSES_MAX))
        if cause not in known:
            known.append(cause)

    def blames(self, unit: Unit) -> bool:
        """Whether what is done to ``unit`` now has a cause."""
        return unit in self._causes

    def settled(self, unit: Unit) -> None:
        """The unit is as desired: what comes now has other causes."""
        self._causes.pop(unit, None)

    def record(
        self, operations: Sequence[Operation], outcomes: Sequence[Outcome], duration_seconds: float
    ) -> None:
        """``operations`` were sent together, in ``duration_seconds``."""
        now = self._clock()
        units = {operation.unit for operation in operations}
        causes = {unit: tuple(self._causes.get(unit, ())) for unit in units}
        last = operations[-OPERATIONS_MAX:], outcomes[-OPERATIONS_MAX:]
        with self._lock:
            self._total += len(operations)
            self._changed_at.update(dict.fromkeys(units, now))
            if len(operations) > OPERATIONS_MAX:
                self._forgotten_at = now
            for operation, outcome in zip(*last, strict=True):
                self._remember(
                    Entry(now, operation, outcome, duration_seconds, causes[operation.unit])
                )

    def _remember(self, entry: Entry) -> None:
        met = bool(entry.causes) and all(isinstance(cause, Met) for cause in entry.causes)
        memory = self._meetings if met and isinstance(entry.outcome, str) else self._entries
        if len(memory) == memory.maxlen:
            self._forgotten_at = max(self._forgotten_at or 0.0, memory[0].at_seconds)
        memory.append(entry)

    @property
    def total(self) -> int:
        """How many operations there ever were."""
        with self._lock:
            return self._total

    def changed_seconds_ago(self) -> Mapping[Unit, float]:
        """unit -> since it was last changed, of those that were."""
        now = self._clock()
        with self._lock:
            return {unit: max(0.0, now - at) for unit, at in self._changed_at.items()}

    @property
    def complete_since_seconds(self) -> float | None:
        """Unix time after which nothing is missing; None where nothing is missing at all."""
        with self._lock:
            return self._forgotten_at

    def entries(self, unit: Unit | None = None) -> list[EntryReport]:
        """What is remembered, of ``unit`` or of all, the newest first."""
        with self._lock:
            found = list(heapq.merge(self._meetings, self._entries, key=attrgetter("at_seconds")))
        return [
            _report(entry, self._kind)
            for entry in reversed(found)
            if unit in (None, entry.operation.unit)
        ]


def _report(entry: Entry, kind: ListenerKind) -> EntryReport:
    outcome = entry.outcome
    if isinstance(outcome, LocalProtocolError):
        command, reply = type(entry.operation).__name__, str(outcome)
    else:
        command = str(entry.operation.command())
        reply = outcome.reply if isinstance(outcome, CommandRefusedError) else outcome
    return EntryReport(
        at_seconds=entry.at_seconds,
        port=kind.port(entry.operation.unit),
        command=command,
        done=isinstance(outcome, str),
        reply=reply,
        duration_seconds=entry.duration_seconds,
        causes=tuple(map(str, entry.causes)),
    )
