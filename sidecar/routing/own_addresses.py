"""Which addresses no server may have: the router itself, since a server there would be HAProxy
connecting to HAProxy, and the networks that the settings deny.

Owns how listeners, interfaces, the Service in front of the router and its replicas make up the
router's addresses. Must not know how any of them is found out, nor who asks. Pure.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache, reduce
from typing import NamedTuple, Protocol

from sidecar.common.hostport import IPS_KEPT, canonical_ip
from sidecar.model.objects import DNSAnswer, EndpointSet, LocalAddresses, ServiceAddresses
from sidecar.model.pool import Address

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

Ports = frozenset[int]

_NO_PORTS: Ports = frozenset()

#: Linux and HAProxy (configuration.txt, "server") connect to these as to themselves, whichever of
#: the router's addresses that then is.
_UNSPECIFIED = ("0.0.0.0", "::")  # noqa: S104  nothing is bound here


class Listener(NamedTuple):
    """Where the router listens. ``host``: an IP in its canonical form, or a name."""

    host: str
    ports: Ports


@dataclass(frozen=True, slots=True)
class Listening:
    """What the settings say of where the router is.

    ``haproxy_host``: the machine of HAProxy, where its Runtime API is ``host:port``.
    ``published``: namespace and name of the Service in front, whose endpoints are the replicas.
    """

    listeners: tuple[Listener, ...] = ()
    haproxy_host: str | None = None
    published: tuple[str, str] | None = None

    @property
    def names(self) -> frozenset[str]:
        """The hosts that are no IPs, to be looked up (`LocalAddresses.names`)."""
        hosts = {listener.host for listener in self.listeners} | {self.haproxy_host or ""}
        return frozenset(host for host in hosts if host and canonical_ip(host) is None)


#: Where nothing of the router is.
NOWHERE = Listening()


@dataclass(frozen=True, slots=True)
class OwnAddresses:
    """``at``: IP -> the ports at which it is the router. ``loopback``: those of the IPs of
    127.0.0.0/8 that are not there. ``names``: what leads to the router whatever the port."""

    at: Mapping[str, Ports] = field(default_factory=dict)
    loopback: Ports = _NO_PORTS
    names: frozenset[str] = frozenset()

    def __contains__(self, address: Address) -> bool:
        ports = self.at.get(address.ip)
        if ports is None:
            ports = self.loopback if address.ip.startswith("127.") else _NO_PORTS
        return address.port in ports

    def has_name(self, name: str) -> bool:
        """Whether DNS's ``name`` is that of the router."""
        return plain_name(name) in self.names


class Denial(StrEnum):
    """What a server must not be."""

    ROUTER = "this router itself"
    NETWORK = "in a network denied by endpoints.deny"
    FAMILY = "of another IP version than the source of the port's pool"


@dataclass(frozen=True, slots=True)
class Denied:
    """What no server may be. ``network``: whether the settings forbid this IP. ``source``: the IP
    that servers are connected to from; None where that is any."""

    network: Callable[[str], bool]
    own: OwnAddresses = OwnAddresses()
    source: str | None = None

    def reached_from(self, source: str | None) -> "Denied":
        """What no server may be that is connected to from this IP."""
        return replace(self, source=source) if source else self

    def __call__(self, address: Address) -> Denial | None:
        """Why no server may have ``address``; None if one may."""
        if address in self.own:
            return Denial.ROUTER
        if self.network(address.ip):
            return Denial.NETWORK
        # HAProxy closes a client's connection whose server it cannot bind to the source for.
        other = self.source is not None and (":" in self.source) != (":" in address.ip)
        return Denial.FAMILY if other else None


def denier(networks: Iterable[IPNetwork]) -> Callable[[str], bool]:
    """A function that tells whether a canonical IP is in one of ``networks``."""
    forbidden = tuple(_unmapped(network) for network in networks)

    @lru_cache(IPS_KEPT)
    def denied(ip: str) -> bool:
        address = ipaddress.ip_address(ip)
        return any(address in network for network in forbidden)

    return denied


def _unmapped(network: IPNetwork) -> IPNetwork:
    """``::ffff:10.0.0.0/104`` as ``10.0.0.0/8``, since that is what `canonical_ip` makes of all
    that is in it."""
    address = network.network_address
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - 96))


class Lookup(Protocol):
    """What of the store is needed here."""

    @property
    def local_addresses(self) -> LocalAddresses: ...
    def service_addresses(self, namespace: str, name: str) -> ServiceAddresses | None: ...
    def endpoint_sets(self, namespace: str, service: str) -> Sequence[EndpointSet]: ...
    def answer(self, name: str) -> DNSAnswer | None: ...


def own_addresses(listening: Listening, lookup: Lookup) -> OwnAddresses:
    """The router's own addresses, as far as they are known now."""
    local = lookup.local_addresses
    service = lookup.service_addresses(*listening.published) if listening.published else None
    hosts = dict(local.names)
    listeners = [
        Listener(ip, ports)
        for host, ports in listening.listeners
        for ip in hosts.get(host) or (host,)
    ]
    every = _union(ports for _, ports in listeners)
    node_ports = service.node_ports if service else _NO_PORTS
    # A listener on :: may take IPv4 too; which, HAProxy's own default and net.ipv6.bindv6only say.
    on_ipv6 = _union((node_ports, *(ports for host, ports in listeners if host == "::")))
    on_ipv4 = _union((on_ipv6, *(ports for host, ports in listeners if host == "0.0.0.0")))  # noqa: S104
    found: dict[str, Ports] = dict.fromkeys(_UNSPECIFIED, every | node_ports)

    def add(ip: str, ports: Ports) -> None:
        # Mostly one set for all, which may be of 60,000 ports.
        known = found.get(ip) or (on_ipv4 if ip.startswith("127.") else _NO_PORTS)
        found[ip] = ports if known <= ports else known | ports

    remote = listening.haproxy_host
    for ip in {"::1", *local.addresses, *(hosts.get(remote, (remote,)) if remote else ())}:
        add(ip, on_ipv6 if ":" in ip else on_ipv4)
    for ip, ports in listeners:
        if ip not in _UNSPECIFIED:
            add(ip, ports)
    names = frozenset(plain_name(name) for name in service.names) if service else frozenset()
    if service:
        front = every | service.ports | node_ports
        answers = [answer for name in names if (answer := lookup.answer(name))]
        texts = [*service.addresses, *(text for item in answers for text in item.addresses)]
        for ip in filter(None, map(canonical_ip, texts)):
            add(ip, front)
    if listening.published:
        for ip, ports in _replicas(lookup.endpoint_sets(*listening.published), every):
            add(ip, ports)
    return OwnAddresses(found, on_ipv4, names)


def plain_name(name: str) -> str:
    """The one way to write a name of DNS."""
    return name.lower().rstrip(".")


def _replicas(sets: Sequence[EndpointSet], every: Ports) -> Iterator[tuple[str, Ports]]:
    """Each endpoint of the Service in front, ready or not, with the ports that it has."""
    for group in (group for item in sets for group in item.groups):
        ports = every | {port.port for port in group.ports if port.port is not None}
        for text in (text for endpoint in group.endpoints for text in endpoint.addresses):
            if (ip := canonical_ip(text)) is not None:
                yield ip, ports


def _union(sets: Iterator[Ports] | Sequence[Ports]) -> Ports:
    return reduce(frozenset.union, sets, _NO_PORTS)
