"""A plan as a difference: what a unit is, and what it will be. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from sidecar.haproxy.authorities import SetAuthority
from sidecar.haproxy.maps import AddEntry, SetEntry
from sidecar.haproxy.operations import (
    AddServer,
    DeleteServer,
    EnableHealth,
    SetAddress,
    SetHealth,
    SetMaxconn,
    SetState,
    SetWeight,
)
from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.model.pool import PARKED
from sidecar.planning.planner import Plan


def after(observed: ObservedUnit, plan: Plan) -> ObservedUnit:
    """The unit once HAProxy has carried ``plan`` out, but for ended sessions."""
    servers = dict(observed.servers)
    for operation in plan.operations:
        match operation:
            case AddServer(server=name, weight=weight):
                servers[name] = ObservedServer(name, PARKED, "maint", weight, False, 0)
            case DeleteServer(server=name):
                servers.pop(name, None)
            case SetAddress(server=name, address=address):
                servers[name] = servers[name]._replace(address=address)
            case SetWeight(server=name, weight=weight):
                servers[name] = servers[name]._replace(weight=weight)
            case SetMaxconn(server=name, maxconn=maxconn):
                servers[name] = servers[name]._replace(maxconn=maxconn)
            case SetState(server=name, state=state):
                was = servers[name]
                # HAProxy takes a server that leaves maint for healthy.
                up = state != "maint" and (was.up or was.state == "maint")
                servers[name] = was._replace(state=state, up=up)
            case EnableHealth(server=name):
                servers[name] = servers[name]._replace(checks="on")
            case SetHealth(server=name, health=health):
                servers[name] = servers[name]._replace(up=health == "up")
    concealed = {operation.key for operation in plan.conceal}
    exposed = observed.exposed - concealed | {operation.key for operation in plan.expose}
    attributes = dict(observed.attributes)
    for operation in plan.describe:
        if isinstance(operation, AddEntry | SetEntry | SetAuthority):
            attributes[operation.key.listener] = operation.value
    for operation in plan.forget:
        attributes.pop(operation.key.listener, None)
    return replace(observed, exposed=exposed, servers=servers, attributes=attributes)


def difference(before: ObservedUnit, now: ObservedUnit) -> Iterator[str]:
    """Lines that begin with ``-`` for what was and ``+`` for what is; parked slots are nothing."""
    if before.open != now.open:
        yield "- closed" if now.open else "- open"
        yield "+ open" if now.open else "+ closed"
    for name in sorted(before.attributes.keys() | now.attributes.keys()):
        old, new = before.attributes.get(name), now.attributes.get(name)
        if old != new:
            values = (("-", old), ("+", new))
            yield from (f"{sign} {name} {value}" for sign, value in values if value is not None)
    for name in dict.fromkeys([*before.servers, *now.servers]):
        was, is_ = _row(before.servers.get(name)), _row(now.servers.get(name))
        if was != is_:
            yield from (f"{sign} {row}" for sign, row in (("-", was), ("+", is_)) if row)


def _row(server: ObservedServer | None) -> str:
    """``s1 10.0.0.1:9000 ready, weight 256``; "" for none, and for a slot without an endpoint."""
    if server is None or server.address == PARKED:
        return ""
    down = "" if server.up or server.state != "ready" else ", down"
    limit = f", maxconn {server.maxconn}" if server.maxconn else ""
    return f"{server.name} {server.address} {server.state}{down}, weight {server.weight}{limit}"
