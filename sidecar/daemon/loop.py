"""The running sidecar: one thread watches the source, this one drives HAProxy.

Owns the process's lifetime: threads and wake-ups. What is decided, `sidecar.routing.table` and
`sidecar.control.reconciler` decide.
"""

import contextlib
import gc
import logging
import threading
import time
from collections.abc import Iterator
from functools import partial

from sidecar.admin.answers import Health
from sidecar.admin.pages import make_site
from sidecar.admin.queries import Queries
from sidecar.common.durations import format_duration
from sidecar.common.errors import RuntimeAPIError
from sidecar.common.garbage import collecting_rarely
from sidecar.common.log_fields import about
from sidecar.common.metrics import Metrics
from sidecar.control.holds import Holds, holds_file
from sidecar.control.loop_calls import LoopCalls
from sidecar.daemon.assembly import (
    make_certificates,
    make_client_trust,
    make_listeners,
    make_reconciler,
    make_resolver,
    make_routing,
)
from sidecar.daemon.persistence import (
    Persistence,
    auto_ports_file,
    read_auto_ports,
)
from sidecar.daemon.view import View
from sidecar.daemon.wakeup import Wakeup
from sidecar.haproxy.client import RuntimeClient
from sidecar.listeners.tcp import ports_of
from sidecar.model.change import Source
from sidecar.model.desired import Unit
from sidecar.model.pool import format_ports
from sidecar.reporting.change_log import ChangeLog
from sidecar.reporting.collector import Collector
from sidecar.reporting.gauges import Gauges
from sidecar.reporting.outcome import Reporter
from sidecar.reporting.problem_log import ProblemLog
from sidecar.settings.schema import Settings
from sidecar.sources.inbox import Inbox
from sidecar.sources.interfaces import Interfaces

log = logging.getLogger(__name__)

#: A step that takes longer than this is stuck: each reply has a deadline far below it.
STUCK_SECONDS = 60.0

#: After our start HAProxy may have 8 kB of a former sidecar's commands unread, at most: that is a
#: millisecond's work.
_PREDECESSOR_SECONDS = 0.05

#: A full garbage collection holds the loop up for some 50 ms where there are thousands of Routes.
#: What we make has no cycles and goes without it, so it is done this often, not whenever many
#: objects were made.
_COLLECT_SECONDS = 600.0

#: Of the problems that a source has at once, so many have a line in the log.
_PROBLEMS_SAID = 50

#: How often, at least, two files are looked at that tell nobody: the held ports, and the socket,
#: which a new HAProxy takes while the old one still answers.
_LOOK_SECONDS = 1.0


class Daemon:
    """One sidecar. `run` blocks until `stop` is called, from another thread or a signal."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        watching: str = "",
        reporter: Reporter | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """``watching``: what ``source`` watches, where that is not what the settings say.
        ``reporter``: is told what becomes of Routes, and keeps the ports of ``auto`` Routes on
        them. ``metrics``: where it counts, too."""
        self.settings = settings
        self._source = source
        self._reporter = reporter
        self._listeners = make_listeners(settings)
        self._ports = self._listeners.ports
        self._wakeup = Wakeup()
        self._heard_at: float | None = None
        self._inbox = Inbox(source.origins, self._heard)
        self._calls = LoopCalls(self._wakeup.set)
        self._client = RuntimeClient(settings.haproxy.socket, settings.haproxy.timeout)
        # From now on it is for us to say when such a commit is over.
        self._client.marks = marks = self._listeners.marks
        if self._listeners.web and (trust := self._listeners.web.trust):
            trust.meets = partial(marks.settle, "ca-file")
        # None: somebody else keeps them, the Routes themselves say it
        auto_ports = None if reporter else read_auto_ports(auto_ports_file(settings))
        self._routing = make_routing(settings, self._listeners, auto_ports)
        self._interfaces = Interfaces(self._inbox, settings.listening().names)
        self._resolver = make_resolver(settings, self._inbox)
        self.metrics = metrics or Metrics()
        self.reconciler = make_reconciler(
            settings, self._listeners, self._routing, self._client, self.metrics
        )
        self._persistence = Persistence(
            settings,
            self._routing,
            self.reconciler,
            auto_ports,
            self._ports,
            self._listeners.web,
        )
        self._certificates = make_certificates(
            settings,
            self._listeners,
            self._routing,
            self._client,
            self._persistence.saved,
            lambda: self.reconciler.known.process,
            lambda unit: unit in self.reconciler.known.observed,
            self.metrics,
        )
        self._client_trust = make_client_trust(settings, self._client, marks)
        self._holds = Holds(holds_file(settings.haproxy.state_file))
        self._said_held: frozenset[Unit] = frozenset()
        self._stopping = threading.Event()
        self._leaving = threading.Event()
        self._leaves_at = float("inf")
        self._drives_at = time.monotonic() + _PREDECESSOR_SECONDS
        self._busy_since: float | None = None
        self._change_log = ChangeLog(self._listeners.kind, self._routing, self.reconciler.known)
        self._collector = Collector(self._routing, self.reconciler.known)
        self._problems = ProblemLog()
        #: What reports see.
        self.view = View(
            settings,
            self._ports,
            self._inbox,
            self._routing,
            self.reconciler,
            self._problems,
            watching or settings.source.title,
            self._ending,
            lambda: self._heard_at,
            self._certificates,
            self._certificate_problems,
            self._holds.units,
        )
        self._count_on_scrape()

    def stop(self) -> None:
        """Make `run` return soon. HAProxy is left as it is."""
        self._stopping.set()
        self._wakeup.set()

    def leave(self) -> None:
        """Be unready from now on, so that load balancers look elsewhere, and make `run` return when
        HAProxy is gone, or the grace time over. The reporter leaves at once: what becomes of Routes
        is for a replica to say that stays."""
        self._leaving.set()
        if self._reporter:
            self._reporter.leave()
        self._wakeup.set()

    def run(self) -> None:
        """Watch and drive until `stop`, or after `leave`. Raises SettingsError if the HTTP port is
        taken."""
        listen = self.settings.http.listen
        with contextlib.ExitStack() as ending:
            ending.callback(self._wakeup.close)
            ending.callback(self._client.close)
            if listen:
                from sidecar.admin.server import serving

                queries = Queries(
                    self.settings,
                    self._ports,
                    self._calls,
                    self.view.facts,
                    self.view.world,
                    self.reconciler.history,
                    self.reconciler.known.still,
                    lambda: self.reconciler.sampler.leases,
                )
                known = self.reconciler.known
                self.metrics.registry.register(
                    Gauges(
                        queries.snapshot,
                        self._ports.pool,
                        lambda: known.process.version if known.process else "",
                    )
                )
                site = make_site(
                    listen,
                    self.settings.http.token_file,
                    healthy=self.healthz,
                    ready=self.view.readyz,
                    registry=self.metrics.registry,
                    queries=queries,
                )
                ending.enter_context(serving(listen, site))
            ending.enter_context(collecting_rarely())
            ending.callback(self._resolver.close)
            ending.enter_context(self._interfaces)
            if self._reporter:
                ending.enter_context(self._reporter)
            ending.enter_context(self._watching())
            collect_at = time.monotonic() + _COLLECT_SECONDS
            while not self._stopping.is_set():
                self._busy_since = time.monotonic()
                seconds = self._step()
                self._calls.answer()
                if time.monotonic() >= collect_at:
                    gc.collect()
                    collect_at = time.monotonic() + _COLLECT_SECONDS
                self._busy_since = None
                if self._has_left():
                    break
                seconds = max(0.0, min(seconds, self._leaves_at - time.monotonic()))
                if self._wakeup.wait(seconds, self._client.fileno()):
                    self.reconciler.disconnected()
            self._calls.close()
            # What changed last is not to wait for its turn any more.
            self._persistence.save(at_once=True)

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """The source runs in a thread of its own."""
        source = threading.Thread(
            target=self._source.run, args=(self._inbox, self._stopping), name="source", daemon=True
        )
        source.start()
        try:
            yield
        finally:
            self._stopping.set()
            source.join(timeout=5)

    def ready(self) -> str:
        """See `View.unready`."""
        return self.view.unready()

    def _ending(self) -> bool:
        return self._stopping.is_set() or self._leaving.is_set()

    def healthy(self) -> str:
        """For /healthz: what is wrong with this process, or ""."""
        since = self._busy_since
        if since is not None and time.monotonic() - since > STUCK_SECONDS:
            return "the reconcile loop is stuck"
        return ""

    def healthz(self) -> Health:
        """See `healthy`."""
        problem = self.healthy()
        return Health(not problem, problem)

    def _heard(self) -> None:
        """The source handed something over, from its own thread."""
        self._heard_at = time.monotonic()
        self._wakeup.set()

    def _has_left(self) -> bool:
        """Whether nothing is left to do after `leave`."""
        if not self._leaving.is_set():
            return False
        now = time.monotonic()
        if self._leaves_at == float("inf"):
            grace = self.settings.timing.grace
            log.info(
                "shutting down: not ready; reconciling for up to %s more", format_duration(grace)
            )
            self._leaves_at = now + grace
            self.reconciler.leave()
        return now >= self._leaves_at or self.reconciler.gone or bool(self._inbox.missing())

    def _step(self) -> float:
        """Take what changed, drive HAProxy; in how many seconds to look again."""
        self._problems.report(self._inbox.problems())
        if self._inbox.missing():
            # Nothing may be programmed on half of the truth: it would remove what is right.
            return min(1.0, self.reconciler.step(None))
        if (early := self._drives_at - time.monotonic()) > 0:
            # A predecessor that was killed in mid-batch may have commands under way still.
            time.sleep(early)
        changes = self._inbox.take()
        changed = self._routing.apply(changes)
        if self._certificates:
            self._certificates.notice()
        self._resolver.want(self._routing.names)
        self.reconciler.mark(changed.units, changed.causes)
        self.reconciler.hold(self._held())
        seconds = self.reconciler.step(self._routing.claim)
        seconds = min(seconds, self._keep_certificates(), self._keep_client_trust())
        touched = self.reconciler.known.take_touched()
        self._change_log.mark(changed, touched)
        more = self._change_log.tell(time.monotonic())
        if self._reporter:
            self._collector.mark(changed, touched)
            self._reporter.tell(changes, self._collector.take(), self._routing.autos.proposed)
            more |= self._collector.more
        return min(0.0 if more else seconds, _LOOK_SECONDS, self._persistence.save())

    def _keep_certificates(self) -> float:
        """Bring HAProxy's certificates in step, once it was compared; in how many seconds to come
        again."""
        keeper, known = self._certificates, self.reconciler.known
        if keeper is None or not known.is_compared or known.connection_error:
            return _LOOK_SECONDS
        # HAProxy may restart before it is saved that entries are gone.
        if keeper.begins:
            self._persistence.save(at_once=True)
        try:
            shown = keeper.step()
        except RuntimeAPIError:
            # The loop finds out what it is, and says so.
            self.reconciler.disconnected()
            return 0.0
        if shown is None:
            return keeper.seconds
        changed = self._routing.serve(shown)
        web = self._routing.web
        self.reconciler.known.lacking = sorted(web.certificates.missing) if web else ()
        self.reconciler.prepared(changed.units, dict(self._routing.certified(changed.units)))
        if web:
            web.certificates.noted()
        self._change_log.mark(changed, ())
        if self._reporter:
            self._collector.mark(changed, ())
        return 0.0 if changed.units else keeper.seconds

    def _keep_client_trust(self) -> float:
        """The same for that by which clients are verified."""
        trust, known = self._client_trust, self.reconciler.known
        if trust is None or not known.is_compared or known.connection_error:
            return _LOOK_SECONDS
        try:
            trust.step()
        except RuntimeAPIError:
            self.reconciler.disconnected()
            return 0.0
        return trust.seconds

    def _certificate_problems(self) -> tuple[str, ...]:
        """What is wrong with the router's own, a line each."""
        default = self._certificates.default_problem if self._certificates else ""
        others = self._client_trust.problems if self._client_trust else ()
        return (*filter(None, [default]), *others)

    def _held(self) -> frozenset[Unit]:
        """What the operator holds now, said once when it changes."""
        units = frozenset(self._holds.units())
        if units != self._said_held:
            ports = ports_of(units)
            shown = format_ports(ports) or "none"
            log.warning("held ports, not reconciled: %s", shown, extra=about(held=ports))
            self._said_held = units
        return units

    def _count_on_scrape(self) -> None:
        """Gauges that are computed when somebody asks, not at each change."""
        known = self.reconciler.known

        def ports(*, opened: bool) -> float:
            return sum(
                seen.open is opened
                for unit, seen in list(known.observed.items())
                if unit in self._ports.classes
            )

        self.metrics.ports.labels("open").set_function(lambda: ports(opened=True))
        self.metrics.ports.labels("closed").set_function(lambda: ports(opened=False))
        self.metrics.ports.labels("failing").set_function(lambda: len(known.failures))
