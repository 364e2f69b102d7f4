"""The settings: their shape, defaults, reasons and validation.

Owns the defaults but those of pools (`sidecar.settings.pools`) and of Routes by host
(`sidecar.settings.web`), and which values may be combined. Must not judge a value by itself, which
`sidecar.settings.types` does, nor read text, as `sidecar.settings.parsing` does. Frozen.
"""

import ipaddress
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, model_validator

from sidecar.common.hostport import canonical_ip, is_unix_socket, overlap, split_host_port
from sidecar.haproxy.capacity import Capacity, share_out
from sidecar.model.objects import Refers
from sidecar.model.parsing import AnnotationKeys
from sidecar.model.pool import Pool, WebPool, format_ports
from sidecar.planning.schedule import Timing
from sidecar.policies.drain_deadline import DRAIN_DEADLINE
from sidecar.policies.registry import annotation_keys
from sidecar.policies.unsupported import unsupported_keys
from sidecar.routing.own_addresses import Listener, Listening
from sidecar.routing.web_tls import secret_wanted
from sidecar.settings.pools import PoolSettings
from sidecar.settings.section import Section
from sidecar.settings.types import (
    AnnotationKey,
    AtLeast1s,
    Count,
    DNSServer,
    DomainOrNone,
    Duration,
    FieldSelector,
    FilePath,
    Filled,
    LabelSelector,
    ListenAddress,
    MetricsAddress,
    Namespace,
    NamespacedName,
    Network,
    ObjectName,
    PositiveDuration,
    RuntimeAddress,
)
from sidecar.settings.web import ListenerSettings, WebSettings
from sidecar.settings.whereabouts import LISTEN, ROUTER_NAME, SOCKET, TIMEOUT_SECONDS

#: Networks that no server may be in unless the settings say otherwise: its node's private services
#: (loopback, link-local with the cloud's metadata address), or nothing at all (unspecified,
#: multicast, broadcast). The router itself is denied always, see `sidecar.routing.own_addresses`.
DENIED_BY_DEFAULT = (
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "::1/128",
    "fe80::/10",
    "ff00::/8",
)


#: Of all ports and backends: 4 kB each. Every port may have the default of slots.
SLOTS_MAX = 2**20

#: How many slots one of class reencrypt counts as: with what its TLS needs it takes 18 to 23 kB.
REENCRYPT_WEIGHT = 5


class HAProxySettings(Section):
    """How the sidecar reaches HAProxy, and what HAProxy starts with."""

    socket: RuntimeAddress = SOCKET
    config: FilePath = Path("run/haproxy.cfg")
    state_file: FilePath = Path("run/servers.state")
    template: FilePath | None = None
    #: None is 20,000; either is lowered to what the limit of open files allows.
    maxconn: Count | None = None
    #: Where HAProxy's own Prometheus exporter listens, if its build has one; None disables it.
    metrics_listen: MetricsAddress | None = None
    #: Per reply. HAProxy answers within a millisecond; after this long something is stuck.
    timeout: PositiveDuration = TIMEOUT_SECONDS

    @property
    def absolute_socket(self) -> str:
        """The socket as all processes of this machine understand it."""
        return str(Path(self.socket).absolute()) if is_unix_socket(self.socket) else self.socket


class SourceSettings(Section):
    """What is watched: a folder at ``path``, or a cluster with all other keys."""

    kind: Literal["directory", "kubernetes"] = "directory"
    path: FilePath = Path("examples/")
    #: Empty means all, which needs a ClusterRole; with names a Role in each of them is enough.
    namespaces: tuple[Namespace, ...] = ()
    #: Selectors, in kubectl's syntax, to divide the Routes among several routers.
    namespace_labels: LabelSelector = ""
    route_labels: LabelSelector = ""
    route_fields: FieldSelector = ""
    #: v1 Endpoints are for clusters that do not permit reading EndpointSlices.
    endpoints: Literal["slices", "endpoints"] = "slices"
    #: None uses KUBECONFIG, else the pod's service account, else ~/.kube/config.
    kubeconfig: FilePath | None = None
    context: Annotated[str, Field(min_length=1)] | None = None

    @property
    def title(self) -> str:
        """What is watched, for a person."""
        if self.kind == "directory":
            return str(self.path)
        return f"namespaces {', '.join(self.namespaces)}" if self.namespaces else "all namespaces"


class AnnotationSettings(Section):
    """The annotation keys of a Route; the defaults are the annotated-Route TCP router's."""

    router_name: AnnotationKey = "haproxy.router.openshift.io/wzh-router-name"
    port: AnnotationKey = "haproxy.router.openshift.io/external-tcp-port"
    drain_deadline: AnnotationKey = "haproxy.router.openshift.io/drain-deadline"
    #: Where the port assigned to an ``auto`` Route is recorded in a cluster.
    kept_port: AnnotationKey = "haproxy-sidecar/port"

    def keys(self) -> AnnotationKeys:
        own = (self.router_name, self.port, self.kept_port)
        policies = annotation_keys({DRAIN_DEADLINE.name: self.drain_deadline})
        used = {*own, *(key for _, key in policies)}
        return AnnotationKeys(*own, policies, unsupported_keys(used))


class DrainSettings(Section):
    """How long sessions on a removed endpoint may continue; 0 is forever."""

    deadline: Duration = 0.0
    #: Per port, once the deadline has passed, so that clients do not all reconnect at once.
    sessions_per_second: Count = 100


class EndpointsSettings(Section):
    """Which addresses may become servers."""

    deny: tuple[Network, ...] = tuple(
        ipaddress.ip_network(network) for network in DENIED_BY_DEFAULT
    )


class DNSSettings(Section):
    """How the names of ExternalName Services are looked up."""

    #: Each an IP with a port; if empty, those in /etc/resolv.conf are used.
    servers: tuple[DNSServer, ...] = ()
    #: Per lookup, including all servers and retries.
    timeout: PositiveDuration = 5.0
    #: How long a name keeps its last addresses when DNS says that it has none. (While DNS merely
    #: fails, they are always kept.)
    keep: Duration = 60.0


class LimitSettings(Section):
    """What one Route may use, so that enough is left for the others."""

    #: Beyond the pool's slots servers are added at run time, up to this many.
    max_servers: Annotated[Count, Field(le=65535)] = 1024


class HTTPSettings(Section):
    """Where the page, /api, /healthz, /readyz and /metrics are served; None disables them."""

    listen: ListenAddress | None = LISTEN
    #: Unless on loopback, the page and /api require the token in this file.
    token_file: FilePath | None = None


class TimingSettings(Section):
    """Delays and intervals of the sidecar."""

    #: How long a claimed port stays open without a usable server. Then it is closed, so that a load
    #: balancer in front notices; the delay keeps a flapping endpoint from toggling the socket.
    close_after: Duration = 5.0
    #: How often everything is compared even if no change was reported.
    resync: Annotated[Duration, AtLeast1s] = 30.0
    #: After SIGTERM: how long to go on reconciling while not ready, until load balancers have
    #: moved on and HAProxy has ended its sessions; Kubernetes' default termination grace period.
    grace: Duration = 30.0


class LeaseSettings(Section):
    """The Lease that elects the replica that writes."""

    #: None: the pod's own.
    namespace: Namespace | None = None
    #: None: ``haproxy-sidecar-`` and the router's name.
    name: ObjectName | None = None


class KubernetesSettings(Section):
    """What is written to the API server; only with source.kind kubernetes."""

    write_status: StrictBool = True
    #: routerCanonicalHostname of status.ingress, for DNS aliases of hosts; "" for none.
    canonical_hostname: DomainOrNone = ""
    events: StrictBool = True
    lease: LeaseSettings = LeaseSettings()
    #: ``namespace/name`` of a Service whose ports are kept equal to the open ports.
    publish_service: NamespacedName | None = None
    #: For all kinds together; bursts of up to five times as many.
    writes_per_second: Annotated[float, Field(strict=True, ge=0.1, le=1000)] = 10.0


class LogSettings(Section):
    """How the sidecar logs: lines for people on a terminal, otherwise JSON."""

    format: Literal["auto", "human", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """All of it; `parse_settings` makes one."""

    router_name: Annotated[str, Field(min_length=1, max_length=253)] = ROUTER_NAME
    haproxy: HAProxySettings = HAProxySettings()
    source: SourceSettings = SourceSettings()
    annotations: AnnotationSettings = AnnotationSettings()
    pools: Annotated[tuple[PoolSettings, ...], Filled] = (
        PoolSettings.model_validate({"ports": ["13306", "18080", "6620", "30000-30099"]}),
    )
    listeners: tuple[ListenerSettings, ...] = ()
    web: WebSettings = WebSettings()
    drain: DrainSettings = DrainSettings()
    endpoints: EndpointsSettings = EndpointsSettings()
    dns: DNSSettings = DNSSettings()
    limits: LimitSettings = LimitSettings()
    http: HTTPSettings = HTTPSettings()
    timing: TimingSettings = TimingSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _pools_are_apart(self) -> Self:
        owners: dict[int, PoolSettings] = {}
        names: set[str] = set()
        for pool in self.pools:
            if pool.name in names:
                raise ValueError(f"pools: two have the name {pool.name!r}; give each its own")
            names.add(pool.name)
            for port in pool.ports:
                if port in owners:
                    both = set(owners[port].ports).intersection(pool.ports)
                    raise ValueError(
                        f"pools: {owners[port].name!r} and {pool.name!r} both have"
                        f" {format_ports(both)}; a port belongs to one pool"
                    )
                owners[port] = pool
        return self

    @model_validator(mode="after")
    def _listens_are_apart(self) -> Self:
        ports = {port for pool in self.pools for port in pool.ports}
        taken: list[tuple[str, str]] = []
        for key, listen in self._listens():
            if split_host_port(listen)[1] in ports:
                raise ValueError(f"{key}: {listen!r} is a port of a pool; choose another")
            for of, other in taken:
                # One listener may have all IPv4 addresses and all IPv6 ones.
                if overlap(listen, other) and not (key == of and _families_differ(listen, other)):
                    raise ValueError(f"{key}: {listen!r} is also used by {of}; choose another")
            taken.append((key, listen))
        return self

    @model_validator(mode="after")
    def _slots_fit_into_memory(self) -> Self:
        slots = weight = sum(len(pool.ports) * pool.slots for pool in self.pools)
        web = self._web_pool()
        for item in web.all_classes if web else ():
            more = item.count * item.slots
            slots += more
            weight += more * (REENCRYPT_WEIGHT if item.name == "reencrypt" else 1)
        if weight > SLOTS_MAX:
            of, fewer = ("pools, web", "ports, backends") if web else ("pools", "ports")
            note = (
                f", where one of reencrypt counts as {REENCRYPT_WEIGHT}" if weight > slots else ""
            )
            raise ValueError(
                f"{of}: {slots} slots in total, for which HAProxy would need"
                f" {weight * 4 // 10**6} GB; use fewer {fewer} or slots, {SLOTS_MAX} at most{note}"
            )
        return self

    @model_validator(mode="after")
    def _client_certificates_are_whole(self) -> Self:
        if problem := self.web.client_certificates.problem():
            raise ValueError(f"web.client_certificates.{problem}")
        return self

    @model_validator(mode="after")
    def _certificates_have_a_use(self) -> Self:
        if any(listener.kind == "tls" for listener in self.listeners):
            return self
        if self.web.client_certificates.mode != "none":
            raise ValueError(
                f"web.client_certificates.mode: {self.web.client_certificates.mode!r} is of no use"
                " without a listener of kind tls; add one to listeners, or leave the key out"
            )
        for key in ("service_ca", "default_certificate", "external_certificates"):
            if value := getattr(self.web, key):
                written = "true" if value is True else repr(str(value))
                raise ValueError(
                    f"web.{key}: {written} is of no use without a listener of kind tls; add"
                    " one to listeners, or leave the key out"
                )
        return self

    @model_validator(mode="after")
    def _shared_ports_can_be_shared(self) -> Self:
        for number, pool in enumerate(self.pools):
            if problem := pool.sharing_problem():
                raise ValueError(f"pools[{number}].{problem}")
        return self

    @model_validator(mode="after")
    def _listeners_are_apart(self) -> Self:
        names = [listener.name for listener in self.listeners]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"listeners: two have the name {min(twice)!r}; give each its own")
        return self

    def _listens(self) -> Iterator[tuple[str, str]]:
        """(key, ``host:port``) of what listens beside the pools."""
        if self.http.listen:
            yield "http.listen", self.http.listen
        if self.haproxy.metrics_listen:
            yield "haproxy.metrics_listen", self.haproxy.metrics_listen
        if not is_unix_socket(self.haproxy.socket):
            yield "haproxy.socket", self.haproxy.socket
        for number, listener in enumerate(self.listeners):
            for listen in listener.bind:
                yield f"listeners[{number}].bind", listen

    def listening(self) -> Listening:
        """Where the router is, so that it never connects to itself."""
        beside = [(key, split_host_port(listen)) for key, listen in self._listens()]
        hosts = [(ip, pool.ports) for pool in self.pools for ip in pool.bind]
        hosts += [(host, (port,)) for _, (host, port) in beside]
        namespace, _, name = (self.kubernetes.publish_service or "").partition("/")
        return Listening(
            tuple(Listener(canonical_ip(host) or host, frozenset(ports)) for host, ports in hosts),
            dict(beside).get("haproxy.socket", (None, 0))[0],
            (namespace, name) if name and self.source.kind == "kubernetes" else None,
        )

    def pool(self) -> Pool:
        return Pool(tuple(pool.port_pool() for pool in self.pools), self._web_pool())

    @property
    def reads_secrets(self) -> bool:
        """Whether those that Routes refer to are read; see `WebSettings.external_certificates`."""
        chosen = self.web.external_certificates
        return self.source.kind == "directory" if chosen is None else chosen

    def refers(self) -> Refers | None:
        """Which Secret is to be read for a Route; None: never any."""
        if not (self.reads_secrets and any(item.kind == "tls" for item in self.listeners)):
            return None
        return partial(secret_wanted, self.router_name, self.web.routes)

    def _web_pool(self) -> WebPool | None:
        shared = any(pool.shared_by_sni for pool in self.pools)
        return self.web.web_pool(self.listeners, shared_ports=shared)

    def capacity(self, open_files_max: int | None) -> Capacity:
        """Connections of HAProxy and its ports, by the most files that it may have open (None: no
        limit). Raises SettingsError if these are too few."""
        return share_out(self.pool(), self.haproxy.maxconn, open_files_max)

    def schedule(self) -> Timing:
        return Timing(
            resync_seconds=self.timing.resync,
            drain_deadline_seconds=self.drain.deadline,
            sessions_per_second=self.drain.sessions_per_second,
            servers_max=self.limits.max_servers,
        )


def _families_differ(one: str, other: str) -> bool:
    return one.startswith("[") != other.startswith("[")
