"""The pool: which frontends, backends and server slots haproxy.cfg has.

The one place that knows. Rendering, planning and the comparison with a running HAProxy read it.
Everything here is fixed when HAProxy starts. Imports no I/O.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple

from sidecar.common.durations import format_duration
from sidecar.model.header_actions import NO_HEADER_NAMES, HeaderNames

#: The largest weight HAProxy takes (management.txt, "set weight"); slots start with it, so that
#: a Route with one Service never needs a weight command.
WEIGHT_MAX = 256


class Address(NamedTuple):
    """Where a server is: an IP in its canonical text form, and a TCP port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


#: Where a slot without an endpoint points: nothing listens on port 1 of the loopback, so a stale
#: use is refused and redispatched, never sent to somebody else's pod.
PARKED = Address("127.0.0.1", 1)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """HAProxy's TCP health check of every used slot (configuration.txt, "check")."""

    interval_seconds: float
    rise: int
    fall: int


class _Slots:
    """What backends of a class have in common: pre-rendered servers, ``slots`` of them each."""

    slots: int

    @cached_property
    def slot_names(self) -> tuple[str, ...]:
        """The names of a backend's pre-rendered servers, in order."""
        return tuple(f"s{number}" for number in range(1, self.slots + 1))

    @cached_property
    def slot_set(self) -> frozenset[str]:
        """The same names, to ask whether one is among them."""
        return frozenset(self.slot_names)


@dataclass(frozen=True)
class PortPool(_Slots):
    """A class of ports that share everything haproxy.cfg fixes at start.

    ``namespaces``: whose Routes may claim these ports; ``("*",)`` means everybody's.
    ``auto_ports_per_namespace``: how many of them the ``auto`` Routes of one namespace may have.
    ``send_proxy``: "none", "v1" or "v2" of the PROXY protocol towards the servers.
    ``source``: the IP that servers are connected to from; None for the system's choice.
    ``maxconn``: connections of each port at the same time; None for what `capacity` gives it.
    ``shared_by_sni``: a port may be shared by several Routes with passthrough, each for its host.
    """

    name: str
    ports: tuple[int, ...]
    bind: tuple[str, ...]
    slots: int
    balance: str
    namespaces: tuple[str, ...]
    auto_ports_per_namespace: int
    connect_timeout_seconds: float
    client_timeout_seconds: float
    server_timeout_seconds: float
    check: HealthCheck | None
    accept_proxy: bool
    send_proxy: str
    maxconn: int | None = None
    shared_by_sni: bool = False
    source: str | None = None

    def allows(self, namespace: str) -> bool:
        return "*" in self.namespaces or namespace in self.namespaces

    @property
    def server_options(self) -> tuple[str, ...]:
        """What every server of the pool has but address and weight, as haproxy.cfg and ``add
        server`` write it alike."""
        options: list[str] = []
        if self.send_proxy != "none":
            options.append({"v1": "send-proxy", "v2": "send-proxy-v2"}[self.send_proxy])
        if self.check:
            options += ["check", "inter", format_duration(self.check.interval_seconds)]
            options += ["rise", str(self.check.rise), "fall", str(self.check.fall)]
        return tuple(options)

    @cached_property
    def shown_ports(self) -> str:
        """The ports as a person writes them."""
        return format_ports(self.ports)


#: The classes of backends behind listeners: for Routes found by host and path, whose servers speak
#: HTTP in clear or over TLS; and for those with TLS passthrough, found by SNI, on a port of a pool,
#: too.
WebClassName = Literal["http", "reencrypt", "passthrough"]

#: How the servers of a Route by host are chosen; ``source`` by a consistent hash.
WebBalance = Literal["roundrobin", "leastconn", "random", "source"]

#: What clients of a listener speak.
ListenerProtocol = Literal["http", "tls"]

#: Which classes the Routes behind a listener are of. One for TLS ends it for those of which it does
#: not pass it through.
CLASSES_OF: Mapping[ListenerProtocol, tuple[WebClassName, ...]] = {
    "http": ("http",),
    "tls": ("http", "reencrypt", "passthrough"),
}


@dataclass(frozen=True, slots=True)
class WebListener:
    """A frontend that Routes share. ``bind``: where it listens. ``accept_proxy``: whether clients
    speak the PROXY protocol there."""

    name: str
    kind: ListenerProtocol
    bind: tuple[Address, ...]
    accept_proxy: bool = False


@dataclass(frozen=True)
class WebClass(_Slots):
    """``count`` backends that are alike, each for one Route at a time.

    ``further``: for Routes that want this ``balance``, which is not that of the others of the name.
    ``server_timeout_seconds``: for how long a server may be silent; ``tunnel_timeout_seconds``: it
    or the client once the connection was upgraded, or always if it is TLS passthrough.
    """

    name: WebClassName
    count: int
    slots: int
    server_timeout_seconds: float
    tunnel_timeout_seconds: float
    balance: WebBalance = "roundrobin"
    further: bool = False

    #: Readiness comes from Kubernetes.
    check: ClassVar[HealthCheck | None] = None
    #: What servers of all its backends have; those of a ``reencrypt`` one have their backend's own
    #: beside, see `TLSBackend`.
    server_options: ClassVar[tuple[str, ...]] = ()

    @property
    def slot_weight(self) -> int:
        """The weight of slots that nobody uses. In a hash a server has 16 entries for each unit of
        weight, at 64 bytes."""
        return 1 if self.balance in ("random", "source") else WEIGHT_MAX


@dataclass(frozen=True)
class TLSBackend(_Slots):
    """A backend of the class ``reencrypt``. ``server_options``: those of its servers' TLS."""

    slots: int
    server_options: tuple[str, ...]

    check: ClassVar[HealthCheck | None] = None


@dataclass(frozen=True)
class ClientCertificates:
    """What clients have to show where TLS ends. ``revocable``: whether a CRL file says which do not
    count any more. ``subject_filter``: a regular expression for the subject, "" for any."""

    mode: Literal["optional", "required"]
    revocable: bool
    subject_filter: str


class RouterHeaders(NamedTuple):
    """What is done to the headers of all requests and answers of Routes by host: pairs of a name
    and a log-format, and names."""

    set_request: tuple[tuple[str, str], ...] = ()
    delete_request: tuple[str, ...] = ()
    set_response: tuple[tuple[str, str], ...] = ()
    delete_response: tuple[str, ...] = ()

    @property
    def rules(self) -> Iterator[tuple[str, Sequence[str], Sequence[tuple[str, str]]]]:
        """``request`` and ``response``, with what is deleted and what is set."""
        yield "request", self.delete_request, self.set_request
        yield "response", self.delete_response, self.set_response


#: How many bytes of headers these may set of requests, and of responses; and so each Route.
HEADERS_MAX_BYTES, ROUTE_HEADERS_MAX_BYTES = 1024, 2048


class TLSOptions(NamedTuple):
    """Of TLS that ends here: "" and None leave it to HAProxy."""

    min_version: str = "TLSv1.2"
    max_version: str | None = None
    ciphers: str = ""
    ciphersuites: str = ""
    curves: str = ""
    strict_sni: bool = False


#: Those without a setting.
NO_ROUTER_HEADERS, DEFAULT_TLS = RouterHeaders(), TLSOptions()


@dataclass(frozen=True)
class WebPool:
    """What HAProxy has for Routes by host. ``classes``: those that some listener, or shared port,
    leads to; ``further``: the same, for Routes that want another balance. ``cookie_name``: of the
    cookie that keeps a client of HTTP on its server.
    ``unmatched_status``: of the answer to a request for which there is no Route.
    ``forwarded_headers``: whether servers are told of the client, where the Route does not say.
    ``client_certificates``: None where no client is asked for one. ``route_headers``: those that
    Routes may set and delete. ``compression_types``: of answers that are compressed. ``pages``: the
    statuses with a page of the user's."""

    listeners: tuple[WebListener, ...]
    classes: tuple[WebClass, ...]
    cookie_name: str
    client_timeout_seconds: float
    http_request_timeout_seconds: float
    keep_alive_timeout_seconds: float
    inspect_timeout_seconds: float
    unmatched_status: int
    forwarded_headers: str
    client_certificates: ClientCertificates | None = None
    route_headers: HeaderNames = NO_HEADER_NAMES
    headers: RouterHeaders = NO_ROUTER_HEADERS
    compression_types: tuple[str, ...] = ()
    pages: tuple[int, ...] = ()
    tls: TLSOptions = DEFAULT_TLS
    further: tuple[WebClass, ...] = ()

    @property
    def headers_bytes(self) -> int:
        """How much room HAProxy needs for headers beside its own."""
        if not any(item.name == "http" for item in self.classes):
            return 0  # it speaks no HTTP
        of_all = self.headers.set_request or self.headers.set_response
        wanted = (any(self.route_headers), ROUTE_HEADERS_MAX_BYTES), (of_all, HEADERS_MAX_BYTES)
        return sum(size for is_wanted, size in wanted if is_wanted)

    @property
    def ends_tls(self) -> bool:
        return any(item.kind == "tls" for item in self.listeners)

    @property
    def all_classes(self) -> tuple[WebClass, ...]:
        return (*self.classes, *self.further)


@dataclass(frozen=True)
class Pool:
    """All that HAProxy was started with: ports by class, which never overlap, and what Routes by
    host share, None where nothing leads to them."""

    classes: tuple[PortPool, ...]
    web: WebPool | None = None

    def binds(self) -> Iterator[Address]:
        """Where HAProxy listens for clients."""
        for item in self.classes:
            for ip in item.bind:
                yield from (Address(ip, port) for port in item.ports)
        for listener in self.web.listeners if self.web else ():
            yield from listener.bind

    @cached_property
    def by_port(self) -> Mapping[int, PortPool]:
        """port -> the class that it belongs to, in ascending order of ports."""
        pairs = ((port, pool) for pool in self.classes for port in pool.ports)
        return dict(sorted(pairs, key=lambda pair: pair[0]))

    @property
    def ports(self) -> Collection[int]:
        return self.by_port.keys()

    def open_to(self, namespace: str) -> str:
        """The ports that the namespace may use, as a person writes them; "" if none."""
        allowed = tuple(item for item in self.classes if item.allows(namespace))
        names = tuple(item.name for item in allowed)
        if names not in self._shown_ports:
            self._shown_ports[names] = format_ports(p for item in allowed for p in item.ports)
        return self._shown_ports[names]

    @cached_property
    def _shown_ports(self) -> dict[tuple[str, ...], str]:
        """Names of classes -> their ports; a pool never changes, and may have 60,000 ports."""
        return {}

    def __contains__(self, port: int) -> bool:
        return port in self.by_port

    def slot_names(self, port: int) -> tuple[str, ...]:
        return self.by_port[port].slot_names


def format_ports(ports: Iterable[int]) -> str:
    """Ports as a person writes them: ``6620, 30000-30099``."""
    runs: list[list[int]] = []
    for port in sorted(ports):
        if runs and runs[-1][1] == port - 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
