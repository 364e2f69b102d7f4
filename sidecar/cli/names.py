"""What a person calls a port and its servers: the Route that has it, and the pods behind it.

From the source as it is now; where it cannot be read, a port still has its number.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.cli.context import Snapshot, read_source
from sidecar.errors import SidecarError, UsageError
from sidecar.fields import shown
from sidecar.model import Key
from sidecar.pool import format_ports
from sidecar.settings import Settings


class NoPortError(SidecarError):
    """The Route exists and has no port."""


@dataclass(frozen=True, slots=True)
class Named:
    """A port of the pool. ``route``: ``namespace/name`` of its owner, if there is one.

    ``pods``: ``ip:port`` of a server -> the pod there. ``problem``: why the source, and with it
    Route and pods, could not be read; "" if it could.
    """

    port: int
    route: str | None
    pods: Mapping[str, str]
    problem: str


def find_port(settings: Settings, text: str) -> Named:
    """The port that ``text`` means: ``PORT``, or ``NAMESPACE/ROUTE``.

    Raises UsageError for what is neither, or in no pool; NoPortError for a Route without a port;
    SourceError if a Route is asked for and the source cannot be read.
    """
    if re.fullmatch(r"[0-9]{1,5}", text):
        return _by_number(settings, int(text))
    namespace, slash, name = text.partition("/")
    if not (slash and namespace and name):
        raise UsageError(f"{shown(text)} is neither a port, like 13306, nor NAMESPACE/ROUTE")
    snapshot = read_source(settings)
    key = Key("Route", namespace, name)
    verdict = snapshot.routing.verdict(key)
    if verdict is None:
        raise UsageError(
            f"no Route {shown(text)} names this router ({settings.router_name});"
            " `haproxy-sidecar status` lists those that do"
        )
    port = snapshot.routing.owner_port(key)
    if port is None:
        raise NoPortError(f"Route {text} has no port: {verdict.reason}: {verdict.message}")
    return Named(port, text, _pods(snapshot, port), "")


def _by_number(settings: Settings, port: int) -> Named:
    pool = settings.pool()
    if port not in pool:
        raise UsageError(f"port {port} is in no pool; there are {format_ports(pool.ports)}")
    try:
        snapshot = read_source(settings)
    except SidecarError as exc:
        return Named(port, None, {}, str(exc))
    claimed = snapshot.routing.claim(port)
    return Named(port, claimed.route.title if claimed else None, _pods(snapshot, port), "")


def _pods(snapshot: Snapshot, port: int) -> dict[str, str]:
    claimed = snapshot.routing.claim(port)
    servers = claimed.resolution.servers if claimed else ()
    return {str(server.address): server.pod for server in servers if server.pod}


def all_pods(settings: Settings) -> dict[tuple[int, str], str]:
    """(port, ``ip:port`` of a server) -> the pod there. Raises SourceError, SettingsError."""
    snapshot = read_source(settings)
    return {
        (port, address): pod
        for port in snapshot.routing.claimed
        for address, pod in _pods(snapshot, port).items()
    }
