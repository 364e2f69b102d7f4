"""Ports that Routes share by SNI: who has what of them, and what is said of each Route."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from core import POOL
from hypothesis import given
from hypothesis import strategies as st
from parts import host_rules, routing_for, web_for
from stand import changes, pool_of, route, service, slice_

from sidecar.haproxy.naming import web_backend_names
from sidecar.listeners.tcp import TCPPorts, is_for_host, key_of, unit_of
from sidecar.model.change import Change
from sidecar.model.desired import ClaimKey
from sidecar.model.objects import Key, Object, Route
from sidecar.model.verdicts import Reason
from sidecar.routing.table import Routing
from sidecar.routing.web_places import PORTS

#: Two ports that may be shared, and one that may not.
SHAREABLE = pool_of({"ports": ["30000-30001"], "shared_by_sni": True}, {"ports": ["31000"]})
RULES = host_rules(wildcards=True, denied_domains=("denied.test",))
BACKENDS = web_backend_names("passthrough", 8)


def for_host(name: str, host: str = "a.test", port: object = 30000, **rest: Any) -> Route:
    """A Route that claims ``port`` for ``host``. ``policy``: its wildcardPolicy, ``path``: its
    path; the rest as for `route`."""
    policy, path = rest.pop("policy", ""), rest.pop("path", "")
    item = route(name, port, **{"termination": "passthrough", **rest})
    return replace(item, host=host, wildcard_policy=policy, path=path)


def routing_of(*objects: Object) -> Routing:
    web = web_for({"passthrough": BACKENDS}, RULES, listeners=())
    ports = TCPPorts(SHAREABLE)
    routing = routing_for(ports, web=web)
    routing.adopt({})
    routing.apply(changes(*objects))
    return routing


@pytest.mark.parametrize(
    ("item", "port", "expected"),
    [
        (for_host("r"), 30000, True),
        (for_host("r", port=31000), 31000, False),
        (for_host("r", host=""), 30000, False),
        (for_host("r", termination=None), 30000, False),
        (replace(for_host("r"), host_generated=True), 30000, False),
    ],
)
def test_who_claims_a_port_for_a_host(*, item: Route, port: int, expected: bool) -> None:
    assert is_for_host(item, port, SHAREABLE) is expected
    assert not is_for_host(item, 30000, POOL)


def test_a_shared_port_has_no_servers_and_is_open() -> None:
    item = for_host("web")
    routing = routing_of(item, service("web"), slice_("web", ["10.0.0.1"]))
    claimed = routing.claim(unit_of(30000))
    assert claimed is not None
    assert (claimed.shared, claimed.resolution.servers) == (True, ())
    assert claimed.keys == {key_of(30000)}
    unit = routing.owned(item.key)
    assert unit in BACKENDS
    own = routing.claim(unit)
    assert own is not None
    assert own.keys == {ClaimKey(PORTS, "30000/a.test")}
    assert [str(server.address) for server in own.resolution.servers] == ["10.0.0.1:9000"]
    assert routing.needs(item.key) == [unit, unit_of(30000)]
    assert routing.subject(unit) == "host a.test on port 30000"


@pytest.mark.parametrize(
    ("item", "reason", "message"),
    [
        (for_host("r", "bad_host"), Reason.INVALID_HOST, "'bad_host'"),
        (for_host("r", "a.denied.test"), Reason.ROUTE_NOT_ADMITTED, "denied domains"),
        (for_host("r", policy="Other"), Reason.ROUTE_NOT_ADMITTED, "'Other'"),
        (for_host("r", path="/x"), Reason.INVALID_PATH, "does not support paths"),
    ],
)
def test_who_may_not_have_its_host_is_in_nobodys_way(
    item: Route, reason: Reason, message: str
) -> None:
    item = replace(item, created_seconds=1)
    whole = route("whole", created_seconds=2)
    routing = routing_of(item, whole)
    said = routing.verdict(item.key)
    assert said is not None
    assert (said.port, said.reason) == (30000, reason)
    assert message in said.message
    assert routing.owned(whole.key) == unit_of(30000)


def test_no_wildcards_by_default() -> None:
    web = web_for({"passthrough": BACKENDS}, listeners=())
    routing = routing_for(TCPPorts(SHAREABLE), web=web)
    routing.apply(changes(for_host("r", "x.a.test", policy="Subdomain")))
    (said,) = routing.verdicts()
    assert said.message == "wildcard routes are not allowed"


def test_who_waits_is_not_told_for_whom() -> None:
    secret = for_host("secret", namespace="other", created_seconds=1)
    whole, rival = route("whole", created_seconds=2), for_host("rival", created_seconds=3)
    said = [routing_of(secret, whole, rival).verdict(item.key) for item in (whole, rival)]
    messages = [item.message for item in said if item]
    assert len(messages) == 2
    assert not any("secret" in text or "other/" in text for text in messages)


def test_auto_takes_no_port_that_is_shared_and_has_all_of_its_own() -> None:
    auto = for_host("auto", port="auto", created_seconds=2)
    routing = routing_of(for_host("web", created_seconds=1), auto)
    assert routing.owned(auto.key) == unit_of(30001)
    # One that has a port moves on when somebody older claims it for a host.
    routing.apply([Change(for_host("web").key, None)])
    routing.apply(changes(for_host("older", port=30001, created_seconds=1)))
    assert routing.owned(auto.key) == unit_of(30000)


def test_everybody_is_told_of_who_shares_when_the_port_turns() -> None:
    one, two = for_host("one", created_seconds=2), for_host("two", "b.test", created_seconds=3)
    whole = route("whole", created_seconds=1)
    routing = routing_of(one, two)
    units = {routing.owned(one.key), routing.owned(two.key)}
    changed = routing.apply(changes(whole))
    assert changed.units == {unit_of(30000), *units}
    assert changed.routes >= {one.key, two.key, whole.key}
    assert routing.web
    routing.web.saved()
    changed = routing.apply([Change(whole.key, None)])
    assert changed.routes >= {one.key, two.key, whole.key}
    assert routing.owners(unit_of(30000)) == [one.key, two.key]


CLAIMS = st.builds(
    lambda number, whole, host, port, namespace, age: (
        route(f"r{number}", port, namespace=namespace, created_seconds=age)
        if whole
        else for_host(
            f"r{number}",
            host,
            port,
            namespace=namespace,
            created_seconds=age,
            policy="Subdomain" if host.startswith("any") else "",
        )
    ),
    st.integers(0, 5),
    st.sampled_from([True, False, False]),
    st.sampled_from(["a.test", "b.test", "any.test", "a.other"]),
    st.sampled_from([30000, 30000, 30001, 31000]),
    st.sampled_from(["n", "m"]),
    st.integers(0, 4),
)
HISTORIES = st.lists(st.lists(st.tuples(CLAIMS, st.booleans()), max_size=3), max_size=8)


def in_the_way(one: Route, other: Route) -> bool:
    """Whether two Routes cannot both be active, as README and reference say it."""
    if one.port != other.port:
        return False
    if not (is_for_host(one, int(one.port or 0), SHAREABLE)) or not (
        is_for_host(other, int(other.port or 0), SHAREABLE)
    ):
        return True

    def patterns(item: Route) -> tuple[str, str]:
        wildcard = f"*.{item.host.partition('.')[2]}"
        return (wildcard, wildcard) if item.wildcard_policy else (item.host, wildcard)

    (first, around), (second, beside) = patterns(one), patterns(other)
    if first == second:
        return True
    return one.namespace != other.namespace and (around == second or beside == first)


def active(routes: Iterable[Route]) -> set[Key]:
    found: list[Route] = []
    for item in sorted(routes, key=lambda item: (item.created_seconds, item.uid, item.key)):
        if not any(in_the_way(item, older) for older in found):
            found.append(item)
    return {item.key for item in found}


@given(HISTORIES)
def test_the_oldest_first_after_any_history(history: list[list[tuple[Route, bool]]]) -> None:
    routing, there = routing_of(), dict[Key, Route]()
    for step in history:
        now = {item.key: item if comes else None for item, comes in step}
        routing.apply([Change(key, item) for key, item in now.items()])
        for key, item in now.items():
            if item:
                there[key] = item
            else:
                there.pop(key, None)
        assert routing.web
        routing.web.saved()
        routing.apply([])
        served = {key for key in there if routing.owned(key)}
        assert served == active(there.values())
        for key, item in there.items():
            port = int(item.port or 0)
            shared = is_for_host(item, port, SHAREABLE)
            unit = routing.owned(key)
            if unit:
                assert (unit in BACKENDS) is shared
                claimed, of_port = routing.claim(unit), routing.claim(unit_of(port))
                assert claimed is not None
                assert of_port is not None
                assert claimed.route == item
                assert of_port.shared is shared
                assert key in routing.owners(unit_of(port))
            said = routing.verdict(key)
            assert said is not None
            assert said.port == port
            assert (said.reason in (Reason.PORT_ALREADY_CLAIMED, Reason.HOST_ALREADY_CLAIMED)) is (
                unit is None
            )
        for port in SHAREABLE.ports:
            is_claimed = any(item.port == str(port) for item in there.values())
            assert (routing.claim(unit_of(port)) is not None) is is_claimed
