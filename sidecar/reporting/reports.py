"""What a report is: the values that ``status --json``, the page and /api have. Names stay. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from sidecar.common.durations import format_span
from sidecar.reporting.certificate_reports import AuthorityReport, CertificateReport

if TYPE_CHECKING:
    # Who only shows a report does not load what it is made of.
    from sidecar.haproxy.attempts import Attempts
    from sidecar.haproxy.lease_counts import LeaseCounts
    from sidecar.haproxy.stats import Connections
    from sidecar.model.verdicts import Verdict


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
    def of(cls, attempts: "Attempts", seconds: float) -> Self:
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
    ``drift``: what somebody else changed, and is not repaired yet; "" if nothing. ``shared``: no
    Route has all of it, but some share it by SNI; they are among the `HostReport`s. ``held_by``,
    ``held_at_seconds``, ``held_reason``: as in `Hold`.
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
    shared: bool = False
    held_by: str = ""
    held_at_seconds: float | None = None
    held_reason: str = ""

    @property
    def claimed(self) -> bool:
        """Whether any Route has it, or shares it."""
        return self.route is not None or self.shared

    @property
    def owner(self) -> str:
        """Who has it, for a person."""
        return self.route or ("by SNI" if self.shared else "-")

    def with_connections(self, found: "Connections | None") -> Self:
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
class TimesReport:
    """Milliseconds: in the queue, until the server was connected, until it answered (None: TLS is
    passed through), and in all. None where it is not known of this Route."""

    queue: int | None
    connect: int | None
    response: int | None
    total: int | None


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """What HAProxy counts of a Route by host. ``seconds``: since when, of all that are sums: since
    the Route has its backend, or the sidecar or HAProxy started.

    ``sessions``: now; ``sessions_per_second``: over the last second; ``sessions_total``: requests,
    or connections of TLS passthrough, which has no ``requests`` and ``responses`` (code class ->
    how many). ``connection_errors``: requests that no server accepted. ``response_errors``: those
    whose response broke off. ``retries``, ``redispatches``: attempts that failed and were made
    again, on the same server or on another one. ``average``: moving, over about the last 1,000.
    ``most``: the longest.
    """

    seconds: float
    sessions: int
    sessions_per_second: int | None
    sessions_total: int
    requests: int | None
    responses: Mapping[str, int] | None
    bytes_in: int
    bytes_out: int
    connection_errors: int
    response_errors: int
    retries: int
    redispatches: int
    average: TimesReport
    most: TimesReport

    @property
    def when(self) -> str:
        """For a person."""
        return f"in the last {format_span(max(1, round(self.seconds)))}"

    @classmethod
    def of(cls, found: "LeaseCounts") -> Self:
        sums = found.counters
        responses = {
            "1xx": sums.responses_1xx,
            "2xx": sums.responses_2xx,
            "3xx": sums.responses_3xx,
            "4xx": sums.responses_4xx,
            "5xx": sums.responses_5xx,
            "other": sums.responses_other,
        }
        return cls(
            seconds=round(found.seconds, 1),
            sessions=found.sessions,
            sessions_per_second=found.sessions_per_second,
            sessions_total=sums.sessions,
            requests=sums.requests if found.http else None,
            responses=responses if found.http else None,
            bytes_in=sums.bytes_in,
            bytes_out=sums.bytes_out,
            connection_errors=sums.connection_errors,
            response_errors=sums.response_errors,
            retries=sums.retries,
            redispatches=sums.redispatches,
            average=TimesReport(*found.average),
            most=TimesReport(*found.most),
        )


@dataclass(frozen=True, slots=True)
class HostReport:
    """One Route by host that is served. ``host``: ``*.example`` for a wildcard. ``listener``: of
    which kind it is served. ``state``: open, closed (no server yet) or unknown. ``port``: the one
    that it shares by SNI; None for one at the listeners. ``traffic``: None without a sidecar, which
    alone knows since when the backend is this Route's, and until it was counted. ``certificate``:
    that its clients should be shown; None where TLS does not end here. ``ca``: by whom its servers
    are verified; None where they are not. ``balance``: how these are chosen; None where nobody
    knows. The rest as in `PortReport`."""

    host: str
    path: str
    listener: str
    backend: str
    state: str
    route: str
    reason: str
    message: str
    servers: tuple[ServerReport, ...]
    left_out: int
    failure: str
    changed_seconds_ago: float | None
    port: int | None = None
    traffic: TrafficReport | None = None
    certificate: CertificateReport | None = None
    ca: AuthorityReport | None = None
    balance: str | None = None

    @property
    def title(self) -> str:
        """As a person writes it."""
        return self.host + (f":{self.port}" if self.port else "") + self.path


_NOT_CONVERGED = "not converged"

#: Of a Route that will have a port or a backend in a moment.
ASSIGNED_SOON = "it is being assigned one"


@dataclass(frozen=True, slots=True)
class WaitingReport:
    """A Route without a port or backend. ``port``: the one that it asked for; None when it named
    none. ``host``, ``path``: those that a Route by host asked for; "" of any other.

    Not the `Verdict` itself, since its fields are the JSON's: the Route is ``namespace/name``.
    """

    route: str
    port: int | None
    reason: str
    message: str
    host: str = ""
    path: str = ""

    @classmethod
    def of(cls, verdict: "Verdict") -> Self:
        return cls(
            verdict.route.title,
            verdict.port,
            verdict.reason.value,
            # Until HAProxy is known, also one that nothing hinders has none.
            verdict.message or ASSIGNED_SOON,
            verdict.host,
            verdict.path,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """All of it.

    ``asked``: ``sidecar``, or ``haproxy`` where none runs and a command looked for itself.
    ``socket``: HAProxy's Runtime API, an absolute path or ``host:port``. ``haproxy``: None while
    it does not answer. ``converged``: None where nobody knows; ``unready`` says why it is not.
    ``changes``: operations that HAProxy carried out since the sidecar started.
    ``ports_open``: of the whole pool, as all totals. ``slots_used``: those that have an address.
    ``default_certificate``: for clients whose SNI has none; None where nobody knows it.
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
    hosts: tuple[HostReport, ...] = ()
    default_certificate: CertificateReport | None = None

    @property
    def convergence(self) -> str:
        """For a person: that HAProxy does what the source says, or why not."""
        if self.converged:
            return "converged"
        known = not self.unready or self.unready.startswith(_NOT_CONVERGED)
        return (self.unready or _NOT_CONVERGED) if known else f"{_NOT_CONVERGED}: {self.unready}"
