"""The status of the router for people and programs: values built from routing and HAProxy. Pure.

The loop (or a command without one) provides `Facts`, `build_report` makes a `Report` of them,
`sidecar.reporting.figures` adds HAProxy's counters. The fields of `Report` are the JSON of
``/api/status`` and ``status --json``, documented in docs/reference.md; names are permanent.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sidecar.haproxy import lease_counts
from sidecar.haproxy.attempts import NONE, Attempts, Base
from sidecar.haproxy.lease_counts import BackendCounts, LeaseCounts
from sidecar.haproxy.naming import balance_of, port_of_backend
from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.haproxy.stats import Connections
from sidecar.listeners.host_rules import WebClaim
from sidecar.listeners.tcp import unit_of
from sidecar.model.change import Problem
from sidecar.model.desired import DesiredServer, Unit
from sidecar.model.hold import Hold
from sidecar.model.objects import Key
from sidecar.model.pool import PARKED, Pool
from sidecar.model.verdicts import Verdict
from sidecar.reporting.certificate_reports import AuthorityReport
from sidecar.reporting.reports import (
    AttemptsReport,
    HostReport,
    PortReport,
    Report,
    ServerReport,
    SourceReport,
    TrafficReport,
    WaitingReport,
)
from sidecar.reporting.tls_facts import TLSFacts
from sidecar.routing.claimed import Claimed


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a report is made of, as it was at one instant; nothing in it changes later.

    ``observed`` may lack units, and sessions. ``failures``: unit -> why it has not converged.
    ``changed_seconds_ago``: unit -> since the sidecar changed it, of those that it did.
    ``left_out``: unit -> how many endpoints found no room; None: nobody tried. ``verified``: those
    that were as desired when ``observed``. ``connections``, ``attempts``: by port, as last sampled,
    and ``bases`` to compare newer counters with. ``drift``: unit -> what somebody else changed
    since.
    ``reachable``: as far as is known, HAProxy answers. ``web``: unit -> the host and path that its
    Route has, of Routes by host; ``counts``, ``leases``: unit -> what its backend counts, as last
    sampled, and since when that is which Route's; ``at``: now, in the seconds of the latter.
    ``tls``: the certificates of hosts. ``holds``: what is known of those that are held.
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
    web: Mapping[Unit, WebClaim] = field(default_factory=dict)
    counts: Mapping[Unit, BackendCounts] = field(default_factory=dict)
    leases: Mapping[Unit, lease_counts.LeaseBase] = field(default_factory=dict)
    at: float = 0.0
    tls: TLSFacts = field(default_factory=TLSFacts)
    holds: Mapping[Unit, Hold] = field(default_factory=dict)


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
            verdict = by_route.get(claimed.route.key) if claimed and not claimed.shared else None
            ports.append(_port_report(facts, port, claimed, verdict, used))
    owners = {claimed.route.key for claimed in facts.claims.values() if not claimed.shared}
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
        ports_claimed=len(facts.claims.keys() - facts.web.keys()),
        slots_total=sum(item.slots * len(item.ports) for item in facts.pool.classes),
        slots_used=slots_used,
        ports_open=sum(
            seen.open for unit, seen in facts.observed.items() if port_of_backend(unit) is not None
        ),
        hosts=tuple(
            sorted(
                (_host_report(facts, unit, claim, by_route) for unit, claim in facts.web.items()),
                key=lambda item: (item.host, item.path, item.listener, item.port or 0),
            )
        ),
        default_certificate=facts.tls.default_certificate,
    )


def _host_report(
    facts: Facts, unit: Unit, claim: WebClaim, by_route: Mapping[Key, Verdict]
) -> HostReport:
    claimed, seen = facts.claims[unit], facts.observed.get(unit)
    verdict = by_route[claimed.route.key]
    desired = {s.address: s for s in claimed.resolution.servers}
    used = _used(seen) if seen else []
    changed = facts.changed_seconds_ago.get(unit)
    return HostReport(
        host=claim.pattern,
        path=claim.path,
        listener=claim.termination,
        backend=unit,
        state=_state(seen),
        route=claimed.route.title,
        reason=verdict.reason.value,
        message=verdict.message,
        servers=tuple(_server_report(slot, desired.get(slot.address)) for slot in used),
        left_out=(facts.left_out or {}).get(unit, 0),
        failure=facts.failures.get(unit, ""),
        changed_seconds_ago=changed,
        port=verdict.port,
        traffic=_traffic(facts, unit, claimed.route.key),
        certificate=facts.tls.certificate(claim),
        ca=AuthorityReport.of(trust) if (trust := facts.tls.trusts.get(unit)) else None,
        balance=balance_of(unit, facts.pool.web),
    )


def _traffic(facts: Facts, unit: Unit, route: Key) -> TrafficReport | None:
    """What is counted of ``route``; a backend may be another's now than it was."""
    base, counts = facts.leases.get(unit), facts.counts.get(unit)
    if base is None or counts is None or base.route != route:
        return None
    found = LeaseCounts.since(base, counts, facts.at)
    return TrafficReport.of(found) if found else None


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
    servers = [_server_report(slot, desired.get(slot.address)) for slot in used]
    left_out = (facts.left_out or {}).get(unit, 0)
    if facts.left_out is None and claimed and seen:
        known = {slot.address for slot in seen.servers.values()}
        left_out = sum(s.state == "ready" and s.address not in known for s in desired.values())
    changed = facts.changed_seconds_ago.get(unit)
    if changed is None and used:
        changed = float(min(slot.seconds_since_change for slot in used))
    shared = claimed is not None and claimed.shared
    hold = facts.holds.get(unit, Hold())
    report = PortReport(
        port=port,
        pool=facts.pool.by_port[port].name,
        state=_state(seen),
        route=claimed.route.title if claimed and not shared else None,
        reason=verdict.reason.value if verdict else None,
        message=verdict.message if verdict else "" if shared else "unclaimed",
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
        shared=shared,
        held_by=hold.by,
        held_at_seconds=hold.at_seconds,
        held_reason=hold.reason,
    )
    if base := facts.bases.get(port):
        attempts = facts.attempts.get(port, NONE)
        report = replace(report, attempts=AttemptsReport.of(attempts, base.seconds_ago))
    return report.with_connections(facts.connections.get(port))


def _server_report(slot: ObservedServer, wanted: DesiredServer | None) -> ServerReport:
    return ServerReport(
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


def _state(seen: ObservedUnit | None) -> str:
    return ("open" if seen.open else "closed") if seen else "unknown"


def state_of(state: str, *, up: bool) -> str:
    """A server's: HAProxy's administrative one, or ``down``."""
    return "down" if state == "ready" and not up else state


def total_sessions(servers: Collection[ServerReport]) -> int:
    """Of those that are known."""
    return sum(server.sessions or 0 for server in servers)


def _used(seen: ObservedUnit) -> list[ObservedServer]:
    return [slot for slot in seen.servers.values() if slot.address != PARKED]


def problem_lines(problems: Mapping[str, tuple[Problem, ...]]) -> tuple[str, ...]:
    """All sources' problems, a line each."""
    return tuple(str(problem) for items in problems.values() for problem in items)
