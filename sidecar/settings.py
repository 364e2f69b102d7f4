"""The settings: their shape, defaults, reasons and checks.

Owns every default. Takes text and an environment mapping and gives frozen values; reading the
file is `sidecar.cli.context`'s. Every problem names the key, the value and what would be right.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from sidecar.addresses import is_unix_socket, split_host_port
from sidecar.durations import parse_duration
from sidecar.errors import SettingsError
from sidecar.pool import HealthCheck, Pool, PortPool, format_ports

#: The environment variable of the annotated-Route router that names the router.
ROUTER_NAME_VARIABLE = "WZH_ROUTER_NAME"

#: Networks that no server may be in unless the settings say otherwise: what would make the
#: router reach itself or its node's private services (loopback, link-local with the cloud's
#: metadata address), or nothing at all (unspecified, multicast, broadcast).
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

#: HAProxy binds a unix socket as PATH.PID.tmp first, and sun_path has 108 bytes.
UNIX_PATH_MAX_BYTES = 95

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else _no_bare_number(value)


def _no_bare_number(value: object) -> object:
    if isinstance(value, bool | int | float):
        raise ValueError("write a number and a unit of us, ms, s, m, h or d, like 500ms or 5s")  # noqa: TRY004  pydantic wants ValueError
    return value


def _positive(seconds: float) -> float:
    if seconds < 0.001:
        raise ValueError("must be at least 1ms")
    return seconds


Duration = Annotated[float, BeforeValidator(_duration)]
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]


def _ip(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("write an IP address, like 127.0.0.1, 0.0.0.0 or ::") from None


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ipaddress.ip_network(value)
    except ValueError as exc:
        raise ValueError(f"write a network, like 10.0.0.0/8 or fe80::/10 ({exc})") from None


def _listen(value: str) -> str:
    split_host_port(value)
    return value


def _socket(value: str) -> str:
    if not is_unix_socket(value):
        split_host_port(value)
    elif len(str(Path(value).absolute()).encode()) > UNIX_PATH_MAX_BYTES:
        raise ValueError(
            f"the absolute path {Path(value).absolute()} is longer than the"
            f" {UNIX_PATH_MAX_BYTES} bytes that HAProxy can bind; choose a shorter one"
        )
    return value


def _ports(value: object) -> object:
    """``["13306", "30000-30099"]`` as ascending numbers, each once."""
    items = value if isinstance(value, list) else [value]
    seen: set[int] = set()
    for item in items:
        found = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", str(item).strip())
        if isinstance(item, bool) or not found:
            raise ValueError(f'{item!r} is no port; write "13306" or a range like "30000-30099"')
        low, high = int(found[1]), int(found[2] or found[1])
        if not 1 <= low <= high <= 65535:
            raise ValueError(f"{item!r} is outside 1-65535 or runs backwards")
        twice = seen.intersection(range(low, high + 1))
        if twice:
            raise ValueError(f"{item!r} repeats {format_ports(twice)}; list each port once")
        seen.update(range(low, high + 1))
    return tuple(sorted(seen))


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HAProxySettings(_Section):
    """Where HAProxy and we meet."""

    socket: Annotated[str, AfterValidator(_socket)] = "run/admin.sock"
    config: Path = Path("run/haproxy.cfg")
    state_file: Path = Path("run/servers.state")
    template: Path | None = None
    #: None lets HAProxy derive it from the limit of open files.
    maxconn: Annotated[int, Field(ge=1)] | None = None
    #: Where HAProxy's own Prometheus exporter listens, if its build has one; null for nowhere.
    metrics_listen: Annotated[str, AfterValidator(_listen)] | None = None
    #: For one reply. HAProxy answers within a millisecond; after this long something is stuck.
    timeout: PositiveDuration = 5.0


class SourceSettings(_Section):
    """What is watched."""

    kind: Literal["directory", "kubernetes"] = "directory"
    path: Path = Path("examples/")
    namespaces: tuple[str, ...] = ()
    route_labels: str = ""


class AnnotationSettings(_Section):
    """The annotation keys of a Route; the defaults are the annotated-Route TCP router's."""

    router_name: str = "haproxy.router.openshift.io/wzh-router-name"
    port: str = "haproxy.router.openshift.io/external-tcp-port"
    drain_deadline: str = "haproxy.router.openshift.io/drain-deadline"


class TimeoutSettings(_Section):
    """A pool's timeouts. Connect is short, since a dead endpoint costs it once per try; client
    and server are long, since databases and brokers keep idle connections."""

    connect: PositiveDuration = 0.5
    client: PositiveDuration = 3600.0
    server: PositiveDuration = 3600.0


class CheckSettings(_Section):
    """HAProxy's own health checks; off, since readiness comes from Kubernetes."""

    enabled: bool = False
    interval: PositiveDuration = 5.0
    rise: Annotated[int, Field(ge=1)] = 1
    fall: Annotated[int, Field(ge=1)] = 3


class PoolSettings(_Section):
    """One class of ports."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "default"
    ports: Annotated[tuple[int, ...], BeforeValidator(_ports), Field(min_length=1)]
    bind: Annotated[tuple[Annotated[str, AfterValidator(_ip)], ...], Field(min_length=1)] = (
        "127.0.0.1",
    )
    slots: Annotated[int, Field(ge=1, le=4096)] = 16
    #: Algorithms whose weights can change at run time; ``source`` gets a consistent hash for it.
    balance: Literal["leastconn", "roundrobin", "random", "first", "source"] = "leastconn"
    namespaces: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    timeouts: TimeoutSettings = TimeoutSettings()
    check: CheckSettings = CheckSettings()
    accept_proxy: bool = False
    send_proxy: Literal["none", "v1", "v2"] = "none"

    def port_pool(self) -> PortPool:
        check = self.check
        return PortPool(
            name=self.name,
            ports=self.ports,
            bind=self.bind,
            slots=self.slots,
            balance=self.balance,
            namespaces=self.namespaces,
            connect_timeout_seconds=self.timeouts.connect,
            client_timeout_seconds=self.timeouts.client,
            server_timeout_seconds=self.timeouts.server,
            check=HealthCheck(check.interval, check.rise, check.fall) if check.enabled else None,
            accept_proxy=self.accept_proxy,
            send_proxy=self.send_proxy,
        )


class DrainSettings(_Section):
    """What happens to the sessions of a removed endpoint; 0 lets them end by themselves."""

    deadline: Duration = 0.0


class EndpointsSettings(_Section):
    """Which addresses may become servers."""

    deny: tuple[Annotated[IPNetwork, BeforeValidator(_network)], ...] = tuple(
        ipaddress.ip_network(network) for network in DENIED_BY_DEFAULT
    )


class HTTPSettings(_Section):
    """Where /healthz, /readyz and /metrics are; null for nowhere."""

    listen: Annotated[str, AfterValidator(_listen)] | None = "127.0.0.1:8405"


class TimingSettings(_Section):
    """The sidecar's own pace."""

    #: How long a claimed port may be without a usable server before it is closed, so that a load
    #: balancer in front sees it and a flapping endpoint does not toggle the socket.
    close_after: Duration = 5.0
    #: How often everything is compared even though nothing was reported.
    resync: Annotated[Duration, Field(ge=1.0)] = 30.0


class LogSettings(_Section):
    """How the sidecar logs: lines for a person on a terminal, JSON for machines elsewhere."""

    format: Literal["auto", "human", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(_Section):
    """All of it; `parse_settings` makes one."""

    router_name: Annotated[str, Field(min_length=1)] = "wzh-router-1"
    haproxy: HAProxySettings = HAProxySettings()
    source: SourceSettings = SourceSettings()
    annotations: AnnotationSettings = AnnotationSettings()
    pools: Annotated[tuple[PoolSettings, ...], Field(min_length=1)] = (
        PoolSettings.model_validate({"ports": ["13306", "18080", "6620", "30000-30099"]}),
    )
    drain: DrainSettings = DrainSettings()
    endpoints: EndpointsSettings = EndpointsSettings()
    http: HTTPSettings = HTTPSettings()
    timing: TimingSettings = TimingSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _pools_are_apart(self) -> Self:
        owners: dict[int, PoolSettings] = {}
        names: set[str] = set()
        for pool in self.pools:
            if pool.name in names:
                raise ValueError(f"pools: two are named {pool.name!r}; give each its own name")
            names.add(pool.name)
            for port in pool.ports:
                if port in owners:
                    both = set(owners[port].ports).intersection(pool.ports)
                    raise ValueError(
                        f"pools: {owners[port].name!r} and {pool.name!r} both have"
                        f" {format_ports(both)}; a port belongs to one pool"
                    )
                owners[port] = pool
        listens = {
            "http.listen": self.http.listen,
            "haproxy.metrics_listen": self.haproxy.metrics_listen,
        }
        if not is_unix_socket(self.haproxy.socket):
            listens["haproxy.socket"] = self.haproxy.socket
        for key, listen in listens.items():
            if listen and split_host_port(listen)[1] in owners:
                raise ValueError(f"{key}: {listen!r} is a port of a pool; choose another")
        return self

    def pool(self) -> Pool:
        return Pool(tuple(pool.port_pool() for pool in self.pools))


def parse_settings(text: str, environment: Mapping[str, str], origin: str) -> Settings:
    """The settings from YAML ``text`` (may be empty), with the router's name from
    ``environment`` where it is set there. ``origin`` names the text in errors.

    Raises SettingsError with one line per problem.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise SettingsError(origin, [f"not YAML: {' '.join(str(exc).split())}"]) from exc
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise SettingsError(origin, [f"must be a mapping of keys, not {_shown(data)}"])
    if name := environment.get(ROUTER_NAME_VARIABLE):
        data = {**data, "router_name": name}
    try:
        return Settings.model_validate(data)
    except ValidationError as exc:
        raise SettingsError(origin, [_problem(error) for error in exc.errors()]) from exc


def _problem(error: Any) -> str:
    """One line from one pydantic error: key, value, remedy."""
    key = ".".join(str(part) for part in error["loc"]) or ""
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{key}: no such key; {_known_keys(error['loc'])}"
    if error["type"] == "missing":
        return f"{key}: missing, and it has no default"
    if not key:
        return message
    return f"{key}: {_shown(error['input'])}: {message[:1].lower()}{message[1:]}"


def _known_keys(location: tuple[int | str, ...]) -> str:
    model: Any = Settings
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        model = PoolSettings if part == "pools" else model.model_fields[part].annotation
    return "there are " + ", ".join(model.model_fields)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

