"""A cluster as a source: which of its collections are followed, and which Routes are selected.

Owns the choice of resources and the filters that divide Routes among routers. Must not know how a
collection is followed (`sidecar.sources.kubernetes.reflector`) nor what an object causes.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from sidecar.common.errors import APIServerError, SourceError
from sidecar.kube.client import KubeClient
from sidecar.model.change import Change, Problem, Sink
from sidecar.model.objects import Key, Object, Refers, Service
from sidecar.model.parsing import (
    API_VERSIONS,
    SERVICE_NAME_LABEL,
    AnnotationKeys,
    project,
    project_addresses,
    project_namespace,
    project_status,
)
from sidecar.sources.kubernetes.collection import Collection, Projection, Resource
from sidecar.sources.kubernetes.reflector import Patience, Reflector, Tally, Uncounted
from sidecar.sources.kubernetes.secrets import NamedSecret, SecretGate

log = logging.getLogger(__name__)

#: How long a stop waits for threads that are in mid-request; they end with the process.
STOP_SECONDS = 1.0

_NAMESPACES = "namespaces"

_PLURALS = {
    "Route": "routes",
    "Service": "services",
    "EndpointSlice": "endpointslices",
    "Endpoints": "endpoints",
}


@dataclass(frozen=True, slots=True)
class Scope:
    """What of the cluster is followed. ``namespaces``: empty for all. The selectors are
    kubectl's; "" takes everything. ``endpoints``: EndpointSlices, or v1 Endpoints. ``published``:
    namespace and name of the router's own Service, which is followed wherever it is."""

    namespaces: tuple[str, ...] = ()
    namespace_labels: str = ""
    route_labels: str = ""
    route_fields: str = ""
    endpoints: Literal["slices", "endpoints"] = "slices"
    published: tuple[str, str] | None = None


class KubernetesSource:
    """A `Source` of the cluster that ``client`` is connected to; `run` closes the client.
    ``refers``: which Secret is followed for a Route; None: no Secret is ever asked for.

    Without the Route API (404) there is no list of Routes, and so nothing is ever programmed: an
    API that is away for a moment may look the same, and taking it for "no Routes" would close
    every port.
    """

    def __init__(
        self,
        client: KubeClient,
        keys: AnnotationKeys,
        scope: Scope,
        patience: Patience | None = None,
        tally: Tally | None = None,
        refers: Refers | None = None,
    ) -> None:
        self._refers = refers
        self._tally = tally or Uncounted()
        self._client = client
        self._keys = keys
        self._scope = scope
        self._patience = patience or Patience()

    @property
    def origins(self) -> tuple[str, ...]:
        # Not those of the router's own Service: a Role that lacks them shall not hold up all.
        return tuple(resource.origin for resource, _ in self._resources())

    def load(self, sink: Sink) -> None:
        gate = self._secret_gate(sink, reads_once=True)
        for reflector in self._reflectors(gate or sink):
            try:
                reflector.load()
            except APIServerError as exc:
                problem = reflector.explain(exc)
                if reflector.collection.resource.origin in self.origins:
                    raise SourceError(problem) from exc
                log.warning("%s", problem)
        if gate:
            gate.load()

    def run(self, sink: Sink, stop: threading.Event) -> None:
        gate = self._secret_gate(sink)
        threads = [
            threading.Thread(
                target=reflector.run,
                args=(stop,),
                name=f"source {reflector.collection.resource.origin}",
                daemon=True,
            )
            for reflector in self._reflectors(gate or sink)
        ]
        for thread in threads:
            thread.start()
        stop.wait()
        if gate:
            gate.close()
        self._client.close()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _secret_gate(self, sink: Sink, *, reads_once: bool = False) -> SecretGate | None:
        if self._refers is None:
            return None
        make = partial(NamedSecret, self._client, self._keys, self._patience, self._tally)
        return SecretGate(sink, self._refers, make, reads_once=reads_once)

    def _reflectors(self, sink: Sink) -> list[Reflector]:
        gate = NamespaceGate(sink) if self._scope.namespace_labels else None
        found = []
        for resource, projection in (*self._resources(), *self._own_service()):
            publish: Callable[[list[Change], list[Problem]], None]
            if gate and resource.kind == "Route":
                publish = partial(gate.publish_routes, resource.origin)
            elif gate and resource.kind == "Namespace":
                publish = gate.publish_namespaces
            else:
                publish = partial(sink.publish, resource.origin)
            collection = Collection(resource, projection)
            found.append(Reflector(self._client, collection, publish, self._patience, self._tally))
        return found

    def _resources(self) -> Iterator[tuple[Resource, Projection]]:
        scope = self._scope
        if scope.namespace_labels:
            labels = scope.namespace_labels
            yield Resource("v1", "Namespace", _NAMESPACES, labels=labels), _namespace
        # What belongs to no Service is of no use to us; most of a cluster's slices have one.
        slices = scope.endpoints == "slices"
        ends = ("EndpointSlice", SERVICE_NAME_LABEL, "") if slices else ("Endpoints", "", "")
        routes = "Route", scope.route_labels, scope.route_fields
        for kind, labels, fields in (routes, ("Service", "", ""), ends):
            for namespace in scope.namespaces or ("",):
                yield self._followed(kind, namespace, labels, fields)

    def _own_service(self) -> Iterator[tuple[Resource, Projection]]:
        """The router's own Service and its endpoints, where they are not followed anyway."""
        if self._scope.published is None or not self._scope.namespaces:
            return
        namespace, name = self._scope.published
        if namespace in self._scope.namespaces:
            return
        by_name = f"metadata.name={name}"
        yield self._followed("Service", namespace, "", by_name)
        if self._scope.endpoints == "slices":
            labels = f"{SERVICE_NAME_LABEL}={name}"
            yield self._followed("EndpointSlice", namespace, labels, "")
        else:
            yield self._followed("Endpoints", namespace, "", by_name)

    def _followed(
        self, kind: str, namespace: str, labels: str, fields: str
    ) -> tuple[Resource, Projection]:
        resource = Resource(API_VERSIONS[kind], kind, _PLURALS[kind], namespace, labels, fields)
        if kind == "Route":
            return resource, partial(_route, self._keys)
        return resource, partial(_other, self._keys, self._scope.published)


class NamespaceGate:
    """Lets through to ``sink`` the Routes of those namespaces that are in the collection of
    Namespaces, as both come and go. Several threads publish here."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        # Held while publishing: the sink must get changes in the order in which they came.
        self._lock = threading.Lock()
        self._open: set[str] = set()
        # namespace -> all that could be let through
        self._held: dict[str, dict[Key, Object]] = {}

    def publish_routes(
        self, origin: str, changes: Sequence[Change], problems: Sequence[Problem]
    ) -> None:
        with self._lock:
            for key, new in changes:
                held = self._held.setdefault(key.namespace, {})
                if new is None:
                    held.pop(key, None)
                else:
                    held[key] = new
                if not held:
                    del self._held[key.namespace]
            passed = [change for change in changes if change.key.namespace in self._open]
            self._sink.publish(origin, passed, problems)

    def publish_namespaces(self, changes: Sequence[Change], problems: Sequence[Problem]) -> None:
        with self._lock:
            passed = []
            for key, new in changes:
                held = self._held.get(key.name, {})
                if new is None:
                    self._open.discard(key.name)
                    passed += [Change(item, None) for item in held]
                else:
                    self._open.add(key.name)
                    passed += [Change(item, value) for item, value in held.items()]
            self._sink.publish(_NAMESPACES, passed, problems)


def _route(keys: AnnotationKeys, data: Mapping[str, Any]) -> tuple[Object, ...]:
    return project(data, keys), project_status(data)


def _other(
    keys: AnnotationKeys, published: tuple[str, str] | None, data: Mapping[str, Any]
) -> tuple[Object, ...]:
    item = project(data, keys)
    if isinstance(item, Service) and (item.namespace, item.name) == published:
        return item, project_addresses(data)
    return (item,)


def _namespace(data: Mapping[str, Any]) -> tuple[Object, ...]:
    return (project_namespace(data),)
