"""The running sidecar: one thread watches the source, this one drives HAProxy.

Owns the process's lifetime: threads and wake-ups. What is decided, `sidecar.routing.table` and
`sidecar.control.reconciler` decide.
"""

import contextlib
import gc
import logging
import threading
import time
from collections.abc import Iterator, Mapping

from sidecar.admin.answers import Health
from sidecar.admin.pages import make_site
from sidecar.admin.queries import Live
from sidecar.common.durations import format_duration
from sidecar.common.log_fields import about
from sidecar.common.metrics import Metrics
from sidecar.control.holds import Holds, holds_file
from sidecar.control.loop_calls import Calls
from sidecar.control.reconciler import Reconciler
from sidecar.daemon.persistence import (
    Persistence,
    answers_file,
    auto_ports_file,
    programmed_file,
    read_auto_ports,
    read_programmed,
)
from sidecar.daemon.wakeup import Wakeup
from sidecar.haproxy.client import RuntimeClient
from sidecar.model.change import Problem, Source
from sidecar.model.pool import format_ports
from sidecar.reporting.change_log import Teller
from sidecar.reporting.collector import Collector
from sidecar.reporting.explain import World
from sidecar.reporting.gauges import Census
from sidecar.reporting.outcome import Reporter
from sidecar.reporting.status import Facts, SourceReport, problem_lines
from sidecar.routing.endpoints import denier
from sidecar.routing.table import Routing
from sidecar.settings.schema import Settings
from sidecar.sources.dns.resolver import Resolver
from sidecar.sources.inbox import Inbox
from sidecar.sources.interfaces import Interfaces

log = logging.getLogger(__name__)

#: A step that takes longer than this is stuck: each reply has a deadline far below it.
STUCK_SECONDS = 60.0

#: HAProxy has at most 8 kB of a former sidecar's commands unread, which is a millisecond's work.
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
        self._watching_what = watching or settings.source.title
        self._source = source
        self._reporter = reporter
        self._pool = settings.pool()
        self._wakeup = Wakeup()
        self._inbox = Inbox(source.origins, self._heard)
        self._heard_at: float | None = None
        self._calls = Calls(self._wakeup.set)
        self._client = RuntimeClient(settings.haproxy.socket, settings.haproxy.timeout)
        # None: somebody else keeps them, the Routes themselves say it
        auto_ports = None if reporter else read_auto_ports(auto_ports_file(settings))
        listening = settings.listening()
        self._routing = Routing(
            self._pool, settings.router_name, denier(settings.endpoints.deny), auto_ports, listening
        )
        self._interfaces = Interfaces(self._inbox, listening.names)
        self._resolver = Resolver(
            answers_file(settings),
            self._inbox,
            settings.dns.servers,
            settings.dns.timeout,
            settings.dns.keep,
        )
        self.metrics = metrics or Metrics()
        self.reconciler = Reconciler(
            self._client,
            self._pool,
            self.metrics,
            settings.pace(),
            is_own=lambda address: address in self._routing.denied.own,
        )
        self.reconciler.programmed = read_programmed(programmed_file(settings))
        self._persistence = Persistence(
            settings, self._client, self._routing, self.reconciler, auto_ports
        )
        self._holds = Holds(holds_file(settings.haproxy.state_file))
        self._said_held: frozenset[int] = frozenset()
        self._stopping = threading.Event()
        self._leaving = threading.Event()
        self._leaves_at = float("inf")
        self._began = False
        self._busy_since: float | None = None
        self._teller = Teller(self._routing, self.reconciler)
        self._collector = Collector(self._routing, self.reconciler)
        # as the inbox has them, and a line each
        self._found_problems: Mapping[str, tuple[Problem, ...]] = {}
        self._problems: tuple[str, ...] = ()
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

                live = Live(
                    self.settings,
                    self._pool,
                    self._calls,
                    self.facts,
                    self.world,
                    self.reconciler.history,
                    self.reconciler.still,
                )
                self.metrics.registry.register(Census(live.snapshot, self._pool))
                site = make_site(
                    listen,
                    self.settings.http.token_file,
                    healthy=self.healthz,
                    ready=self.readyz,
                    registry=self.metrics.registry,
                    live=live,
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

    def healthy(self) -> str:
        """For /healthz: what is wrong with this process, or ""."""
        since = self._busy_since
        if since is not None and time.monotonic() - since > STUCK_SECONDS:
            return "the reconcile loop is stuck"
        return ""

    def serving(self) -> bool:
        """Whether /readyz succeeds: clients may come. That depends on what serves them, so neither
        a port that fails nor a source that is away takes the others out of the Service, nor does
        a sidecar that has just replaced another one."""
        return self.reconciler.serving and not (self._stopping.is_set() or self._leaving.is_set())

    def healthz(self) -> Health:
        """See `healthy`."""
        problem = self.healthy()
        return Health(not problem, problem)

    def readyz(self) -> Health:
        """Whether `serving`, and what `ready` says; or which ports are full, which is no reason to
        send their clients to the other replicas, that would be full next."""
        text = self.ready()
        if not text and (full := self.reconciler.sampler.full):
            text = f"ok; ports at their limit of connections: {format_ports(full)}"
        return Health(self.serving(), text)

    def ready(self) -> str:
        """What /readyz says: why HAProxy does not yet do what the source says, or ""."""
        if self._stopping.is_set() or self._leaving.is_set():
            return "stopping"
        if missing := self._inbox.missing():
            return f"not synced yet: {', '.join(sorted(missing))}"
        if error := self.reconciler.connection_error:
            return str(error)
        if not self.reconciler.converged:
            failing = sorted(self.reconciler.failures)
            return f"not converged; failing ports: {failing}" if failing else "not converged"
        return ""

    def _heard(self) -> None:
        """The source handed something over, from its own thread."""
        self._heard_at = time.monotonic()
        self._wakeup.set()

    def facts(self) -> Facts:
        """How everything is now; for the loop's thread."""
        reconciler, unready = self.reconciler, self.ready()
        bases = reconciler.sampler.bases()
        return Facts(
            router_name=self.settings.router_name,
            asked="sidecar",
            socket=self.settings.haproxy.absolute_socket,
            pool=self._pool,
            source=SourceReport(
                self.settings.source.kind,
                self._watching_what,
                tuple(sorted(self._inbox.missing())),
                None if self._heard_at is None else time.monotonic() - self._heard_at,
            ),
            claims=self._routing.claimed,
            verdicts=self._routing.verdicts(),
            observed=dict(reconciler.observed),
            problems=(*self._problems, *reconciler.pool_problems),
            held=reconciler.held,
            failures={port: item.message for port, item in reconciler.failures.items()},
            changed_seconds_ago=reconciler.history.changed_seconds_ago(),
            converged=not unready,
            unready=unready,
            changes=reconciler.history.total,
            left_out=dict(reconciler.left_out),
            verified=frozenset(filter(reconciler.verified, reconciler.observed)),
            connections=reconciler.sampler.connections,
            attempts=reconciler.sampler.attempts(bases),
            bases=bases,
            reachable=reconciler.connection_error is None,
        )

    def world(self) -> World:
        """What an explanation looks at; for the loop's thread."""
        reconciler = self.reconciler
        error = reconciler.connection_error
        missing = ", ".join(sorted(self._inbox.missing()))
        faults = [str(error)] if error else []
        faults += [f"nothing is programmed: not synced yet: {missing}"] if missing else []
        return World(
            self.settings.router_name,
            self._pool,
            self._routing,
            reconciler.observed if reconciler.process else None,
            reconciler.held,
            {port: item.message for port, item in reconciler.failures.items()},
            (*faults, *reconciler.pool_problems),
        )

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
        self._report_problems()
        if self._inbox.missing():
            # Nothing may be programmed on half of the truth: it would remove what is right.
            return min(1.0, self.reconciler.step(None))
        if not self._began:
            # A predecessor that was killed in mid-batch may have commands under way still.
            self._began = True
            time.sleep(_PREDECESSOR_SECONDS)
        changes = self._inbox.take()
        changed = self._routing.apply(changes)
        self._resolver.want(self._routing.names)
        self.reconciler.mark(changed.ports, changed.causes)
        self.reconciler.hold(self._held())
        seconds = self.reconciler.step(self._routing.claim)
        touched = self.reconciler.take_touched()
        self._teller.mark(changed, touched)
        more = self._teller.tell(time.monotonic())
        if self._reporter:
            self._collector.mark(changed, touched)
            self._reporter.tell(changes, self._collector.take(), self._routing.proposed_ports)
            more |= self._collector.more
        return min(0.0 if more else seconds, _LOOK_SECONDS, self._persistence.save())

    def _held(self) -> frozenset[int]:
        """What the operator holds now, said once when it changes."""
        ports = self._holds.ports()
        if ports != self._said_held:
            shown = format_ports(ports) or "none any more"
            log.warning("held ports, left as they are: %s", shown, extra=about(held=sorted(ports)))
            self._said_held = ports
        return ports

    def _report_problems(self) -> None:
        """Say what of the source cannot be used, and what can be again, each once."""
        found = self._inbox.problems()
        if found is self._found_problems:
            return
        self._found_problems = found
        before, self._problems = self._problems, problem_lines(found)
        known, now = set(before), set(self._problems)
        new = [line for line in self._problems if line not in known]
        for line in new[:_PROBLEMS_SAID]:
            log.error("%s", line)
        if len(new) > _PROBLEMS_SAID:
            more = len(new) - _PROBLEMS_SAID
            log.error("%d more problems; `haproxy-sidecar status` shows all", more)
        mended = [line for line in before if line not in now]
        for line in mended[:_PROBLEMS_SAID]:
            log.info("resolved: %s", line.split(": ", 1)[0])
        if len(mended) > _PROBLEMS_SAID:
            log.info("resolved: %d more", len(mended) - _PROBLEMS_SAID)

    def _count_on_scrape(self) -> None:
        """Gauges that are computed when somebody asks, not at each change."""

        def ports(*, opened: bool) -> float:
            return sum(seen.open is opened for seen in list(self.reconciler.observed.values()))

        self.metrics.ports.labels("open").set_function(lambda: ports(opened=True))
        self.metrics.ports.labels("closed").set_function(lambda: ports(opened=False))
        self.metrics.ports.labels("failing").set_function(lambda: len(self.reconciler.failures))


@contextlib.contextmanager
def collecting_rarely() -> Iterator[None]:
    """Leave full garbage collections to whoever calls `gc.collect`, and do the others rarely:
    Python would do a hundred while 10,000 servers are looked at."""
    before = gc.get_threshold()
    gc.set_threshold(20_000, before[1], 1_000_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
