"""`sidecar.routing.table`: kept up to date change by change, it says what it would say from
scratch."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from core import units
from hypothesis import given
from hypothesis import strategies as st
from parts import routing_for
from stand import ROUTER, changes, endpoint, external, pool_of, route, service, slice_

from sidecar.listeners.tcp import TCPPorts, unit_of
from sidecar.model.change import Change
from sidecar.model.objects import (
    DNSAnswer,
    EndpointSet,
    Key,
    LocalAddresses,
    Object,
    Route,
    ServiceAddresses,
    ServicePort,
)
from sidecar.model.pool import Pool
from sidecar.model.verdicts import Reason, Verdict
from sidecar.routing.claimed import Changed
from sidecar.routing.own_addresses import Listener, Listening
from sidecar.routing.table import Routing

POOL = pool_of({"ports": ["30000-30002"]})
LISTENING = Listening((Listener("0.0.0.0", frozenset({9000})),), published=("ingress", "edge"))


def routing_of(
    *objects: Object, pool: Pool = POOL, kept: Mapping[str, int] | None = None
) -> Routing:
    routing = routing_for(TCPPorts(pool), kept=kept or {}, listening=LISTENING)
    routing.apply(changes(*objects))
    return routing


def gone(*objects: Object) -> list[Change]:
    return [Change(item.key, None) for item in objects]


def addresses(routing: Routing, port: int) -> list[str]:
    return [str(server.address) for server in routing.claimed[unit_of(port)].resolution.servers]


def reason(routing: Routing, of: Route) -> Reason:
    verdict = routing.verdict(of.key)
    assert verdict is not None
    return verdict.reason


WEB, API = route("web", 30000), route("api", 30001)
BASE: list[Object] = [
    *(WEB, service("web"), slice_("web", ["10.0.0.1"])),
    *(API, service("api"), slice_("api")),
]


def test_what_a_port_leads_to() -> None:
    routing = routing_of(*BASE)
    assert routing.claimed.keys() == units(30000, 30001)
    assert routing.claimed[unit_of(30000)].route == WEB
    assert addresses(routing, 30000) == ["10.0.0.1:9000"]
    assert addresses(routing, 30001) == []
    assert [(verdict.route, verdict.reason) for verdict in routing.verdicts()] == [
        (API.key, Reason.NO_ENDPOINTS),
        (WEB.key, Reason.ADMITTED),
    ]
    assert [routing.owned(item.key) for item in (WEB, API)] == [unit_of(30000), unit_of(30001)]


OLDER, YOUNGER = route("older", 30000, created_seconds=1), route("younger", 30000)


@pytest.mark.parametrize(
    ("now", "ports", "routes"),
    [
        ([], [], []),
        (changes(*BASE), [], []),
        (changes(slice_("web", ["10.0.0.2"])), [30000], [WEB]),
        # Nobody leads there.
        (changes(slice_("other", ["10.0.0.2"]), service("other")), [], []),
        (changes(slice_("web", ["10.0.0.2"], namespace="elsewhere")), [], []),
        # The Service says something that makes no difference: looked at all the same.
        (changes(service("web", ServicePort("", 81, "TCP", "x"))), [30000], [WEB]),
        (gone(service("api")), [30001], [API]),
        (gone(WEB), [30000], [WEB]),
        (changes(replace(WEB, wishes=(("drain-deadline", "5s"),))), [30000], [WEB]),
        (changes(replace(WEB, port="30002")), [30000, 30002], [WEB]),
        (changes(replace(WEB, port="x")), [30000], [WEB]),
        (changes(route("web", 30000, namespace="x", router_name=None)), [], [("x", "web")]),
        # Who comes or goes behind the owner touches nobody else.
        (changes(YOUNGER), [], [YOUNGER]),
        (changes(OLDER), [30000], [WEB, OLDER]),
    ],
)
def test_a_change_touches_only_what_it_can(
    now: list[Change], ports: list[int], routes: list[Route | tuple[str, str]]
) -> None:
    keys = [item.key if isinstance(item, Route) else Key("Route", *item) for item in routes]
    assert routing_of(*BASE).apply(now) == Changed(units(*ports), frozenset(keys))


def test_a_slice_that_changes_its_service_changes_both() -> None:
    routing = routing_of(*BASE)
    moved = replace(slice_("web", ["10.0.0.1"]), service="api")
    changed = routing.apply(changes(moved))
    assert changed.units == units(30000, 30001)
    assert (addresses(routing, 30000), addresses(routing, 30001)) == ([], ["10.0.0.1:9000"])


def test_a_loser_says_nothing_of_its_endpoints_and_takes_over_with_them() -> None:
    loser = route("zzz", 30000)
    routing = routing_of(*BASE, loser, service("zzz"), slice_("zzz", ["10.0.0.9"]))
    assert reason(routing, loser) == Reason.PORT_ALREADY_CLAIMED
    assert routing.apply(changes(slice_("zzz", ["10.0.0.8"]))).units == frozenset()
    changed = routing.apply(gone(WEB))
    assert changed == Changed(units(30000), frozenset({WEB.key, loser.key}))
    assert addresses(routing, 30000) == ["10.0.0.8:9000"]


def test_a_route_that_has_no_service_holds_its_port_all_the_same() -> None:
    lonely, later = route("lonely", created_seconds=1), route("later", created_seconds=2)
    routing = routing_of(lonely, later, service("later"), slice_("later", ["10.0.0.1"]))
    assert routing.owned(lonely.key) == unit_of(30000)
    assert reason(routing, lonely) == Reason.SERVICE_NOT_FOUND
    assert addresses(routing, 30000) == []
    changed = routing.apply(changes(service("lonely"), slice_("lonely", ["10.0.0.2"])))
    assert changed == Changed(units(30000), frozenset({lonely.key}))
    assert reason(routing, lonely) == Reason.ADMITTED


def test_a_route_that_turns_to_another_router_is_let_go() -> None:
    routing = routing_of(*BASE)
    changed = routing.apply(changes(replace(WEB, router_name="other")))
    assert changed == Changed(units(30000), frozenset({WEB.key}))
    assert routing.verdict(WEB.key) is None
    assert unit_of(30000) not in routing.claimed
    assert routing.apply(changes(slice_("web", ["10.0.0.5"]))).routes == frozenset()


def test_an_auto_route_that_lost_the_last_port_is_among_the_changed() -> None:
    auto = route("auto", "auto", created_seconds=5)
    routing = routing_of(auto, pool=pool_of({"ports": ["30000"]}))
    old = route("old", 30000, created_seconds=1)
    assert routing.apply(changes(old)).routes == {old.key, auto.key}
    assert reason(routing, auto) == Reason.POOL_EXHAUSTED
    assert routing.apply(gone(old)).routes == {old.key, auto.key}
    assert routing.autos.ports == {"demo/auto": 30000}


# Any sequence of events

NAMES = ["web", "api"]
ROUTES = st.builds(
    lambda name, share, **rest: route(name, also=[share] if share else [], **rest),
    name=st.sampled_from("abcd"),
    share=st.none() | st.tuples(st.sampled_from(NAMES), st.integers(0, 2)),
    port=st.sampled_from(["30000", "30001", "auto", "x"]),
    service=st.sampled_from(NAMES),
    weight=st.integers(0, 2),
    target_port=st.sampled_from([None, None, "http", "9000"]),
    created_seconds=st.sampled_from([1.0, 2.0]),
    router_name=st.sampled_from([ROUTER, ROUTER, ROUTER, "other"]),
)
SERVICES = st.builds(
    service,
    st.sampled_from(NAMES),
    st.sampled_from([ServicePort("", 80, "TCP", "9000"), ServicePort("http", 80, "TCP", "9000")]),
)
OUTSIDE = st.builds(
    external, st.sampled_from(NAMES), st.sampled_from(["db.example", "mq.example", "10.0.0.7"])
)
ANSWERS = st.builds(
    DNSAnswer,
    st.sampled_from(["db.example", "mq.example"]),
    st.sampled_from([(), ("10.0.0.8",), ("10.0.0.8", "10.0.0.9")]),
    st.sampled_from(["", "DNS failed"]),
)
SLICES = st.builds(
    slice_,
    st.sampled_from(NAMES),
    st.lists(
        st.builds(
            endpoint,
            st.sampled_from(["10.0.0.1", "10.0.0.2", "nonsense"]),
            ready=st.booleans(),
            serving=st.just(True),
            terminating=st.just(True),
        ),
        max_size=2,
    ),
    name=st.sampled_from("xy"),
    port_name=st.sampled_from(["", "http"]),
    legacy=st.sampled_from([False, False, True]),
)
OWN = st.builds(
    lambda ips: LocalAddresses(tuple(sorted(ips))),
    st.frozensets(st.sampled_from(["10.0.0.1", "10.0.0.8"])),
)
FRONT = st.builds(
    ServiceAddresses,
    st.just("ingress"),
    st.just("edge"),
    st.sampled_from([(), ("10.0.0.9",)]),
    st.sampled_from([(), ("db.example",)]),
    st.just(frozenset({80})),
    st.just(frozenset()),
)
REPLICAS = st.builds(
    lambda ips: slice_("edge", ips, namespace="ingress"),
    st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.7"]), max_size=2),
)
CHANGES = st.builds(
    lambda item, alive: Change(item.key, item if alive else None),
    st.one_of(ROUTES, SERVICES, SLICES, OUTSIDE, ANSWERS, OWN, FRONT, REPLICAS),
    st.sampled_from([True, True, True, False]),
)


def final(history: Iterable[Iterable[Change]]) -> list[Object]:
    now = {change.key: change.object for batch in history for change in batch}
    return [item for item in now.values() if item is not None]


def told(routing: Routing) -> dict[Key, Verdict]:
    return {item.route: item for item in routing.verdicts()}


@given(st.lists(st.lists(CHANGES, max_size=6), max_size=10))
def test_the_end_is_the_same_as_from_scratch(history: list[list[Change]]) -> None:
    routing = routing_of()
    for batch in history:
        claimed = dict(routing.claimed)
        verdicts = told(routing)
        changed = routing.apply(batch)
        either = claimed.keys() | routing.claimed.keys()
        differ = {unit for unit in either if claimed.get(unit) != routing.claimed.get(unit)}
        assert changed.units >= differ
        now = told(routing)
        keys = verdicts.keys() | now.keys()
        assert changed.routes >= {key for key in keys if verdicts.get(key) != now.get(key)}
    fresh = routing_of(*reversed(final(history)), kept=routing.autos.ports)
    assert fresh.claimed == routing.claimed
    assert fresh.verdicts() == routing.verdicts()
    assert fresh.autos.ports == routing.autos.ports
    assert fresh.names == routing.names


# What a change costs


def test_of_thousands_of_endpoints_only_those_of_the_changed_slice_are_looked_at() -> None:
    """Counted where each address has to pass: is it denied?"""
    looked_at: list[str] = []

    def denied(ip: str) -> bool:
        looked_at.append(ip)
        return ip.endswith(".99")

    def one_slice(number: int, new: str) -> EndpointSet:
        ips = [*(f"10.1.{number}.{host}" for host in range(1, 100)), new]
        return slice_("web", ips, name=f"web-{number}")

    routing = routing_for(TCPPorts(POOL), denied=denied)
    slices = [one_slice(number, f"10.2.{number}.1") for number in range(50)]
    routing.apply(changes(route(), service(), *slices))
    assert routing.claim(unit_of(30000))
    assert len(looked_at) == 5000
    for number in (3, 4, 3):
        looked_at.clear()
        routing.apply(changes(one_slice(number, new := f"10.3.{len(looked_at)}.{number}")))
        claimed = routing.claim(unit_of(30000))
        assert claimed
        assert sum(server.address.ip == new for server in claimed.resolution.servers) == 1
        assert len(claimed.resolution.servers) == 5000 - 50
        assert claimed.resolution.message.startswith("50 endpoints skipped")
        assert len(looked_at) <= 100
    # A Service that says the same costs no look at all, one with another port costs all.
    looked_at.clear()
    routing.apply(changes(service("web", ServicePort("", 81, "TCP", "x"))))
    assert routing.claim(unit_of(30000))
    assert looked_at == []
    routing.apply(changes(service("web", ServicePort("http", 81, "TCP", "x"))))
    claimed = routing.claim(unit_of(30000))
    assert claimed
    assert claimed.resolution.servers == ()


def test_endpoints_of_a_service_with_thousands_of_waiting_routes_touch_its_owner_alone() -> None:
    waiting = [route(f"r{number}", 30000, "web", created_seconds=2.0) for number in range(1000)]
    routing = routing_of(route(created_seconds=1.0), service(), *waiting)
    changed = routing.apply(changes(slice_("web", ["10.0.0.1"])))
    assert changed == Changed(units(30000), frozenset({route().key}))
