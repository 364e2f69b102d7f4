"""The status of the router for people and programs: values built from routing and HAProxy. Pure.

The loop (or a command without one) provides `Facts`, `build_report` makes a `Report` of them,
`sidecar.reporting.figures` adds HAProxy's counters. The fields of `Report` are the JSON of
``/api/status`` and ``status --json``, documented in docs/reference.md; names are permanent.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Self

from sidecar.common.text import counted
from sidecar.haproxy.attempts import NONE, Attempts, Base
from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.haproxy.stats import Connections
from sidecar.listeners.tcp import unit_of
from sidecar.model.change import Problem
from sidecar.model.desired import Unit
from sidecar.model.pool import PARKED, Pool
from sidecar.model.verdicts import Verdict
from sidecar.routing.table import Claimed


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """The HAProxy that answers. ``connections``: now, in all of it."""

    version: str
    pid: int
    uptime_seconds: int
    connections: int


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What is watched. ``missing``: what has not synced once yet. ``changed_seconds_ago``: since
    it last handed something over; None where nobody knows."""

    kind: str
    where: str
    missing: tuple[str, ...]
    changed_seconds_ago: float | None


@dataclass(frozen=True, slots=True)
class AttemptsReport:
    """How connections to servers went in the last ``seconds``. ``sessions``: that wanted a server.
    ``errors``: of them, those that got none. ``retries``, ``redispatches``: attempts that failed
    and were made again, on the same server or on another one."""

    seconds: float
    sessions: int
    errors: int
    retries: int
    redispatches: int

    @classmethod
    def of(cls, attempts: Attempts, seconds: float) -> Self:
        return cls(round(seconds, 1), *attempts)

    @property
    def repeated(self) -> int:
        """Attempts that failed and were made again."""
        return self.retries + self.redispatches

    @property
    def failed(self) -> bool:
        """Whether any attempt did."""
        return bool(self.errors or self.repeated)

    @property
    def when(self) -> str:
        """For a person."""
        return f"in the last {max(1, round(self.seconds))} s"

    @property
    def loss(self) -> str:
        """What was lost, for a person."""
        failed = f"{self.errors} of {self.sessions} connections failed {self.when}"
        return f"{failed}: no server accepted them"


@dataclass(frozen=True, slots=True)
class ServerReport:
    """One used slot. ``state``: HAProxy's word, or ``down`` where its health check failed.

    ``service``, ``pod``, ``node``: None for a server that its Route no longer has. ``check``: the
    last health check's result, "" without checks. ``attempts``: lately, by the running sidecar's
    notes; those of a former endpoint count where the slot changed meanwhile. Figures are None while
    HAProxy is away.
    """

    slot: str
    address: str
    state: str
    weight: int
    sessions: int | None
    service: str | None
    pod: str | None
    node: str | None
    check: str | None
    sessions_per_second: int | None
    bytes_in: int | None
    bytes_out: int | None
    attempts: AttemptsReport | None = None
    seconds_since_change: int | None = None


@dataclass(frozen=True, slots=True)
class PortReport:
    """One port that is open, claimed or wanted.

    ``sessions``: now, on all its servers. ``left_out``: endpoints that HAProxy does not have.
    ``held``: an operator keeps the port as it is. ``failure``: why it has not converged, or "".
    ``changed_seconds_ago``: since the sidecar changed it, or else a server of it went up or down.
    ``sessions_per_second``, ``bytes_in``, ``bytes_out``: what its frontend counts.
    ``connections``, ``connections_most``: now, and at most since HAProxy started; beyond
    ``connections_limit`` they are closed at once. ``attempts``: lately, on all servers.
    ``drift``: what somebody else changed, and is not repaired yet; "" if nothing.
    """

    port: int
    pool: str
    state: str
    route: str | None
    reason: str | None
    message: str
    servers: tuple[ServerReport, ...]
    sessions: int | None
    left_out: int
    held: bool
    failure: str
    changed_seconds_ago: float | None
    sessions_per_second: int | None
    bytes_in: int | None
    bytes_out: int | None
    connections: int | None = None
    connections_most: int | None = None
    connections_limit: int | None = None
    attempts: AttemptsReport | None = None
    drift: str = ""

    def with_connections(self, found: Connections | None) -> Self:
        """The same, with what is known of them."""
        if found is None:
            return self
        return replace(
            self,
            connections=found.now,
            connections_most=found.most,
            connections_limit=found.limit,
        )


@dataclass(frozen=True, slots=True)
class WaitingReport:
    """A Route without a port. ``port``: the one that it asked for; None when it named none.

    Not the `Verdict` itself, since its fields are the JSON's: the Route is ``namespace/name``.
    """

    route: str
    port: int | None
    reason: str
    message: str

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        return cls(verdict.route.title, verdict.port, verdict.reason.value, verdict.message)


@dataclass(frozen=True, slots=True)
class Report:
    """All of it.

    ``asked``: ``sidecar``, or ``haproxy`` where none runs and a command looked for itself.
    ``socket``: HAProxy's Runtime API, an absolute path or ``host:port``. ``haproxy``: None while
    it does not answer. ``converged``: None where nobody knows; ``unready`` says why it is not.
    ``changes``: operations that HAProxy carried out since the sidecar started.
    ``ports_open``: of the whole pool, as all totals. ``slots_used``: those that have an address.
    """

    router_name: str
    asked: str
    socket: str
    haproxy: ProcessReport | None
    source: SourceReport
    converged: bool | None
    unready: str
    changes: int | None
    ports: tuple[PortReport, ...]
    waiting: tuple[WaitingReport, ...]
    problems: tuple[str, ...]
    ports_total: int
    ports_claimed: int
    slots_total: int
    slots_used: int
    ports_open: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a report is made of, as it was at one instant; nothing in it changes later.

    ``observed`` may lack units, and sessions. ``failures``: unit -> why it has not converged.
    ``changed_seconds_ago``: unit -> since the sidecar changed it, of those that it did.
    ``left_out``: unit -> how many endpoints found no room; None: nobody tried. ``verified``: those
    that were as desired when ``observed``. ``connections``, ``attempts``: by port, as last sampled,
    and ``bases`` to compare newer counters with. ``drift``: unit -> what somebody else changed
    since.
    ``reachable``: as far as is known, HAProxy answers.
    """

    router_name: str
    asked: str
    socket: str
    pool: Pool
    source: SourceReport
    claims: Mapping[Unit, Claimed]
    verdicts: Sequence[Verdict]
    observed: Mapping[Unit, ObservedUnit]
    problems: tuple[str, ...]
    held: frozenset[Unit]
    failures: Mapping[Unit, str]
    changed_seconds_ago: Mapping[Unit, float]
    converged: bool | None = None
    unready: str = ""
    changes: int | None = None
    left_out: Mapping[Unit, int] | None = None
    verified: frozenset[Unit] = frozenset()
    connections: Mapping[int, Connections] = field(default_factory=dict)
    attempts: Mapping[int, Attempts] = field(default_factory=dict)
    bases: Mapping[int, Base] = field(default_factory=dict)
    drift: Mapping[Unit, str] = field(default_factory=dict)
    reachable: bool = True


def build_report(facts: Facts) -> Report:
    """Everything but what HAProxy counts."""
    by_route = {verdict.route: verdict for verdict in facts.verdicts}
    ports = []
    slots_used = 0
    for port in facts.pool.ports:
        unit = unit_of(port)
        claimed, seen = facts.claims.get(unit), facts.observed.get(unit)
        used = _used(seen) if seen else []
        slots_used += len(used)
        if claimed or unit in facts.held or used or (seen and seen.open):
            verdict = by_route.get(claimed.route.key) if claimed else None
            ports.append(_port_report(facts, port, claimed, verdict, used))
    owners = {claimed.route.key for claimed in facts.claims.values()}
    return Report(
        router_name=facts.router_name,
        asked=facts.asked,
        socket=facts.socket,
        haproxy=None,
        source=facts.source,
        converged=facts.converged,
        unready=facts.unready,
        changes=facts.changes,
        ports=tuple(ports),
        waiting=tuple(
            WaitingReport.of(verdict) for verdict in facts.verdicts if verdict.route not in owners
        ),
        problems=facts.problems,
        ports_total=len(facts.pool.by_port),
        ports_claimed=len(facts.claims),
        slots_total=sum(item.slots * len(item.ports) for item in facts.pool.classes),
        slots_used=slots_used,
        ports_open=sum(seen.open for seen in facts.observed.values()),
    )


def _port_report(
    facts: Facts,
    port: int,
    claimed: Claimed | None,
    verdict: Verdict | None,
    used: Sequence[ObservedServer],
) -> PortReport:
    unit = unit_of(port)
    seen = facts.observed.get(unit)
    desired = {s.address: s for s in claimed.resolution.servers} if claimed else {}
    servers = []
    for slot in used:
        wanted = desired.get(slot.address)
        servers.append(
            ServerReport(
                slot=slot.name,
                address=str(slot.address),
                state=state_of(slot.state, up=slot.up),
                weight=slot.weight,
                sessions=slot.sessions,
                service=wanted.service if wanted else None,
                pod=wanted.pod if wanted else None,
                node=wanted.node if wanted else None,
                check=None,
                sessions_per_second=None,
                bytes_in=None,
                bytes_out=None,
                seconds_since_change=slot.seconds_since_change,
            )
        )
    left_out = (facts.left_out or {}).get(unit, 0)
    if facts.left_out is None and claimed and seen:
        known = {slot.address for slot in seen.servers.values()}
        left_out = sum(s.state == "ready" and s.address not in known for s in desired.values())
    changed = facts.changed_seconds_ago.get(unit)
    if changed is None and used:
        changed = float(min(slot.seconds_since_change for slot in used))
    report = PortReport(
        port=port,
        pool=facts.pool.by_port[port].name,
        state=("open" if seen.open else "closed") if seen else "unknown",
        route=claimed.route.title if claimed else None,
        reason=verdict.reason.value if verdict else None,
        message=verdict.message if verdict else "unclaimed",
        servers=tuple(servers),
        sessions=total_sessions(servers) if seen else None,
        left_out=left_out,
        held=unit in facts.held,
        failure=facts.failures.get(unit, ""),
        changed_seconds_ago=changed,
        sessions_per_second=None,
        bytes_in=None,
        bytes_out=None,
        drift=facts.drift.get(unit, ""),
    )
    if base := facts.bases.get(port):
        attempts = facts.attempts.get(port, NONE)
        report = replace(report, attempts=AttemptsReport.of(attempts, base.seconds_ago))
    return report.with_connections(facts.connections.get(port))


def state_of(state: str, *, up: bool) -> str:
    """A server's: HAProxy's administrative one, or ``down``."""
    return "down" if state == "ready" and not up else state


def total_sessions(servers: Collection[ServerReport]) -> int:
    """Of those that are known."""
    return sum(server.sessions or 0 for server in servers)


def _used(seen: ObservedUnit) -> list[ObservedServer]:
    return [slot for slot in seen.servers.values() if slot.address != PARKED]


def narrowed(report: Report, namespace: str | None, names: Collection[str]) -> Report:
    """Only the Routes of ``namespace`` and those that one of ``names`` means: a port, a Route's
    name, ``namespace/name``, or a pattern of these like ``my*``. The totals stay."""
    if namespace is None and not names:
        return report

    def meant(route: str | None, port: int | None) -> bool:
        its_namespace, _, name = (route or "").partition("/")
        if namespace is not None and its_namespace != namespace:
            return False
        known = [text for text in (route, name, str(port or "")) if text]
        return not names or any(fnmatchcase(text, item) for text in known for item in names)

    return replace(
        report,
        ports=tuple(item for item in report.ports if meant(item.route, item.port)),
        waiting=tuple(item for item in report.waiting if meant(item.route, item.port)),
    )


def report_json(report: Report) -> dict[str, Any]:
    """The report as JSON-ready data; the shape is documented in docs/reference.md."""
    return asdict(report)


def notes(item: PortReport) -> Iterator[str]:
    """What does not go without saying of a port, for a person."""
    if item.failure:
        yield f"cannot be reconciled: {item.failure}"
    if item.message:
        known = item.reason in (None, "Admitted")
        yield item.message if known else f"{item.reason}: {item.message}"
    if item.left_out:
        endpoints = counted(item.left_out, "endpoint")
        yield f"{endpoints} skipped; see limits.max_servers and pools.slots"
    if item.drift:
        yield f"changed by somebody else: {item.drift}; will be repaired at the next full compare"
    if item.connections_limit and (item.connections or 0) >= item.connections_limit:
        yield f"at its limit of {item.connections_limit} connections: further ones are closed"
    if item.attempts and item.attempts.errors:
        yield item.attempts.loss
    if item.held:
        yield f"held: the sidecar does not change it until `haproxy-sidecar release {item.port}`"


def problem_lines(problems: Mapping[str, tuple[Problem, ...]]) -> tuple[str, ...]:
    """All sources' problems, a line each."""
    return tuple(str(problem) for items in problems.values() for problem in items)
