"""`sidecar.policies.rewrite_target`: with which path a Route's servers are asked."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.haproxy.maps import is_word
from sidecar.listeners.host_rules import WebClaim
from sidecar.model.objects import Key
from sidecar.policies.base import Policies
from sidecar.policies.registry import read
from sidecar.policies.rewrite_target import CHANGED_PATHS
from sidecar.routing.web_places import attributes_of

LONGEST = "/" + "x" * 299
LONGEST_PATH = "/" + "p" * 1699

#: Text, and what HAProxy is told; None: it cannot be used.
CASES: list[tuple[str, str | None]] = [
    ("/", "/"),
    ("/v2", "/v2"),
    ("/v2/", "/v2/"),
    ("/a//b/../c", "/a//b/../c"),
    ("/a%20b", "/a%2520b"),
    ("/%foo%%", "/%25foo%25%25"),
    ("/'foo'foo\\'", "/%27foo%27foo%5C%27"),
    ('/"', "/%22"),
    ("/a;b=1", "/a%3Bb=1"),
    ("/<<", "/%3C%3C"),
    ("/\\1$1&", "/%5C1$1&"),
    ("/(a|b)*+[c]{2}^.~!@,:`_-", "/(a|b)*+[c]{2}^.~!@,:`_-"),
    (LONGEST, LONGEST),
    (LONGEST + "x", None),
    ("/" + "%" * 100, None),
    ("", None),
    ("v2", None),
    ("https://b.example/", None),
    (" /", None),
    ("/ ", None),
    ("/foo # x", None),
    ("/#", None),
    ("/v2?a=b", None),
    ("/a\nb", None),
    ("/é", None),
]


def value(path: str, text: str, told: dict[str, str] | None = None) -> str:
    """What the map gets of a Route with ``path``."""
    found = read([("rewrite-target", text)], "http").told if told is None else told
    claim = WebClaim("a.test", path, wildcard=False, termination="http")
    route = Key("Route", "default", "web")
    return attributes_of(route, claim, None, Policies(told=found), "own")[CHANGED_PATHS]


@pytest.mark.parametrize(("text", "target"), CASES)
def test_what_a_text_means(text: str, target: str | None) -> None:
    found = read([("rewrite-target", text)], "http")
    if target is None:
        (note,) = found.notes
        assert note.startswith("rewrite target ")
        assert note.endswith("; leaving paths as they are until fixed")
        assert found.told == {}
    else:
        assert found.notes == ()
        assert found.told == {CHANGED_PATHS: target, "flags": "p"}
        assert value("/app", text) == f"/app?{target}"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("v2", "write a path, which begins with /"),
        ("/a b", "cannot contain white space; percent-encode it"),
        ("/a?b", "cannot contain '?'; percent-encode it"),
        ("/" + "'" * 100, "longer than 300 bytes, of which %, quotes, ;, < and \\ take three each"),
    ],
)
def test_what_would_be_right_is_told(text: str, what: str) -> None:
    (note,) = read([("rewrite-target", text)], "http").notes
    assert what in note


@given(st.text().map("/{}".format))
def test_a_target_is_one_word_which_haproxy_reads_as_it_was_written(text: str) -> None:
    told = dict(read([("rewrite-target", text)], "http").told)
    if told:
        assert is_word(value(LONGEST_PATH, text, told))
        assert unquote(told[CHANGED_PATHS]) == text
        assert "?" not in told[CHANGED_PATHS]
    else:
        assert re.search("[^!-~]|[?#]", text) or len(text) > 100
