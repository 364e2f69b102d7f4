"""Why a port works or not: each step from annotation to socket. Pure.

Calls the same functions that decide, so that explanations cannot differ from decisions. Unlike a
Route's status, it is for operators of the router: it names Routes of any namespace.
"""

import difflib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sidecar.common.errors import UsageError
from sidecar.common.text import counted, few, shown
from sidecar.listeners.tcp import key_of, unit_of
from sidecar.model.objects import AGE_UNKNOWN, Key, Route
from sidecar.policies.base import Policies
from sidecar.reporting.explain_host import host_links, route_by_url
from sidecar.reporting.explain_parts import World, haproxy_links, service_links
from sidecar.reporting.explanation import Line, Link, Why

#: More lines than this of one link are only counted.
_LINES_MAX = 40

_NAMES_MAX = 5

_RELATIVES_MAX = 200


def explain(subject: str, world: World) -> Why:
    """``subject``: a port, ``namespace/name`` of a Route, or its name where that is unique; or what
    a client asks for: ``https://shop.example/cart``, with or without the scheme.

    Raises UsageError if it is none of these.
    """
    if subject.isascii() and subject.isdigit() and len(subject) < 6:
        return _explain_port(int(subject), world)
    key = route_by_url(subject, world.routing) or _key(subject, world)
    links = list(_route_links(key, world))
    verdict = world.routing.verdict(key)
    return replace(_why(subject, verdict.port if verdict else None, links), route=key.title)


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
        titles = few([key.title for key in sorted(named)], _NAMES_MAX)
        raise UsageError(f"several Routes are named {subject!r}: {titles}")
    raise UsageError(
        f"{subject[:80]!r} is not a Route; write a port or NAMESPACE/ROUTE, or the host of one"
    )


def _explain_port(port: int, world: World) -> Why:
    if port not in world.pool:
        ports = few([item.shown_ports for item in world.pool.classes], _NAMES_MAX, "; ")
        text = f"no pool has port {port}; available ports: {ports}"
        remedy = "use one of these, or add this port to a pool and restart HAProxy"
        return _why(str(port), port, [Link("pool", "bad", text, (), remedy)])
    queue = world.routing.queue(key_of(port))
    if world.routing.is_shared(unit_of(port)):
        links = [_pool_link(port, world), _shared_link(queue, world)]
        return _why(str(port), port, [*links, *_port_links(port, world, claimed=True)])
    if queue:
        return _why(str(port), port, list(_route_links(queue[0], world)))
    refused = [
        Line("bad", f"{verdict.route.title} requests it: {verdict.reason}: {verdict.message}")
        for verdict in world.routing.verdicts()
        if verdict.port == port
    ]
    remedy = "" if refused else f'a Route gets it with the port annotation "{port}"'
    claim = Link("claim", "bad", "no Route has it", tuple(refused[:_LINES_MAX]), remedy)
    links = [_pool_link(port, world), claim, *_port_links(port, world, claimed=False)]
    return _why(str(port), port, links)


def _pool_link(port: int, world: World) -> Link:
    pool = world.pool.by_port[port]
    who = "every namespace" if "*" in pool.namespaces else few(pool.namespaces, _NAMES_MAX)
    text = (
        f"port {port} belongs to pool {pool.name!r}: {pool.slots} slots, {pool.balance}, open to"
        f" {who}"
    )
    return Link("pool", "ok", text)


def _shared_link(queue: Sequence[Key], world: World) -> Link:
    """Who shares a port by SNI, and who would have it."""
    lines = []
    for key in queue[:_LINES_MAX]:
        claim, verdict = world.routing.shared_host(key), world.routing.verdict(key)
        if claim:
            lines.append(Line("ok", f"{claim.pattern}: {key.title}"))
        elif verdict:
            lines.append(Line("info", f"{key.title} waits: {verdict.reason}: {verdict.message}"))
    text = "Routes share it by SNI, each for its host; one that names none of them is closed"
    return Link("claim", "ok", text, tuple(lines), "haproxy-sidecar why NAMESPACE/ROUTE tells more")


def _route_links(key: Key, world: World) -> Iterator[Link]:
    route = world.routing.store.route(key)
    if route is None:
        yield _no_route(key, world)
        return
    yield Link("Route", "ok", f"{key.title} exists")
    unit = world.routing.owned(key)
    claimed = None if unit is None else world.routing.claim(unit)
    if claimed:
        yield from _annotation_links(route, claimed.policies)
    web = world.routing.web
    if web and key in web:
        shared = web.port(key)
        if shared:
            yield _pool_link(shared, world)
        yield from host_links(route, web, world)
        if shared:
            yield from _port_links(shared, world, claimed=True)
        return
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
    port = verdict.port if verdict else None
    queue = world.routing.queue(key_of(port)) if port is not None else []
    if verdict is None or key not in queue:
        message = verdict.message if verdict else "it is unknown"
        text = f"the port annotation is {_given(route)}"
        yield Link("port", "bad", text, tuple(_share(key, world)), message)
        yield from service_links(route, None, world)
        return
    yield Link("port", "ok", f"the port annotation is {_given(route)}: port {port}")
    if port is None:
        return
    yield _pool_link(port, world)
    yield _claim_link(key, queue, world)
    owns = queue[0] == key
    seen = (world.observed or {}).get(unit_of(port)) if owns else None
    yield from service_links(route, seen, world)
    if owns:
        yield from _port_links(port, world, claimed=True)


def _annotation_links(route: Route, policies: Policies) -> Iterator[Link]:
    """What the Route's author says of clients and servers, and what of it cannot be used."""
    for note in policies.notes:
        yield Link("annotations", "warn", note)
    held = [(name, text) for name, text in route.wishes if name in policies.values]
    if held:
        # Who is refused by one of them must find it here.
        lines = tuple(Line("info", f"{name}: {shown(text)}") for name, text in held)
        yield Link("annotations", "ok", f"it has {counted(len(held), 'annotation')}", lines)


def _share(key: Key, world: World) -> Iterator[Line]:
    """How many ports its namespace has, of a Route that leaves the choice to us."""
    if pool := world.routing.autos.pool_of(key):
        has = world.routing.autos.share(key.namespace, pool)
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
    close = difflib.get_close_matches(key.title, itertools.islice(titles, _RELATIVES_MAX), n=3)
    meant = f"; did you mean {', '.join(close)}?" if close else ""
    return Link(
        "Route",
        "bad",
        f"the source has no Route {key.title}{meant}",
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
            f"an older Route, {queue[0].title}, has the port; this one is number {place + 1} of"
            f" {len(queue)} in the queue",
            lines,
            f'delete {queue[0].title}, or request another port or "auto"',
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


def _port_links(port: int, world: World, *, claimed: bool) -> Iterator[Link]:
    what, release = f"frontend tcp-{port}", f"haproxy-sidecar release {port}"
    yield from haproxy_links(unit_of(port), what, world, claimed=claimed, release=release)
