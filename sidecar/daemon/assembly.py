"""What the settings make of the parts: routing, DNS, the loop. Commands that only look use some.

Owns which setting goes where; the parts themselves do not know that there are settings.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sidecar.common.metrics import Metrics
from sidecar.control.reconciler import Reconciler
from sidecar.daemon.persistence import answers_file, programmed_file, read_programmed
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.web_files import WebFiles
from sidecar.listeners.base import ListenerKind
from sidecar.listeners.kinds import Kinds
from sidecar.listeners.mapped import MappedBackends
from sidecar.listeners.tcp import TCPPorts
from sidecar.listeners.web_keys import key_of_entry
from sidecar.model.desired import Unit
from sidecar.routing.endpoints import denier
from sidecar.routing.table import Routing
from sidecar.routing.web import HOSTS, SNI, Web
from sidecar.settings.schema import Settings
from sidecar.sources.dns.resolver import Resolver
from sidecar.sources.inbox import Inbox


@dataclass(frozen=True, slots=True)
class Listeners:
    """All kinds of them. ``mapped``: with the file of each one's map. ``kind``: all as one."""

    ports: TCPPorts
    mapped: Mapping[Path, MappedBackends]
    kind: ListenerKind

    @property
    def leads(self) -> Mapping[str, Mapping[str, Unit]]:
        """Kind -> entry -> the backend that it leads to, as last read."""
        return {item.name: item.leads for item in self.mapped.values()}


def make_listeners(settings: Settings) -> Listeners:
    ports, files = settings.ports(), WebFiles.beside(settings.haproxy.state_file)
    made = {"http": (files.hosts_map, HOSTS), "passthrough": (files.sni_map, SNI)}
    mapped: dict[Path, MappedBackends] = {}
    for item in ports.pool.web.classes if ports.pool.web else ():
        file, name = made[item.name]
        numbers = range(1, item.count + 1)
        classes = {web_backend_name(item.name, number): item for number in numbers}
        mapped[file] = MappedBackends(name, str(file), classes, _title_of[name])
    kind = Kinds(ports, *mapped.values()) if mapped else ports
    return Listeners(ports, mapped, kind)


def _host_title(entry: str) -> str:
    key = key_of_entry(entry)
    return f"host {key.name}{key.path}" if key else f"entry {entry}"


_title_of: Mapping[str, Callable[[str], str]] = {
    HOSTS: _host_title,
    SNI: lambda entry: f"SNI {entry}",
}


def make_routing(
    settings: Settings, listeners: Listeners, kept: Mapping[str, int] | None
) -> Routing:
    """``kept``: see `PortAllocator`."""
    classes = {item.name: tuple(item.classes) for item in listeners.mapped.values()}
    return Routing(
        listeners.ports,
        settings.router_name,
        denier(settings.endpoints.deny),
        kept,
        settings.listening(),
        Web(settings.web.rules(), classes) if classes else None,
        settings.web.routes,
    )


def make_resolver(settings: Settings, inbox: Inbox) -> Resolver:
    """Its answers go to ``inbox``."""
    dns = settings.dns
    return Resolver(answers_file(settings), inbox, dns.servers, dns.timeout, dns.keep)


def make_reconciler(
    settings: Settings,
    listeners: Listeners,
    routing: Routing,
    client: RuntimeClient,
    metrics: Metrics,
) -> Reconciler:
    """One that knows what its predecessor has done."""
    reconciler = Reconciler(
        client,
        listeners.kind,
        metrics,
        settings.schedule(),
        is_own=lambda address: address in routing.denied.own,
        # Where the other one fails, what is left here serves nobody any more.
        is_handed=lambda key, unit: routing.is_handed(key, unit, reconciler.known.works),
        adopt=lambda: routing.adopt(listeners.leads),
    )
    if routing.web:
        routing.web.is_clean = reconciler.known.is_clean
    reconciler.known.programmed = read_programmed(programmed_file(settings))
    return reconciler
