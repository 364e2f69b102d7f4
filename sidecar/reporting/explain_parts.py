"""What all explanations share: a Route's Services and endpoints, and what HAProxy shows. Pure.

Calls the same functions that decide, so that explanations cannot differ from decisions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sidecar.common.hostport import canonical_ip
from sidecar.common.text import few
from sidecar.haproxy.dialect import remedy_of
from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.model.desired import Unit
from sidecar.model.hold import Hold
from sidecar.model.objects import Endpoint, EndpointSet, Route, RouteTarget
from sidecar.model.pool import PARKED, Address, Pool
from sidecar.reporting.explanation import Line, Link, Mark
from sidecar.routing.endpoints import Refusal, Wanted, serves, target_sets, wanted_ports
from sidecar.routing.own_addresses import Denial, Denied
from sidecar.routing.table import Routing

#: More lines than this of one link are only counted.
_LINES_MAX = 40

_NAMES_MAX = 5

_RELATIVES_MAX = 200

_DENIALS = {
    Denial.NETWORK: "its network is in endpoints.deny",
    Denial.ROUTER: "it is this router itself",
    Denial.FAMILY: "its IP version is not that of pools[].source",
}


@dataclass(frozen=True, slots=True)
class World:
    """All that is looked at. ``observed``: None while HAProxy is away. ``failures``: unit -> why it
    is not as desired. ``faults``: why HAProxy cannot be driven, a line each. ``holds``: what is
    known of those that are held."""

    router_name: str
    pool: Pool
    routing: Routing
    observed: Mapping[Unit, ObservedUnit] | None
    held: frozenset[Unit] = frozenset()
    failures: Mapping[Unit, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    holds: Mapping[Unit, Hold] = field(default_factory=dict)


def service_links(route: Route, seen: ObservedUnit | None, world: World) -> Iterator[Link]:
    """Each target's Service, port and endpoints."""
    for target in route.targets:
        try:
            wanted = wanted_ports(route, target, world.routing.store)
            sets = target_sets(route, target, world.routing.store, world.routing.denied.own)
        except Refusal as refusal:
            mark: Mark = "bad" if len(route.targets) == 1 else "warn"
            yield Link("Service", mark, f"{target.name}: {refusal.reason}", (), refusal.message)
            continue
        if wanted.text is None:
            uses = "every TCP port of its endpoints (spec.port is absent)"
        else:
            what = f"port {wanted.text!r}" if wanted.text else "its only port"
            by = "spec.port.targetPort" if route.target_port is not None else "the Service"
            uses = f"{what} (from {by})"
        zero = target.weight == 0
        yield Link(
            "Service",
            "warn" if zero else "ok",
            f"{target.name} exists, weight {target.weight}; uses {uses}",
            remedy="with weight 0 it gets no new connections" if zero else "",
        )
        yield _endpoints_link(route, target, wanted, sets, seen, world)
    yield from _no_server(route, world)


def _no_server(route: Route, world: World) -> Iterator[Link]:
    """Why the Route has no server at all, in the words of its status."""
    unit = world.routing.owned(route.key)
    claimed = None if unit is None else world.routing.claim(unit)
    if claimed and not claimed.resolution.servers and claimed.resolution.message:
        found = claimed.resolution
        yield Link("servers", "bad", f"none: {found.reason}", (), found.message)


def _endpoints_link(
    route: Route,
    target: RouteTarget,
    wanted: Wanted,
    sets: Sequence[EndpointSet],
    seen: ObservedUnit | None,
    world: World,
) -> Link:
    slots = {slot.address: slot for slot in seen.servers.values()} if seen else None
    denied = world.routing.denied_at(world.routing.owned(route.key))
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
                    _endpoint_line(item, endpoint, ip, port.port or 0, slots, denied, world)
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
    denied: Denied,
    world: World,
) -> Line:
    canonical = canonical_ip(ip)
    where = str(Address(canonical, port)) if canonical else repr(ip[:60])
    who = f"{where} {endpoint.pod or item.name}"
    if canonical is None:
        return Line("bad", f"{who}: not a valid IP address")
    if denial := denied(Address(canonical, port)):
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


def haproxy_links(
    unit: Unit,
    what: str,
    world: World,
    *,
    claimed: bool,
    release: str,
    states: tuple[str, str] = ("listens", "is closed"),
) -> Iterator[Link]:
    """What HAProxy has of ``unit``. ``what``: the part that clients get to it by; ``states``: what
    it does if they do, and if not. ``claimed``: whether a Route has it. ``release``: the command
    for what an operator holds."""
    if world.observed is None or world.faults:
        yield Link("HAProxy", "bad", "; ".join(world.faults) or "it does not answer")
    seen = (world.observed or {}).get(unit)
    if world.observed is not None and seen is None:
        yield Link(
            "HAProxy",
            "bad",
            f"it has no {what}",
            remedy="render haproxy.cfg from these settings and restart HAProxy",
        )
    if seen is not None:
        does = f"{what} {states[not seen.open]}"
        if world.routing.is_shared(unit):
            yield Link("HAProxy", "ok" if seen.open else "bad", f"{does}, shared by SNI")
            seen = None
    if seen is not None:
        yield _seen_link(does, seen, world.failures.get(unit, ""), claimed=claimed)
    if message := world.failures.get(unit):
        yield Link("sidecar", "bad", f"cannot reconcile it: {message}")
    if unit in world.held:
        hold = world.holds.get(unit, Hold()).text
        held = f"; held{hold}" if hold else ""
        yield Link(
            "sidecar",
            "warn",
            f"an operator holds it: the sidecar does not change it{held}",
            remedy=release,
        )


def _seen_link(does: str, seen: ObservedUnit, failure: str, *, claimed: bool) -> Link:
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
    text = f"{does}; {len(serving)} of {len(used)} servers take connections"
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
