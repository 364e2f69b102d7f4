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
    SourceIP,
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
    slots: Annotated[Count, Field(le=4096)] = 6
    #: Algorithms that support changing weights at run time; ``source`` uses a consistent hash.
    balance: Literal["leastconn", "roundrobin", "random", "first", "source"] = "leastconn"
    namespaces: Annotated[tuple[NamespaceOrAll, ...], Filled] = ("*",)
    #: None: a quarter of the ports, at least one, so that some are left for other namespaces.
    auto_ports_per_namespace: Count | None = None
    timeouts: TimeoutSettings = TimeoutSettings()
    check: CheckSettings = CheckSettings()
    accept_proxy: StrictBool = False
    send_proxy: Literal["none", "v1", "v2"] = "none"
    #: The IP that servers are connected to from, by connections and checks alike; None leaves it to
    #: the system's routing.
    source: SourceIP | None = None
    #: Concurrent connections per port; None is a tenth of HAProxy's, or an even share if there are
    #: fewer ports. Further connections are closed at once.
    maxconn: Count | None = None
    #: Whether several Routes with TLS passthrough may share a port, each for its own spec.host.
    #: Costs each port of the pool up to 10 kB.
    shared_by_sni: StrictBool = False

    def sharing_problem(self) -> str:
        """Why Routes cannot share the ports, from the key on; "" if they can, or shall not."""
        theirs = "Routes that share a port use the backends of web.backends.passthrough, which"
        own = "or put the ports to be shared into a pool of their own"
        if self.shared_by_sni and self.send_proxy != "none":
            return (
                f"shared_by_sni: true does not go with send_proxy: {self.send_proxy}: {theirs} send"
                f" no PROXY protocol; use send_proxy: none, {own}"
            )
        if self.shared_by_sni and self.source:
            return (
                f"source: {self.source!r} does not go with shared_by_sni: true: {theirs} have no"
                f" source; leave the key out, {own}"
            )
        return ""

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
            source=self.source,
        )
