"""Adds HAProxy's counters to a `Report`: sessions, bytes, checks, recent connections.

Must not decide what a report has (`sidecar.reporting.status`), nor how counters are read. Pure.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from sidecar.haproxy.attempts import Base, server_since
from sidecar.haproxy.state import ProcessInfo
from sidecar.haproxy.stats import ServerTraffic, Traffic
from sidecar.reporting.reports import (
    AttemptsReport,
    PortReport,
    ProcessReport,
    Report,
    ServerReport,
)
from sidecar.reporting.status import state_of, total_sessions


def process_report(process: ProcessInfo) -> ProcessReport:
    return ProcessReport(
        process.version, process.pid, process.uptime_seconds, process.current_connections
    )


def with_traffic(
    report: Report, traffic: Traffic, bases: Mapping[int, Base] = MappingProxyType({})
) -> Report:
    """The same, with the process that answers and its figures; ``bases``: see `Facts`."""
    return replace(
        report,
        haproxy=process_report(traffic.process),
        ports=tuple(
            _port_with_traffic(item, traffic, bases.get(item.port)) for item in report.ports
        ),
    )


def _port_with_traffic(item: PortReport, traffic: Traffic, base: Base | None) -> PortReport:
    counts, counted = traffic.ports.get(item.port), traffic.servers.get(item.port, {})
    if counts is None:
        return item
    servers = tuple(
        _server_with_traffic(server, counted[server.slot]) if server.slot in counted else server
        for server in item.servers
    )
    attempts = item.attempts
    if base and (total := traffic.attempts.get(item.port)):
        lately = total.since(base.port)
        attempts = AttemptsReport.of(lately, base.seconds_ago)
        servers = tuple(
            replace(
                server,
                attempts=AttemptsReport.of(
                    server_since(
                        counted[server.slot].attempts, base.servers.get(server.slot), lately
                    ),
                    base.seconds_ago,
                ),
            )
            if server.slot in counted
            else server
            for server in servers
        )
    return replace(
        item.with_connections(traffic.connections.get(item.port)),
        attempts=attempts,
        servers=servers,
        sessions=total_sessions(servers),
        sessions_per_second=counts.sessions_per_second,
        bytes_in=counts.bytes_in,
        bytes_out=counts.bytes_out,
    )


def _server_with_traffic(server: ServerReport, counted: ServerTraffic) -> ServerReport:
    state = server.state
    if state in ("ready", "down"):
        # Its checks may have changed it since the loop last looked.
        state = state_of("ready", up=counted.up)
    return replace(
        server,
        state=state,
        check=counted.check,
        sessions=counted.counts.sessions,
        sessions_per_second=counted.counts.sessions_per_second,
        bytes_in=counted.counts.bytes_in,
        bytes_out=counted.counts.bytes_out,
    )
