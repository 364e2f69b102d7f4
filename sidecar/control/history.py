"""What was done to HAProxy lately, and because of what: the last operations, in memory only.

Owns who is to blame for the change of a port that is under way. Written by the loop's thread, read
by any; the loop is never held up. Nothing is decided on it.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from sidecar.common.errors import CommandRefusedError, LocalProtocolError
from sidecar.haproxy.operations import (
    ClosePort,
    DeleteServer,
    EndSession,
    EndSessions,
    OpenPort,
    Operation,
    Outcome,
    SetAddress,
)
from sidecar.model.objects import Cause
from sidecar.model.pool import PARKED, Address

#: So many operations are remembered, and so many causes of each.
OPERATIONS_MAX = 1000
CAUSES_MAX = 3

#: Of those by which a HAProxy that was not known is brought to what is desired; these are as many
#: as there are ports, and must not push out what happened on them.
MEETING_MAX = 200


class Entry(NamedTuple):
    """One operation. ``at_seconds``: Unix time of its reply. ``duration_seconds``: of all that were
    sent together. ``causes``: the last ones since the port was last as desired; none where nothing
    came but a time that was over, or sessions that ended."""

    at_seconds: float
    operation: Operation
    outcome: Outcome
    duration_seconds: float
    causes: tuple[Cause | str, ...]


@dataclass(frozen=True, slots=True)
class EntryReport:
    """The same for programs: ``/api/history``. ``reply``: HAProxy's own words; "" is its usual
    yes."""

    at_seconds: float
    port: int
    command: str
    done: bool
    reply: str
    duration_seconds: float
    causes: tuple[str, ...]


class History:
    """``clock``: Unix time in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=OPERATIONS_MAX)
        self._meeting: deque[Entry] = deque(maxlen=MEETING_MAX)
        # port -> when it was last changed, Unix time
        self._changed_at: dict[int, float] = {}
        # port -> why it is being changed
        self._causes: dict[int, deque[Cause | str]] = {}
        # ports on which nothing is done but what a new HAProxy needs
        self._restoring: set[int] = set()
        self._total = 0

    def blame(self, port: int, cause: Cause | str) -> None:
        """What is done to ``port`` from now on, until `settled`, is because of ``cause``."""
        known = self._causes.setdefault(port, deque(maxlen=CAUSES_MAX))
        if cause not in known:
            known.append(cause)

    def met(self, ports: Iterable[int], cause: str) -> None:
        """As `blame`, where a HAProxy that was not known is brought to what is desired."""
        for port in ports:
            if port not in self._causes:
                self._restoring.add(port)
            self.blame(port, cause)

    def settled(self, port: int) -> None:
        """The port is as desired: what comes now has other causes."""
        self._causes.pop(port, None)
        self._restoring.discard(port)

    def record(
        self, operations: Sequence[Operation], outcomes: Sequence[Outcome], duration_seconds: float
    ) -> None:
        """``operations`` were sent together, in ``duration_seconds``."""
        now = self._clock()
        ports = {operation.port for operation in operations}
        causes = {port: tuple(self._causes.get(port, ())) for port in ports}
        last = operations[-OPERATIONS_MAX:], outcomes[-OPERATIONS_MAX:]
        with self._lock:
            self._total += len(operations)
            self._changed_at.update(dict.fromkeys(ports, now))
            for operation, outcome in zip(*last, strict=True):
                entry = Entry(now, operation, outcome, duration_seconds, causes[operation.port])
                restored = operation.port in self._restoring and isinstance(outcome, str)
                (self._meeting if restored else self._entries).append(entry)

    @property
    def total(self) -> int:
        """How many operations there ever were."""
        with self._lock:
            return self._total

    def changed_seconds_ago(self) -> Mapping[int, float]:
        """port -> since it was last changed, of those that were."""
        now = self._clock()
        with self._lock:
            return {port: max(0.0, now - at) for port, at in self._changed_at.items()}

    def entries(self, port: int | None = None) -> list[EntryReport]:
        """What is remembered, of ``port`` or of all, the newest first."""
        with self._lock:
            found = sorted([*self._meeting, *self._entries], key=attrgetter("at_seconds"))
        return [_report(entry) for entry in reversed(found) if port in (None, entry.operation.port)]


def _report(entry: Entry) -> EntryReport:
    outcome = entry.outcome
    if isinstance(outcome, LocalProtocolError):
        command, reply = type(entry.operation).__name__, str(outcome)
    else:
        command = entry.operation.line()
        reply = outcome.reply if isinstance(outcome, CommandRefusedError) else outcome
    return EntryReport(
        at_seconds=entry.at_seconds,
        port=entry.operation.port,
        command=command,
        done=isinstance(outcome, str),
        reply=reply,
        duration_seconds=entry.duration_seconds,
        causes=tuple(map(str, entry.causes)) or (_by_itself(entry.operation),),
    )


def _by_itself(operation: Operation) -> str:
    """Why something is done though nothing changed, by the setting where there is one."""
    match operation:
        case EndSessions() | EndSession():
            return "its endpoint was removed, and drain.deadline (or the Route's own) is over"
        case ClosePort():
            return "without a server for timing.close_after"
        case OpenPort():
            return "it may open again, a second after it was closed"
        case DeleteServer() | SetAddress(address=Address(ip=PARKED.ip, port=PARKED.port)):
            return "the last session on it ended"
        case _:
            return "an earlier attempt had failed, or a slot became free"


def history_json(entries: Sequence[EntryReport], total: int) -> dict[str, Any]:
    """As /api/history has it."""
    return {"operations_total": total, "entries": [asdict(entry) for entry in entries]}
