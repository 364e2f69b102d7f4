"""Shared by several commands: the source, a connection to HAProxy, a snapshot of everything."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.common.documents import DUMP_MAX_BYTES, MAX_BYTES
from sidecar.common.errors import DisconnectedError
from sidecar.common.metrics import Metrics
from sidecar.control.observer import Observer
from sidecar.daemon.assembly import Listeners, make_listeners, make_routing
from sidecar.daemon.persistence import answers_file, auto_ports_file, read_auto_ports
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.state import ObservedUnit, ProcessInfo
from sidecar.listeners.tcp import TCPPorts
from sidecar.model.change import Change, Source
from sidecar.model.desired import Unit
from sidecar.planning.slots import is_clean
from sidecar.reporting.status import problem_lines
from sidecar.routing.table import Routing
from sidecar.settings.schema import Settings
from sidecar.sources.dns.resolver import read_answers
from sidecar.sources.inbox import Inbox
from sidecar.sources.interfaces import local_addresses
from sidecar.sources.manifests.source import ManifestSource


def make_source(
    settings: Settings,
    manifests: Sequence[Path] = (),
    metrics: Metrics | None = None,
    max_bytes: int = MAX_BYTES,
) -> Source:
    """The source that the settings name, or ``manifests`` instead of it; ``metrics`` counts.
    ``max_bytes``: of a file, where it is read just once.

    Raises SourceError if there is no cluster to connect to.
    """
    source, keys = settings.source, settings.annotations.keys()
    if manifests or source.kind == "directory":
        paths = list(manifests) or [source.path]
        return ManifestSource(paths, keys, refers=settings.refers(), load_max_bytes=max_bytes)
    # What only they need who have a cluster.
    from sidecar.kube.client import KubeClient
    from sidecar.sources.kubernetes.source import KubernetesSource, Scope

    client = KubeClient.from_environment(source.kubeconfig, source.context)
    scope = Scope(
        source.namespaces,
        source.namespace_labels,
        source.route_labels,
        source.route_fields,
        source.endpoints,
        settings.listening().published,
    )
    return KubernetesSource(client, keys, scope, tally=metrics, refers=settings.refers())


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The source as it is now, read once: what is wanted, and what could not be read."""

    listeners: Listeners
    routing: Routing
    problems: tuple[str, ...]

    @property
    def ports(self) -> TCPPorts:
        return self.listeners.ports

    def look(self, client: RuntimeClient) -> tuple[ProcessInfo, dict[Unit, ObservedUnit]]:
        """HAProxy as it is; which of its backends Routes by host have, is known from then on.
        Raises RuntimeAPIError."""
        info, observed = Observer(client, self.listeners.kind).look(self.listeners.kind.classes)
        if web := self.routing.web:
            # A new Route gets none that the sidecar would not give it yet.
            web.is_clean = lambda unit: is_clean(seen) if (seen := observed.get(unit)) else None
        self.routing.adopt(self.listeners.leads)
        return info, observed


def read_source(settings: Settings, manifests: Sequence[Path] = ()) -> Snapshot:
    """Read the source once. Raises SourceError if it cannot be read at all."""
    source = make_source(settings, manifests, max_bytes=DUMP_MAX_BYTES if manifests else MAX_BYTES)
    inbox = Inbox(source.origins, lambda: None)
    source.load(inbox)
    listeners = make_listeners(settings)
    kept: Mapping[str, int] | None = {}
    if not manifests:
        in_cluster = settings.source.kind == "kubernetes"
        kept = None if in_cluster else read_auto_ports(auto_ports_file(settings))
    routing = make_routing(settings, listeners, kept)
    routing.apply(inbox.take())
    if not manifests:
        local = local_addresses(settings.listening().names)
        routing.apply([Change(local.key, local)])
        # Nobody is asked: what the sidecar goes by is what counts.
        answers = read_answers(answers_file(settings))
        routing.apply(Change(answer.key, answer) for answer in answers)
    return Snapshot(listeners, routing, problem_lines(inbox.problems()))


@contextlib.contextmanager
def haproxy_at(settings: Settings) -> Iterator[RuntimeClient]:
    """A connection to HAProxy. Raises RuntimeAPIError if it does not answer."""
    try:
        with RuntimeClient(settings.haproxy.socket, settings.haproxy.timeout) as client:
            yield client
    except DisconnectedError as exc:
        if isinstance(exc.__cause__, PermissionError):
            raise  # it says what to do
        problem = f"{exc.problem}; is HAProxy running, and is this its socket (haproxy.socket)?"
        raise DisconnectedError(exc.address, exc.doing, problem) from exc


def read_haproxy(
    settings: Settings, snapshot: Snapshot
) -> tuple[ProcessInfo, dict[Unit, ObservedUnit]]:
    """See `Snapshot.look`. Raises RuntimeAPIError if HAProxy does not answer."""
    with haproxy_at(settings) as client:
        return snapshot.look(client)
