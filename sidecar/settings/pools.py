"""The settings of one class of ports: what haproxy.cfg fixes for each of them.

Owns these defaults, with their reasons. What several pools, or a pool and other sections, mean
together is `sidecar.settings.schema`'s.
"""

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from sidecar.model.pool import HealthCheck, PortPool
from sidecar.settings.section import Section
from sidecar.settings.types import (
    BindAddresses,
    Count,
    Filled,
    NamespaceOrAll,
    PlainName,
    Ports,
    PositiveDuration,
)


class TimeoutSettings(Section):
    """A pool's timeouts. Connect is short, because a dead endpoint costs it once per try; client
    and server are long, because databases and brokers keep idle connections."""

    connect: PositiveDuration = 0.5
    client: PositiveDuration = 3600.0
    server: PositiveDuration = 3600.0


class CheckSettings(Section):
    """HAProxy's own health checks; off, because readiness comes from Kubernetes."""

    enabled: StrictBool = False
    interval: PositiveDuration = 5.0
    rise: Annotated[Count, Field(le=1000)] = 1
    fall: Annotated[Count, Field(le=1000)] = 3


class PoolSettings(Section):
    """One class of ports."""

    name: PlainName = "default"
    ports: Ports
    bind: BindAddresses = ("127.0.0.1",)
    slots: Annotated[Count, Field(le=4096)] = 16
    #: Algorithms that support changing weights at run time; ``source`` uses a consistent hash.
    balance: Literal["leastconn", "roundrobin", "random", "first", "source"] = "leastconn"
    namespaces: Annotated[tuple[NamespaceOrAll, ...], Filled] = ("*",)
    #: None: a quarter of the ports, at least one, so that some are left for other namespaces.
    auto_ports_per_namespace: Count | None = None
    timeouts: TimeoutSettings = TimeoutSettings()
    check: CheckSettings = CheckSettings()
    accept_proxy: StrictBool = False
    send_proxy: Literal["none", "v1", "v2"] = "none"
    #: Concurrent connections per port; None is a tenth of HAProxy's, or an even share if there are
    #: fewer ports. Further connections are closed at once.
    maxconn: Count | None = None
    #: Whether several Routes with TLS passthrough may share a port, each for its own spec.host.
    #: Costs each port of the pool up to 10 kB.
    shared_by_sni: StrictBool = False

    def port_pool(self) -> PortPool:
        check = self.check
        return PortPool(
            name=self.name,
            ports=self.ports,
            bind=self.bind,
            slots=self.slots,
            balance=self.balance,
            namespaces=self.namespaces,
            auto_ports_per_namespace=self.auto_ports_per_namespace or max(1, len(self.ports) // 4),
            connect_timeout_seconds=self.timeouts.connect,
            client_timeout_seconds=self.timeouts.client,
            server_timeout_seconds=self.timeouts.server,
            check=HealthCheck(check.interval, check.rise, check.fall) if check.enabled else None,
            accept_proxy=self.accept_proxy,
            send_proxy=self.send_proxy,
            maxconn=self.maxconn,
            shared_by_sni=self.shared_by_sni,
        )
