"""Converts lines of ingress-nginx's ``tcp-services`` ConfigMap to annotated Routes.

Owns what a line means, what of it a Route can express, and what has to be in this router's settings
instead. Source: ingress-nginx, "Exposing TCP and UDP services":
``"9000": "namespace/service:port[:PROXY][:PROXY]"``, the first PROXY for what clients send, the
second for what servers get. Must not read or write files. Pure.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sidecar.common.errors import ObjectError
from sidecar.common.text import shown
from sidecar.importers.annotated import Router, annotated_route, no_port
from sidecar.model.fields import Field
from sidecar.model.objects import Key, Service
from sidecar.model.pool import PortPool

_PORT_NUMBER = re.compile(r"[0-9]{1,5}")


class Line(NamedTuple):
    """What a line says: the port outside, the Service, and its port by number or name.

    ``decode``: clients speak the PROXY protocol. ``encode``: servers are spoken to in it.
    """

    port: int
    namespace: str
    service: str
    service_port: str
    decode: bool
    encode: bool

    def __str__(self) -> str:
        """As it stood in the ConfigMap."""
        words = ["PROXY" if self.decode else "", "PROXY" if self.encode else ""]
        flags = "".join(f":{word}" for word in words).rstrip(":")
        return f'"{self.port}": "{self.namespace}/{self.service}:{self.service_port}{flags}"'


@dataclass(frozen=True, slots=True)
class Imported:
    """The Route of a line. ``problems``: what this router has to have for it to work as before.
    ``doubts``: what could not be known here, and should be looked at."""

    line: Line
    route: Mapping[str, Any]
    problems: tuple[str, ...]
    doubts: tuple[str, ...]


def parse_line(outside: str, value: object) -> Line:
    """One entry of the ConfigMap's ``data``. Raises ObjectError for what it cannot mean."""
    field = Field(f"data[{shown(outside)}]", value)
    rule = 'write "namespace/service:port", followed by ":PROXY" or "::PROXY" if needed'
    if not _PORT_NUMBER.fullmatch(outside) or not 1 <= int(outside) <= 65535:
        raise ObjectError(field.path, f"{shown(outside)} is not a valid port from 1 to 65535")
    text = field.word(rule)
    target, *rest = text.split(":")
    namespace, slash, service = target.partition("/")
    if not slash or not rest or not rest[0] or len(rest) > 3:
        raise field.wrong(rule, "is not a valid line")
    words = [word.upper() for word in rest[1:]]
    if not {"", "PROXY"}.issuperset(words):
        raise field.wrong("only PROXY, at most twice, may follow the port", "is not a valid line")
    return Line(
        int(outside),
        Field(f"{field.path}, namespace", namespace).name(),
        Field(f"{field.path}, Service", service).name(),
        rest[0],
        words[:1] == ["PROXY"],
        words[1:] == ["PROXY"],
    )


def convert(line: Line, services: Mapping[Key, Service], router: Router) -> Imported:
    """The Route of ``line``, and what it does not carry.

    ``services``: those that are known. Raises ObjectError for a port that is UDP.
    """
    target_port, doubts = _target_port(line, services)
    to = {"kind": "Service", "name": line.service}
    name = f"{line.service}-{line.port}"
    route = annotated_route(line.namespace, name, line.port, [to], router, target_port)
    return Imported(line, route, _problems(line, route, router), doubts)


def _target_port(
    line: Line, services: Mapping[Key, Service]
) -> tuple[int | str | None, tuple[str, ...]]:
    """What ``spec.port.targetPort`` has to say, and what is doubtful about it.

    The line names a port of the Service; a Route names one of its endpoints, which has the name of
    the Service's port and the number of its targetPort.
    """
    wanted = line.service_port
    given = int(wanted) if _PORT_NUMBER.fullmatch(wanted) else wanted
    key = Key("Service", line.namespace, line.service)
    service = services.get(key)
    if service is None:
        if isinstance(given, str):
            return given, ()
        doubt = (
            f"{given} is the Service's port, but a Route names the endpoints' port: correct only if"
            " the Service's targetPort is the same; pass the Service, too, to have it translated"
        )
        return given, (doubt,)
    found = [port for port in service.ports if wanted in (port.name, str(port.port))]
    tcp = [port for port in found if port.protocol == "TCP"]
    if found and not tcp:
        raise ObjectError(
            str(key),
            f"its port {shown(wanted)} is {found[0].protocol}; only TCP can be converted",
        )
    if not tcp:
        there = ", ".join(f"{port.name or '-'} ({port.port})" for port in service.ports[:10])
        return given, (
            f"the Service has no port {shown(wanted)}; available ports: {there or 'none'}",
        )
    return tcp[0].name or None, ()  # only a single port may be without a name


def _problems(line: Line, route: Mapping[str, Any], router: Router) -> tuple[str, ...]:
    if problem := no_port(route, router):
        return (problem,)
    return tuple(_proxy_problems(line, router.pool.by_port[line.port]))


def _proxy_problems(line: Line, pool: PortPool) -> list[str]:
    """The PROXY protocol is a pool's, since HAProxy's bind and server lines fix it."""
    problems = []
    remedy = "or move the port to a pool of its own"
    if line.decode and not pool.accept_proxy:
        problems.append(
            "its clients speak the PROXY protocol: set accept_proxy: true in pool"
            f" {pool.name!r}, {remedy}"
        )
    if pool.accept_proxy and not line.decode:
        problems.append(
            f"pool {pool.name!r} has accept_proxy: true, and its clients do not speak the PROXY"
            f" protocol: unset it, {remedy}"
        )
    if line.encode and pool.send_proxy == "none":
        problems.append(
            "its servers are sent the PROXY protocol: set send_proxy: v1 in pool"
            f" {pool.name!r}, {remedy}"
        )
    if pool.send_proxy != "none" and not line.encode:
        problems.append(
            f"pool {pool.name!r} has send_proxy: {pool.send_proxy}, and its servers do not expect"
            f" the PROXY protocol: unset it, {remedy}"
        )
    return problems
