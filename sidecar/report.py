"""What a person or a program is told of the router: values made from routing and HAProxy. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sidecar.model import Key
from sidecar.observed import ObservedPort, ObservedServer, ProcessInfo
from sidecar.pool import PARKED, Pool
from sidecar.routing import Claimed, Routing
from sidecar.sources.base import Problem
from sidecar.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class ServerReport:
    """One used slot. ``state``: HAProxy's word, or ``down`` where its health check failed.

    ``service``, ``pod``, ``node``: None for a server that its Route no longer has.
    """

    slot: str
    address: str
    state: str
    weight: int
    sessions: int | None
    service: str | None
    pod: str | None
    node: str | None


@dataclass(frozen=True, slots=True)
class PortReport:
    """One port that is open, claimed or wanted.

    ``sessions``: now, on all its servers. ``left_out``: endpoints that HAProxy does not have.
    ``held``: an operator keeps the port as it is.
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


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. ``haproxy`` is None when only the source was asked."""

    router_name: str
    haproxy: ProcessInfo | None
    ports: tuple[PortReport, ...]
    waiting: tuple[Verdict, ...]
    problems: tuple[str, ...]
    ports_total: int


def build_report(
    router_name: str,
    pool: Pool,
    routing: Routing,
    *,
    process: ProcessInfo | None,
    observed: Mapping[int, ObservedPort],
    problems: tuple[str, ...],
    held: frozenset[int],
) -> Report:
    """``observed`` may lack ports, and sessions."""
    verdicts = routing.verdicts()
    by_route = {verdict.route: verdict for verdict in verdicts}
    ports = []
    for port in pool.ports:
        claimed, seen = routing.claim(port), observed.get(port)
        if claimed or port in held or (seen and (seen.open or _used(seen))):
            ports.append(_port_report(port, pool, claimed, seen, by_route, held=port in held))
    return Report(
        router_name,
        process,
        tuple(ports),
        tuple(verdict for verdict in verdicts if routing.owner_port(verdict.route) is None),
        problems,
        len(pool.by_port),
    )


def _port_report(
    port: int,
    pool: Pool,
    claimed: Claimed | None,
    seen: ObservedPort | None,
    by_route: Mapping[Key, Verdict],
    *,
    held: bool,
) -> PortReport:
    verdict = by_route[claimed.route.key] if claimed else None
    desired = {s.address: s for s in claimed.resolution.servers} if claimed else {}
    servers = []
    for slot in _used(seen) if seen else ():
        wanted = desired.get(slot.address)
        servers.append(
            ServerReport(
                slot.name,
                str(slot.address),
                "down" if slot.state == "ready" and not slot.up else slot.state,
                slot.weight,
                slot.sessions,
                wanted.service if wanted else None,
                wanted.pod if wanted else None,
                wanted.node if wanted else None,
            )
        )
    left_out = 0
    if claimed and seen:
        known = {slot.address for slot in seen.servers.values()}
        left_out = sum(s.state == "ready" and s.address not in known for s in desired.values())
    counts = [server.sessions for server in servers if server.sessions is not None]
    return PortReport(
        port,
        pool.by_port[port].name,
        ("open" if seen.open else "closed") if seen else "unknown",
        claimed.route.title if claimed else None,
        verdict.reason.value if verdict else None,
        verdict.message if verdict else "nobody claims it",
        tuple(servers),
        sum(counts) if counts or seen else None,
        left_out,
        held,
    )


def _used(seen: ObservedPort) -> list[ObservedServer]:
    return [slot for slot in seen.servers.values() if slot.address != PARKED]


def report_json(report: Report) -> dict[str, Any]:
    """The report as JSON-ready data; the shape is documented in docs/reference.md."""
    process = report.haproxy
    return {
        "router_name": report.router_name,
        "haproxy": process
        and {
            "version": process.version,
            "pid": process.pid,
            "uptime_seconds": process.uptime_seconds,
            "connections": process.current_connections,
        },
        "ports_total": report.ports_total,
        "ports": [asdict(item) for item in report.ports],
        "waiting": [
            {
                "route": f"{verdict.route.namespace}/{verdict.route.name}",
                "port": verdict.port,
                "reason": verdict.reason.value,
                "message": verdict.message,
            }
            for verdict in report.waiting
        ],
        "problems": list(report.problems),
    }


def problem_lines(problems: Mapping[str, tuple[Problem, ...]]) -> tuple[str, ...]:
    """All sources' problems, a line each."""
    return tuple(str(problem) for items in problems.values() for problem in items)
