"""Prometheus gauges of the current state: computed when scraped, from an immutable report.

Bounded: by the pools of the settings, a handful of states, the slots in use, and the backends for
Routes by host, of which each has one host.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sidecar import __version__
from sidecar.haproxy.naming import backend_name
from sidecar.model.pool import Pool
from sidecar.model.verdicts import Reason
from sidecar.reporting.reports import Report, TrafficReport

PYTHON_VERSION = ".".join(map(str, sys.version_info[:3]))

#: Not the labels that Prometheus itself gives a target in a cluster (pod, namespace, service).
SLOT_LABELS = (
    *("proxy", "server", "port", "route_namespace", "route"),
    *("target_service", "target_pod", "target_node"),
)

#: Of a Route by host: as many as there are backends. Not its host, which it may change.
ROUTE_LABELS = ("route_namespace", "route")

PORT_LABELS = ("port", "route_namespace", "route")

#: A Route for which there is no port now, but may be one later.
_WAITING = frozenset(
    {
        Reason.PORT_ALREADY_CLAIMED.value,
        Reason.HOST_ALREADY_CLAIMED.value,
        Reason.POOL_EXHAUSTED.value,
        Reason.QUOTA_EXCEEDED.value,
    }
)


class Gauges(Collector):
    """``report``: how things are; None while nobody knows. ``haproxy_version``: "" while it is
    away."""

    def __init__(
        self,
        report: Callable[[], Report | None],
        pool: Pool,
        haproxy_version: Callable[[], str] = str,
    ) -> None:
        self._report = report
        self._pool = pool
        self._haproxy_version = haproxy_version

    def collect(self) -> Iterator[Metric]:
        yield _build(self._haproxy_version())
        report = self._report()
        if report is None:
            return
        yield _claims(report)
        yield from self._pools(report)
        yield _source(report)
        yield _slots(report)
        yield from _ports(report)
        yield _held(report)
        yield from _routes(report)
        yield from _certificates(report)

    def _pools(self, report: Report) -> Iterator[Metric]:
        ports = GaugeMetricFamily(
            "haproxy_sidecar_pool_ports",
            "Ports of each pool: claimed by a Route, or free.",
            labels=["pool", "state"],
        )
        slots = GaugeMetricFamily(
            "haproxy_sidecar_pool_slots",
            "Slots of each pool's ports: used by an endpoint (or its remaining sessions), or free.",
            labels=["pool", "state"],
        )
        claimed = Counter(item.pool for item in report.ports if item.claimed)
        used = Counter(item.pool for item in report.ports for _ in item.servers)
        for pool in self._pool.classes:
            ports.add_metric([pool.name, "claimed"], claimed[pool.name])
            ports.add_metric([pool.name, "free"], len(pool.ports) - claimed[pool.name])
            slots.add_metric([pool.name, "used"], used[pool.name])
            # Servers that were added have no slot of the pool's.
            free = max(0, len(pool.ports) * pool.slots - used[pool.name])
            slots.add_metric([pool.name, "free"], free)
        yield ports
        yield slots


def _claims(report: Report) -> Metric:
    family = GaugeMetricFamily(
        "haproxy_sidecar_claims",
        "Routes of this router, by port or host: serving, empty (no server), waiting, refused.",
        labels=["state"],
    )
    counts = Counter(
        "serving" if item.reason == Reason.ADMITTED.value else "empty"
        for item in report.ports
        if item.route
    )
    counts.update(
        "serving" if item.reason == Reason.ADMITTED.value else "empty" for item in report.hosts
    )
    counts.update("waiting" if item.reason in _WAITING else "refused" for item in report.waiting)
    for state in ("serving", "empty", "waiting", "refused"):
        family.add_metric([state], counts[state])
    return family


def _source(report: Report) -> Metric:
    family = GaugeMetricFamily(
        "haproxy_sidecar_source_changed_age_seconds",
        "Seconds since the source last delivered a change.",
    )
    if report.source.changed_seconds_ago is not None:
        family.add_metric([], report.source.changed_seconds_ago)
    return family


def _ports(report: Report) -> Iterator[Metric]:
    """Of each port that a Route has, as of the last slow compare; of one that several share,
    without a name."""
    families = {
        name: GaugeMetricFamily(f"haproxy_sidecar_port_{name}", text, labels=list(PORT_LABELS))
        for name, text in (
            ("connections", "Client connections to the port."),
            (
                "connections_limit",
                "Limit of client connections to the port; further ones are closed at once.",
            ),
            ("connection_errors", "Connections that no server accepted, in the last minute."),
            (
                "connection_retries",
                "Failed attempts to reach a server that were retried, in the last minute.",
            ),
        )
    }
    for item in report.ports:
        if not item.claimed:
            continue
        found = {"connections": item.connections, "connections_limit": item.connections_limit}
        if item.attempts:
            found["connection_errors"] = item.attempts.errors
            found["connection_retries"] = item.attempts.repeated
        namespace, _, name = (item.route or "").partition("/")
        for kind, value in found.items():
            if value is not None:
                families[kind].add_metric([str(item.port), namespace, name], value)
    yield from families.values()


def _held(report: Report) -> Metric:
    """Of the ports that are held: few, by people."""
    family = GaugeMetricFamily(
        "haproxy_sidecar_held",
        "Ports that an operator holds: the sidecar does not change them; always 1.",
        labels=["port"],
    )
    for item in report.ports:
        if item.held:
            family.add_metric([str(item.port)], 1)
    return family


def _build(haproxy_version: str) -> Metric:
    family = GaugeMetricFamily(
        "haproxy_sidecar_build_info",
        "Versions of the sidecar, its Python, and HAProxy (empty while it is away); always 1.",
        labels=["version", "python_version", "haproxy_version"],
    )
    family.add_metric([__version__, PYTHON_VERSION, haproxy_version], 1)
    return family


#: Of a Route by host: what is counted, by the name of its metric.
_ROUTE_COUNTS: Mapping[str, tuple[str, Callable[[TrafficReport], int]]] = {
    "sessions": (
        "Requests, or connections of TLS passthrough, that came to the Route's backend.",
        lambda it: it.sessions_total,
    ),
    "received_bytes": ("Bytes from the Route's clients.", lambda it: it.bytes_in),
    "sent_bytes": ("Bytes to the Route's clients.", lambda it: it.bytes_out),
    "connection_errors": (
        "Requests or connections that no server of the Route accepted.",
        lambda it: it.connection_errors,
    ),
    "response_errors": (
        "Requests whose response from a server was invalid or broke off.",
        lambda it: it.response_errors,
    ),
    "retries": (
        "Failed attempts to reach a server of the Route that were retried.",
        lambda it: it.retries + it.redispatches,
    ),
}


def _routes(report: Report) -> Iterator[Metric]:
    """Of each Route by host, as of the last slow compare; no older than its lease of a backend."""
    counted = [
        (item.route.split("/", 1), traffic)
        for item in report.hosts
        if (traffic := item.traffic) is not None
    ]
    prefix, labels = "haproxy_sidecar_route", list(ROUTE_LABELS)
    for name, (text, value) in _ROUTE_COUNTS.items():
        family = CounterMetricFamily(f"{prefix}_{name}", text, labels=labels)
        for route, traffic in counted:
            family.add_metric(route, value(traffic))
        yield family
    responses = CounterMetricFamily(
        f"{prefix}_responses",
        "Responses to the Route's clients, by class of their code.",
        labels=[*labels, "code"],
    )
    current = GaugeMetricFamily(
        f"{prefix}_current_sessions", "Requests or connections of the Route now.", labels=labels
    )
    average = GaugeMetricFamily(
        f"{prefix}_average_seconds",
        "HAProxy's moving average over about the last 1,000 requests, by phase.",
        labels=[*labels, "phase"],
    )
    for route, traffic in counted:
        current.add_metric(route, traffic.sessions)
        for code, count in (traffic.responses or {}).items():
            responses.add_metric([*route, code], count)
        for phase, milliseconds in (
            ("queue", traffic.average.queue),
            ("connect", traffic.average.connect),
            ("response", traffic.average.response),
            ("total", traffic.average.total),
        ):
            if milliseconds is not None:
                average.add_metric([*route, phase], milliseconds / 1000)
    yield from (responses, current, average)


def _certificates(report: Report) -> Iterator[Metric]:
    """Of each host that has one of its own, which all its Routes have; of those that have the
    default one, that."""
    remaining = GaugeMetricFamily(
        "haproxy_sidecar_certificate_remaining_seconds",
        "Seconds until the end of the certificate that HAProxy serves for the host.",
        labels=["host"],
    )
    found = {item.host: item.certificate for item in report.hosts if item.certificate}
    for host, item in found.items():
        if item.served and not item.is_default and item.seconds_left is not None:
            remaining.add_metric([host], item.seconds_left)
    yield remaining
    default = GaugeMetricFamily(
        "haproxy_sidecar_default_certificate_remaining_seconds",
        "Seconds until the end of the certificate for clients whose SNI has none.",
    )
    if report.default_certificate and report.default_certificate.seconds_left is not None:
        default.add_metric([], report.default_certificate.seconds_left)
    yield default
    lacking = GaugeMetricFamily(
        "haproxy_sidecar_hosts_without_certificate",
        "Hosts whose clients are not shown the certificate that they should be.",
    )
    lacking.add_metric([], sum(item.served is False for item in found.values()))
    yield lacking


def _slots(report: Report) -> Metric:
    """1 for each used slot, to join HAProxy's own metrics by ``proxy`` and ``server``."""
    family = GaugeMetricFamily(
        "haproxy_sidecar_slot_info",
        "The Route and endpoint of a server of a port in HAProxy; always 1.",
        labels=list(SLOT_LABELS),
    )
    for item in report.ports:
        namespace, _, name = (item.route or "").partition("/")
        for server in item.servers:
            labels = [backend_name(item.port), server.slot, str(item.port), namespace, name]
            labels += [server.service or "", server.pod or "", server.node or ""]
            family.add_metric(labels, 1)
    return family
