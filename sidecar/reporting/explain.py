"""Why a port works or not: each step from annotation to socket. Pure.

Calls the same functions that decide, so that explanations cannot differ from decisions. Unlike a
Route's status, it is for operators of the router: it names Routes of any namespace.
"""

import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sidecar.common.errors import UsageError
from sidecar.common.hostport import canonical_ip
from sidecar.common.text import few
from sidecar.haproxy.dialect import remedy_of
from sidecar.haproxy.state import ObservedPort, ObservedServer
from sidecar.model.objects import AGE_UNKNOWN, Endpoint, EndpointSet, Key, Route, RouteTarget
from sidecar.model.pool import PARKED, Address, Pool
from sidecar.model.verdicts import Verdict
from sidecar.reporting.explanation import Line, Link, Mark, Why
from sidecar.routing.endpoints import Refusal, Wanted, serves, target_sets, wanted_ports
from sidecar.routing.own_addresses import Denial
from sidecar.routing.table import Routing

#: More lines than this of one link are only counted.
_LINES_MAX = 40

_NAMES_MAX = 5

_RELATIVES_MAX = 200

_DENIALS = {
    Denial.NETWORK: "its network is in endpoints.deny",
    Denial.ROUTER: "it is this router itself",
}


@dataclass(frozen=True, slots=True)
class World:
    """All that is looked at. ``observed``: None while HAProxy is away. ``failures``: port -> why it
    has not converged. ``faults``: why HAProxy cannot be reconciled, a line each."""

    router_name: str
    pool: Pool
    routing: Routing
    observed: Mapping[int, ObservedPort] | None
    held: frozenset[int] = frozenset()
    failures: Mapping[int, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def explain(subject: str, world: World) -> Why:
    """``subject``: a port, ``namespace/name`` of a Route, or its name where that is unique.

    Raises UsageError if it is none of these.
    """
    if subject.isascii() and subject.isdigit() and len(subject) < 6:
        return _explain_port(int(subject), world)
    key = _key(subject, world)
    links = list(_route_links(key, world))
    verdict = world.routing.verdict(key)
    return _why(subject, verdict.port if verdict else None, links)


def _why(subject: str, port: int | None, links: Sequence[Link]) -> Why:
    return Why(subject, port, not any(link.mark == "bad" for link in links), tuple(links))


def _key(subject: str, world: World) -> Key:
    namespace, slash, name = subject.partition("/")
    if slash and namespace and name and "/" not in name:
        return Key("Route", namespace, name)
    named = [route.key for route in world.routing.store.routes() if route.name == subject]
    if len(named) == 1:
        return named[0]
    if named:
        titles = few([_title(key) for key in sorted(named)], _NAMES_MAX)
        raise UsageError(f"several Routes are named {subject!r}: {titles}")
    raise UsageError(f"{subject[:80]!r} is not a Route; write a port or NAMESPACE/ROUTE")


def _title(key: Key) -> str:
    return f"{key.namespace}/{key.name}"


def _explain_port(port: int, world: World) -> Why:
    if port not in world.pool:
        ports = few([item.shown_ports for item in world.pool.classes], _NAMES_MAX, "; ")
        text = f"no pool has port {port}; available ports: {ports}"
        remedy = "use one of these, or add this port to a pool and restart HAProxy"
        return _why(str(port), port, [Link("pool", "bad", text, (), remedy)])
    queue = world.routing.queue(port)
    if queue:
        return _why(str(port), port, list(_route_links(queue[0], world)))
    refused = [
        Line("bad", f"{_title(verdict.route)} requests it: {verdict.reason}: {verdict.message}")
        for verdict in world.routing.verdicts()
        if verdict.port == port
    ]
    remedy = "" if refused else f'a Route gets it with the port annotation "{port}"'
    claim = Link("claim", "bad", "no Route has it", tuple(refused[:_LINES_MAX]), remedy)
    links = [_pool_link(port, world), claim, *_haproxy_links(port, None, world)]
    return _why(str(port), port, links)


def _pool_link(port: int, world: World) -> Link:
    pool = world.pool.by_port[port]
    who = "every namespace" if "*" in pool.namespaces else few(pool.namespaces, _NAMES_MAX)
    text = (
        f"port {port} belongs to pool {pool.name!r}: {pool.slots} slots, {pool.balance}, open to"
        f" {who}"
    )
    return Link("pool", "ok", text)


def _route_links(key: Key, world: World) -> Iterator[Link]:
    route = world.routing.store.route(key)
    if route is None:
        yield _no_route(key, world)
        return
    yield Link("Route", "ok", f"{_title(key)} exists")
    if route.router_name != world.router_name:
        yield Link(
            "router",
            "bad",
            f"it names router {route.router_name!r}, but this is {world.router_name!r}"
            if route.router_name is not None
            else "it names no router",
            remedy=f"set the router-name annotation to {world.router_name!r}",
        )
        return
    yield Link("router", "ok", f"it names this router, {world.router_name!r}")
    verdict = world.routing.verdict(key)
    queue = world.routing.queue(verdict.port) if verdict and verdict.port is not None else []
    if verdict is None or key not in queue:
        message = verdict.message if verdict else "it is unknown"
        text = f"the port annotation is {_given(route)}"
        yield Link("port", "bad", text, tuple(_share(key, world)), message)
        yield from _service_links(route, None, world)
        return
    port = verdict.port
    yield Link("port", "ok", f"the port annotation is {_given(route)}: port {port}")
    if port is None:
        return
    yield _pool_link(port, world)
    yield _claim_link(key, queue, world)
    owns = queue[0] == key
    seen = (world.observed or {}).get(port) if owns else None
    yield from _service_links(route, seen, world)
    if owns:
        yield from _haproxy_links(port, verdict, world)


def _share(key: Key, world: World) -> Iterator[Line]:
    """How many ports its namespace has, of a Route that leaves the choice to us."""
    if pool := world.routing.auto_pool(key):
        has = world.routing.auto_share(key.namespace, pool)
        yield Line(
            "info",
            f'namespace {key.namespace} has {has} "auto" ports of pool {pool.name!r}; its limit is'
            f" {pool.auto_ports_per_namespace}",
        )


def _given(route: Route) -> str:
    return repr(route.port[:40]) if route.port is not None else "missing"


def _no_route(key: Key, world: World) -> Link:
    # Only the nearest relatives: this is the loop's time.
    titles = (
        route.title
        for route in world.routing.store.routes()
        if key.namespace == route.namespace or key.name == route.name
    )
    close = difflib.get_close_matches(_title(key), itertools.islice(titles, _RELATIVES_MAX), n=3)
    meant = f"; did you mean {', '.join(close)}?" if close else ""
    return Link(
        "Route",
        "bad",
        f"the source has no Route {_title(key)}{meant}",
        remedy="" if close else "create it, or check whether the source watches its namespace",
    )


def _claim_link(key: Key, queue: Sequence[Key], world: World) -> Link:
    place = queue.index(key)
    routes = [world.routing.store.route(item) for item in queue]
    lines = tuple(
        Line(
            "info", f"{number + 1}. {route.title}, {_age(route)}" + ", has the port" * (number == 0)
        )
        for number, route in enumerate(routes[:_LINES_MAX])
        if route
    )
    if place:
        return Link(
            "claim",
            "bad",
            f"an older Route, {_title(queue[0])}, has the port; this one is number {place + 1} of"
            f" {len(queue)} in the queue",
            lines,
            f'delete {_title(queue[0])}, or request another port or "auto"',
        )
    waiting = len(queue) - 1
    return Link(
        "claim",
        "ok",
        f"it has the port{f'; {waiting} younger Routes are waiting' if waiting else ''}",
        lines if waiting else (),
    )


def _age(route: Route) -> str:
    if route.created_seconds == AGE_UNKNOWN:
        return "of unknown age"
    return f"created {datetime.fromtimestamp(route.created_seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _service_links(route: Route, seen: ObservedPort | None, world: World) -> Iterator[Link]:
    """Each target's Service, port and endpoints."""
    for target in route.targets:
        try:
            wanted = wanted_ports(route, target, world.routing.store)
            sets = target_sets(route, target, world.routing.store, world.routing.denied.own)
        except Refusal as refusal:
            mark: Mark = "bad" if len(route.targets) == 1 else "warn"
            yield Link("Service", mark, f"{target.name}: {refusal.reason}", (), refusal.message)
            continue
        what = f"port {wanted.text!r}" if wanted.text else "its only port"
        by = "spec.port.targetPort" if route.target_port is not None else "the Service"
        zero = target.weight == 0
        yield Link(
            "Service",
            "warn" if zero else "ok",
            f"{target.name} exists, weight {target.weight}; uses {what} (from {by})",
            remedy="with weight 0 it gets no new connections" if zero else "",
        )
        yield _endpoints_link(route, target, wanted, sets, seen, world)
    yield from _no_server(route, world)


def _no_server(route: Route, world: World) -> Iterator[Link]:
    """Why the Route has no server at all, in the words of its status."""
    port = world.routing.owner_port(route.key)
    claimed = None if port is None else world.routing.claim(port)
    if claimed and not claimed.resolution.servers and claimed.resolution.message:
        found = claimed.resolution
        yield Link("servers", "bad", f"none: {found.reason}", (), found.message)


def _endpoints_link(
    route: Route,
    target: RouteTarget,
    wanted: Wanted,
    sets: Sequence[EndpointSet],
    seen: ObservedPort | None,
    world: World,
) -> Link:
    slots = {slot.address: slot for slot in seen.servers.values()} if seen else None
    lines: list[Line] = []
    for item in sets:
        for group in item.groups:
            ports = [p for p in group.ports if p.protocol == "TCP" and p.port and wanted(p)]
            if not ports:
                there = few([f"{p.name or p.port}/{p.protocol}" for p in group.ports], _NAMES_MAX)
                lines.append(
                    Line("bad", f"{item.name}: no port matches; available ports: {there or 'none'}")
                )
                continue
            for port in ports:
                lines += (
                    _endpoint_line(item, endpoint, ip, port.port or 0, slots, world)
                    for endpoint in group.endpoints
                    for ip in endpoint.addresses
                )
    good = sum(line.mark in ("ok", "warn") for line in lines)
    mark: Mark = "ok" if good else "bad" if len(route.targets) == 1 else "warn"
    shown = sorted(lines, key=lambda line: ("bad", "warn", "info", "ok").index(line.mark))
    hidden = len(shown) - _LINES_MAX
    if hidden > 0:
        shown = [*shown[:_LINES_MAX], Line("info", f"and {hidden} more")]
    remedy = ""
    if not lines:
        remedy = f"no endpoints: does the selector of Service {target.name} match its pods?"
    elif not good:
        remedy = "fix at least one of the endpoints above"
    return Link(
        "endpoints",
        mark,
        f"{good} of {len(lines)} can serve, from {len(sets)} EndpointSlice{'s' * (len(sets) != 1)}",
        tuple(shown),
        remedy,
    )


def _endpoint_line(
    item: EndpointSet,
    endpoint: Endpoint,
    ip: str,
    port: int,
    slots: Mapping[Address, ObservedServer] | None,
    world: World,
) -> Line:
    canonical = canonical_ip(ip)
    where = str(Address(canonical, port)) if canonical else repr(ip[:60])
    who = f"{where} {endpoint.pod or item.name}"
    if canonical is None:
        return Line("bad", f"{who}: not a valid IP address")
    if denial := world.routing.denied(Address(canonical, port)):
        return Line("bad", f"{who}: {_DENIALS[denial]}")
    if not serves(endpoint):
        return Line("bad", f"{who}: not ready{', terminating' * endpoint.terminating}")
    state = "ready" if endpoint.ready else "terminating, still serving"
    if slots is None:
        return Line("ok", f"{who}: {state}")
    slot = slots.get(Address(canonical, port))
    if slot is None:
        where = "not in HAProxy: over capacity, or not yet programmed"
        if world.faults:
            where = "not in HAProxy when it last answered"
        return Line("warn", f"{who}: {state}, and {where}")
    down = "" if slot.up or slot.state != "ready" else ", but its health check fails"
    mark: Mark = "warn" if down else "ok"
    return Line(mark, f"{who}: {state}, in slot {slot.name} ({slot.state}){down}")


def _haproxy_links(port: int, verdict: Verdict | None, world: World) -> Iterator[Link]:
    """What HAProxy has of ``port``; ``verdict``: its owner's, None where nobody owns it."""
    if world.observed is None or world.faults:
        yield Link("HAProxy", "bad", "; ".join(world.faults) or "it does not answer")
    seen = (world.observed or {}).get(port)
    if world.observed is not None and seen is None:
        yield Link(
            "HAProxy",
            "bad",
            f"it has no frontend tcp-{port}",
            remedy="render haproxy.cfg from these settings and restart HAProxy",
        )
    if seen is not None:
        yield _seen_link(seen, world.failures.get(port, ""), claimed=verdict is not None)
    if message := world.failures.get(port):
        yield Link("sidecar", "bad", f"cannot reconcile the port: {message}")
    if port in world.held:
        yield Link(
            "sidecar",
            "warn",
            "an operator holds the port: the sidecar does not change it",
            remedy=f"haproxy-sidecar release {port}",
        )


def _seen_link(seen: ObservedPort, failure: str, *, claimed: bool) -> Link:
    used = [slot for slot in seen.servers.values() if slot.address != PARKED]
    serving = [slot for slot in used if slot.state == "ready" and slot.up]
    lines = tuple(
        Line(
            "ok" if slot in serving else "info" if slot.up else "warn",
            f"{slot.name} {slot.address} {slot.state}, weight {slot.weight}"
            f"{'' if slot.up or slot.state != 'ready' else ', down'}",
        )
        for slot in used[:_LINES_MAX]
    )
    listens = "listens" if seen.open else "is closed"
    text = (
        f"frontend tcp-{seen.port} {listens};"
        f" {len(serving)} of {len(used)} servers take connections"
    )
    if not claimed:
        return Link("HAProxy", "warn" if seen.open else "info", text, lines)
    if seen.open and serving:
        return Link("HAProxy", "ok", text, lines)
    if failure:
        remedy = remedy_of(failure) or "see the sidecar's error below; it keeps retrying"
    elif used and not serving and seen.open:
        remedy = "no server is up: see the health checks"
    else:
        remedy = "it opens as soon as a server is ready"
    return Link("HAProxy", "bad", text, lines, remedy)
