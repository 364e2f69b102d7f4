"""`sidecar.policies.balance`: what a Route wishes, and because of what."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand import route

from sidecar.model.objects import Route, RouteTarget
from sidecar.policies.balance import BALANCE, wished_balance
from sidecar.policies.registry import read


def wishing(text: str | None, *weights: int) -> Route:
    targets = tuple(RouteTarget("Service", f"s{n}", weight) for n, weight in enumerate(weights))
    wishes = () if text is None else ((BALANCE.name, text),)
    return replace(route("web", None), wishes=wishes, targets=targets)


@pytest.mark.parametrize(
    ("text", "weights", "wished"),
    [
        (None, (100,), None),
        (None, (0,), None),
        (None, (100, 0), None),
        (None, (100, 1), "roundrobin"),
        (None, (0, 1, 1), "roundrobin"),
        ("leastconn", (100,), "leastconn"),
        ("source", (100, 100), "source"),
        ("random", (100,), "random"),
        ("roundrobin", (100,), "roundrobin"),
        ("first", (100,), None),
        ("first", (1, 1), "roundrobin"),
        ("Source", (100,), None),
        (" source", (100,), None),
        ("", (100,), None),
    ],
)
def test_what_a_route_wishes(text: str | None, weights: tuple[int, ...], wished: str) -> None:
    assert wished_balance(wishing(text, *weights)) == wished


def test_what_cannot_be_used_is_told() -> None:
    for way in ("http", "edge", "reencrypt", "passthrough"):
        (note,) = read([("balance", "first")], way).notes
        assert note.startswith("balance 'first': not one of roundrobin, leastconn, random, source")
        assert read([("balance", "source")], way).notes == ()
    (note,) = read([("balance", "source")], "port").notes
    fixed = "the router's setting pools[].balance says it"
    assert note == f"without effect here: {BALANCE.annotation} ({fixed})"


@given(st.text())
def test_any_text_is_one_of_them_or_nothing(text: str) -> None:
    assert wished_balance(wishing(text, 1)) in (text, None)
