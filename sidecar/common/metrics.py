"""The Prometheus metrics. Names are permanent: dashboards depend on them.

Labels are bounded: a kind of operation, never a port, a Route or a server. What is computed only
when scraped is in `sidecar.reporting.gauges`.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """All metrics of one sidecar, in a registry of their own; one after the other, however many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.operations = Counter(
            "haproxy_sidecar_operations",
            "Operations executed by HAProxy, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.refusals = Counter(
            "haproxy_sidecar_refused_operations",
            "Operations refused by HAProxy, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.applied_seconds = Histogram(
            "haproxy_sidecar_applied_seconds",
            "Time from picking up a change until HAProxy had executed its operations.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.verified_seconds = Histogram(
            "haproxy_sidecar_verified_seconds",
            "Time from picking up a change until HAProxy was read back and showed it.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.drift = Counter(
            "haproxy_sidecar_drift_repaired",
            "Ports or hosts found changed in HAProxy by somebody else, and repaired.",
            registry=self.registry,
        )
        self.restarts = Counter(
            "haproxy_sidecar_haproxy_restarts",
            "HAProxy processes seen after the first one.",
            registry=self.registry,
        )
        self.worker_restarts = Counter(
            "haproxy_sidecar_worker_restarts",
            "Sidecar processes that died and were restarted in this container.",
            registry=self.registry,
        )
        self.connection_errors = Counter(
            "haproxy_sidecar_connection_errors",
            "Times the Runtime API was unreachable, disconnected or hung.",
            registry=self.registry,
        )
        self.certificates_loaded = Counter(
            "haproxy_sidecar_certificates_loaded",
            "Certificates loaded by HAProxy.",
            registry=self.registry,
        )
        self.certificates_refused = Counter(
            "haproxy_sidecar_certificates_refused",
            "Attempts to load a certificate that HAProxy or OpenSSL refused.",
            registry=self.registry,
        )
        self.certificates_changed = Counter(
            "haproxy_sidecar_certificates_changed",
            "Times that the clients of a host got another certificate.",
            registry=self.registry,
        )
        self.certificate_served_seconds = Histogram(
            "haproxy_sidecar_certificate_served_seconds",
            "Time from picking up another certificate for a host until HAProxy showed it.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.converged = Gauge(
            "haproxy_sidecar_converged",
            "1 while HAProxy shows the desired state, else 0.",
            registry=self.registry,
        )
        self.ports = Gauge(
            "haproxy_sidecar_ports",
            "Ports of the pool by state: open, closed, or failing to be programmed.",
            ["state"],
            registry=self.registry,
        )
        self.api_writes = Counter(
            "haproxy_sidecar_api_writes",
            "Writes to the API server, by kind (status, port, event, service) and result.",
            ["kind", "result"],
            registry=self.registry,
        )
        self.leader = Gauge(
            "haproxy_sidecar_leader",
            "1 while this replica is the leader, which writes to the API server, else 0.",
            registry=self.registry,
        )
        self.lease_transitions = Gauge(
            "haproxy_sidecar_lease_transitions",
            "Number of times the Lease has changed hands, as last seen.",
            registry=self.registry,
        )
        self.lists = Counter(
            "haproxy_sidecar_source_lists",
            "Complete lists from the API server, by resource.",
            ["resource"],
            registry=self.registry,
        )
        self.watches = Counter(
            "haproxy_sidecar_source_watches",
            "Watches started on the API server, by resource.",
            ["resource"],
            registry=self.registry,
        )
        self.heard_at = Gauge(
            "haproxy_sidecar_source_heard_timestamp_seconds",
            "Unix time of the last list, watch start, event or bookmark, by resource.",
            ["resource"],
            registry=self.registry,
        )

    def listed(self, origin: str) -> None:
        """A list of ``origin`` is complete."""
        self.lists.labels(origin).inc()
        self.heard(origin)

    def watched(self, origin: str) -> None:
        """A watch of ``origin`` began."""
        self.watches.labels(origin).inc()
        self.heard(origin)

    def heard(self, origin: str) -> None:
        """Something of ``origin`` came."""
        self.heard_at.labels(origin).set_to_current_time()
