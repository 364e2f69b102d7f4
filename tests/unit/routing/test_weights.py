"""`sidecar.routing.weights`: a Route's shares, by Service, as HAProxy's weights, by server."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.routing.weights import server_weights

Services = list[tuple[int, list[str]]]


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        # OpenShift's A/B example, and what it must still be when one side scales.
        ([(50, "ab"), (50, "cd")], {"a": 256, "b": 256, "c": 256, "d": 256}),
        ([(50, "ab"), (50, "cdef")], {"a": 256, "b": 256, "c": 128, "d": 128, "e": 128, "f": 128}),
        ([(75, "a"), (25, "b")], {"a": 256, "b": 85}),
        ([(50, "a"), (30, "b"), (20, "c")], {"a": 256, "b": 154, "c": 102}),
        # One Service is always 256, so that no weight is ever sent for it.
        ([(100, "ab")], {"a": 256, "b": 256}),
        ([(1, "abc")], {"a": 256, "b": 256, "c": 256}),
        # The ends of the range: never above 256, never to 0 by rounding.
        ([(256, "a"), (1, "b")], {"a": 256, "b": 1}),
        ([(1, "a"), (1000, "b")], {"a": 1, "b": 256}),
        ([(256, "a"), (1, "bcd")], {"a": 256, "b": 1, "c": 1, "d": 1}),
        ([(256, "a"), (3, "bc")], {"a": 256, "b": 2, "c": 2}),
        # 0 is no traffic, but a place in the backend.
        ([(100, "a"), (0, "bc")], {"a": 256, "b": 0, "c": 0}),
        ([(0, "a"), (0, "b")], {"a": 0, "b": 0}),
        # A Service without endpoints gives its share to the others.
        ([(90, ""), (10, "ab")], {"a": 256, "b": 256}),
        ([(90, ""), (0, "a")], {"a": 0}),
        ([(50, "")], {}),
        ([], {}),
        # An endpoint of two Services has both parts: 25, and 25 + 50.
        ([(50, "ab"), (50, "b")], {"a": 85, "b": 256}),
        ([(0, "ab"), (50, "b")], {"a": 0, "b": 256}),
    ],
)
def test_cases(services: list[tuple[int, str]], expected: dict[str, int]) -> None:
    assert server_weights([(weight, list(names)) for weight, names in services]) == expected


def test_one_endpoint_against_a_thousand() -> None:
    weights = server_weights([(50, ["alone"]), (50, [f"e{n}" for n in range(1000)])])
    assert weights["alone"] == 256
    assert {weight for name, weight in weights.items() if name != "alone"} == {1}


SERVICES: st.SearchStrategy[Services] = st.lists(
    st.tuples(st.integers(0, 256), st.lists(st.sampled_from("abcdefgh"), unique=True)), max_size=5
)


@given(SERVICES)
def test_the_range_is_whole_and_zero_means_no_share(services: Services) -> None:
    weights = server_weights(services)
    sharing = {name for weight, names in services if weight for name in names}
    assert weights.keys() == {name for _, names in services for name in names}
    assert {name for name, weight in weights.items() if weight} == sharing
    assert all(0 <= weight <= 256 for weight in weights.values())
    if sharing:
        assert max(weights.values()) == 256


@given(SERVICES, st.data())
def test_no_order_changes_the_result(services: Services, data: st.DataObject) -> None:
    mixed = [(weight, data.draw(st.permutations(names))) for weight, names in services]
    assert server_weights(data.draw(st.permutations(mixed))) == server_weights(services)


@given(st.lists(st.tuples(st.integers(1, 256), st.integers(1, 20)), min_size=1, max_size=4))
def test_each_service_gets_its_share(sizes: list[tuple[int, int]]) -> None:
    services = [
        (weight, [(number, end) for end in range(count)])
        for number, (weight, count) in enumerate(sizes)
    ]
    weights = server_weights(services)
    largest = max(Fraction(weight, count) for weight, count in sizes)
    for weight, names in services:
        exact = 256 * Fraction(weight) / largest
        got = sum(weights[name] for name in names)
        if exact < Fraction(len(names), 2):
            # Less than half a point each: lifted to 1, since it was asked for some.
            assert got == len(names)
        else:
            assert abs(got - exact) <= Fraction(len(names), 2)


def in_fractions(services: Services) -> dict[str, int]:
    """The same, one endpoint at a time."""
    parts: dict[str, Fraction] = {}
    for weight, endpoints in services:
        for endpoint in endpoints:
            parts[endpoint] = parts.get(endpoint, Fraction(0)) + Fraction(weight, len(endpoints))
    most = max(parts.values(), default=Fraction(0))
    return {
        endpoint: max(1, math.floor(256 * part / most + Fraction(1, 2))) if part else 0
        for endpoint, part in parts.items()
    }


@given(SERVICES)
def test_whole_numbers_round_as_fractions_do(services: Services) -> None:
    assert server_weights(services) == in_fractions(services)
