"""The Kubernetes objects that we read, reduced to the fields that we use, as frozen values.

Owns the vocabulary that sources produce and that admission reads. Must not know where objects
come from, and imports no I/O. `sidecar.model.parsing` makes these from API-shaped mappings.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sidecar.common.secret_text import NO_TEXT, SecretText
from sidecar.model.header_actions import HeaderAction

#: created_seconds of an object that does not say when it was created: younger than all that do.
AGE_UNKNOWN = float("inf")


class Key(NamedTuple):
    """Which object: unique in a cluster. ``str()`` reads ``Route default/web``."""

    kind: str
    namespace: str
    name: str

    @property
    def title(self) -> str:
        """``namespace/name``, as a person writes it."""
        return f"{self.namespace}/{self.name}"

    def __str__(self) -> str:
        return f"{self.kind} {self.title}"


class Cause(NamedTuple):
    """What became of an object: the reason for a change. ``str()`` reads ``Route default/web was
    added``."""

    key: Key
    what: Literal["added", "changed", "removed"]

    def __str__(self) -> str:
        return f"{self.key} was {self.what}"


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """One of a Route's ``spec.to`` and ``spec.alternateBackends``."""

    kind: str
    name: str
    weight: int


@dataclass(frozen=True, slots=True)
class RouteTLS:
    """A Route's ``spec.tls``, as it is written; "" where absent.

    Each of the PEM texts may hold a private key: by right or by mistake.
    ``external_certificate``: the name of a Secret of the Route's namespace.
    """

    termination: str = ""
    insecure_policy: str = ""
    certificate: SecretText = NO_TEXT
    key: SecretText = NO_TEXT
    ca_certificate: SecretText = NO_TEXT
    destination_ca_certificate: SecretText = NO_TEXT
    external_certificate: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A Route (route.openshift.io/v1).

    ``created_seconds``: metadata.creationTimestamp as Unix time, or `AGE_UNKNOWN`.
    ``uid``: metadata.uid, or ``namespace/name`` where a manifest has none.
    ``router_name``, ``port``: the values of our annotations, or None.
    ``kept_port``: where a cluster keeps the port that an ``auto`` Route was given; an annotation.
    ``wishes``: of each policy that it has an annotation of, its name and the text.
    ``unsupported``: the annotations that it has, and that only another router heeds.
    ``headers``: what it says of the headers of its requests and responses, in its order.
    ``tls``: None where the Route has no spec.tls.
    ``host``, ``path``, ``subdomain``, ``wildcard_policy``: as they are written, "" where absent.
    ``host_generated``: the API server made the host up.
    ``target_port``: spec.port.targetPort as text, number or name alike; None when absent.
    ``targets``: spec.to first, then the alternate backends.
    """

    namespace: str
    name: str
    uid: str
    created_seconds: float
    router_name: str | None
    port: str | None
    kept_port: str | None
    target_port: str | None
    targets: tuple[RouteTarget, ...]
    tls: RouteTLS | None
    wishes: tuple[tuple[str, str], ...] = ()
    unsupported: tuple[str, ...] = ()
    headers: tuple[HeaderAction, ...] = ()
    host: str = ""
    path: str = ""
    subdomain: str = ""
    wildcard_policy: str = ""
    host_generated: bool = False

    @property
    def key(self) -> Key:
        return Key("Route", self.namespace, self.name)

    @property
    def by_host(self) -> bool:
        """Whether clients find it by its host, not by a port of its own."""
        return self.port is None

    @property
    def title(self) -> str:
        """See `Key.title`."""
        return self.key.title


@dataclass(frozen=True, slots=True)
class IngressCondition:
    """A condition of a Route's ``status.ingress[]``; ``last_transition_time`` as it is written."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: str


@dataclass(frozen=True, slots=True)
class RouteIngress:
    """What one router says of a Route."""

    router_name: str
    host: str
    conditions: tuple[IngressCondition, ...]


@dataclass(frozen=True, slots=True)
class RouteStatus:
    """What the routers of a cluster say of a Route, apart from it: what is written there is not to
    make anybody look at the Route's port again.

    ``resource_version``: of the whole Route, for a write that must not overwrite another.
    ``host``: spec.host, which an entry repeats; "" where there is none.
    ``ingress_json``: status.ingress as compact JSON, whole, since entries of other routers have to
    be written back as they are; None where it is too long to be kept, and must be asked for.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    host: str
    ingress_json: str | None

    @property
    def key(self) -> Key:
        return Key("RouteStatus", self.namespace, self.name)

    @property
    def ingress(self) -> tuple[RouteIngress, ...]:
        """The entries, parsed anew at each call; what has not the API's shape is left out."""
        return tuple(
            RouteIngress(
                _text(entry, "routerName"),
                _text(entry, "host"),
                tuple(
                    IngressCondition(
                        _text(condition, "type"),
                        _text(condition, "status"),
                        _text(condition, "reason"),
                        _text(condition, "message"),
                        _text(condition, "lastTransitionTime"),
                    )
                    for condition in _mappings(entry.get("conditions"))
                ),
            )
            for entry in _mappings(json.loads(self.ingress_json or "[]"))
        )


@dataclass(frozen=True, slots=True)
class Namespace:
    """A Namespace that a selector matched; sources use it, nothing else does."""

    name: str

    @property
    def key(self) -> Key:
        return Key("Namespace", "", self.name)


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One of a Service's ports; ``name`` is "" when the only port has none."""

    name: str
    port: int
    protocol: str
    target_port: str


@dataclass(frozen=True, slots=True)
class Service:
    """A Service (v1). ``external_name`` is set for ``type: ExternalName`` only."""

    namespace: str
    name: str
    ports: tuple[ServicePort, ...]
    external_name: str | None

    @property
    def key(self) -> Key:
        return Key("Service", self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class EndpointPort:
    """A port that all endpoints of a group have; ``port`` is None for "all ports".
    ``app_protocol``: what is spoken there, as it is written, "" where absent."""

    name: str
    port: int | None
    protocol: str
    app_protocol: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One backend, usually a pod (KEP-1672 for the three conditions).

    ``ready`` is already true where the API says null, which means ready.
    """

    addresses: tuple[str, ...]
    ready: bool
    serving: bool
    terminating: bool
    pod: str | None
    node: str | None


@dataclass(frozen=True, slots=True)
class EndpointGroup:
    """Endpoints that share ports: an EndpointSlice, or one subset of v1 Endpoints."""

    ports: tuple[EndpointPort, ...]
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class EndpointSet:
    """An EndpointSlice (discovery.k8s.io/v1) or a v1 Endpoints object of one Service.

    ``service``: the Service's name, in the same namespace.
    ``legacy``: it is a v1 Endpoints object, used only where the Service has no slices.
    """

    namespace: str
    name: str
    service: str
    groups: tuple[EndpointGroup, ...]
    legacy: bool

    @property
    def key(self) -> Key:
        return Key("Endpoints" if self.legacy else "EndpointSlice", self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class DNSAnswer:
    """What to go by for a name outside the cluster.

    ``addresses``: IPs of both families, sorted; the last good ones while DNS fails.
    ``problem``: why there are none, or no newer ones; "" if nothing is wrong.
    """

    name: str
    addresses: tuple[str, ...]
    problem: str

    @property
    def key(self) -> Key:
        return answer_key(self.name)


def answer_key(name: str) -> Key:
    """The key of a name's `DNSAnswer`, which is in no namespace."""
    return Key("DNSName", "", name)


@dataclass(frozen=True, slots=True)
class LocalAddresses:
    """Where the sidecar runs, and so HAProxy beside it.

    ``addresses``: the canonical IPs of all interfaces, sorted. ``names``: of the hosts that the
    settings name, each with its IPs.
    """

    addresses: tuple[str, ...] = ()
    names: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def key(self) -> Key:
        return LOCAL_ADDRESSES


#: The key of the one `LocalAddresses`.
LOCAL_ADDRESSES = Key("LocalAddresses", "", "interfaces")


@dataclass(frozen=True, slots=True)
class ServiceAddresses:
    """Where clients reach a Service, apart from it: of interest of the router's own only.

    ``addresses``: canonical IPs, of the cluster, outside and of load balancers. ``names``: of load
    balancers that have a name instead. ``ports``: of the Service; ``node_ports``: of each node.
    """

    namespace: str
    name: str
    addresses: tuple[str, ...]
    names: tuple[str, ...]
    ports: frozenset[int]
    node_ports: frozenset[int]

    @property
    def key(self) -> Key:
        return Key("ServiceAddresses", self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret that a Route refers to; sources hand over no others.

    ``type``: as it is written. ``certificate``, ``private_key``: its ``tls.crt`` and ``tls.key``,
    of type kubernetes.io/tls alone. ``problem``: why nothing of it can be had, "" where it can.
    ``unread``: that this may be otherwise soon, since nobody refuses it.
    """

    namespace: str
    name: str
    type: str = ""
    certificate: SecretText = NO_TEXT
    private_key: SecretText = NO_TEXT
    problem: str = ""
    unread: bool = False

    @property
    def key(self) -> Key:
        return secret_key(self.namespace, self.name)


def secret_key(namespace: str, name: str) -> Key:
    """The key of a `Secret`."""
    return Key("Secret", namespace, name)


#: The only type of Secret that holds what a Route may refer to.
TLS_SECRET = "kubernetes.io/tls"  # noqa: S105  no password

#: Which Secret a Route refers to, as far as that matters to this router.
Refers = Callable[[Route], Key | None]

Object = (
    Route
    | RouteStatus
    | Service
    | EndpointSet
    | Namespace
    | DNSAnswer
    | LocalAddresses
    | ServiceAddresses
    | Secret
)


def _mappings(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""
