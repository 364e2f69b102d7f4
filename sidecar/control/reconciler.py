"""The level-based loop: compare desired with observed, apply the difference, read back, repeat.

Owns the connection to HAProxy and everything that is remembered about the process behind it.
Keeps no copy of HAProxy's state to decide on: each round looks afresh. One thread calls it.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sidecar.common.backoff import backoff_seconds
from sidecar.common.errors import (
    CommandRefusedError,
    RemoteProtocolError,
    RuntimeAPIError,
    StoppingError,
)
from sidecar.common.log_fields import about
from sidecar.common.metrics import Metrics
from sidecar.common.text import few
from sidecar.control.applier import Applied, Applier, Failure
from sidecar.control.history import History, Met
from sidecar.control.outage import Outage
from sidecar.control.sampler import Sampler
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.dialect import SERVER_IN_USE, SERVERS_FIXED, Dialect, remedy_of
from sidecar.haproxy.naming import frontend_name
from sidecar.haproxy.observer import OTHER_CONFIG, Observer, compare
from sidecar.haproxy.state import ObservedPort, ProcessInfo
from sidecar.model.objects import Cause
from sidecar.model.pool import Address, Pool
from sidecar.planning.drift import changes, summary
from sidecar.planning.planner import PortPlan, plan
from sidecar.planning.schedule import TIDY_SECONDS, Agenda, Pace
from sidecar.routing.table import Claimed

log = logging.getLogger(__name__)

_NO_CAUSES: Mapping[int, Cause | str] = MappingProxyType({})

#: What a port is claimed for, or None; asked only for ports that are about to be compared.
Claims = Callable[[int], Claimed | None]

#: Rounds of look, plan and apply before a port that still differs has to wait. A replacement of
#: all servers of a full backend takes four; more means that HAProxy does not do what it says.
ROUNDS_MAX = 6

#: How often to ask an idle HAProxy whether it is stopping: our connection would keep it from it.
ALIVE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class PortFailure:
    """A port that could not be brought to what is desired. ``retry_at``: on the loop's clock."""

    message: str
    attempts: int
    retry_at: float


class Reconciler:
    """Brings HAProxy to what is claimed, and keeps it there. ``clock``: monotonic seconds.
    ``is_own``: whether an address is the router itself."""

    def __init__(
        self,
        client: RuntimeClient,
        pool: Pool,
        metrics: Metrics,
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
        is_own: Callable[[Address], bool] = lambda _: False,
    ) -> None:
        self._client = client
        self._observer = Observer(client, pool)
        #: What HAProxy counts; for reports only.
        self.sampler = Sampler(client, clock)
        self.history = History(time.time)
        self._applier = Applier(client, self._observer, self.history, metrics, clock)
        self._pool = pool
        self._metrics = metrics
        self._pace = pace
        self._clock = clock
        self._agenda = Agenda(pool, pace, is_own)
        self._dialect: Dialect | None = None
        # ports whose backend refuses to have servers added
        self._fixed: set[int] = set()
        self._held: frozenset[int] = frozenset()
        self._resync_at = 0.0
        self._asked_at = float("-inf")
        self._leaving = False
        self._outage = Outage()
        self._retry_at = 0.0
        self._touched: set[int] = set()
        # ports that were not as desired when last seen, or that somebody else may change: what is
        # different on them at the next look may be our own doing
        self._unsettled: set[int] = set()
        # of the process that answers
        self._answering: tuple[int, int] | None = None
        self.process: ProcessInfo | None = None
        #: The identity of the process that was last brought to what is desired; of a former
        #: sidecar, as long as it is not ours.
        self.programmed: tuple[int, int] | None = None
        self.connection_error: RuntimeAPIError | None = None
        #: What HAProxy lacks of the pool, a line each.
        self.pool_problems: tuple[str, ...] = ()
        #: port -> why it is not as desired.
        self.failures: dict[int, PortFailure] = {}
        #: port -> as last seen; for reports only.
        self.observed: dict[int, ObservedPort] = {}
        #: port -> how many endpoints found no room.
        self.left_out: dict[int, int] = {}
        #: How often HAProxy was changed; the state file is saved when it grew.
        self.changes = 0

    @property
    def converged(self) -> bool:
        """HAProxy was read back and shows what is desired, everywhere but on held ports."""
        return self.process is not None and not (
            self._agenda.dirty or self.failures or self.connection_error
        )

    @property
    def serving(self) -> bool:
        """HAProxy answers, and was wholly compared and brought to what is desired since it started,
        but for ports that fail. What changed since may not be carried out yet."""
        return self._answering is not None and self._answering == self.programmed

    def mark(self, ports: Iterable[int], causes: Mapping[int, Cause | str] = _NO_CAUSES) -> None:
        """Something about ``ports`` changed: compare them at the next step, whatever it was.
        ``causes``: port -> what it was, for the history."""
        now = self._clock()
        for port in ports:
            if port in self._pool:
                self._agenda.mark(port, now)
                if cause := causes.get(port):
                    self.history.blame(port, cause)

    def hold(self, ports: frozenset[int]) -> None:
        """Leave ``ports`` as they are, whatever is desired, until they are released."""
        released = self._held - ports
        self._held = ports
        self._unsettled |= ports
        for port in ports:
            self._agenda.forget(port)
            self.failures.pop(port, None)
        self.mark(released, dict.fromkeys(released, "it was released"))

    def leave(self) -> None:
        """From now on HAProxy is expected to stop: that is no error, and it is not waited for."""
        self._leaving = True

    @property
    def gone(self) -> bool:
        """While leaving: nobody answers at HAProxy's socket any more."""
        # One failure may be a hiccup, or our letting go of it.
        return self._leaving and self._outage.attempts > 1

    def compares(self, port: int) -> bool:
        """Whether ``port`` is compared when it changes: it is not held, and HAProxy answers."""
        return port not in self._held and self.connection_error is None

    @property
    def held(self) -> frozenset[int]:
        """The ports that are left as they are."""
        return self._held

    def step(self, claims: Claims | None) -> float:
        """Do what is due. Returns in how many seconds to call again if nothing happens before.
        Without ``claims``, while nobody knows what is desired, HAProxy is only asked who it is.

        Never raises for a fault of HAProxy: it is kept, logged and tried again.
        """
        if self._clock() >= self._retry_at:
            try:
                self._step(claims)
            except RuntimeAPIError as exc:
                self._answering = None
                if self._leaving and isinstance(exc, StoppingError) and exc.sessions:
                    self._watch_drain(exc)
                else:
                    self._connection_failed(exc)
            else:
                if self.connection_error:
                    log.info("HAProxy answers again")
                self.connection_error = None
                self._outage.over()
        self._metrics.converged.set(self.converged)
        if claims is None and not self.connection_error:
            return ALIVE_SECONDS
        return max(0.0, self._next_call() - self._clock())

    def verified(self, port: int) -> bool:
        """HAProxy was read back and shows what is desired of ``port``; a held one is not driven."""
        return port in self.observed and not (
            port in self._agenda.dirty
            or port in self.failures
            or port in self._held
            or self.connection_error
        )

    def still(self, observed: Mapping[int, ObservedPort]) -> frozenset[int]:
        """The ports that are verified, and were last looked at for ``observed``."""
        return frozenset(
            port
            for port, seen in observed.items()
            if self.observed.get(port) is seen and self.verified(port)
        )

    def take_touched(self) -> set[int]:
        """The ports that were changed in HAProxy, verified or failed since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def disconnected(self) -> None:
        """The connection was seen to break while idle: look at once."""
        self._client.close()
        self._resync_at = self._clock()

    def _next_call(self) -> float:
        if self.connection_error:
            return self._retry_at
        return min(self._resync_at, self._agenda.next_at())

    def _step(self, claims: Claims | None) -> None:
        now = self._clock()
        if self._client.superseded:
            log.warning("another HAProxy has %s now: connecting to it", self._client.address)
            self.disconnected()
        if claims is None:
            self._must_go_on(self._observer.info())
            return
        resync = now >= self._resync_at
        due, costly = self._agenda.take_due(now)
        groups = [set(self._pool.ports)] if resync else [due - self._held, costly - self._held]
        try:
            for ports in filter(None, groups):
                self._converge(ports, claims)
            if not any(groups) and now >= self._asked_at + ALIVE_SECONDS:
                self._must_go_on(self._observer.info())
        except RuntimeAPIError:
            for port in due | costly:
                self._agenda.look_at(port, now)
            raise
        if any(groups):
            # A HAProxy that was not known has been compared as a whole.
            self.programmed = self._answering
        if resync:
            if self.process:
                self.sampler.sample(self.process)
            self._resync_at = self._clock() + self._pace.resync_seconds

    def _converge(self, ports: set[int], claims: Claims) -> None:
        """Rounds of look, plan, apply, until ``ports`` show what is desired; held ones are only
        looked at."""
        info, observed = self._look(ports)
        met = self._is_new(info)
        if met:
            whole = set(self._pool.ports)
            if ports != whole:
                ports = whole
                info, observed = self._look(ports)
            self._meet(info, observed)
        drift = {}
        if surprise := self._changed_by_others(observed):
            # Look twice: what we applied may show a moment later (3.0 and later).
            _, again = self._look(surprise.keys())
            drift = self._changed_by_others(again)
            observed.update(again)
        for number in range(ROUNDS_MAX + 1):
            plans = self._plans(claims, observed)
            work = {port: item for port, item in plans.items() if item}
            if number == 0:
                self._found_drift(drift, work)
            if met:
                for port in work:
                    self.history.blame(port, Met(info.pid))
            self._blame_what_ended(claims, observed, work)
            self._settle(claims, observed, plans, work)
            for port in ports - observed.keys() - self._held:
                self._absent(port, claims)
            if not work:
                return
            if number == ROUNDS_MAX:
                break
            applied = self._apply(work, observed)
            ports, observed = work.keys() - applied.failed.keys(), applied.observed
            if met:
                # What is put right at a first meeting is not a port that flaps.
                self._agenda.may_toggle()
        for port, item in work.items():
            self._fail(port, f"still differs after {ROUNDS_MAX} rounds: {_shown(item)}")

    def _look(self, ports: Collection[int]) -> tuple[ProcessInfo, dict[int, ObservedPort]]:
        info, observed = self._observer.look(ports, counted=self._agenda.leaving)
        self._must_go_on(info)
        return info, observed

    def _must_go_on(self, info: ProcessInfo) -> None:
        """A stopping HAProxy answers on our connection, while a new one may have the socket."""
        self._asked_at = self._clock()
        if info.stopping:
            raise StoppingError(self._client.address, info.pid, info.current_connections)
        self._answering = info.identity

    def _plans(self, claims: Claims, observed: Mapping[int, ObservedPort]) -> dict[int, PortPlan]:
        can_add = self._dialect is not None and self._dialect.adds_servers
        plans = {}
        for port, seen in observed.items():
            if port in self._held:
                continue
            plans[port] = plan(
                self._agenda.desired(claims(port), seen, self._clock()),
                seen,
                self._pool.by_port[port],
                can_add=can_add and port not in self._fixed,
            )
        return plans

    def _settle(
        self,
        claims: Claims,
        observed: Mapping[int, ObservedPort],
        plans: Mapping[int, PortPlan],
        work: Collection[int],
    ) -> None:
        """Remember what was seen, and which ports are as desired now."""
        now = self._clock()
        self.observed.update(observed)
        self._unsettled.difference_update(plans.keys() - work)
        self._unsettled.update(work)
        for port, item in plans.items():
            if missing := len(item.assignment.left_out):
                self.left_out[port] = missing
            else:
                self.left_out.pop(port, None)
            if port in work:
                continue
            failure = self.failures.pop(port, None)
            self.history.settled(port)
            took = self._agenda.settled(claims(port), observed[port], now)
            if failure or took is not None:
                self._touched.add(port)
            if took is not None:
                self._metrics.verified_seconds.observe(took)

    def _apply(
        self, plans: Mapping[int, PortPlan], observed: Mapping[int, ObservedPort]
    ) -> Applied:
        """Carry out ``plans``, made of ``observed``."""
        self.changes += 1
        self._touched.update(plans)
        now = self._clock()
        for item in plans.values():
            self._agenda.changed(item, now)
            for name in item.assignment.taken_busy:
                log.warning(
                    "port %d: no slot is free; %s gets a new endpoint while sessions of the"
                    " former one are left on it; give the pool more slots",
                    item.port,
                    name,
                    extra=about(port=item.port, server=name),
                )
        applied = self._applier.apply(plans, observed)
        self._must_go_on(applied.info)
        now = self._clock()
        for port in plans.keys() - applied.failed.keys():
            if (took := self._agenda.applied(port, now)) is not None:
                self._metrics.applied_seconds.observe(took)
        for port, failure in applied.failed.items():
            self._agenda.refused(port)
            self._stopped_by(port, failure)
        return applied

    def _stopped_by(self, port: int, failure: Failure) -> None:
        """A plan was not carried out: plan otherwise, or try again."""
        reply = failure.reply if isinstance(failure, CommandRefusedError) else ""
        if reply == SERVERS_FIXED:
            self._cannot_add(port, reply)
        elif reply == SERVER_IN_USE:
            self._agenda.look_at(port, self._clock() + TIDY_SECONDS)
        else:
            self._fail(port, "; ".join(filter(None, (str(failure), remedy_of(reply)))))

    def _cannot_add(self, port: int, reply: str) -> None:
        """Plan without added servers from now on: more endpoints than slots are left out."""
        self._fixed.add(port)
        self._agenda.look_at(port, self._clock())
        log.warning(
            "port %d: HAProxy cannot add servers (%s); limited to the configured slots",
            port,
            reply,
            extra=about(port=port),
        )

    def _fail(self, port: int, message: str) -> None:
        former = self.failures.get(port)
        attempts = former.attempts + 1 if former else 1
        retry_at = self._clock() + backoff_seconds(attempts)
        self.failures[port] = PortFailure(message, attempts, retry_at)
        self._touched.add(port)
        self._agenda.look_at(port, retry_at)
        if former is None or former.message != message:
            log.error(
                "port %d: %s; trying again until it works", port, message, extra=about(port=port)
            )

    def _absent(self, port: int, claims: Claims) -> None:
        """HAProxy does not have ``port``: of no matter unless somebody claims it."""
        self._agenda.forget(port)
        if self.observed.pop(port, None):
            log.warning(
                "port %d: changed by somebody else: it was deleted in HAProxy; only a restart of"
                " HAProxy brings it back",
                port,
                extra=about(port=port),
            )
        if claims(port):
            self._fail(port, f"HAProxy has no frontend {frontend_name(port)}; {OTHER_CONFIG}")
        else:
            self.failures.pop(port, None)

    def _changed_by_others(
        self, observed: Mapping[int, ObservedPort]
    ) -> dict[int, tuple[str, ...]]:
        """port -> what is not as it was when the port was last seen, and was as desired."""
        return {
            port: found
            for port, seen in observed.items()
            if port not in self._unsettled
            and (before := self.observed.get(port))
            and (found := changes(before, seen))
        }

    def _found_drift(self, drift: Mapping[int, tuple[str, ...]], work: Collection[int]) -> None:
        for port, found in drift.items():
            if port in work:
                self._metrics.drift.inc()
                self.history.blame(port, f"changed by somebody else: {summary(found)}")
            log.warning(
                "port %d: changed by somebody else: %s; %s",
                port,
                summary(found),
                "repairing" if port in work else "it needs no repair",
                extra=about(port=port),
            )

    def _blame_what_ended(
        self, claims: Claims, observed: Mapping[int, ObservedPort], work: Mapping[int, PortPlan]
    ) -> None:
        """Say for the history why there is ``work``, where no object changed."""
        for port, item in work.items():
            if port in self.failures:
                self.history.blame(port, "an earlier attempt had failed")
            elif not self.history.blames(port):
                reasons = list(self._agenda.reasons(item, claims(port), observed[port]))
                if port in self.left_out:
                    reasons = reasons or ["there was room for an endpoint that was left out"]
                for reason in reasons or ["a compare found it not as desired"]:
                    self.history.blame(port, reason)

    def _is_new(self, info: ProcessInfo) -> bool:
        return self.process is None or info.identity != self.process.identity

    def _meet(self, info: ProcessInfo, observed: Mapping[int, ObservedPort]) -> None:
        """A HAProxy that we do not know answers, with ``observed`` of the pool: compare it all."""
        if self.process is None:
            log.info(
                "connected to HAProxy %s, PID %d",
                info.version,
                info.pid,
                extra=about(pid=info.pid, version=info.version),
            )
        else:
            self._metrics.restarts.inc()
            log.warning(
                "HAProxy was restarted (PID %d, was %d): restoring its state",
                info.pid,
                self.process.pid,
                extra=about(pid=info.pid, version=info.version),
            )
        self.process = info
        self._dialect = Dialect(info.version_tuple)
        self._applier.shows_late = self._dialect.shows_addresses_late
        self._agenda.begin(observed.keys() - self._held, self._clock())
        self.failures.clear()
        self._unsettled.update(self._pool.ports)
        for port in self.observed.keys() - observed.keys():
            del self.observed[port]
        self._fixed.clear()
        self.pool_problems = tuple(compare(self._pool, observed))
        for problem in (*self._dialect.problems, *self.pool_problems):
            log.error("%s", problem)

    def _watch_drain(self, error: StoppingError) -> None:
        """Keep the connection, over which alone it can be told when the last session has ended."""
        if not isinstance(self.connection_error, StoppingError):
            log.info("%s: %d sessions are left", error.problem, error.sessions)
        self.connection_error = error
        self._retry_at = self._clock() + ALIVE_SECONDS

    def _connection_failed(self, error: RuntimeAPIError) -> None:
        self._client.close()
        if self._client.address not in str(error):
            # Who parses a reply does not know where it came from.
            where = f"HAProxy's Runtime API at {self._client.address}"
            error = RemoteProtocolError(f"{where}: {error}")
        self._metrics.connection_errors.inc()
        now = self._clock()
        met = self.process is not None
        delay = self._outage.failed(error, now, met=met, leaving=self._leaving)
        self.connection_error = error
        self._retry_at = now + delay
        self._resync_at = self._retry_at


def _shown(item: PortPlan) -> str:
    """A plan's commands, shortened."""
    return few([operation.line() for operation in item.operations], 3, "; ")
