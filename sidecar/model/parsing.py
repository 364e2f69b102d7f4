"""Kubernetes objects as the API shapes them (JSON, YAML) made into the values of
`sidecar.model.objects`.

Owns which kinds we use, which of their fields, what each may hold and what its absence means; the
words for what is wrong are for the person who wrote the object. Must not know where a mapping
came from nor decide what an object leads to. Pure: no I/O, no clock.

A field of the wrong shape raises ObjectError with its path, the value and what would be right.
null counts as absent everywhere, as it does for the API server.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sidecar.common.errors import ObjectError
from sidecar.common.hostport import canonical_ip
from sidecar.model.fields import Field, type_name
from sidecar.model.header_actions import header_actions
from sidecar.model.objects import (
    AGE_UNKNOWN,
    Endpoint,
    EndpointGroup,
    EndpointPort,
    EndpointSet,
    Key,
    Namespace,
    Object,
    Route,
    RouteStatus,
    RouteTarget,
    Service,
    ServiceAddresses,
    ServicePort,
)
from sidecar.model.secret_parsing import route_tls, secret

#: kind -> the one apiVersion of it that we read.
API_VERSIONS: Mapping[str, str] = {
    "Route": "route.openshift.io/v1",
    "Service": "v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "Endpoints": "v1",
    "Secret": "v1",
}

#: The label by which an EndpointSlice names its Service (discovery.k8s.io/v1).
SERVICE_NAME_LABEL = "kubernetes.io/service-name"

#: The annotation of a Route whose host the API server made up.
HOST_GENERATED = "openshift.io/host.generated"

#: Beyond, a Route's status is not kept: one router's entry is some 300 characters.
INGRESS_MAX_CHARACTERS = 16 * 1024

#: DNS has no longer names.
HOST_MAX_CHARACTERS = 253

_RFC3339 = re.compile(r"[0-9-]{10}T[0-9:]{8}(\.[0-9]+)?(Z|[-+][0-9]{2}:[0-9]{2})")


@dataclass(frozen=True, slots=True)
class AnnotationKeys:
    """The keys of the annotations of a Route that we read; they are settings. ``policies``: of
    each its name, and the key. ``unsupported``: those that only another router heeds."""

    router_name: str
    port: str
    kept_port: str
    policies: tuple[tuple[str, str], ...] = ()
    unsupported: tuple[str, ...] = ()


def identify(data: object) -> Key | None:
    """Which object ``data`` is, or None for the kinds that we do not use.

    Raises ObjectError for what is no Kubernetes object, for a kind of ours in another apiVersion,
    and for a kind of ours without a usable name or namespace.
    """
    if not isinstance(data, Mapping):
        raise ObjectError(
            "kind",
            f"missing: this is {type_name(data)}; a Kubernetes object is a mapping"
            " with apiVersion, kind and metadata",
        )
    root = Field("", data)
    kind = root.at("kind").word("a kind must be a non-empty string, like Route")
    version = root.at("apiVersion")
    wanted = API_VERSIONS.get(kind)
    rule = "an apiVersion must be a non-empty string, like route.openshift.io/v1"
    if version.word(rule) != wanted:
        if wanted is None or _is_vendors(version.value):
            return None
        raise version.wrong(f"write {wanted}", f"is not a supported apiVersion of {kind}")
    metadata = root.at("metadata")
    namespace = metadata.at("namespace")
    return Key(
        kind,
        "default" if namespace.value is None else namespace.name(),
        metadata.at("name").name(),
    )


def project(data: Mapping[str, Any], keys: AnnotationKeys) -> Object:
    """The object that ``data`` describes; ``data`` is one that `identify` gives a Key for.

    Raises ObjectError for the first field that cannot be used.
    """
    key = identify(data)
    root = Field("", data)
    match key:
        case Key("Route"):
            return _route(key, root, keys)
        case Key("Service"):
            return _service(key, root)
        case Key("EndpointSlice"):
            return _endpoint_slice(key, root)
        case Key("Endpoints"):
            return _endpoints(key, root)
        case Key("Secret"):
            return secret(key, root)
        case _:
            raise root.at("kind").wrong(f"supported: {', '.join(API_VERSIONS)}", "is not supported")


def project_status(data: Mapping[str, Any]) -> RouteStatus:
    """The other half of a Route from a cluster; ``data`` is one that `project` makes a Route of.

    Controllers write a status, so what is odd in it is nobody's to mend: it counts as empty.
    """
    root = Field("", data)
    metadata = root.at("metadata")
    status = data.get("status")
    ingress = status.get("ingress") if isinstance(status, Mapping) else None
    text = json.dumps(ingress if isinstance(ingress, list) else [], separators=(",", ":"))
    return RouteStatus(
        namespace=metadata.at("namespace").name(),
        name=metadata.at("name").name(),
        uid=metadata.at("uid").word("a uid must be a non-empty string"),
        resource_version=metadata.at("resourceVersion").word(
            "a resourceVersion must be a non-empty string"
        ),
        host=_host(data),
        ingress_json=text if len(text) <= INGRESS_MAX_CHARACTERS else None,
    )


def _host(data: Mapping[str, Any]) -> str:
    """A name of DNS, or "": the API server has judged it, and we only repeat it."""
    spec = data.get("spec")
    host = spec.get("host") if isinstance(spec, Mapping) else None
    return host if isinstance(host, str) and len(host) <= HOST_MAX_CHARACTERS else ""


def project_addresses(data: Mapping[str, Any]) -> ServiceAddresses:
    """Where the Service is reached; ``data`` is one that `project` makes a Service of.

    The API server has judged it, and controllers write its status: what is no address is skipped.
    """
    metadata, spec = data["metadata"], data.get("spec") or {}
    ingress = [
        entry
        for entry in _each(data, "status", "loadBalancer", "ingress")
        if isinstance(entry, Mapping)
    ]
    texts = [spec.get("clusterIP"), *_each(spec, "clusterIPs"), *_each(spec, "externalIPs")]
    texts += [entry.get("ip") for entry in ingress]
    names = [Field("", entry.get("hostname")).label() for entry in ingress]
    ports = _each(spec, "ports")
    return ServiceAddresses(
        namespace=metadata["namespace"],
        name=metadata["name"],
        addresses=tuple(
            sorted({ip for text in texts if isinstance(text, str) and (ip := canonical_ip(text))})
        ),
        names=tuple(sorted({name for name in names if name})),
        ports=frozenset(entry["port"] for entry in ports),
        node_ports=frozenset(
            port for entry in ports if isinstance(port := entry.get("nodePort"), int)
        ),
    )


def _each(data: Mapping[str, Any], *path: str) -> list[Any]:
    """The items of the list at ``path``, if there is one."""
    value: Any = data
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, list) else []


def project_namespace(data: Mapping[str, Any]) -> Namespace:
    """A Namespace, of which only the name is of interest."""
    return Namespace(Field("", data).at("metadata").at("name").name())


def _route(key: Key, root: Field, keys: AnnotationKeys) -> Route:
    metadata, spec = root.at("metadata"), root.at("spec")
    annotations = metadata.at("annotations")

    def annotation(name: str) -> str | None:
        return annotations.at(name).optional_text("annotations must be strings")

    return Route(
        namespace=key.namespace,
        name=key.name,
        uid=metadata.at("uid").optional_text("a uid must be a string") or key.title,
        created_seconds=_unix_seconds(metadata.at("creationTimestamp")),
        router_name=annotation(keys.router_name),
        port=annotation(keys.port),
        kept_port=annotation(keys.kept_port),
        wishes=tuple(
            (policy, text)
            for policy, name in keys.policies
            if (text := annotation(name)) is not None
        ),
        unsupported=tuple(_unsupported(annotations, keys)),
        headers=header_actions(spec.at("httpHeaders")),
        target_port=spec.at("port").at("targetPort").port_or_name(),
        targets=tuple(
            _route_target(target)
            for target in (spec.at("to"), *spec.at("alternateBackends").each())
        ),
        tls=route_tls(spec.at("tls").hidden()),
        host=spec.at("host").optional_text("a host must be a string") or "",
        path=spec.at("path").optional_text("a path must be a string") or "",
        subdomain=spec.at("subdomain").optional_text("a subdomain must be a string") or "",
        wildcard_policy=spec.at("wildcardPolicy").optional_text("None or Subdomain") or "",
        host_generated=annotation(HOST_GENERATED) == "true",
    )


def _unsupported(annotations: Field, keys: AnnotationKeys) -> Iterator[str]:
    """What the Route has of them, whatever is written there: it may be no string in a manifest."""
    yield from (key for key in keys.unsupported if (annotations.value or {}).get(key) is not None)


def _route_target(target: Field) -> RouteTarget:
    if target.value is None:
        raise target.wrong("name the Service to publish, {kind: Service, name: …}")
    weight = target.at("weight")
    return RouteTarget(
        kind=target.at("kind").optional_text("a kind must be a string, like Service") or "Service",
        name=target.at("name").name(),
        # OpenShift's range and default (route.openshift.io/v1, RouteTargetReference).
        weight=100 if weight.value is None else weight.number(0, 256),
    )


def _service(key: Key, root: Field) -> Service:
    spec = root.at("spec")
    is_name = spec.at("type").value == "ExternalName"
    return Service(
        namespace=key.namespace,
        name=key.name,
        ports=tuple(_service_port(port) for port in spec.at("ports").each()),
        external_name=spec.at("externalName").host_name() if is_name else None,
    )


def _service_port(field: Field) -> ServicePort:
    port = field.at("port").port()
    return ServicePort(
        name=_port_name(field),
        port=port,
        protocol=field.at("protocol").protocol(),
        target_port=field.at("targetPort").port_or_name() or str(port),
    )


def _endpoint_slice(key: Key, root: Field) -> EndpointSet:
    service = root.at("metadata").at("labels").at(SERVICE_NAME_LABEL)
    if service.value is None:
        raise service.wrong(
            f"add the label {SERVICE_NAME_LABEL} with the name of the Service that these"
            " endpoints belong to"
        )
    endpoints = []
    for field in root.at("endpoints").each():
        conditions = field.at("conditions")
        # KEP-1672: null means ready; serving follows ready where it is not said.
        ready = conditions.at("ready").flag() is not False
        serving = conditions.at("serving").flag()
        endpoints.append(
            Endpoint(
                addresses=_addresses(field.at("addresses")),
                ready=ready,
                serving=ready if serving is None else serving,
                terminating=conditions.at("terminating").flag() or False,
                pod=_pod(field),
                node=field.at("nodeName").label(),
            )
        )
    group = EndpointGroup(_endpoint_ports(root.at("ports")), tuple(endpoints))
    return EndpointSet(key.namespace, key.name, service.name(), (group,), legacy=False)


def _endpoints(key: Key, root: Field) -> EndpointSet:
    groups = []
    for subset in root.at("subsets").each():
        endpoints = tuple(
            Endpoint(
                addresses=(field.at("ip").word("an address must be a non-empty string"),),
                ready=ready,
                serving=ready,
                terminating=False,
                pod=_pod(field),
                node=field.at("nodeName").label(),
            )
            for name, ready in (("addresses", True), ("notReadyAddresses", False))
            for field in subset.at(name).each()
        )
        groups.append(EndpointGroup(_endpoint_ports(subset.at("ports")), endpoints))
    return EndpointSet(key.namespace, key.name, key.name, tuple(groups), legacy=True)


def _endpoint_ports(ports: Field) -> tuple[EndpointPort, ...]:
    found = []
    for field in ports.each():
        port = field.at("port")
        found.append(
            EndpointPort(
                name=_port_name(field),
                port=None if port.value is None else port.port(),
                protocol=field.at("protocol").protocol(),
                app_protocol=field.at("appProtocol").optional_text(
                    "an appProtocol must be a string, like kubernetes.io/h2c"
                )
                or "",
            )
        )
    return tuple(found)


def _port_name(field: Field) -> str:
    return field.at("name").optional_text("a port's name must be a string") or ""


def _addresses(field: Field) -> tuple[str, ...]:
    rule = "an address must be a non-empty string"
    addresses = tuple(address.word(rule) for address in field.each())
    if not addresses:
        raise field.wrong("write a list of at least one address", "is empty")
    return addresses


def _pod(endpoint: Field) -> str | None:
    """Who the endpoint is: its Pod, or the hostname of one that a person wrote."""
    target = endpoint.at("targetRef")
    if target.value is None:
        return endpoint.at("hostname").label()
    return target.at("name").label() if target.at("kind").value == "Pod" else None


def _unix_seconds(field: Field) -> float:
    """An RFC 3339 time as Unix time; `AGE_UNKNOWN` when absent."""
    rule = "write a time like 2024-01-31T12:00:00Z"
    text = field.optional_text(rule)
    if text is None:
        return AGE_UNKNOWN
    try:
        if _RFC3339.fullmatch(text):
            return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    raise field.wrong(rule, "is not a valid time")


def _is_vendors(api_version: str) -> bool:
    """Whether this is a group of somebody's custom resources, which may have a kind of the same
    name as ours (Knative has its own Service and Route). Groups without a dot are Kubernetes'
    own, and those of the two domains are ours: a kind of ours in them is a slip.
    """
    group = api_version.rpartition("/")[0]
    return "." in group and not group.endswith(("openshift.io", "k8s.io"))
