"""Reports that were made up, and the page of one, for what no HAProxy here would show at will:
5,000 rows, each kind of problem. What is only a matter of the report is tested on these."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from prometheus_client import CollectorRegistry
from stand import ROUTER, free_port, fresh_ip, pool_of

from sidecar.admin.answers import Health
from sidecar.admin.pages import make_site
from sidecar.admin.queries import Queries
from sidecar.admin.server import serving
from sidecar.control.history import History, HistoryReport
from sidecar.listeners.tcp import TCPPorts
from sidecar.model.desired import Unit
from sidecar.reporting.certificate_reports import CertificateReport
from sidecar.reporting.explanation import Line, Link, Why, WhyReport
from sidecar.reporting.reports import (
    AttemptsReport,
    HostReport,
    PortReport,
    ProcessReport,
    Report,
    ServerReport,
    SourceReport,
    TimesReport,
    TrafficReport,
    WaitingReport,
)

_DAY = 86400


def server(number: int = 1, **others: Any) -> ServerReport:
    known = ServerReport(
        slot=f"s{number}",
        address=f"10.128.{number % 4}.{10 + number % 240}:5432",
        state="ready",
        weight=1,
        sessions=0,
        service="web",
        pod=f"web-{number}",
        node=f"worker-{number % 5}",
        check="",
        sessions_per_second=0,
        bytes_in=0,
        bytes_out=0,
        seconds_since_change=5,
    )
    return replace(known, **others)


def port(number: int, **others: Any) -> PortReport:
    known = PortReport(
        port=number,
        pool="default",
        state="open",
        route="demo/web",
        reason="Admitted",
        message="",
        servers=(server(),),
        sessions=0,
        left_out=0,
        held=False,
        failure="",
        changed_seconds_ago=5.0,
        sessions_per_second=0,
        bytes_in=0,
        bytes_out=0,
    )
    return replace(known, **others)


def host(name: str, **others: Any) -> HostReport:
    known = HostReport(
        name, "", "edge", "b1", "open", "demo/web", "Admitted", "", (server(),), 0, "", 5.0
    )
    return replace(known, **others)


def certificate(days: float, name: str = "shop.example", **others: Any) -> CertificateReport:
    known = CertificateReport(
        subject=f"CN={name}",
        issuer="CN=Example CA R3",
        not_after="2027-01-31T00:00:00Z",
        seconds_left=int(days * _DAY) + 60,
        source="spec.tls.certificate of demo/web",
        served=True,
        served_seconds_ago=300.0,
    )
    return replace(known, **others)


def traffic(sessions: int, rate: int, total: int, **others: Any) -> TrafficReport:
    responses = {"1xx": 0, "2xx": total, "3xx": 0, "4xx": 0, "5xx": 0, "other": 0}
    times = TimesReport(0, 1, 9, 14)
    known = TrafficReport(
        seconds=300.0,
        sessions=sessions,
        sessions_per_second=rate,
        sessions_total=total,
        requests=total,
        responses=responses,
        bytes_in=total * 900,
        bytes_out=total * 14_000,
        connection_errors=0,
        response_errors=0,
        retries=0,
        redispatches=0,
        average=times,
        most=times,
    )
    return replace(known, **others)


def refused(route: str, reason: str, message: str, **others: Any) -> WaitingReport:
    return replace(WaitingReport(route, None, reason, message), **others)


def report(*ports: PortReport, **others: Any) -> Report:
    known = Report(
        router_name=ROUTER,
        asked="sidecar",
        socket="/run/haproxy.sock",
        haproxy=ProcessReport("3.2.4", 4711, 86_400 * 3, 120),
        source=SourceReport("kubernetes", "https://10.96.0.1", (), 12.0),
        converged=True,
        unready="",
        changes=0,
        ports=ports,
        waiting=(),
        problems=(),
        ports_total=10_000,
        ports_claimed=len(ports),
        slots_total=80_000,
        slots_used=sum(len(item.servers) for item in ports),
        ports_open=sum(item.state == "open" for item in ports),
    )
    return replace(known, **others)


def calm() -> Report:
    """Eight rows with which nothing is wrong."""
    names = ("postgres", "kafka", "mqtt", "redis", "ldap")
    ports = [
        port(
            30000 + number,
            route=f"team-{'abc'[number % 3]}/{name}",
            servers=tuple(
                server(number * 3 + one, pod=f"{name}-{one}", sessions=number * 7 + one)
                for one in range(1 + number % 3)
            ),
            sessions=sum(number * 7 + one for one in range(1 + number % 3)),
            sessions_per_second=number,
            bytes_in=number * 1_234_567,
            bytes_out=number * 21_234_567,
            changed_seconds_ago=60.0 * 17**number,
        )
        for number, name in enumerate(names)
    ]
    hosts = [
        host(
            name,
            backend=f"b{number}",
            route=f"shop/{name.partition('.')[0]}",
            certificate=certificate(80 + number, name),
            traffic=traffic(number * 3, 12 * number, 12_345 * number),
            path="/cart" if number == 2 else "",
        )
        for number, name in enumerate(("shop.example", "api.example", "www.example"))
    ]
    return report(*ports, hosts=tuple(hosts))


def troubled() -> Report:
    """The same, and each kind of problem."""
    found = calm()
    down = server(2, state="down", check="L4CON")
    lost = AttemptsReport(41.0, 900, 12, 30, 4)
    ports = (
        *found.ports,
        port(30010, route="team-a/search", servers=(), state="closed", message="no endpoints"),
        port(30011, route="team-a/queue", servers=(server(), down), sessions=3),
        port(30012, connections=96, connections_limit=100, connections_most=99, sessions=96),
        port(30013, attempts=lost, route="team-b/flaky"),
        port(30014, drift="s1 is drained", route="team-b/touched"),
        port(30015, failure="HAProxy says: no such server", route="team-c/stuck"),
        port(30016, left_out=3, route="team-c/wide"),
        port(30017, held=True, route="team-c/kept"),
    )
    hosts = (
        *found.hosts,
        host("old.example", certificate=certificate(-3, "old.example"), backend="b8"),
        host("soon.example", certificate=certificate(9, "soon.example"), backend="b9"),
    )
    waiting = (
        refused("demo/bad", "InvalidPort", "'70000' is not a valid port; write 1 to 65535"),
        refused("demo/late", "PortAlreadyClaimed", "port 30000 has team-a/postgres", port=30000),
        refused("shop/copy", "HostAlreadyClaimed", "shop/shop has it", host="shop.example"),
        *(refused(f"demo/also-{n}", "PortNotInPool", "no pool has it", port=n) for n in range(9)),
    )
    return replace(
        found,
        ports=ports,
        hosts=hosts,
        waiting=waiting,
        converged=False,
        unready="not converged; failing ports: [30015]",
        problems=("/etc/routes/torn.yaml, line 2: invalid YAML: expected ',' or ']'",),
    )


def crowded(count: int = 5000, found: Report | None = None) -> Report:
    """``found``, with ports added until there are ``count`` rows."""
    found = found or calm()
    there = len(found.ports) + len(found.hosts) + len(found.waiting)
    ports = tuple(
        port(
            31000 + number,
            route=f"team-{number % 40}/service-{number}",
            servers=(server(number, pod=f"service-{number}-0"), server(number + 1)),
            sessions=number * 7919 % 211,
        )
        for number in range(count - there)
    )
    return replace(found, ports=(*found.ports, *ports))


class Told:
    """What is asked for a page, from ``found``, which a test may replace. ``asked``: the subjects
    that `why` was asked for. ``age_seconds``: how old the figures are."""

    def __init__(self, found: Report) -> None:
        self.found = found
        self.asked: list[str] = []
        self.age_seconds = 0.0
        self.history = History(TCPPorts(pool_of({"ports": ["30000-30020"]})), time.time)

    def report(self) -> Report:
        return replace(self.found, changes=self.history.total)

    def dated_report(self) -> tuple[Report, float]:
        return self.report(), time.monotonic() - self.age_seconds

    def why(self, subject: str) -> WhyReport:
        self.asked.append(subject)
        port = int(subject) if subject.isdigit() else None
        links = (
            Link("Route", "ok", f"{subject}, annotated with port 30000"),
            Link("Service", "ok", "demo/web, port 5432 to targetPort 5432"),
            Link(
                "endpoints",
                "warn",
                "1 of 2 endpoints is ready",
                (Line("ok", "web-1 10.128.0.10:5432: ready"), Line("warn", "web-2: not ready")),
                "see why web-2 is not ready: kubectl describe pod web-2",
            ),
            Link("HAProxy", "ok", "port 30000 is open; 1 server is ready"),
        )
        return WhyReport(ROUTER, "sidecar", "/s", Why(subject, port, True, links), ())

    def operations(self, unit: Unit | None) -> HistoryReport:
        entries = tuple(self.history.entries(unit))
        return HistoryReport(ROUTER, "/s", self.history.total, None, entries)


@contextlib.contextmanager
def page_of(told: Told, listen: str | None = None) -> Iterator[str]:
    """The address of its page."""
    ip = fresh_ip()
    listen = listen or f"{ip}:{free_port(ip)}"
    site = make_site(
        listen,
        None,
        healthy=lambda: Health(True, ""),
        ready=lambda: Health(True, ""),
        registry=CollectorRegistry(),
        queries=cast("Queries", told),
    )
    with serving(listen, site):
        yield f"http://{listen}/"
