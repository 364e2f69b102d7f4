"""A plan as a difference: what a port is, and what it will be. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sidecar.haproxy.operations import (
    AddServer,
    ClosePort,
    DeleteServer,
    EnableHealth,
    OpenPort,
    Operation,
    SetAddress,
    SetHealth,
    SetState,
    SetWeight,
)
from sidecar.haproxy.state import ObservedPort, ObservedServer
from sidecar.model.pool import PARKED


def after(observed: ObservedPort, operations: Iterable[Operation]) -> ObservedPort:
    """The port once HAProxy has carried ``operations`` out."""
    is_open, servers = observed.open, dict(observed.servers)
    for operation in operations:
        match operation:
            case OpenPort():
                is_open = True
            case ClosePort():
                is_open = False
            case AddServer(server=name, address=address, weight=weight):
                servers[name] = ObservedServer(name, address, "maint", weight, False, 0)
            case DeleteServer(server=name):
                servers.pop(name, None)
            case SetAddress(server=name, address=address):
                servers[name] = servers[name]._replace(address=address)
            case SetWeight(server=name, weight=weight):
                servers[name] = servers[name]._replace(weight=weight)
            case SetState(server=name, state=state):
                was = servers[name]
                # HAProxy takes a server that leaves maint for healthy.
                up = state != "maint" and (was.up or was.state == "maint")
                servers[name] = was._replace(state=state, up=up)
            case EnableHealth(server=name):
                servers[name] = servers[name]._replace(checks="on")
            case SetHealth(server=name, health=health):
                servers[name] = servers[name]._replace(up=health == "up")
    return replace(observed, open=is_open, servers=servers)


def difference(before: ObservedPort, now: ObservedPort) -> Iterator[str]:
    """Lines that begin with ``-`` for what was and ``+`` for what is; parked slots are nothing."""
    if before.open != now.open:
        yield "- closed" if now.open else "- open"
        yield "+ open" if now.open else "+ closed"
    for name in dict.fromkeys([*before.servers, *now.servers]):
        was, is_ = _row(before.servers.get(name)), _row(now.servers.get(name))
        if was != is_:
            yield from (f"{sign} {row}" for sign, row in (("-", was), ("+", is_)) if row)


def _row(server: ObservedServer | None) -> str:
    """``s1 10.0.0.1:9000 ready, weight 256``; "" for none, and for a slot without an endpoint."""
    if server is None or server.address == PARKED:
        return ""
    down = "" if server.up or server.state != "ready" else ", down"
    return f"{server.name} {server.address} {server.state}{down}, weight {server.weight}"
