"""Services of ``type: ExternalName``: what DNS says of their name, as if it were an EndpointSlice.

So that all that holds for endpoints (denied networks, weights, ports by name or number) holds for
them. Asking DNS is `sidecar.sources.dns.following`'s. Pure.
"""

import ipaddress
import re

from sidecar.model.objects import (
    DNSAnswer,
    Endpoint,
    EndpointGroup,
    EndpointPort,
    EndpointSet,
    Service,
)

_PORT = re.compile(r"[0-9]{1,5}")


def outside_name(service: Service) -> str | None:
    """The name that DNS has to be asked for, for the servers of ``service``; None for a Service in
    the cluster, and where the name is an address already."""
    name = service.external_name
    if name is None:
        return None
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name
    return None


def outside_set(service: Service, answer: DNSAnswer | None, target_port: str | None) -> EndpointSet:
    """The endpoints of ``service``: those of ``answer``, or the address that is its name.

    Its ports are the Service's own (no proxy translates ``port`` into ``targetPort`` outside), and
    the one that the Route's ``target_port`` is the number of.
    """
    ports = [EndpointPort(port.name, port.port, port.protocol) for port in service.ports]
    number = _number(target_port)
    if number is not None and number not in {p.port for p in ports if p.protocol == "TCP"}:
        ports.append(EndpointPort("", number, "TCP"))
    addresses = answer.addresses if answer else (service.external_name or "",)
    end = Endpoint(
        addresses,
        ready=True,
        serving=True,
        terminating=False,
        pod=service.external_name,
        node=None,
    )
    group = EndpointGroup(tuple(ports), (end,))
    return EndpointSet(service.namespace, service.name, service.name, (group,), legacy=False)


def _number(target_port: str | None) -> int | None:
    """The port that ``targetPort`` is the number of, if it is one."""
    if target_port is None or not _PORT.fullmatch(target_port):
        return None
    number = int(target_port)
    return number if 1 <= number <= 65535 else None
