"""`sidecar.listeners.web_keys`: entries lead back to their Route, and are each one Route's. That
HAProxy finds by them what it should is test_matching's.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_map import holders

from sidecar.listeners.web_keys import (
    WebKey,
    hosts_entries,
    key_of_entry,
    sni_entry,
    web_key,
)

_HOSTS = st.from_regex(r"[a-c]{1,2}(\.[a-c]{1,2}){1,2}", fullmatch=True)
_PATHS = st.one_of(
    st.sampled_from(["", "/", "//", "/a", "/a/", "/a//", "/ab", "/a/b", "/*", "/%2f", "/a;b\\c"]),
    st.from_regex(r"(/[!-\x22$-.0-9:-@A-z~]{0,3}){1,3}", fullmatch=True).filter(
        lambda path: "?" not in path
    ),
)
KEYS = st.builds(
    lambda host, path, wildcard: web_key(host, path, wildcard=wildcard),
    _HOSTS,
    _PATHS,
    st.booleans(),
)


@pytest.mark.parametrize(
    ("key", "entries"),
    [
        (web_key("h.test"), ["0h.test?", "0h.test/"]),
        (web_key("H.Test", "/"), ["0h.test?", "0h.test/"]),
        (web_key("h.test", "/a"), ["0h.test/a?", "0h.test/a/"]),
        (web_key("h.test", "/a/"), ["0h.test/a/"]),
        (web_key("h.test", "/a//"), ["0h.test/a//"]),
        (web_key("h.test", "/A%2f"), ["0h.test/A%2f?", "0h.test/A%2f/"]),
        (web_key("any.h.test", wildcard=True), ["0*.h.test?", "0*.h.test/"]),
        (web_key("any.h.test", "/a/", wildcard=True), ["0*.h.test/a/"]),
    ],
)
def test_the_entries_of_a_route(key: WebKey, entries: list[str]) -> None:
    assert list(hosts_entries(key)) == entries


def test_what_matches_the_same_requests_is_the_same_key() -> None:
    assert web_key("h.test", "") == web_key("H.TEST", "/") == web_key("h.test", "//")
    assert web_key("a.h.test", wildcard=True) == web_key("b.h.test", wildcard=True)
    assert web_key("a.h.test") != web_key("a.h.test", wildcard=True)


@given(KEYS)
def test_back_from_entries(key: WebKey) -> None:
    # Each by itself is the Route, or its path with a slash.
    deeper = key._replace(path=f"{key.path}/")
    for entry in hosts_entries(key):
        assert key_of_entry(entry) in (key, deeper)


@given(st.lists(KEYS, unique=True, max_size=6))
def test_of_several_routes_each_has_an_entry_of_its_own(keys: list[WebKey]) -> None:
    entries = holders(keys)
    for key in keys:
        held = [entry for entry, holder in entries.items() if holder == key]
        assert held, key
    assert set(entries) == {entry for key in keys for entry in hosts_entries(key)}


def test_the_more_specific_has_an_entry_that_both_want() -> None:
    outer, inner = web_key("h.test", "/a"), web_key("h.test", "/a/")
    for order in ([outer, inner], [inner, outer]):
        assert holders(order) == {"0h.test/a?": outer, "0h.test/a/": inner}


@pytest.mark.parametrize(
    "entry",
    [
        *("", "0", "h.test?", "2h.test?", "0h.test", "0h.test/a", "0h.test//", "0?", "0/", "0*.?"),
        *("0h.test/a??", "0h.test?/", "0h.test/a b/", "0H.test/", "0h.test/#/", "0h test?"),
    ],
)
def test_an_entry_that_is_not_ours(entry: str) -> None:
    assert key_of_entry(entry) is None


def test_the_entry_of_a_passthrough_route() -> None:
    assert sni_entry(web_key("H.Test")) == "h.test"
    assert sni_entry(web_key("any.h.test", wildcard=True)) == "*.h.test"


@pytest.mark.parametrize(
    ("host", "path", "wildcard", "problem"),
    [
        ("", "", False, "write a host"),
        ("a b", "", False, "write a host"),
        ("h/a", "", False, "write a host"),
        ("h\n", "", False, "write a host"),
        ("single", "", True, "a wildcard needs"),
        ("h.", "", True, "write a host"),
        ("h.test", "a", False, 'begins with "/"'),
        ("h.test", "/a b", False, "no blanks"),
        ("h.test", "/a?b", False, "no blanks"),
        ("h.test", "/a#b", False, "no blanks"),
        ("h.test", "/\u00e9", False, "percent-encode"),
        ("h.test", "/a\n", False, "no blanks"),
    ],
)
def test_what_no_request_is_found_by(host: str, path: str, wildcard: bool, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        web_key(host, path, wildcard=wildcard)
