"""The parts of routing as the default settings make them, but for what a test is about."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stand import ROUTER

from sidecar.listeners.host_rules import HostRules
from sidecar.listeners.tcp import TCPPorts
from sidecar.model.certificates import CertificateAuthority
from sidecar.model.desired import Unit
from sidecar.model.pool import ListenerProtocol, WebClassName
from sidecar.routing.balanced_leases import Backends
from sidecar.routing.own_addresses import NOWHERE, Listening
from sidecar.routing.table import Routing
from sidecar.routing.web import Web, WebRoutes
from sidecar.settings.web import WebSettings


def host_rules(**others: Any) -> HostRules:
    return replace(WebSettings().rules(), **others)


def web_for(
    classes: Mapping[WebClassName, Sequence[Unit] | Backends],
    rules: HostRules | None = None,
    listeners: Collection[ListenerProtocol] = ("http", "tls"),
    service_ca: CertificateAuthority | None = None,
    *,
    reads_secrets: bool = True,
) -> Web:
    found = rules or host_rules()
    pools = {
        name: units if isinstance(units, Backends) else Backends(units, "roundrobin")
        for name, units in classes.items()
    }
    return Web(
        found,
        pools,
        listeners,
        service_ca,
        reads_secrets=reads_secrets,
        cookie_name=WebSettings().cookie_name,
    )


def routing_for(
    ports: TCPPorts,
    *,
    router_name: str = ROUTER,
    denied: Callable[[str], bool] = lambda _: False,
    kept: Mapping[str, int] | None = {},
    listening: Listening = NOWHERE,
    web: Web | None = None,
    web_routes: WebRoutes = "all",
) -> Routing:
    """No server is denied, and who leads keeps the ports of `auto` Routes."""
    return Routing(ports, router_name, denied, kept, listening, web, web_routes)
