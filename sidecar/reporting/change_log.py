"""What is logged about Routes and ports: a line for each that differs from what was last logged.

Level-based like everything else: a change only enqueues, and the line describes the current state.
A Route that changes hundreds of times a second therefore gets one line per second, with the number
of changes; and thousands of changing Routes in one namespace take turns. Must not resolve what the
loop did not request. Reads no clock: ``now`` is given, in monotonic seconds.
"""

import itertools
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from sidecar.common.log_fields import about
from sidecar.common.text import counted
from sidecar.control.known import Known
from sidecar.listeners.base import ListenerKind
from sidecar.model.desired import Unit
from sidecar.model.objects import Key
from sidecar.model.verdicts import Verdict
from sidecar.routing.claimed import Changed
from sidecar.routing.table import Routing

log = logging.getLogger(__name__)

#: A Route or port that a line was written of rests.
REST_SECONDS = 1.0

#: Lines that the Routes of a namespace may have at once, and a second from then on.
LINES_AT_ONCE = 50
LINES_PER_SECOND = 20

#: How many Routes and ports are looked at in one go: nobody waits for a line, but ports do.
LOOKS = 100

#: More addresses of a port than this are only counted.
_ADDRESSES_MAX = 4

#: A Route, or a unit.
_Subject = Key | Unit


@dataclass(slots=True)
class _Queue:
    """The Routes of a namespace, or all ports, that may have something new to say.

    ``lines``: how many may be written at ``at``; None: as many as there are.
    """

    lines: float | None
    at: float
    subjects: dict[_Subject, None] = field(default_factory=dict)
    said_more: bool = False


class ChangeLog:
    """Says what ``routing`` and ``known`` know of the units of ``kind``."""

    def __init__(self, kind: ListenerKind, routing: Routing, known: Known) -> None:
        self._kind = kind
        self._routing = routing
        self._known = known
        self._said: dict[_Subject, Verdict | str] = {}
        # what is marked -> how often it changed since
        self._changes: dict[_Subject, int] = {}
        # of what is marked: that which the loop has not asked for yet
        self._unasked: dict[_Subject, None] = {}
        # namespace, "" for ports -> what of the rest may be looked at
        self._queues: dict[str, _Queue] = {}
        # what a line was written of -> until when it rests, the first to wake first
        self._rests: dict[_Subject, float] = {}

    def mark(self, changed: Changed, touched: Iterable[Unit]) -> None:
        """These Routes and units may be different; ``touched``: units changed in HAProxy."""
        for key in sorted(changed.routes):
            if self._routing.has(key):
                self._mark(key, 1)
            else:
                self._forget(key)
        for unit in sorted(changed.units):
            self._mark(unit, 1)
        for unit in sorted(touched):
            self._mark(unit, 0)

    def tell(self, now: float) -> bool:
        """Write what is due; whether there is more to look at right away."""
        self._wake(now)
        for subject in [item for item in self._unasked if self._is_known(item)]:
            del self._unasked[subject]
            self._enqueue(subject, now)
        looks = LOOKS
        for whose, queue in list(self._queues.items()):
            looks -= self._tell(whose, queue, looks, now)
            full = queue.lines is None or queue.lines >= LINES_AT_ONCE
            if not queue.subjects and full:
                del self._queues[whose]
        return looks <= 0

    def _mark(self, subject: _Subject, changes: int) -> None:
        if subject not in self._changes and subject not in self._rests:
            self._unasked[subject] = None
        self._changes[subject] = self._changes.get(subject, 0) + changes

    def _forget(self, key: Key) -> None:
        """The Route is gone, or no longer ours. It goes on resting, should it come again."""
        self._said.pop(key, None)
        self._changes.pop(key, None)
        self._unasked.pop(key, None)
        if queue := self._queues.get(key.namespace):
            queue.subjects.pop(key, None)

    def _wake(self, now: float) -> None:
        rested = itertools.takewhile(lambda item: item[1] <= now, self._rests.items())
        for subject in [subject for subject, _ in rested]:
            del self._rests[subject]
            if subject in self._changes:
                self._unasked[subject] = None

    def _is_known(self, subject: _Subject) -> bool:
        """Whether it costs nothing to find out how it is now: the loop did, or never will."""
        unit = self._routing.owned(subject) if isinstance(subject, Key) else subject
        return unit is None or self._routing.knows(unit) or not self._known.compares(unit)

    def _enqueue(self, subject: _Subject, now: float) -> None:
        whose = subject.namespace if isinstance(subject, Key) else ""
        lines = LINES_AT_ONCE if whose else None
        self._queues.setdefault(whose, _Queue(lines, now)).subjects[subject] = None

    def _tell(self, whose: str, queue: _Queue, looks: int, now: float) -> int:
        """Look at what waits in ``queue``, as far as it may; at how many."""
        if queue.lines is not None:
            grown = queue.lines + LINES_PER_SECOND * (now - queue.at)
            queue.lines, queue.at = min(LINES_AT_ONCE, grown), now
        looked = 0
        for subject in list(itertools.islice(queue.subjects, looks)):
            if queue.lines is not None and queue.lines < 1:
                if not queue.said_more:
                    log.warning(
                        "namespace %s: %d more Routes changed; logging %d per second;"
                        " `haproxy-sidecar status` shows all",
                        whose,
                        len(queue.subjects),
                        LINES_PER_SECOND,
                        extra=about(namespace=whose),
                    )
                queue.said_more = True
                break
            del queue.subjects[subject]
            looked += 1
            if self._look(subject, self._changes.pop(subject)):
                self._rests[subject] = now + REST_SECONDS
                if queue.lines is not None:
                    queue.lines -= 1
        if not queue.subjects:
            queue.said_more = False
        return looked

    def _look(self, subject: _Subject, changes: int) -> bool:
        """Write a line if there is something new to say; whether there was."""
        times = f" (changed {changes} times since last logged)" if changes > 1 else ""
        if not isinstance(subject, Key):
            line = self._describe(subject)
            if line is None or line == self._said.get(subject, "closed"):
                return False
            self._said[subject] = line
            title = self._routing.subject(subject)
            log.info("%s: %s%s", title, line, times, extra=self._about_unit(subject))
            return True
        verdict = self._routing.verdict(subject)
        if verdict is None or verdict == self._said.get(subject):
            return False
        self._said[subject] = verdict
        where = subject.title
        known = about(route=where, port=verdict.port, reason=verdict.reason.value)
        if not verdict.admitted:
            log.warning(
                "Route %s refused: %s: %s%s",
                where,
                verdict.reason,
                verdict.message,
                times,
                extra=known,
            )
        elif verdict.message:
            log.info("Route %s: %s%s", where, verdict.message, times, extra=known)
        return bool(verdict.message)

    def _about_unit(self, unit: Unit) -> dict[str, dict[str, object]]:
        claimed = self._routing.claim(unit)
        route = claimed.route.title if claimed and not claimed.shared else None
        return about(**self._kind.log_fields(unit), route=route)

    def _describe(self, unit: Unit) -> str | None:
        status, claimed = self._known.status(unit), self._routing.claim(unit)
        seen = status.observed
        if seen is None:
            # HAProxy is still to be asked, or lacks it, of which the reconciler has a line.
            return None
        if claimed is None:
            return "open" if seen.open else "closed"
        if claimed.shared:
            return f"{'open' if seen.open else 'not yet open'}, shared by SNI"
        addresses = [item.address for item in claimed.resolution.servers if item.state == "ready"]
        if not seen.open:
            waits = "not yet open for" if addresses else "waiting for servers of"
            return f"closed, {waits} Route {claimed.route.title}"
        more = len(addresses) - _ADDRESSES_MAX
        shown = ", ".join(map(str, addresses[:_ADDRESSES_MAX])) + f" and {more} more" * (more > 0)
        skipped = counted(status.left_out, "endpoint")
        note = f"; {skipped} skipped, see limits.max_servers" if status.left_out else ""
        return f"open -> Route {claimed.route.title} -> {shown or 'no server'}{note}"
