"""`auto` ports in a cluster: proposed by the ledger, kept on the Route, the same for everybody."""

from dataclasses import replace

import pytest
from core import POOL, PortLedger, refusal, take
from hypothesis import given
from hypothesis import strategies as st
from parts import routing_for
from stand import changes, pool_of, route

from sidecar.listeners.tcp import TCPPorts
from sidecar.model.objects import Key, Route
from sidecar.model.verdicts import Reason


def fed(*routes: Route) -> PortLedger:
    ledger = PortLedger(POOL, None)
    take(ledger, *routes)
    return ledger


def test_an_auto_route_waits_until_its_port_is_written() -> None:
    web = route("web", "auto")
    ledger = fed(web, route("named", 30000))
    assert refusal(ledger, web).reason == Reason.PORT_PENDING
    assert ledger.proposed_ports == {web.key: 30001}
    take(ledger, replace(web, kept_port="30001"))
    assert ledger.owned(web.key) == 30001
    assert ledger.proposed_ports == {}


@pytest.mark.parametrize("kept", ["", "x", "30001x", "0", "99999", "31000", "-1", "3 0001"])
def test_a_kept_port_that_cannot_be_is_proposed_anew(kept: str) -> None:
    web = route("web", "auto", kept_port=kept)
    ledger = fed(web)
    assert ledger.owned(web.key) is None
    assert ledger.proposed_ports == {web.key: 30000}


def test_a_kept_port_is_nothing_to_a_route_that_names_its_own() -> None:
    web = route("web", 30002, kept_port="30001")
    assert fed(web).owned(web.key) == 30002


def test_an_older_claim_displaces_a_kept_port_which_is_proposed_anew() -> None:
    web = route("web", "auto", kept_port="30000", created_seconds=2.0)
    old = route("old", 30000, created_seconds=1.0)
    ledger = fed(web)
    take(ledger, old)
    assert ledger.owned(old.key) == 30000
    assert refusal(ledger, web).reason == Reason.PORT_PENDING
    assert ledger.proposed_ports == {web.key: 30001}
    take(ledger, web)
    assert ledger.proposed_ports == {web.key: 30001}


@pytest.mark.parametrize("waits", [False, True])
def test_a_port_that_still_stands_in_the_annotation_is_given_back(waits: bool) -> None:
    web = route("web", "auto", kept_port="30000", created_seconds=2.0)
    old = route("old", 30000, created_seconds=1.0)
    others = [route("x", 30001, created_seconds=0.0), route("y", 30002, created_seconds=0.0)]
    young = [route("young", 30000, created_seconds=3.0)] * waits
    ledger = fed(web, *others, *young)
    take(ledger, old)
    assert refusal(ledger, web).reason == Reason.POOL_EXHAUSTED
    # To write the same once more would change nothing, and nobody would hear of it.
    assert take(ledger, gone=[old]) == {30000}
    assert ledger.owned(web.key) == 30000
    assert ledger.proposed_ports == {}


def test_a_proposal_stays_while_it_is_on_its_way() -> None:
    second, first = route("b", "auto", created_seconds=2.0), route("a", "auto", created_seconds=1.0)
    ledger = fed(second)
    assert ledger.proposed_ports == {second.key: 30000}
    take(ledger, first)
    assert ledger.proposed_ports == {second.key: 30000, first.key: 30001}


def test_routes_whose_proposal_comes_or_goes_are_looked_at_again() -> None:
    routing = routing_for(TCPPorts(pool_of({"ports": ["30000"]})), kept=None)
    web = route("web", "auto", created_seconds=2.0)
    named = route("named", 30000, created_seconds=1.0)
    assert web.key in routing.apply(changes(web)).routes
    assert web.key in routing.apply(changes(named)).routes
    verdict = routing.verdict(web.key)
    assert verdict is not None
    assert verdict.reason == Reason.POOL_EXHAUSTED


NAMES = st.sampled_from("abcdef")
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"),
            NAMES,
            st.sampled_from(["auto", "auto", 30000, 30001]),
            st.integers(0, 3),
        ),
        st.tuples(st.just("remove"), NAMES, st.none(), st.none()),
        st.tuples(st.just("write"), NAMES, st.none(), st.none()),
        st.tuples(st.just("meddle"), NAMES, st.sampled_from([None, "30000", "30002"]), st.none()),
    ),
    max_size=30,
)


@given(STEPS)
def test_replicas_agree_and_everybody_gets_a_port_in_the_end(
    steps: list[tuple[str, str, object, int | None]],
) -> None:
    leader, routes = PortLedger(POOL, None), dict[Key, Route]()

    def put(item: Route) -> None:
        routes[item.key] = item
        take(leader, item)

    def write(key: Key) -> None:
        put(replace(routes[key], kept_port=str(leader.proposed_ports[key])))

    def check() -> None:
        follower = PortLedger(POOL, None)
        take(follower, *routes.values())
        assert [leader.queue(port) for port in POOL.ports] == [
            follower.queue(port) for port in POOL.ports
        ]
        proposed = leader.proposed_ports
        assert len(set(proposed.values())) == len(proposed)
        assert not any(leader.queue(port) for port in proposed.values())
        for key, item in routes.items():
            if item.port == "auto" and (port := leader.owned(key)):
                assert str(port) == item.kept_port
                assert key not in proposed

    for step, name, value, age in steps:
        key = route(name).key
        if step == "put":
            kept = routes[key].kept_port if key in routes else None
            put(route(name, value, created_seconds=float(age or 0), kept_port=kept))
        elif step == "remove" and key in routes:
            take(leader, gone=[routes.pop(key)])
        elif step == "write" and key in leader.proposed_ports:
            write(key)
        elif step == "meddle" and key in routes:
            put(replace(routes[key], kept_port=value if isinstance(value, str) else None))
        check()
    # Each write settles one Route, or moves on one that lost its port to an older claim.
    for _ in range(len(routes)):
        if leader.proposed_ports:
            write(next(iter(leader.proposed_ports)))
            check()
    assert not leader.proposed_ports
    autos = [key for key, item in routes.items() if item.port == "auto"]
    free = [port for port in POOL.classes[0].ports if not leader.queue(port)]
    assert not free or all(leader.owned(key) for key in autos)
