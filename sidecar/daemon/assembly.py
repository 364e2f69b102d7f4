"""What the settings make of the parts: routing, DNS, the loop. Commands that only look use some.

Owns which setting goes where; the parts themselves do not know that there are settings.
"""

from collections.abc import Mapping

from sidecar.common.metrics import Metrics
from sidecar.control.reconciler import Reconciler
from sidecar.daemon.persistence import answers_file, programmed_file, read_programmed
from sidecar.haproxy.client import RuntimeClient
from sidecar.listeners.tcp import TCPPorts
from sidecar.routing.endpoints import denier
from sidecar.routing.table import Routing
from sidecar.settings.schema import Settings
from sidecar.sources.dns.resolver import Resolver
from sidecar.sources.inbox import Inbox


def make_routing(settings: Settings, ports: TCPPorts, kept: Mapping[str, int] | None) -> Routing:
    """``kept``: see `PortAllocator`."""
    return Routing(
        ports,
        settings.router_name,
        denier(settings.endpoints.deny),
        kept,
        settings.listening(),
    )


def make_resolver(settings: Settings, inbox: Inbox) -> Resolver:
    """Its answers go to ``inbox``."""
    dns = settings.dns
    return Resolver(answers_file(settings), inbox, dns.servers, dns.timeout, dns.keep)


def make_reconciler(
    settings: Settings, ports: TCPPorts, routing: Routing, client: RuntimeClient, metrics: Metrics
) -> Reconciler:
    """One that knows what its predecessor has done."""
    reconciler = Reconciler(
        client,
        ports,
        metrics,
        settings.schedule(),
        is_own=lambda address: address in routing.denied.own,
    )
    reconciler.known.programmed = read_programmed(programmed_file(settings))
    return reconciler
