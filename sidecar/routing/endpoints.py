"""From a Route to its servers: which endpoints, in which state, with which weight.

Follows OpenShift's router (endpoints, not Service IPs; ``targetPort`` matches an endpoint port's
name or number), KEP-1672 (ready, serving, terminating) and KEP-752 (EndpointSlice). Pure: reads
the store, decides nothing about ports or slots.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from sidecar.common.hostport import canonical_ip
from sidecar.common.text import counted, few, shown
from sidecar.listeners.host_rules import Termination, termination_of
from sidecar.model.desired import DesiredServer, Proto
from sidecar.model.objects import (
    DNSAnswer,
    Endpoint,
    EndpointPort,
    EndpointSet,
    Key,
    Route,
    RouteTarget,
    Service,
)
from sidecar.model.pool import Address
from sidecar.model.verdicts import Reason
from sidecar.routing.external_names import outside_name, outside_set
from sidecar.routing.own_addresses import Denial, Denied, OwnAddresses
from sidecar.routing.weights import server_weights

# More left-out endpoints or Services than this are only counted in a message, and more ports.
_EXAMPLES_MAX = 3
_PORTS_SHOWN_MAX = 6

# The values of appProtocol that mean HTTP/2 without TLS (KEP-3726, and before it).
_H2C = frozenset({"kubernetes.io/h2c", "h2c"})

# Longer names of ports are shown as a value is. (Kubernetes allows 15 characters.)
_PORT_NAME_MAX = 63


class Lookup(Protocol):
    """What of the store is needed here."""

    def service(self, namespace: str, name: str) -> Service | None: ...
    def endpoint_sets(self, namespace: str, service: str) -> Sequence[EndpointSet]: ...
    def answer(self, name: str) -> DNSAnswer | None: ...


@dataclass(frozen=True, slots=True)
class Resolution:
    """A Route's servers, sorted by address; ``reason`` and ``message`` say why there are none,
    or, with `Reason.ADMITTED`, which endpoints were left out ("" if none).

    ``parts``: what each EndpointSet gave, for the next resolution to begin with.
    """

    servers: tuple[DesiredServer, ...]
    reason: Reason
    message: str
    parts: "Parts" = field(default_factory=dict, repr=False, compare=False)

    @property
    def size(self) -> int:
        """How many endpoints had to be thought of."""
        return sum(len(part.found) + len(part.left_out) for part in self.parts.values())

    def holds(self, own: OwnAddresses) -> bool:
        """Whether it stays as it is when these are the router's own addresses."""
        return all(part.holds(own) for part in self.parts.values())


class Refusal(Exception):  # noqa: N818  no error: a reason
    """A target of a Route that leads nowhere."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        self.message = message


class _Found(NamedTuple):
    """An endpoint that may serve; ``ready``: it takes new connections, else it is leaving.
    ``app_protocol``: of its port."""

    ready: bool
    service: str
    pod: str | None
    node: str | None
    app_protocol: str


class Wanted(NamedTuple):
    """Which ports of endpoints a Route means: those of this name, or number if ``or_number``;
    every port if ``text`` is None."""

    text: str | None
    or_number: bool

    def __call__(self, port: EndpointPort) -> bool:
        return self.text in (None, port.name) or (self.or_number and self.text == str(port.port))


_EVERY_PORT = Wanted(None, or_number=False)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one EndpointSet gives a Route's target. ``denied``: what it does not, since it may not
    be a server; ``left_out``: the same, and what is no address, in words."""

    source: EndpointSet
    found: Mapping[Address, _Found]
    denied: Mapping[Address, Denial]
    left_out: tuple[str, ...]

    def holds(self, own: OwnAddresses) -> bool:
        """Whether it stays as it is when these are the router's own addresses."""
        return not any(address in own for address in self.found) and all(
            (address in own) == (denial is Denial.ROUTER) for address, denial in self.denied.items()
        )


#: What each EndpointSet gave; by target's name, ports, and set.
Parts = Mapping[tuple[str, Wanted, Key], _Part]


def resolve(
    route: Route,
    lookup: Lookup,
    denied: Denied,
    before: Parts = MappingProxyType({}),
) -> Resolution:
    """The servers of ``route``.

    ``before``: the parts of its last resolution. They change nothing but the cost: of thousands
    of endpoints, only those are looked at anew whose EndpointSlice is another one.
    """
    left_out: list[str] = []
    refusals: list[Refusal] = []
    services: list[tuple[RouteTarget, dict[Address, _Found]]] = []
    parts: dict[tuple[str, Wanted, Key], _Part] = {}
    for target in route.targets:
        try:
            wanted = wanted_ports(route, target, lookup)
            sets = target_sets(route, target, lookup, denied.own)
        except Refusal as refusal:
            refusals.append(refusal)
            continue
        found: dict[Address, _Found] = {}
        for endpoint_set in sets:
            key = (target.name, wanted, endpoint_set.key)
            part = before.get(key)
            if part is None or part.source is not endpoint_set:
                part = _part(endpoint_set, wanted, target, denied)
            parts[key] = part
            _join(found, part.found)
            left_out += part.left_out
        services.append((target, found))
    if not any(found for _, found in services):
        why = refusals[0] if refusals else _absence(route, lookup, denied.own, left_out)
        return Resolution((), why.reason, why.message, parts)
    # A Service that cannot be used does not take the Route's others away.
    notes = []
    if refusals:
        notes.append(few([refusal.message for refusal in refusals], _EXAMPLES_MAX, "; "))
    if stale := list(_stale(route, lookup)):
        notes.append(few(stale, _EXAMPLES_MAX, "; "))
    if left_out:
        notes.append(_left_out_message(left_out))
    servers = _servers(services, termination_of(route) if route.by_host else None)
    if not any(server.state == "ready" for server in servers):
        notes.append("no connections are accepted: all Services with endpoints have weight 0")
    return Resolution(servers, Reason.ADMITTED, "; ".join(notes), parts)


def _servers(
    services: Iterable[tuple[RouteTarget, Mapping[Address, _Found]]],
    termination: Termination | None,
) -> tuple[DesiredServer, ...]:
    """Weigh the ready endpoints; the leaving ones drain, or serve if nothing else is left.

    ``termination``: of a Route by host. Where HAProxy ends it, cookies would go on leading requests
    to a server that drains, as they shall to one of weight 0: there the leaving ones are none.
    """
    services = list(services)
    if termination not in (None, "passthrough"):
        stay = any(end.ready for _, found in services for end in found.values())
        services = [
            (target, {where: end for where, end in found.items() if end.ready or not stay})
            for target, found in services
        ]
    if any(end.ready and target.weight for target, found in services for end in found.values()):
        serving = [
            (target.weight, [address for address, end in found.items() if end.ready])
            for target, found in services
        ]
    else:
        serving = [(target.weight, list(found)) for target, found in services]
    weights = server_weights(serving)
    in_clear = termination in ("http", "edge")
    servers: dict[Address, DesiredServer] = {}
    for _, found in services:
        for address, end in found.items():
            weight = weights.get(address) or None
            state: Literal["ready", "drain"] = "ready" if weight else "drain"
            proto: Proto = "h2" if in_clear and end.app_protocol in _H2C else ""
            servers.setdefault(
                address,
                DesiredServer(address, state, weight, end.service, end.pod, end.node, proto),
            )
    return tuple(servers[address] for address in sorted(servers))


def wanted_ports(route: Route, target: RouteTarget, lookup: Lookup) -> Wanted:
    """Which endpoint ports ``route`` means, after a look at the Service. Raises Refusal."""
    if target.kind != "Service":
        raise Refusal(
            Reason.UNSUPPORTED_TARGET,
            f"a Route must target a Service, not a {shown(target.kind)} ({target.name!r})",
        )
    service = lookup.service(route.namespace, target.name)
    if service is None:
        raise Refusal(
            Reason.SERVICE_NOT_FOUND,
            f"Service {target.name!r} does not exist in namespace {route.namespace!r};"
            " create it, or correct spec.to.name",
        )
    tcp = [port for port in service.ports if port.protocol == "TCP"]
    if service.ports and not tcp:
        raise _udp_only(f"Service {target.name!r}")
    if service.external_name is not None and not service.ports and route.target_port is None:
        raise Refusal(
            Reason.TARGET_PORT_NOT_FOUND,
            f"Service {target.name!r} is an ExternalName without a port;"
            " set spec.port.targetPort to the port's number",
        )
    if route.target_port is not None:
        return Wanted(route.target_port, or_number=True)
    if route.by_host:
        return _EVERY_PORT  # as OpenShift's router does
    if len(tcp) > 1:
        names = few([_port_title(port.name) or str(port.port) for port in tcp], _PORTS_SHOWN_MAX)
        raise Refusal(
            Reason.AMBIGUOUS_TARGET_PORT,
            f"Service {target.name!r} has several TCP ports ({names});"
            " set spec.port.targetPort to one of them",
        )
    return Wanted(tcp[0].name if tcp else "", or_number=False)


def target_sets(
    route: Route, target: RouteTarget, lookup: Lookup, own: OwnAddresses
) -> Sequence[EndpointSet]:
    """The target's EndpointSlices, or one made of what DNS says of its external name. Raises
    Refusal."""
    service = lookup.service(route.namespace, target.name)
    if service is None or service.external_name is None:
        return lookup.endpoint_sets(route.namespace, target.name)
    name = outside_name(service)
    if name and own.has_name(name):
        raise Refusal(
            Reason.ENDPOINTS_DENIED,
            f"external name {name!r} of Service {target.name!r} is {Denial.ROUTER}",
        )
    answer = lookup.answer(name) if name else None
    if name and (answer is None or not answer.addresses):
        why = answer.problem if answer else "it is being resolved"
        raise Refusal(
            Reason.NAME_NOT_RESOLVED, f"external name {name!r} of Service {target.name!r}: {why}"
        )
    return [outside_set(service, answer, route.target_port)]


def _stale(route: Route, lookup: Lookup) -> Iterator[str]:
    """The external names whose addresses are the last good ones."""
    for target in route.targets:
        service = lookup.service(route.namespace, target.name)
        answer = lookup.answer(service.external_name or "") if service else None
        if answer and answer.problem and answer.addresses:
            yield f"external name {answer.name!r} keeps its last addresses: {answer.problem}"


def _part(endpoint_set: EndpointSet, wanted: Wanted, target: RouteTarget, denied: Denied) -> _Part:
    """The usable addresses of one set."""
    usable: dict[Address, _Found] = {}
    forbidden: dict[Address, Denial] = {}
    left_out: list[str] = []
    for ip, port, end in _endpoints(endpoint_set, wanted, target):
        canonical = canonical_ip(ip)
        if canonical is None:
            left_out.append(f"{shown(ip)} is not a valid IP address")
            continue
        address = Address(canonical, port)
        if denial := denied(address):
            forbidden[address] = denial
            what = address if denial is Denial.ROUTER else canonical
            left_out.append(f"{what} is {denial}")
        else:
            _join(usable, {address: end})
    return _Part(endpoint_set, usable, forbidden, tuple(left_out))


def _endpoints(
    endpoint_set: EndpointSet, wanted: Wanted, target: RouteTarget
) -> Iterator[tuple[str, int, _Found]]:
    """All (IP as written, port, endpoint) of the wanted TCP ports that can serve at all."""
    for group in endpoint_set.groups:
        ports = [
            (port.port, port.app_protocol)
            for port in group.ports
            if port.protocol == "TCP" and port.port is not None and wanted(port)
        ]
        for endpoint in group.endpoints:
            if not serves(endpoint):
                continue
            for number, app_protocol in ports:
                for ip in endpoint.addresses:
                    yield (
                        ip,
                        number,
                        _Found(
                            endpoint.ready,
                            target.name,
                            endpoint.pod,
                            endpoint.node,
                            app_protocol,
                        ),
                    )


def serves(endpoint: Endpoint) -> bool:
    """Whether it can take connections, or finish those that it has."""
    return endpoint.ready or (endpoint.serving and endpoint.terminating)


def _join(found: dict[Address, _Found], more: Mapping[Address, _Found]) -> None:
    """Add ``more`` to ``found``. A ready endpoint wins over its double that is leaving; which of
    two doubles wins does not depend on the order in which they were found."""
    doubles = {
        address: max(found[address], more[address], key=_precedence)
        for address in found.keys() & more.keys()
    }
    found.update(more)
    found.update(doubles)


def _precedence(end: _Found) -> tuple[bool, str, str, str]:
    return end.ready, end.pod or "", end.node or "", end.app_protocol


def _absence(route: Route, lookup: Lookup, own: OwnAddresses, left_out: Sequence[str]) -> Refusal:
    """Why no endpoint was found, in words that the Route's author can act on."""
    if left_out:
        return Refusal(Reason.ENDPOINTS_DENIED, _left_out_message(left_out))
    there_are: set[str] = set()
    protocols: set[str] = set()  # of the ports that are wanted
    for target in route.targets:
        wanted = wanted_ports(route, target, lookup)
        for endpoint_set in target_sets(route, target, lookup, own):
            for port in (port for group in endpoint_set.groups for port in group.ports):
                if wanted(port):
                    protocols.add(port.protocol)
                elif port.protocol == "TCP" and port.port is not None:
                    name = _port_title(port.name)
                    there_are.add(f"{name} ({port.port})" if name else str(port.port))
    if protocols and "TCP" not in protocols:
        what = f"port {shown(route.target_port)}" if route.target_port else "the endpoints' port"
        return _udp_only(what)
    if protocols or not there_are:
        names = few([repr(target.name) for target in route.targets], _EXAMPLES_MAX)
        return Refusal(Reason.NO_ENDPOINTS, f"no ready endpoint in Service {names}")
    fault = (
        "the Service's port has another name than the ports of its endpoints"
        if route.target_port is None
        else f"spec.port.targetPort {shown(route.target_port)} is neither name nor number of an"
        " endpoint port"
    )
    return Refusal(
        Reason.TARGET_PORT_NOT_FOUND,
        f"{fault}; available ports: {few(sorted(there_are), _PORTS_SHOWN_MAX)}",
    )


def _port_title(name: str) -> str:
    plain = name.isprintable() and len(name) <= _PORT_NAME_MAX
    return name if plain else shown(name)


def _udp_only(what: str) -> Refusal:
    return Refusal(
        Reason.UNSUPPORTED_PROTOCOL,
        f"{what} is not TCP; stock HAProxy balances TCP only; expose it another way",
    )


def _left_out_message(left_out: Iterable[str]) -> str:
    left_out = sorted(set(left_out))
    return f"{counted(len(left_out), 'endpoint')} skipped: {few(left_out, _EXAMPLES_MAX, '; ')}"
