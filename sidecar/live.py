"""What the running sidecar tells of itself: the answers behind /api and the page.

Facts come from the loop's thread (`sidecar.calls`), figures from HAProxy over a connection that is
made for it; both at most once a second, however many look. Changes nothing.
"""

import logging
import threading
import time
from collections.abc import Callable

from sidecar.calls import Calls
from sidecar.errors import BusyError, RuntimeAPIError
from sidecar.history import History
from sidecar.observer import Observer
from sidecar.pool import Pool
from sidecar.report import Facts, Report, build_report, with_traffic
from sidecar.runtime import RuntimeClient
from sidecar.settings import Settings
from sidecar.why import WhyReport, World, explain

log = logging.getLogger(__name__)

#: How long the loop may let an asker wait. A large first sync takes seconds.
ASK_SECONDS = 5.0

#: How many operations on a port belong to its explanation.
WHY_OPERATIONS = 8

#: A report is this old at most, and takes at most one part of this many of the time.
_FRESH_SECONDS = 1.0
_SHARE = 20


class Live:
    """``facts``, ``world``: called in the loop's thread. May be used from any thread."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        calls: Calls,
        facts: Callable[[], Facts],
        world: Callable[[], World],
        history: History,
    ) -> None:
        self._settings = settings
        self._calls = calls
        self._facts = facts
        self._world = world
        self.history = history
        self._client = RuntimeClient(settings.haproxy.socket, settings.haproxy.timeout)
        self._observer = Observer(self._client, pool)
        # Of all below: whoever comes while one is made takes the same.
        self._lock = threading.Lock()
        self._report: Report | None = None
        self._fresh_until = 0.0
        self._snapshot: Report | None = None
        self._snapshot_until = 0.0
        self._why_lock = threading.Lock()
        self._why_at = 0.0

    def report(self) -> Report:
        """All ports and Routes, with what HAProxy counts. Raises BusyError."""
        with self._lock:
            now = time.monotonic()
            if self._report is None or now >= self._fresh_until:
                report = build_report(self._calls.ask(self._facts, ASK_SECONDS))
                self._report = self._counted(report)
                took = time.monotonic() - now
                self._fresh_until = now + took + max(_FRESH_SECONDS, _SHARE * took)
            return self._report

    def snapshot(self) -> Report | None:
        """The same without what HAProxy counts; None if the loop has had no time yet."""
        with self._lock:
            now = time.monotonic()
            if now < self._fresh_until:
                return self._report
            if now >= self._snapshot_until:
                try:
                    self._snapshot = build_report(self._calls.ask(self._facts, ASK_SECONDS))
                except BusyError:
                    log.debug("metrics are those of the last report")
                took = time.monotonic() - now
                self._snapshot_until = now + took + max(_FRESH_SECONDS, _SHARE * took)
            return self._snapshot

    def why(self, subject: str) -> WhyReport:
        """One port or Route explained. Raises UsageError, BusyError."""
        with self._why_lock:
            # In the loop's thread it may cost what all Routes cost: it gets its share, no more.
            time.sleep(min(ASK_SECONDS, max(0.0, self._why_at - time.monotonic())))
            began = time.monotonic()
            why = self._calls.ask(lambda: explain(subject, self._world()), ASK_SECONDS)
            ended = time.monotonic()
            self._why_at = ended + _SHARE * (ended - began)
        entries = [] if why.port is None else self.history.entries(why.port)
        return WhyReport(
            self._settings.router_name,
            "sidecar",
            self._settings.haproxy.absolute_socket,
            why,
            tuple(entries[:WHY_OPERATIONS]),
        )

    def _counted(self, report: Report) -> Report:
        try:
            return with_traffic(
                report, self._observer.traffic([item.port for item in report.ports])
            )
        except RuntimeAPIError as exc:
            log.debug("no figures: %s", exc)
            return report
        finally:
            # An open CLI connection would hold HAProxy's soft stop up, and take one of its ten.
            self._client.close()
