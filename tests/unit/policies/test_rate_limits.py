"""`sidecar.policies.rate_limits`: how much each client may ask of a Route."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.haproxy.maps import is_word
from sidecar.model.objects import Key
from sidecar.policies.base import PREFIX, Way
from sidecar.policies.rate_limits import LIMITS, limits_of
from sidecar.policies.registry import read

SWITCH = "rate-limit-connections"
CONCURRENT, RATE, REQUESTS = f"{SWITCH}.concurrent-tcp", f"{SWITCH}.rate-tcp", f"{SWITCH}.rate-http"
EVERY = (CONCURRENT, RATE, REQUESTS)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", "1"),
        ("10", "10"),
        ("+10", "10"),
        ("010", "10"),
        ("2147483647", "2147483647"),
        ("2147483648", None),
        ("9" * 5000, None),
        ("0", None),
        ("00", None),
        ("-1", None),
        ("", None),
        (" 1", None),
        ("1.5", None),
        ("1e3", None),
        ("ten", None),
        ("٣", None),
        ("1\n", None),
    ],
)
@pytest.mark.parametrize("name", EVERY)
def test_what_a_limit_means(name: str, text: str, number: str | None) -> None:
    others = [(SWITCH, "true"), *((item, "7") for item in EVERY if item != name)]
    found = read([(name, text), *others], "edge")
    limits = "/".join((number or "") if item == name else "7" for item in EVERY)
    assert found.told == {LIMITS: limits, "flags": "l"}
    if number is None:
        (note,) = found.notes
        assert "write a number from 1 to 2147483647; without this limit until fixed" in note
    else:
        assert found.notes == ()


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_what_switches_limits_on(text: str) -> None:
    assert read([(SWITCH, text), (RATE, "5")], "http").told == {LIMITS: "/5/", "flags": "l"}


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_what_switches_them_off(text: str) -> None:
    found = read([(SWITCH, text), (RATE, "5")], "http")
    assert (found.told, found.notes) == ({}, ())


@pytest.mark.parametrize(
    ("wishes", "note"),
    [
        ({RATE: "5"}, f"without effect until {PREFIX}{SWITCH} is true: {PREFIX}{RATE}"),
        ({SWITCH: "yes"}, "rate limits 'yes': write true or false; limiting nothing until fixed"),
        ({SWITCH: ""}, "rate limits '': write true or false; limiting nothing until fixed"),
        (
            {SWITCH: "true"},
            f"{PREFIX}{SWITCH} limits nothing by itself; add one of "
            + ", ".join(f"{PREFIX}{name}" for name in EVERY),
        ),
    ],
)
def test_what_limits_nothing_is_told(wishes: dict[str, str], note: str) -> None:
    found = read(wishes.items(), "http")
    assert (found.told, found.notes) == ({}, (note,))


@pytest.mark.parametrize(
    ("way", "heeded"),
    [
        ("http", [SWITCH, *EVERY]),
        ("edge", [SWITCH, *EVERY]),
        ("reencrypt", [SWITCH, *EVERY]),
        ("passthrough", [SWITCH, CONCURRENT, RATE]),
        ("port", [SWITCH, CONCURRENT, RATE]),
    ],
)
def test_which_routes_have_them(way: Way, heeded: list[str]) -> None:
    found = read({SWITCH: "true", CONCURRENT: "1", RATE: "2", REQUESTS: "3"}.items(), way)
    assert found.values.keys() == set(heeded)
    numbers = {CONCURRENT: "1", RATE: "2", REQUESTS: "3"}
    limits = "/".join(number if name in heeded else "" for name, number in numbers.items())
    assert found.told == ({LIMITS: limits, "flags": "l"} if heeded else {})
    others = ", ".join(f"{PREFIX}{name}" for name in (SWITCH, *EVERY) if name not in heeded)
    assert found.notes == ((f"without effect here: {others}",) if others else ())


@given(st.dictionaries(st.sampled_from([SWITCH, *EVERY]), st.text() | st.integers().map(str)))
def test_any_text_is_told_in_one_word_or_not_at_all(wishes: dict[str, str]) -> None:
    told = read(({SWITCH: "true"} | wishes).items(), "edge").told
    if told:
        assert is_word(limits_of(Key("Route", "n" * 63, "r" * 253), told[LIMITS]))


def test_each_route_is_known_by_something_of_its_own() -> None:
    routes = [("a", "b"), ("a", "c"), ("ab", "c"), ("a", "bc"), ("b", "a")]
    found = {limits_of(Key("Route", *names), "1//") for names in routes}
    assert len(found) == len(routes)
    # With the longest address it fits into the 64 bytes that the table has.
    assert all(len(item.partition("/")[0]) + 1 + 45 <= 63 for item in found)
