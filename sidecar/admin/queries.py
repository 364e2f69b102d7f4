"""What the running sidecar reports about itself: the answers behind /api and the page.

Facts come from the loop's thread (`sidecar.control.loop_calls`), statistics from HAProxy over a
connection of their own; both at most once a second, however many clients ask. Changes nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TypeVar

from sidecar.common.errors import BusyError, RuntimeAPIError
from sidecar.control.history import History, HistoryReport
from sidecar.control.loop_calls import LoopCalls
from sidecar.control.observer import Observer
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.lease_counts import LeaseBase
from sidecar.haproxy.state import ObservedUnit
from sidecar.listeners.tcp import TCPPorts, ports_of, unit_of
from sidecar.model.desired import Unit
from sidecar.model.pool import format_ports
from sidecar.planning.drift import changes, summary
from sidecar.reporting.explain import explain
from sidecar.reporting.explain_parts import World
from sidecar.reporting.explain_traffic import extended
from sidecar.reporting.explanation import Why, WhyReport
from sidecar.reporting.figures import with_traffic
from sidecar.reporting.reports import Report
from sidecar.reporting.status import Facts, build_report
from sidecar.settings.schema import Settings

T = TypeVar("T")

log = logging.getLogger(__name__)

#: How long the loop may let an asker wait, beside what it may wait for HAProxy. A large first sync
#: takes seconds.
ASK_SECONDS = 2.0

#: How many operations on a port belong to its explanation.
WHY_OPERATIONS = 8

#: A report is this old at most, and takes at most one part of this many of the time.
_FRESH_SECONDS = 1.0
_SHARE = 20


class Queries:
    """``facts``, ``world``, ``still``, ``leases``: called in the loop's thread; ``still`` tells
    which ports it has not looked at since it handed them over, ``leases`` is that of the facts, as
    it is by then. May be used from any thread."""

    def __init__(
        self,
        settings: Settings,
        ports: TCPPorts,
        calls: LoopCalls,
        facts: Callable[[], Facts],
        world: Callable[[], World],
        history: History,
        still: Callable[[Mapping[Unit, ObservedUnit]], Collection[Unit]],
        leases: Callable[[], Mapping[Unit, LeaseBase]],
    ) -> None:
        self._settings = settings
        self._calls = calls
        self._facts = facts
        self._world = world
        self._still = still
        self._leases = leases
        self._history = history
        self._client = RuntimeClient(settings.haproxy.socket, settings.haproxy.timeout)
        self._observer = Observer(self._client, ports)
        # Of all below: whoever comes while one is made takes the same.
        self._lock = threading.Lock()
        self._report: Report | None = None
        self._counted_at = 0.0
        # unit -> as it is, where somebody else changed it
        self._drifted: Mapping[Unit, ObservedUnit] = {}
        self._fresh_until = 0.0
        self._snapshot: Report | None = None
        self._snapshot_until = 0.0
        self._why_lock = threading.Lock()
        self._why_at = 0.0

    def report(self) -> Report:
        """All ports and Routes, with what HAProxy counts. Raises BusyError."""
        return self.dated_report()[0]

    def dated_report(self) -> tuple[Report, float]:
        """The same, and when HAProxy was asked for its counts, in seconds of `time.monotonic`:
        whoever makes rates of two reports needs it. Raises BusyError."""
        with self._lock:
            now = time.monotonic()
            if self._report is None or now >= self._fresh_until:
                self._report = self._counted(self._ask(self._facts))
                took = time.monotonic() - now
                self._fresh_until = now + took + max(_FRESH_SECONDS, _SHARE * took)
            return self._report, self._counted_at

    def snapshot(self) -> Report | None:
        """The same without what HAProxy counts; None if the loop has had no time yet."""
        with self._lock:
            now = time.monotonic()
            if now < self._fresh_until:
                return self._report
            if now >= self._snapshot_until:
                try:
                    self._snapshot = build_report(self._ask(self._facts))
                except BusyError:
                    log.debug("serving the metrics of the last report")
                took = time.monotonic() - now
                self._snapshot_until = now + took + max(_FRESH_SECONDS, _SHARE * took)
            return self._snapshot

    def why(self, subject: str) -> WhyReport:
        """One port or Route explained. Raises UsageError, BusyError."""
        report = self.report()
        with self._why_lock:
            # In the loop's thread it may cost what all Routes cost: it gets its share, no more.
            time.sleep(min(ASK_SECONDS, max(0.0, self._why_at - time.monotonic())))
            began = time.monotonic()
            why = extended(self._ask(lambda: self._explained(subject, report)), report)
            ended = time.monotonic()
            self._why_at = ended + _SHARE * (ended - began)
        entries = [] if why.port is None else self._history.entries(unit_of(why.port))
        return WhyReport(
            self._settings.router_name,
            "sidecar",
            self._settings.haproxy.absolute_socket,
            why,
            tuple(entries[:WHY_OPERATIONS]),
        )

    def operations(self, unit: Unit | None) -> HistoryReport:
        """The last ones on ``unit``; None: on all."""
        return HistoryReport(
            self._settings.router_name,
            self._settings.haproxy.absolute_socket,
            self._history.total,
            self._history.complete_since_seconds,
            tuple(self._history.entries(unit)),
        )

    def _explained(self, subject: str, report: Report) -> Why:
        """In the loop's thread."""
        world = self._world()
        if world.observed is not None:
            world = replace(world, observed={**world.observed, **self._drifted})
        if report.haproxy is None and not world.faults:
            world = replace(world, faults=(report.unready,))
        return explain(subject, world)

    def _ask(self, question: Callable[[], T]) -> T:
        return self._calls.ask(question, self._settings.haproxy.timeout + ASK_SECONDS)

    def _counted(self, facts: Facts) -> Report:
        report = build_report(facts)
        self._counted_at = time.monotonic()
        self._drifted = {}
        if not facts.reachable:
            # It was found out already, and finding it out anew takes as long.
            return report
        try:
            traffic = self._observer.traffic(
                [item.port for item in report.ports], web=bool(report.hosts)
            )
            now = _with_attributes(traffic.observed, facts.observed)
            drift = self._drift(facts, now)
            self._drifted = {unit: now[unit] for unit in drift}
            seen = replace(
                facts,
                observed={**facts.observed, **now},
                drift=drift,
                counts=traffic.web,
                leases=self._kept(facts.leases) if report.hosts else {},
            )
            if drift:
                unready = f"changed by somebody else: ports {format_ports(ports_of(drift))}"
                seen = replace(seen, converged=False, unready=facts.unready or unready)
            return with_traffic(build_report(seen), traffic, facts.bases)
        except RuntimeAPIError as exc:
            log.debug("no statistics: %s", exc)
            return replace(report, converged=False, unready=str(exc))
        finally:
            # An open CLI connection would hold HAProxy's soft stop up, and take one of its ten.
            self._client.close()

    def _kept(self, leases: Mapping[Unit, LeaseBase]) -> Mapping[Unit, LeaseBase]:
        """Those that are as they were: no other Route had the backend before it was counted."""
        now = self._ask(self._leases)
        return {unit: base for unit, base in leases.items() if now.get(unit) == base}

    def _drift(self, facts: Facts, now: Mapping[Unit, ObservedUnit]) -> Mapping[Unit, str]:
        """unit -> how it is not as it was when it was as desired, where that is not the loop's own
        doing of this moment."""
        found = {
            unit: summary(words)
            for unit, seen in now.items()
            if unit in facts.verified and (words := changes(facts.observed[unit], seen))
        }
        if not found:
            return found
        still = self._ask(lambda: self._still(facts.observed))
        return {unit: words for unit, words in found.items() if unit in still}


def _with_attributes(
    now: Mapping[Unit, ObservedUnit], before: Mapping[Unit, ObservedUnit]
) -> dict[Unit, ObservedUnit]:
    """``now``, with what HAProxy is told of each unit as the loop saw it: it is whole maps, which
    are not asked for each time that somebody looks."""
    return {
        unit: replace(seen, attributes=before[unit].attributes) if unit in before else seen
        for unit, seen in now.items()
    }
