"""`sidecar.routing.web`: which Route by host is served, and which entry of a map is whose."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from core import PORTS
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import host_rules, routing_for, web_for
from stand import ROUTER, changes, route, service, slice_

from sidecar.common.secret_text import SecretText
from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.own_certificates import self_signed
from sidecar.listeners.tcp import unit_of
from sidecar.model.certificates import ServerCertificate
from sidecar.model.change import Change
from sidecar.model.desired import ClaimKey, Unit
from sidecar.model.objects import Key, Route, RouteTLS
from sidecar.model.pool import WebClassName
from sidecar.model.verdicts import Reason
from sidecar.policies.base import NO_POLICIES
from sidecar.routing.host_certificates import Shown
from sidecar.routing.table import Routing
from sidecar.routing.web import Web, WebRoutes
from sidecar.routing.web_places import HOSTS

UNITS: dict[WebClassName, list[Unit]] = {
    "http": [web_backend_name("http", number) for number in (1, 2, 3)],
    "passthrough": [web_backend_name("passthrough", number) for number in (1, 2)],
}
ALL_UNITS = [unit for units in UNITS.values() for unit in units]
ONE, TWO, THREE = UNITS["http"]


def by_host(name: str = "web", host: str = "a.test", path: str = "", **rest: Any) -> Route:
    """A Route by host. ``policy``: its wildcardPolicy; the rest as for `route`."""
    policy = rest.pop("policy", "")
    item = route(name, None, **{"router_name": None, **rest})
    return replace(item, host=host, path=path, wildcard_policy=policy)


def new_web(units: Mapping[WebClassName, list[Unit]] = UNITS) -> Web:
    web = web_for(units, host_rules(wildcards=True))
    web.adopt({})
    return web


def fed(*routes: Route) -> Web:
    web = new_web()
    web.update({item.key: item for item in routes})
    return web


def entry(name: str, listener: str = HOSTS) -> ClaimKey:
    return ClaimKey(listener, name)


def names(web: Web, item: Route) -> set[str]:
    """The entries that lead to a Route."""
    unit = web.unit(item.key)
    return {key.name for key in web.keys(unit)} if unit else set()


def reason(web: Web, item: Route) -> Reason:
    verdict = web.verdict(item.key)
    assert verdict is not None
    return verdict.reason


# Entries


def test_the_longer_path_has_what_two_have_in_common() -> None:
    plain, slash = by_host("plain", path="/a"), by_host("slash", path="/a/")
    web = fed(plain)
    assert names(web, plain) == {"0a.test/a?", "0a.test/a/"}
    units, _ = web.update({slash.key: slash})
    assert units == {ONE, TWO}
    assert names(web, plain) == {"0a.test/a?"}
    assert names(web, slash) == {"0a.test/a/"}
    units, _ = web.update({slash.key: None})
    assert units == {ONE, TWO}
    assert names(web, plain) == {"0a.test/a?", "0a.test/a/"}
    assert web.granted(entry("0a.test/a/")) == ONE


def test_passthrough_has_an_entry_of_its_own() -> None:
    passed = by_host("passed", termination="passthrough")
    plain = by_host("plain", path="/a")
    wild = by_host("wild", "www.b.test", termination="passthrough", policy="Subdomain")
    web = fed(passed, plain, wild)
    assert names(web, passed) == {"a.test"}
    assert names(web, plain) == {"0a.test/a?", "0a.test/a/"}
    assert names(web, wild) == {"*.b.test"}


def test_a_route_without_a_backend_takes_no_entry_from_others() -> None:
    plain = by_host("plain", path="/a", created_seconds=1)
    slash = by_host("slash", path="/a/", created_seconds=4)
    others = [by_host(f"x{n}", f"x{n}.test", created_seconds=n) for n in (2, 3)]
    web = fed(plain, slash, others[0])
    assert names(web, plain) == {"0a.test/a?"}
    units, _ = web.update({others[1].key: others[1]})
    assert reason(web, slash) == Reason.POOL_EXHAUSTED
    # It is told of whoever has the entry now, too.
    assert names(web, plain) == {"0a.test/a?", "0a.test/a/"}
    assert {web.unit(plain.key)} <= units


# Backends


def test_a_backend_is_not_another_routes_before_what_is_saved_says_so() -> None:
    first, second = by_host("first"), by_host("second", "b.test")
    web = web_for({"http": [ONE]})
    web.adopt({})
    web.update({first.key: first})
    dirty = {ONE}
    web.is_clean = lambda unit: unit not in dirty
    web.update({first.key: None, second.key: second})
    assert web.unit(second.key) is None
    web.saved()
    web.settle()
    assert web.unit(second.key) is None
    dirty.clear()
    web.settle()
    assert web.unit(second.key) is None
    web.saved()
    assert web.settle() == {ONE}
    assert web.unit(second.key) == ONE


def test_who_has_none_is_told_why() -> None:
    first, second = by_host("first"), by_host("second", "b.test")
    web = web_for({"http": [ONE]})
    web.update({first.key: first, second.key: second})
    # What HAProxy has is not known yet.
    assert reason(web, second) == Reason.ADMITTED
    web.adopt({})
    verdict = web.verdict(second.key)
    assert verdict is not None
    assert verdict.reason == Reason.POOL_EXHAUSTED
    assert "all 1 backends" in verdict.message
    assert "web.backends" in verdict.message
    # One is free, but not yet.
    web.update({first.key: None})
    verdict = web.verdict(second.key)
    assert verdict is not None
    assert verdict.reason == Reason.POOL_EXHAUSTED
    assert "former" in verdict.message
    # HAProxy was not started with it.
    web.saved()
    web.is_clean = lambda _: None
    web.settle()
    verdict = web.verdict(second.key)
    assert verdict is not None
    assert "HAProxy lacks 1 of 1" in verdict.message


def test_a_backend_that_was_given_back_unused_waits_to_be_saved_too() -> None:
    web = web_for({"http": [ONE]})
    web.adopt({})
    item = by_host("web")
    web.update({item.key: item})
    assert not web.waits_for_saving()
    web.update({item.key: None})
    assert web.waits_for_saving()
    web.saved()
    assert not web.waits_for_saving()


def test_a_kind_that_has_no_listener() -> None:
    edge, passed = (
        by_host("edge", termination="edge"),
        by_host("p", "b.test", termination="passthrough"),
    )
    web = web_for({"http": [ONE]}, listeners=["http"])
    web.update({item.key: item for item in (edge, passed)})
    assert [reason(web, item) for item in (edge, passed)] == [Reason.UNSUPPORTED_TERMINATION] * 2


@pytest.mark.parametrize(
    ("termination", "policy", "listeners", "wanted"),
    [
        (None, "", "http tls", "0a.test? 0a.test/"),
        (None, "", "tls", ""),
        ("edge", "", "http tls", "1a.test? 1a.test/"),
        ("edge", "None", "http tls", "1a.test? 1a.test/"),
        ("edge", "Allow", "http tls", "0a.test? 0a.test/ 1a.test? 1a.test/"),
        ("edge", "Redirect", "http tls", "0a.test? 0a.test/ 1a.test? 1a.test/"),
        ("edge", "Allow", "tls", "1a.test? 1a.test/"),
        ("edge", "Allow", "http", "0a.test? 0a.test/"),
        ("passthrough", "", "http tls", "a.test"),
        ("passthrough", "Redirect", "http tls", "0a.test? 0a.test/ a.test"),
        ("passthrough", "Redirect", "tls", "a.test"),
    ],
)
def test_the_entries_by_termination_and_listener(
    termination: str | None, policy: str, listeners: str, wanted: str
) -> None:
    item = by_host(termination=termination)
    if item.tls:
        item = replace(item, tls=replace(item.tls, insecure_policy=policy))
    web = web_for(UNITS, listeners=listeners.split())  # type: ignore[arg-type]
    web.adopt({})
    web.update({item.key: item})
    assert names(web, item) == set(wanted.split())
    unit = web.unit(item.key)
    attributes = web.attributes(unit, NO_POLICIES) if unit else {}
    told = {"routes": "demo/web", "flags": "-"} if wanted else {}
    if wanted and policy == "Redirect" and termination is not None:
        told["flags"] = "r"
    # The session cookie is for TLS only where no request in clear may have it.
    if wanted and termination == "edge" and policy != "Allow":
        told["policies"] = "s"
    assert attributes == told


@pytest.mark.parametrize(("termination", "policy"), [("edge", "Unknown"), ("passthrough", "Allow")])
def test_a_route_with_bad_tls_has_no_backend(termination: str, policy: str) -> None:
    bad, good = by_host("bad", termination=termination), by_host("good", "b.test")
    assert bad.tls
    bad = replace(bad, tls=replace(bad.tls, insecure_policy=policy))
    web = fed(bad, good)
    assert reason(web, bad) == Reason.EXTENDED_VALIDATION_FAILED
    assert web.unit(bad.key) is None
    assert web.unit(good.key) == ONE


def test_an_entry_waits_for_the_certificate_of_its_host_and_then_stays() -> None:
    made, renewed, other = (self_signed("a.test", 0.0) for _ in range(3))
    first = with_certificate(by_host(termination="edge", namespace="one"), made)
    web = fed(first)
    unit, entries = web.unit(first.key), {"1a.test?", "1a.test/"}
    assert unit
    assert names(web, first) == set()
    assert web.granted(entry("1a.test/")) is None
    assert web.serve(Shown({"a.test": made.name})) == ({unit}, {first.key})
    assert names(web, first) == entries
    assert web.granted(entry("1a.test/")) == unit
    # While it is renewed, it goes on, with more entries and another backend, too.
    first = with_certificate(first, renewed)
    web.update({first.key: first})
    assert names(web, first) == entries
    # To one who begins anew, what leads there already says so.
    web = fed(first)
    web.leads_to = lambda key: unit if key.name == "1a.test/" else None
    assert web.serve(Shown({"a.test": made.name})) == ({unit}, {first.key})
    assert names(web, first) == {"1a.test/"}
    # Another Route's may not lead there before, and nobody hands anything over to it.
    second = with_certificate(by_host("new", termination="edge", namespace="two"), other)
    web.update({first.key: None, second.key: second})
    assert names(web, second) == set()
    assert web.granted(entry("1a.test/")) is None


def with_certificate(item: Route, made: ServerCertificate) -> Route:
    tls = RouteTLS("edge", certificate=SecretText(made.pem.decode()))
    return replace(item, tls=tls)


def test_a_route_with_a_certificate_in_a_secret_is_refused() -> None:
    item = by_host(termination="edge")
    assert item.tls
    item = replace(item, tls=replace(item.tls, external_certificate="web-tls"))
    web = fed(item)
    assert reason(web, item) == Reason.EXTERNAL_CERTIFICATE_VALIDATION_FAILED
    assert web.unit(item.key) is None


def test_after_a_restart_the_entry_of_two_says_nothing_of_the_shorter_path() -> None:
    plain = by_host("plain", path="/a", created_seconds=1)
    slash = by_host("slash", path="/a/", created_seconds=2)
    web = web_for({"http": [ONE, TWO, THREE]})
    web.update({item.key: item for item in (plain, slash)})
    web.is_clean = lambda unit: unit != TWO
    # The older one came while no sidecar ran.
    web.adopt({entry("0a.test/a/"): TWO})
    assert web.unit(slash.key) == TWO
    assert web.unit(plain.key) == ONE


def test_after_a_restart_a_backend_is_not_the_one_routes_by_half_of_anothers_entries() -> None:
    plain = by_host("plain", path="/a", created_seconds=2)
    slash = by_host("slash", path="/a/", created_seconds=1)
    web = web_for({"http": [ONE, TWO, THREE]})
    web.update({item.key: item for item in (plain, slash)})
    web.is_clean = lambda unit: unit != TWO
    # The longer path came while no sidecar ran: both entries still lead to the shorter one's pods.
    web.adopt({entry("0a.test/a?"): TWO, entry("0a.test/a/"): TWO})
    assert web.unit(plain.key) == TWO
    assert web.unit(slash.key) == ONE


def test_a_route_that_was_made_anew_is_as_young_as_it_is() -> None:
    old = by_host("old", created_seconds=1)
    others = [by_host(f"x{n}", f"x{n}.test", created_seconds=n) for n in (2, 3)]
    web = fed(old, *others)
    anew = replace(old, created_seconds=9.0, uid="anew")
    web.update({anew.key: anew})
    newer = by_host("newer", "n.test", created_seconds=4)
    web.update({newer.key: newer})
    assert reason(web, anew) == Reason.POOL_EXHAUSTED


# What no command of HAProxy's can carry


@pytest.mark.parametrize(
    "path", ["/a;b", '/a"b', "/a'b", "/a\\b", "/ä", "/a<<b", "/a?b", "/" + "x" * 2000]
)
def test_a_path_that_haproxy_cannot_be_told_is_refused_and_nobody_else_notices(path: str) -> None:
    bad, good = by_host("bad", path=path), by_host("good")
    web = fed(bad, good)
    assert reason(web, bad) == Reason.INVALID_PATH
    assert web.unit(bad.key) is None
    assert names(web, good) == {"0a.test?", "0a.test/"}


# Any history

NAMES = ["a", "b", "c", "d", "e"]
HOSTS_ASKED = st.sampled_from(["a.test", "b.test"])
ROUTES = st.builds(
    by_host,
    st.sampled_from(NAMES),
    HOSTS_ASKED,
    st.sampled_from(["", "/", "//", "/a", "/a/", "/a/b", "/a;"]),
    created_seconds=st.integers(0, 3).map(float),
    termination=st.sampled_from([None, None, None, "passthrough", "edge"]),
    policy=st.sampled_from(["", "", "Subdomain"]),
    namespace=st.sampled_from(["demo", "demo", "other"]),
)
HISTORIES = st.lists(
    st.lists(
        ROUTES | st.builds(Key, st.just("Route"), st.just("demo"), st.sampled_from(NAMES)),
        max_size=3,
    ),
    max_size=8,
)


def as_changes(items: Iterable[Route | Key]) -> dict[Key, Route | None]:
    return {
        item if isinstance(item, Key) else item.key: None if isinstance(item, Key) else item
        for item in items
    }


def state(web: Web) -> dict[Unit, tuple[Key | None, frozenset[ClaimKey]]]:
    return {unit: (web.owner(unit), web.keys(unit)) for unit in ALL_UNITS}


def said(web: Web) -> dict[Key, object]:
    """Of each Route all but which backend it is."""
    found: dict[Key, object] = {}
    for item in web.routes:
        unit = web.unit(item.key)
        found[item.key] = web.verdict(item.key), web.keys(unit) if unit else None
    return found


def check(web: Web) -> None:
    keys = [key for unit in ALL_UNITS for key in web.keys(unit)]
    assert len(set(keys)) == len(keys)
    for unit in ALL_UNITS:
        assert all(web.granted(key) == unit for key in web.keys(unit))
        owner = web.owner(unit)
        assert owner is None or (web.unit(owner) == unit and web.keys(unit))


@settings(max_examples=300)
@given(HISTORIES)
def test_any_history_ends_as_from_scratch(history: list[list[Route | Key]]) -> None:
    web, now = new_web(), dict[Key, Route]()
    for step in history:
        before, told = state(web), said(web)
        change = as_changes(step)
        units, restated = web.update(change)
        web.saved()
        after = state(web)
        assert {unit for unit in after if after[unit] != before[unit]} <= units
        moved = {key for unit in units for key in (before[unit][0], after[unit][0]) if key}
        for key, what in said(web).items():
            if told.get(key, what) != what and key in told:
                assert key in restated | moved | change.keys()
        check(web)
        for key, item in change.items():
            now.pop(key, None)
            if item:
                now[key] = item
    while web.settle():
        web.saved()
    web.saved()
    web.settle()
    scratch = new_web()
    scratch.update(now)
    scratch.saved()
    scratch.settle()
    assert said(web) == said(scratch)


# Within the whole


def routing_of(*objects: Any, web_routes: WebRoutes = "all") -> Routing:
    web = web_for(UNITS)
    routing = routing_for(PORTS, web=web, web_routes=web_routes)
    routing.apply(changes(*objects))
    routing.adopt({})
    return routing


def test_a_neighbour_gets_its_entries_back() -> None:
    plain, slash = by_host("plain", path="/a"), by_host("slash", path="/a/")
    routing = routing_of(plain, slash, service("plain"), slice_("plain", ["10.0.0.1"]))
    unit = routing.owned(plain.key)
    assert unit is not None
    claimed = routing.claim(unit)
    assert claimed is not None
    assert {key.name for key in claimed.keys} == {"0a.test/a?"}
    changed = routing.apply([Change(slash.key, None)])
    assert unit in changed.units
    claimed = routing.claim(unit)
    assert claimed is not None
    assert {key.name for key in claimed.keys} == {"0a.test/a?", "0a.test/a/"}


def test_an_entry_is_handed_to_who_takes_it() -> None:
    plain, slash = by_host("plain", path="/a"), by_host("slash", path="/a/")
    routing = routing_of(plain, slash)
    one, two = routing.owned(plain.key), routing.owned(slash.key)
    assert one
    assert two
    assert routing.is_handed(entry("0a.test/a/"), one)
    assert not routing.is_handed(entry("0a.test/a/"), two)
    assert not routing.is_handed(entry("0a.test/a?"), one)
    assert not routing.is_handed(entry("0b.test/a?"), one)
    # It fails, say.
    assert not routing.is_handed(entry("0a.test/a/"), one, lambda unit: unit != two)


def test_a_route_turns_from_port_to_host_and_back() -> None:
    port = route("web", 30000)
    host = by_host("web")
    routing = routing_of(port, service("web"), slice_("web", ["10.0.0.1"]))
    for _ in range(2):
        assert routing.owned(port.key) == unit_of(30000)
        changed = routing.apply(changes(host))
        assert changed.units == {unit_of(30000), routing.owned(host.key)}
        assert routing.owned(host.key) in UNITS["http"]
        assert routing.owner(unit_of(30000)) is None
        assert routing.claim(unit_of(30000)) is None
        assert routing.web
        routing.web.saved()
        was = routing.owned(host.key)
        changed = routing.apply(changes(port))
        assert changed.units == {unit_of(30000), was}
        assert [item.reason for item in routing.verdicts()] == [Reason.ADMITTED]
        assert routing.by_host == {}


@pytest.mark.parametrize(
    ("item", "web_routes", "ours"),
    [
        (by_host(), "all", True),
        (by_host(), "annotated", False),
        (by_host(router_name=ROUTER), "annotated", True),
        (by_host(router_name=ROUTER), "all", True),
        (by_host(router_name="another"), "all", False),
        (by_host(router_name="another"), "annotated", False),
        (replace(by_host(router_name="another"), port="30000"), "all", False),
        # A port without a router's name is an unfinished Route by port, and none by host.
        (replace(by_host(), port="30000"), "all", False),
    ],
)
def test_which_routes_are_ours(*, item: Route, web_routes: WebRoutes, ours: bool) -> None:
    routing = routing_of(item, web_routes=web_routes)
    assert routing.has(item.key) is ours
    assert bool(routing.verdicts()) is ours
    assert bool(routing.by_host) is ours


def test_who_gets_no_backend_when_haproxy_is_met_is_told_so() -> None:
    items = [by_host(f"x{n}", f"x{n}.test", created_seconds=n) for n in range(4)]
    web = web_for(UNITS)
    routing = routing_for(PORTS, web=web)
    assert routing.apply(changes(*items)).units == frozenset()
    routing.adopt({})
    changed = routing.apply([])
    assert items[3].key in changed.routes
    verdict = routing.verdict(items[3].key)
    assert verdict is not None
    assert verdict.reason == Reason.POOL_EXHAUSTED
    assert routing.apply([]).routes == frozenset()


def test_who_waits_gets_a_backend_without_any_change() -> None:
    items = [by_host(f"x{n}", f"x{n}.test", created_seconds=n) for n in range(4)]
    routing = routing_of(*items)
    routing.apply([Change(items[0].key, None)])
    assert routing.owned(items[3].key) is None
    assert routing.web
    routing.web.saved()
    changed = routing.apply([])
    assert changed.units == {ONE}
    assert items[3].key in changed.routes
    assert routing.owned(items[3].key) == ONE


@given(HISTORIES)
def test_what_is_claimed_is_what_is_granted(history: list[list[Route | Key]]) -> None:
    routing = routing_of()
    for step in history:
        routing.apply(Change(key, item) for key, item in as_changes(step).items())
        web = routing.web
        assert web
        for unit in ALL_UNITS:
            claimed = routing.claim(unit)
            assert (claimed.route.key if claimed else None) == web.owner(unit)
            assert (claimed.keys if claimed else frozenset()) == web.keys(unit)
