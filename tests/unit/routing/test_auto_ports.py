"""`sidecar.routing.claims`: the ports of Routes that leave the choice to us."""

from dataclasses import replace

import pytest
from core import fed, refusal, take
from stand import pool_of, route

from sidecar.model.objects import RouteTLS
from sidecar.model.verdicts import Reason


def test_auto_takes_the_lowest_port_that_nobody_names_in_the_same_update() -> None:
    autos = [route(name, "auto", created_seconds=1) for name in "ab"]
    ledger = fed(*autos, route("young", 30000, created_seconds=2))
    assert [ledger.owned(item.key) for item in autos] == [30001, 30002]
    assert ledger.auto_ports == {"demo/a": 30001, "demo/b": 30002}


def test_auto_takes_from_the_first_pool_that_allows_it_and_from_no_other() -> None:
    pool = pool_of(
        {"ports": ["31000"], "namespaces": ["team-a"]},
        {"ports": ["30000"]},
        {"ports": ["32000"], "accept_proxy": True},
    )
    ledger = fed(
        *(route(name, "auto") for name in "ab"), route("c", "auto", namespace="team-a"), pool=pool
    )
    assert ledger.auto_ports == {"demo/a": 30000, "team-a/c": 31000}
    assert refusal(ledger, route("b")).reason == Reason.POOL_EXHAUSTED


@pytest.mark.parametrize(
    "edit",
    [{"target_port": "http"}, {"created_seconds": 5.0}, {"port": " auto"}, {"tls": RouteTLS()}],
    ids=str,
)
def test_an_auto_port_is_kept_through_edits(edit: dict[str, object]) -> None:
    ledger = fed(first := route("a", "auto"), auto := route("b", "auto"))
    assert take(ledger, gone=[first]) == {30000}
    take(ledger, replace(auto, **edit), route("young", 30001))  # type: ignore[arg-type]
    assert ledger.owned(auto.key) == 30001


@pytest.mark.parametrize(
    "away",
    [{"router_name": "other"}, {"tls": RouteTLS("edge")}, {"port": "30002"}, {"port": "x"}],
    ids=str,
)
def test_an_auto_route_that_went_away_takes_nothing_back_by_force(away: dict[str, str]) -> None:
    ledger = fed(auto := route("old", "auto", created_seconds=1))
    take(ledger, replace(auto, **away))  # type: ignore[arg-type]
    take(ledger, young := route("young", 30000, created_seconds=2))
    take(ledger, auto)
    assert (ledger.owner(30000), ledger.owned(auto.key)) == (young, 30001)


def test_an_auto_port_outlives_a_restart_of_the_sidecar() -> None:
    kept = {"demo/b": 30002, "demo/gone": 30000}
    ledger = fed(*(route(name, "auto") for name in "ab"), kept=kept)
    assert ledger.auto_ports == {"demo/a": 30000, "demo/b": 30002}


@pytest.mark.parametrize("port", [29999, 31000, 70000], ids=["no pool", "not allowed", "no port"])
def test_a_kept_port_that_is_no_longer_possible_is_replaced(port: int) -> None:
    assert fed(route("a", "auto"), kept={"demo/a": port}).auto_ports == {"demo/a": 30000}


def test_a_port_kept_for_two_goes_to_the_older() -> None:
    routes = [route("a", "auto"), route("b", "auto", created_seconds=1)]
    ledger = fed(*routes, kept={"demo/a": 30001, "demo/b": 30001})
    assert ledger.auto_ports == {"demo/b": 30001, "demo/a": 30000}


@pytest.mark.parametrize("at_once", [True, False])
def test_a_route_made_anew_is_another_one(at_once: bool) -> None:
    ledger = fed(first := route("a", "auto"), old := route("b", "auto", uid="life-1"))
    assert ledger.owned(old.key) == 30001
    new = replace(old, uid="life-2")
    if not at_once:
        take(ledger, gone=[old])
    take(ledger, new, gone=[first])
    assert ledger.auto_ports == {"life-2": 30000}


def test_two_routes_of_one_uid_do_not_trade_their_ports() -> None:
    ledger = fed(*(copies := [route(name, "auto", uid="copied") for name in "ab"]))
    before = [ledger.owned(item.key) for item in copies]
    for item in copies:
        assert take(ledger, replace(item, target_port="http")) == {ledger.owned(item.key)}
    assert [ledger.owned(item.key) for item in copies] == before == [30000, 30001]


def test_an_older_explicit_claim_displaces_auto_which_gets_another() -> None:
    ledger = fed(auto := route("a", "auto", created_seconds=5))
    old = route("old", 30000, created_seconds=1)
    assert take(ledger, old) == {30000, 30001}
    assert (ledger.owner(30000), ledger.owned(auto.key)) == (old, 30001)
    take(ledger, gone=[old])
    assert ledger.owned(auto.key) == 30001


def test_a_younger_explicit_claim_waits_behind_auto() -> None:
    ledger = fed(auto := route("a", "auto", created_seconds=1))
    take(ledger, young := route("young", 30000, created_seconds=2))
    assert refusal(ledger, young).reason == Reason.PORT_ALREADY_CLAIMED
    take(ledger, gone=[auto])
    assert ledger.owner(30000) == young


def test_an_exhausted_pool_is_said_and_over_when_a_port_is_free() -> None:
    pool = pool_of({"ports": ["30000"]})
    ledger = fed(holder := route("a", 30000), waiting := route("b", "auto"), pool=pool)
    verdict = refusal(ledger, waiting)
    assert (verdict.reason, verdict.port) == (Reason.POOL_EXHAUSTED, None)
    assert "'p0' (30000)" in verdict.message
    assert take(ledger, gone=[holder]) == {30000}
    assert ledger.auto_ports == {"demo/b": 30000}


def test_an_auto_route_that_lost_the_last_port_has_no_right_to_it_any_more() -> None:
    ledger = fed(auto := route("a", "auto", created_seconds=5), pool=pool_of({"ports": ["30000"]}))
    take(ledger, old := route("old", 30000, created_seconds=1))
    take(ledger, young := route("young", 30000, created_seconds=9), gone=[old])
    assert take(ledger, replace(auto, target_port="http")) == set()
    assert ledger.owner(30000) == young
