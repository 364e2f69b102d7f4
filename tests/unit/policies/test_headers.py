"""`sidecar.policies.headers`: what HAProxy is told of headers, and what a Route's author is."""

from typing import Any

import pytest
import shapes
from hypothesis import given
from hypothesis import strategies as st

from sidecar.haproxy.maps import is_entry
from sidecar.model.header_actions import HeaderNames
from sidecar.model.objects import Route
from sidecar.model.parsing import project
from sidecar.policies.base import Policies, Way
from sidecar.policies.registry import policies_of

NAMES = HeaderNames(("X-One", "X-Two"), ("X-Frame-Options", "X-CSP"))

RESPONSE = "spec.httpHeaders.actions.response"


def route(headers: Any) -> Route:
    found = project(shapes.route({"host": "a.test", "httpHeaders": headers}), shapes.KEYS)
    assert isinstance(found, Route)
    return found


def sets(name: Any, value: Any) -> dict[str, Any]:
    return {"name": name, "action": {"type": "Set", "set": {"value": value}}}


def deletes(name: Any) -> dict[str, Any]:
    return {"name": name, "action": {"type": "Delete"}}


def said(*actions: Any, of: str = "response", way: Way = "edge") -> Policies:
    return policies_of(route({"actions": {of: list(actions)}}), way, NAMES)


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("DENY", "=DENY"),
        (" DENY\t", "=DENY"),
        ("-", "=-"),
        ("delete", "=delete"),
        ("a b", "=a%20b"),
        ("100%%", "=100%25"),
        ("%%[src]", "=%25[src]"),
        ("%%%%", "=%25%25"),
        ("a+b?c+d", "=a%2Bb?c%2Bd"),
        ("\"x\"; '\\y'", "=%22x%22%3B%20%27%5Cy%27"),
        ("<<", "=%3C%3C"),
        ("# no comment", "=#%20no%20comment"),
        ("${HOME} $x", "=${HOME}%20$x"),
        ("\u00e9", "=%C3%A9"),
        ("x" * 2027, "=" + "x" * 2027),
    ],
)
def test_a_value_is_one_word(text: str, entry: str) -> None:
    found = said(sets("X-CSP", text))
    assert found.notes == ()
    assert found.told == {"response_headers": f":,x-csp, x-csp:{entry}", "policies": "A"}


def test_requests_and_responses_have_their_own() -> None:
    actions = {
        "request": [sets("x-ONE", "1"), deletes("X-Two")],
        "response": [deletes("X-Frame-Options")],
    }
    found = policies_of(route({"actions": actions}), "http", NAMES)
    assert found.notes == ()
    assert found.told == {
        "request_headers": ":,x-one,x-two, x-one:=1 x-two:delete",
        "response_headers": ":,x-frame-options, x-frame-options:delete",
        "policies": "AQ",
    }


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        (sets("X-CSP", "%[ssl_c_der]"), "[0].action.set.value: '%[ssl_c_der]' is an expression"),
        (sets("X-CSP", "a %{+Q}[src]"), "[0].action.set.value: 'a %{+Q}[src]' is an expression"),
        (sets("X-CSP", "%%%[src]"), "is an expression"),
        (sets("X-CSP", "100%"), "[0].action.set.value: '100%' has a single %; write %% for it"),
        (sets("X-CSP", "a\nb"), "has a control character"),
        (sets("X-CSP", "\0"), "has a control character"),
        (sets("X-CSP", "\ud800"), "is not valid text"),
        (sets("X-CSP", ""), "[0].action.set.value: '' is empty"),
        (sets("X-CSP", " "), "[0].action.set.value: empty"),
        (sets("X-CSP", None), "[0].action.set.value: missing"),
        (
            sets("X-CSP", 1),
            '[0].action.set.value: 1 is a number; write the header\'s value, write "1"',
        ),
        (sets("X-CSP", "x" * 2028), "of 2049 bytes with its name"),
        (sets("X-CSP", " ".join("\u00e9" * 700)), "of 2120 bytes with its name"),
        (sets("X-CSP", "x" * 16385), "has 16385; write 16384 characters at most"),
        (sets("X-Else", "1"), "[0].name: 'X-Else' is not in web.route_headers.response of"),
        (sets("X-One", "1"), "this router's settings; add it there"),
        (sets("Set-Cookie", "1"), "[0].name: 'Set-Cookie' is not for Routes"),
        (deletes("strict-transport-security"), "is not for Routes"),
        (sets("X CSP", "1"), "[0].name: 'X CSP' is not a valid name of a header"),
        (sets("", "1"), "[0].name: '' is empty"),
        (sets(5, "1"), "[0].name: 5 is a number"),
        ({"name": "X-CSP"}, "[0].action.type: missing; write Set or Delete"),
        (
            {"name": "X-CSP", "action": {"type": "Add"}},
            "[0].action.type: 'Add' is not a valid type",
        ),
        ({"name": "X-CSP", "action": {"type": ["Set"]}}, "[0].action.type: ['Set'] is a list"),
        ({"name": "X-CSP", "action": "Set"}, "[0].action: 'Set' is text; write a mapping"),
        (
            {"name": "X-CSP", "action": {"type": "Delete", "set": {"value": "1"}}},
            "[0].action.set: {'value': '1'} is of no use; leave it out with type: Delete",
        ),
        (5, "[0]: 5 is a number; write a mapping"),
        (None, "[0].name: missing"),
    ],
)
def test_one_that_cannot_be_used_is_named_and_the_rest_holds(action: Any, problem: str) -> None:
    found = said(action, sets("X-Frame-Options", "DENY"))
    (note,) = found.notes
    assert note.startswith(RESPONSE)
    assert problem in note
    assert found.told["response_headers"] == ":,x-frame-options, x-frame-options:=DENY"


def test_the_first_of_a_name_counts() -> None:
    found = said(sets("X-CSP", "1"), deletes("x-csp"))
    assert found.notes == (f"{RESPONSE}[1].name: 'x-csp' is there before; the first one counts",)
    assert found.told["response_headers"] == ":,x-csp, x-csp:=1"


def test_there_is_room_for_so_many_bytes() -> None:
    found = said(sets("X-CSP", "x" * 2000), sets("X-Frame-Options", "x" * 2000))
    (note,) = found.notes
    assert f"{RESPONSE}[1].action.set.value: of 2031 bytes" in note


@pytest.mark.parametrize(
    ("headers", "notes"),
    [
        (None, ()),
        ({}, ()),
        ({"actions": None}, ()),
        ({"actions": {"request": [], "response": None}}, ()),
        (5, ("spec.httpHeaders: 5 is a number; write a mapping",)),
        ({"actions": "x"}, ("spec.httpHeaders.actions: 'x' is text; write a mapping",)),
        (
            {"actions": {"request": 1, "response": "x"}},
            (
                "spec.httpHeaders.actions.request: 1 is a number; write a list",
                f"{RESPONSE}: 'x' is text; write a list",
            ),
        ),
        (
            {"actions": {"response": [deletes("X-CSP")] * 22}},
            (
                *(
                    f"{RESPONSE}[{number}].name: 'X-CSP' is there before; the first one counts"
                    for number in range(1, 20)
                ),
                f"{RESPONSE}[20]: 2 actions too many; 20 of responses at most",
            ),
        ),
    ],
)
def test_what_has_not_the_apis_shape(headers: Any, notes: tuple[str, ...]) -> None:
    assert policies_of(route(headers), "http", NAMES).notes == notes


@pytest.mark.parametrize("way", ["port", "passthrough"])
def test_where_haproxy_speaks_no_http_they_have_no_effect(way: Way) -> None:
    found = said(sets("X-CSP", "1"), way=way)
    assert found.told == {}
    assert found.notes == ("without effect here: spec.httpHeaders",)
    assert policies_of(route({"actions": {}}), way, NAMES).notes == ()


def test_a_router_may_have_no_names() -> None:
    item = route({"actions": {"request": [sets("X-One", "1")]}})
    (note,) = policies_of(item, "http", HeaderNames()).notes
    assert "'X-One' is not in web.route_headers.request of" in note


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ACTIONS = st.builds(sets, st.sampled_from([*NAMES.response, *NAMES.request]), st.text()) | ANYTHING


@given(st.lists(ACTIONS, max_size=25), st.sampled_from(["request", "response"]))
def test_any_actions_are_entries_of_maps_or_named(actions: list[Any], of: str) -> None:
    found = said(*actions, of=of)
    for attribute, value in found.told.items():
        for item in value.split(" ") if attribute != "policies" else ():
            name, _, word = item.partition(":")
            assert is_entry(f"be_http_1/{name}", word)
    assert all(note.isprintable() for note in found.notes)


@given(ANYTHING)
def test_any_field_ends_nothing(headers: Any) -> None:
    policies_of(route(headers), "http", NAMES)
