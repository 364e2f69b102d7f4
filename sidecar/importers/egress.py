"""From an egress router to objects of this one: a Route for each of its ports, and the Services and
EndpointSlices that it leads to.

Owns these objects, and what this router lacks for them to work as before. Must not know how egress
routers are configured (`sidecar.importers.egress_sources`), nor write anything. Pure.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sidecar.common.text import one_line, shown
from sidecar.importers.annotated import Router, annotated_route, no_port
from sidecar.importers.egress_sources import Configured
from sidecar.importers.egress_values import Destination, Leads
from sidecar.model.parsing import SERVICE_NAME_LABEL
from sidecar.model.pool import WEIGHT_MAX, format_ports

#: Who made the EndpointSlices, so that no controller takes them for its own.
_MANAGED_BY = {"endpointslice.kubernetes.io/managed-by": "haproxy-sidecar-egress"}

#: Of `spec.to` and `alternateBackends` together (OpenShift's API).
_SERVICES_MAX = 4

#: Of a Service's name, which is a label of DNS.
_NAME_MAX = 63

#: Of a line that is shown.
_LINE_MAX = 400


@dataclass(frozen=True, slots=True)
class Exported:
    """The objects of a port. ``line``: what they were made of."""

    line: str
    objects: tuple[Mapping[str, Any], ...]

    @property
    def route(self) -> Mapping[str, Any]:
        return self.objects[0]


@dataclass(frozen=True, slots=True)
class Converted:
    """What one egress router becomes. ``problems``: what is not carried over, or not as it was;
    ``doubts``: what should be looked at. Both a line each."""

    title: str
    ports: tuple[Exported, ...]
    problems: tuple[str, ...]
    doubts: tuple[str, ...]


class _Taken(NamedTuple):
    """By whom a port is used already."""

    by: str
    namespace: str
    destinations: tuple[Destination, ...]


def convert(found: Iterable[Configured], router: Router) -> list[Converted]:
    """What each becomes, in their order. A port that several use is that of the first: this router
    has each once."""
    taken: dict[int, _Taken] = {}
    return [_convert(item, router, taken) for item in found]


def _convert(found: Configured, router: Router, taken: dict[int, _Taken]) -> Converted:
    title = one_line(found.title, _LINE_MAX)
    ports: list[Exported] = []
    problems: list[str] = []
    doubts = list(found.notes)
    for item in found.items:
        if not isinstance(item, Leads):
            problems.append(str(item))
            continue
        line = f"{item.place}: {shown(item.text)}"
        before = taken.get(item.port)
        if before and before[1:] == (found.namespace, item.destinations):
            doubts.append(f"{line}: as in {before.by}, which is converted")
            continue
        if before:
            problems.append(
                f"{line}: port {item.port} is that of {before.by}; give it another one here, and"
                " its clients a Service whose port leads to it"
            )
            continue
        services = _services(found, item)
        if len(services) > _SERVICES_MAX:
            problems.append(
                f"{line}: {len(services)} Services, one for each name, and a Route has"
                f" {_SERVICES_MAX} at most; give some of them a name together in DNS"
            )
            continue
        taken[item.port] = _Taken(title, found.namespace, item.destinations)
        targets = [service.target(len(services)) for service in services]
        route = annotated_route(
            found.namespace, _name(found.name, item.port), item.port, targets, router
        )
        ports.append(Exported(line, (route, *(one for it in services for one in it.objects))))
        if problem := no_port(route, router):
            problems.append(f"{line}: {problem}")
    problems += _sources(found, [item.route for item in ports], router)
    if not ports:
        doubts += (
            f"{place}: connections came from {ip}; pools[].source is the same here"
            for place, ip in found.sources
        )
    return Converted(
        title,
        tuple(ports),
        tuple(one_line(f"{title}, {text}", _LINE_MAX) for text in problems),
        tuple(one_line(f"{title}, {text}", _LINE_MAX) for text in doubts),
    )


def _sources(found: Configured, routes: Sequence[Mapping[str, Any]], router: Router) -> list[str]:
    """Pools whose servers are not connected to from where they were."""
    problems = []
    ports = [int(item["metadata"]["annotations"][router.annotations.port]) for item in routes]
    for pool in router.pool.classes:
        mine = sorted(set(ports) & set(pool.ports))
        for place, ip in found.sources:
            # Of an IPv4 and an IPv6 address a pool can have one.
            if mine and pool.source not in [source for _, source in found.sources]:
                problems.append(
                    f"{place}: connections came from {ip}; on a machine that has this address set"
                    f" source: {ip!r} in pool {pool.name!r}, or in one of their own for the ports"
                    f" {format_ports(mine)}"
                )
    return problems


class _Service(NamedTuple):
    """``size``: how many destinations it has."""

    name: str
    size: int
    objects: tuple[Mapping[str, Any], ...]

    def target(self, services: int) -> dict[str, Any]:
        """As a Route has it. Destinations are alike, in whichever of several Services."""
        to: dict[str, Any] = {"kind": "Service", "name": self.name}
        return to if services == 1 else {**to, "weight": min(self.size, WEIGHT_MAX)}


def _services(found: Configured, item: Leads) -> list[_Service]:
    """One for all addresses, and one for each name."""
    name, made = _name(found.name, item.port), list[_Service]()
    addresses = [it for it in item.destinations if it.is_ip]
    if addresses:
        service = _service(found, name, addresses[0].port)
        slices = _slices(found, name, addresses)
        made.append(_Service(name, len(addresses), (service, *slices)))
    for it in (it for it in item.destinations if not it.is_ip):
        own = f"-{len(made) + 1}" if made else ""
        own_name = _name(found.name, item.port, own)
        made.append(_Service(own_name, 1, (_service(found, own_name, it.port, it.host),)))
    return made


def _service(found: Configured, name: str, port: int, external: str = "") -> dict[str, Any]:
    """Without a selector: where it leads is its name, or in EndpointSlices."""
    outside = {"type": "ExternalName", "externalName": external} if external else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": found.namespace},
        "spec": {**outside, "ports": [{"port": port, "protocol": "TCP"}]},
    }


def _slices(
    found: Configured, name: str, addresses: Sequence[Destination]
) -> list[Mapping[str, Any]]:
    """One for each port and version of IP, since a slice has one of each."""
    groups: dict[tuple[int, str], list[str]] = {}
    for it in addresses:
        groups.setdefault((it.port, "IPv6" if ":" in it.host else "IPv4"), []).append(it.host)
    return [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-{number}",
                "namespace": found.namespace,
                "labels": {SERVICE_NAME_LABEL: name, **_MANAGED_BY},
            },
            "addressType": version,
            "ports": [{"name": "", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [ip], "conditions": {"ready": True}} for ip in ips],
        }
        for number, ((port, version), ips) in enumerate(groups.items(), 1)
    ]


def _name(name: str, port: int, more: str = "") -> str:
    """That of the egress router with its port, as a label of DNS that begins with a letter."""
    suffix = f"-{port}{more}"
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not plain[:1].isalpha():
        plain = f"egress-{plain}".rstrip("-")
    return plain[: _NAME_MAX - len(suffix)].rstrip("-") + suffix
