"""The level-based loop: compare desired with observed, apply the difference, read back, repeat.

Owns the connection to HAProxy and everything that is remembered about the process behind it.
Keeps no copy of HAProxy's state to decide on: each round looks afresh. One thread calls it.
"""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from sidecar.errors import RuntimeAPIError
from sidecar.metrics import Metrics
from sidecar.observed import (
    ObservedPort,
    ObservedServer,
    ProcessInfo,
    parse_frontends,
    parse_info,
    parse_servers_state,
    parse_sessions,
)
from sidecar.operations import Operation
from sidecar.planner import DesiredPort, PortPlan, leaving, plan, used
from sidecar.pool import Pool, backend_name, format_ports, frontend_name
from sidecar.routing import Claimed
from sidecar.runtime import RuntimeClient

log = logging.getLogger(__name__)

#: Rounds of look, plan and apply before a port that still differs has to wait. A replacement of
#: all servers of a full backend takes four; more means that HAProxy does not do what it says.
ROUNDS_MAX = 6

#: A full dump costs as much as looking at about this part of the ports one by one.
_FULL_DUMP_FRACTION = 8

#: How long HAProxy may take to show an address that it accepted; measured: below 1 ms.
READBACK_SECONDS = 2.0

#: How soon idle slots are looked for after an endpoint left, doubling up to the resync.
_LEAVING_FIRST_SECONDS = 1.0

_OTHER_CONFIG = "it runs on another haproxy.cfg: render it from these settings and restart HAProxy"


@dataclass(frozen=True, slots=True)
class PortFailure:
    """A port that could not be brought to what is desired. ``retry_at``: on the loop's clock."""

    message: str
    attempts: int
    retry_at: float


def backoff_seconds(attempts: int, first: float = 0.8, most: float = 30.0) -> float:
    """client-go's numbers: doubling from 0.8 s to 30 s, with up to as much again of jitter."""
    delay = min(most, first * 2.0 ** min(attempts - 1, 16))
    return delay * random.uniform(1.0, 2.0)  # noqa: S311  no secret


class Observer:
    """Reads HAProxy; used by the loop and by commands that only look."""

    def __init__(self, client: RuntimeClient, pool: Pool) -> None:
        self._client = client
        self._pool = pool
        # What HAProxy has of the pool, as the last full look found it.
        self._existing = frozenset(pool.ports)

    def info(self) -> ProcessInfo:
        return parse_info(self._client.ask("show info"))

    def look(
        self, ports: Collection[int], *, with_sessions: bool = False
    ) -> tuple[ProcessInfo, dict[int, ObservedPort]]:
        """Which process answers, and ``ports`` as it has them; a port of which HAProxy lacks the
        frontend or the backend is left out. Sessions are counted where `plan` needs them, or on
        all used servers."""
        if len(ports) * _FULL_DUMP_FRACTION > len(self._pool.by_port):
            lines = ["show info", "show servers state", "show stat -1 1 -1"]
            info, *tables = self._client.ask_all(lines)
            servers, frontends = parse_servers_state(tables[0]), parse_frontends(tables[1])
            self._existing = frozenset(servers.keys() & frontends.keys())
        else:
            lines = ["show info"]
            for port in self._existing.intersection(ports):
                lines += [f"show servers state {backend_name(port)}"]
                lines += [f"show stat {frontend_name(port)} 1 -1"]
            info, *tables = self._client.ask_all(lines)
            servers, frontends = {}, {}
            for table in tables[0::2]:
                servers.update(parse_servers_state(table))
            for table in tables[1::2]:
                frontends.update(parse_frontends(table))
        found = {port for port in ports if port in servers and port in frontends}
        counted = used if with_sessions else leaving
        self._count_sessions({port: servers[port] for port in found if counted(servers[port])})
        return parse_info(info), {
            port: ObservedPort(port, frontends[port], servers[port]) for port in sorted(found)
        }

    def addresses_shown(self, plans: Collection[PortPlan]) -> set[int]:
        """The ports among ``plans`` whose read-back addresses HAProxy shows."""
        if len(plans) * _FULL_DUMP_FRACTION > len(self._pool.by_port):
            tables = [self._client.ask("show servers state")]
        else:
            tables = self._client.ask_all(
                [f"show servers state {backend_name(item.port)}" for item in plans]
            )
        servers: dict[int, dict[str, ObservedServer]] = {}
        for table in tables:
            servers.update(parse_servers_state(table))
        return {
            item.port
            for item in plans
            if all(
                servers[item.port][name].address == address
                for name, address in item.readback.items()
            )
        }

    def sessions(self, ports: Iterable[int]) -> dict[int, dict[str, int]]:
        """port -> server name -> sessions now."""
        tables = self._client.ask_all([f"show stat {backend_name(port)} 4 -1" for port in ports])
        found: dict[int, dict[str, int]] = {}
        for table in tables:
            found.update(parse_sessions(table))
        return found

    def _count_sessions(self, servers: Mapping[int, dict[str, ObservedServer]]) -> None:
        for port, counts in self.sessions(servers).items() if servers else ():
            for name, count in counts.items():
                servers[port][name] = servers[port][name]._replace(sessions=count)


class Reconciler:
    """Brings HAProxy to what is claimed, and keeps it there.

    ``close_after_seconds``: how long a port may be open without a server that takes connections.
    ``resync_seconds``: how often everything is compared. ``clock``: monotonic seconds.
    """

    def __init__(
        self,
        client: RuntimeClient,
        pool: Pool,
        metrics: Metrics,
        *,
        close_after_seconds: float,
        resync_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._observer = Observer(client, pool)
        self._pool = pool
        self._metrics = metrics
        self._close_after_seconds = close_after_seconds
        self._resync_seconds = resync_seconds
        self._clock = clock
        # port -> since when a change to it is not verified yet
        self._dirty: dict[int, float] = {}
        # port -> since when it is open without a server that takes connections
        self._unusable_since: dict[int, float] = {}
        # port -> (when to look for slots that became idle, how long to wait after that)
        self._idle_looks: dict[int, tuple[float, float]] = {}
        self._resync_at = 0.0
        self._connection_attempts = 0
        self._retry_at = 0.0
        self.process: ProcessInfo | None = None
        self.connection_error: RuntimeAPIError | None = None
        #: What HAProxy lacks of the pool, a line each.
        self.pool_problems: tuple[str, ...] = ()
        #: port -> why it is not as desired.
        self.failures: dict[int, PortFailure] = {}
        #: port -> as last seen; for reports only.
        self.observed: dict[int, ObservedPort] = {}
        #: port -> how many endpoints found no slot.
        self.left_out: dict[int, int] = {}
        self._touched: set[int] = set()
        #: How often HAProxy was changed; the state file is saved when it grew.
        self.changes = 0

    @property
    def converged(self) -> bool:
        """HAProxy was read back and shows what is desired, everywhere."""
        return self.process is not None and not (
            self._dirty or self.failures or self.connection_error
        )

    def mark(self, ports: Iterable[int]) -> None:
        """Something about ``ports`` changed: compare them at the next step, whatever it was."""
        now = self._clock()
        for port in ports:
            if port in self._pool:
                self._dirty.setdefault(port, now)
                self.failures.pop(port, None)

    def step(self, claimed: Mapping[int, Claimed]) -> float:
        """Do what is due. Returns in how many seconds to call again if nothing happens before.

        Never raises for a fault of HAProxy: it is kept, logged and tried again.
        """
        now = self._clock()
        if now >= self._retry_at:
            try:
                self._step(claimed)
            except RuntimeAPIError as exc:
                self._connection_failed(exc)
            else:
                if self.connection_error:
                    log.info("HAProxy answers again")
                self.connection_error, self._connection_attempts = None, 0
        self._metrics.converged.set(self.converged)
        return max(0.0, self._next_call() - self._clock())

    def take_touched(self) -> set[int]:
        """The ports that were changed in HAProxy since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def disconnected(self) -> None:
        """The connection was seen to break while idle: look at once."""
        self._client.close()
        self._resync_at = self._clock()

    def _next_call(self) -> float:
        if self.connection_error:
            return self._retry_at
        times = [self._resync_at]
        times += [failure.retry_at for failure in self.failures.values()]
        times += [at for at, _ in self._idle_looks.values()]
        times += [since + self._close_after_seconds for since in self._unusable_since.values()]
        return min(times)

    def _step(self, claimed: Mapping[int, Claimed]) -> None:
        now = self._clock()
        resync = now >= self._resync_at
        ports = set(self._dirty)
        ports |= {port for port, failure in self.failures.items() if failure.retry_at <= now}
        ports |= {port for port, (at, _) in self._idle_looks.items() if at <= now}
        ports |= {
            port
            for port, since in self._unusable_since.items()
            if since + self._close_after_seconds <= now
        }
        if resync:
            ports = set(self._pool.ports)
        if ports:
            self._converge(ports, claimed)
        if resync:
            self._resync_at = self._clock() + self._resync_seconds

    def _converge(self, ports: set[int], claimed: Mapping[int, Claimed]) -> None:
        """Rounds of look, plan, apply, until ``ports`` show what is desired."""
        expected = set(self._dirty) | set(self.failures) | set(self._idle_looks)
        expected |= set(self._unusable_since)
        everything = set(self._pool.ports)
        for number in range(ROUNDS_MAX + 1):
            info, observed = self._observer.look(ports)
            if self._is_new(info):
                expected = everything
                if ports != everything:
                    ports = everything
                    info, observed = self._observer.look(ports)
                self._meet(info, observed)
            plans = self._plans(claimed, observed)
            work = {port: item for port, item in plans.items() if item}
            if number == 0 and (surprise := work.keys() - expected):
                # Look twice: what we applied may show a moment later (3.0 and later).
                _, again = self._observer.look(surprise)
                self._found_drift(surprise, {**work, **self._plans(claimed, again)}, observed)
                observed.update(again)
                plans = self._plans(claimed, observed)
                work = {port: item for port, item in plans.items() if item}
            self._settle(observed, plans, work)
            for port in ports - observed.keys():
                self._absent(port, claimed)
            if not work:
                return
            if number == ROUNDS_MAX:
                break
            ports = set(work) - self._apply(work)
        for port in work:
            self._fail(port, f"still differs after {ROUNDS_MAX} rounds: {_shown(work[port])}")

    def _plans(
        self, claimed: Mapping[int, Claimed], observed: Mapping[int, ObservedPort]
    ) -> dict[int, PortPlan]:
        return {
            port: plan(self._desired(claimed.get(port), seen), seen)
            for port, seen in observed.items()
        }

    def _desired(self, claimed: Claimed | None, observed: ObservedPort) -> DesiredPort:
        """What the port should be now: an open one stays open for a while without servers."""
        port = observed.port
        servers = claimed.resolution.servers if claimed else ()
        if any(server.state == "ready" for server in servers):
            self._unusable_since.pop(port, None)
            return DesiredPort(port, open=True, servers=servers)
        if not (claimed and observed.open):
            self._unusable_since.pop(port, None)
            return DesiredPort(port, open=False, servers=servers)
        since = self._unusable_since.setdefault(port, self._clock())
        still = self._clock() < since + self._close_after_seconds
        return DesiredPort(port, open=still, servers=servers)

    def _settle(
        self,
        observed: Mapping[int, ObservedPort],
        plans: Mapping[int, PortPlan],
        work: Collection[int],
    ) -> None:
        """Remember what was seen, and which ports are as desired now."""
        now = self._clock()
        self.observed.update(observed)
        for port, item in plans.items():
            if missing := len(item.assignment.left_out):
                self.left_out[port] = missing
            else:
                self.left_out.pop(port, None)
            if leaving(observed[port].servers):
                at, wait = self._idle_looks.get(port, (0.0, _LEAVING_FIRST_SECONDS))
                if at <= now:
                    following = min(wait * 2, self._resync_seconds)
                    self._idle_looks[port] = (now + wait, following)
            else:
                self._idle_looks.pop(port, None)
            if port not in work:
                self.failures.pop(port, None)
                since = self._dirty.pop(port, None)
                if since is not None:
                    self._metrics.verified_seconds.observe(now - since)

    def _apply(self, plans: Mapping[int, PortPlan]) -> set[int]:
        """Carry out ``plans`` in the planner's order: prepare, read back, activate.

        Returns the ports that failed; the rest of a failed port's plan is not carried out.
        """
        self.changes += 1
        self._touched.update(plans)
        for item in plans.values():
            for name in item.assignment.taken_busy:
                log.warning(
                    "port %d: no slot is free; %s gets a new endpoint while sessions of the"
                    " former one are left on it; give the pool more slots",
                    item.port,
                    name,
                )
        failed = self._carry_out([op for item in plans.values() for op in item.prepare])
        waiting = [item for item in plans.values() if item.readback and item.port not in failed]
        deadline = self._clock() + READBACK_SECONDS
        while waiting:
            shown = self._observer.addresses_shown(waiting)
            waiting = [item for item in waiting if item.port not in shown]
            if waiting and self._clock() > deadline:
                for item in waiting:
                    self._fail(item.port, "HAProxy accepted an address and does not show it")
                    failed.add(item.port)
                break
        return failed | self._carry_out(
            [op for item in plans.values() if item.port not in failed for op in item.activate]
        )

    def _carry_out(self, operations: list[Operation]) -> set[int]:
        """Apply ``operations``; the ports of those that were refused."""
        failed = set()
        done: Counter[str] = Counter()
        errors = self._client.apply(operations) if operations else []
        for operation, error in zip(operations, errors, strict=True):
            kind = type(operation).__name__
            if error is None:
                done[kind] += 1
            else:
                self._metrics.refusals.labels(kind).inc()
                if operation.port not in failed:
                    self._fail(operation.port, str(error))
                failed.add(operation.port)
        for kind, count in done.items():
            self._metrics.operations.labels(kind).inc(count)
        return failed

    def _absent(self, port: int, claimed: Collection[int]) -> None:
        """HAProxy does not have ``port``: of no matter unless somebody claims it."""
        self._dirty.pop(port, None)
        self.observed.pop(port, None)
        if port in claimed:
            self._fail(port, f"HAProxy has no frontend {frontend_name(port)}; {_OTHER_CONFIG}")
        else:
            self.failures.pop(port, None)

    def _fail(self, port: int, message: str) -> None:
        former = self.failures.get(port)
        attempts = former.attempts + 1 if former else 1
        retry_at = self._clock() + backoff_seconds(attempts)
        self.failures[port] = PortFailure(message, attempts, retry_at)
        self._dirty.pop(port, None)
        if former is None or former.message != message:
            log.error("port %d: %s; trying again until it works", port, message)

    def _found_drift(
        self,
        ports: Iterable[int],
        plans: Mapping[int, PortPlan],
        observed: Mapping[int, ObservedPort],
    ) -> None:
        for port in sorted(ports):
            if plans[port]:
                self._metrics.drift.inc()
                state = "open" if observed[port].open else "closed"
                log.warning(
                    "port %d (%s): somebody else changed it in HAProxy; repairing with: %s",
                    port,
                    state,
                    _shown(plans[port]),
                )

    def _is_new(self, info: ProcessInfo) -> bool:
        return self.process is None or info.identity != self.process.identity

    def _meet(self, info: ProcessInfo, observed: Mapping[int, ObservedPort]) -> None:
        """A HAProxy that we do not know answers, with ``observed`` of the pool: compare it all."""
        if self.process is None:
            log.info("connected to HAProxy %s, PID %d", info.version, info.pid)
        else:
            self._metrics.restarts.inc()
            log.warning(
                "HAProxy was restarted (PID %d, was %d): giving everything back",
                info.pid,
                self.process.pid,
            )
        self.process = info
        self._idle_looks.clear()
        self.failures.clear()
        # Nothing is known of when servers went: a port without any is closed at once.
        self._unusable_since = dict.fromkeys(observed, float("-inf"))
        self.pool_problems = tuple(compare(self._pool, observed))
        for problem in self.pool_problems:
            log.error("%s", problem)
        self.mark(self._pool.ports)

    def _connection_failed(self, error: RuntimeAPIError) -> None:
        self._client.close()
        self._metrics.connection_errors.inc()
        self._connection_attempts += 1
        # Soon at first, so that a restarted HAProxy has its servers back within a second.
        delay = backoff_seconds(self._connection_attempts, first=0.05, most=0.4)
        if self.connection_error is None or str(self.connection_error) != str(error):
            log.error("%s; trying again until it answers", error)
        self.connection_error = error
        self._retry_at = self._clock() + delay
        self._resync_at = self._retry_at


def compare(pool: Pool, observed: Mapping[int, ObservedPort]) -> Iterable[str]:
    """What a running HAProxy lacks of the pool, in words for a person; nothing if all is there."""
    if absent := [port for port in pool.ports if port not in observed]:
        yield (
            f"HAProxy has no frontend {frontend_name(absent[0])} with backend"
            f" {backend_name(absent[0])} (missing ports: {format_ports(absent)}); {_OTHER_CONFIG}"
        )
    for port, seen in observed.items():
        if lacking := [name for name in pool.slot_names(port) if name not in seen.servers]:
            yield (
                f"HAProxy's backend {backend_name(port)} lacks"
                f" {len(lacking)} of {pool.by_port[port].slots} slots, first"
                f" {lacking[0]}; {_OTHER_CONFIG}"
            )


def _shown(item: PortPlan) -> str:
    """A plan's commands, shortened."""
    lines = [operation.line() for operation in item.operations]
    more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
    return "; ".join(lines[:3]) + more
