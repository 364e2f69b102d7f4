"""How users name a port and its servers: by the Route that has it, and the pods behind it.

Resolved by the running sidecar, or the source if there is none; if neither can be read, a port can
still be named by its number.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sidecar.cli.snapshot import look_by
from sidecar.common.errors import SidecarError, UsageError
from sidecar.common.text import shown
from sidecar.model.pool import format_ports
from sidecar.reporting.reports import HostReport, PortReport
from sidecar.settings.schema import Settings


class NoPortError(SidecarError):
    """The Route exists and has no port."""


@dataclass(frozen=True, slots=True)
class Named:
    """A port of the pool. ``route``: ``namespace/name`` of its owner, if there is one.

    ``pods``: ``ip:port`` of a server -> the pod there. ``former``: of those that HAProxy has, but
    no Route that has the port now. ``problem``: why Route and pods are not known; "" if they are.
    """

    port: int
    route: str | None
    pods: Mapping[str, str]
    problem: str
    former: Collection[str] = frozenset()


def find_port(settings: Settings, text: str) -> Named:
    """The port that ``text`` means: ``PORT``, or ``NAMESPACE/ROUTE``.

    Raises UsageError for what is neither, or in no pool; NoPortError for a Route without a port;
    SourceError if a Route is asked for and neither sidecar nor source can be read.
    """
    if re.fullmatch(r"[0-9]{1,5}", text):
        return _by_number(settings, int(text))
    namespace, slash, name = text.partition("/")
    if not (slash and namespace and name):
        raise UsageError(f"{shown(text)} is neither a port, like 13306, nor NAMESPACE/ROUTE")
    report = look_by(settings).report
    for item in report.ports:
        if item.route == text:
            return Named(item.port, text, _pods(item), "", _former([item]))
    for host in report.hosts:
        if host.route == text:
            raise NoPortError(
                f"Route {text} shares port {host.port} by SNI; name the port to mean all of it"
                if host.port
                else f"Route {text} has no port: it is served by its host, {host.title}"
            )
    for waiting in report.waiting:
        if waiting.route == text:
            raise NoPortError(f"Route {text} has no port: {waiting.reason}: {waiting.message}")
    raise UsageError(
        f"no Route {shown(text)} names this router ({settings.router_name});"
        " `haproxy-sidecar status` lists those that do"
    )


def _by_number(settings: Settings, port: int) -> Named:
    pool = settings.pool()
    if port not in pool:
        raise UsageError(f"port {port} is in no pool; available ports: {format_ports(pool.ports)}")
    try:
        report = look_by(settings).report
    except SidecarError as exc:
        return Named(port, None, {}, str(exc))
    found = next((item for item in report.ports if item.port == port), None)
    hosts = [item for item in report.hosts if item.port == port]
    shared = {address: pod for item in hosts for address, pod in _pods(item).items()}
    if found is None:
        return Named(port, None, shared, "", _former(hosts))
    return Named(port, found.route, shared | _pods(found), "", _former([*hosts, found]))


def _pods(item: PortReport | HostReport) -> dict[str, str]:
    return {server.address: server.pod for server in item.servers if server.pod}


def _former(items: Sequence[PortReport | HostReport]) -> frozenset[str]:
    """The addresses of servers that nobody of these has any more."""
    servers = [server for item in items for server in item.servers]
    ours = {server.address for server in servers if server.service is not None}
    return frozenset(server.address for server in servers) - ours


def all_pods(settings: Settings) -> dict[tuple[int, str], str]:
    """(port, ``ip:port`` of a server) -> the pod there. Raises SourceError, SettingsError."""
    return {
        (item.port, address): pod
        for item in look_by(settings).report.ports
        for address, pod in _pods(item).items()
    }
