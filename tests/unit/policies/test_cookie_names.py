"""`sidecar.policies.cookies`: which name a Route's session cookie has where it says none."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.listeners.host_rules import WebClaim
from sidecar.model.desired import Attributes
from sidecar.model.objects import Key
from sidecar.policies.base import Way
from sidecar.policies.registry import read
from sidecar.routing.web_places import attributes_of


def told(path: str, way: Way = "http", name: str = "web", **wishes: str) -> Attributes:
    claim = WebClaim("a.test", path, wildcard=False, termination=way)  # type: ignore[arg-type]
    found = read(wishes.items(), way)
    return attributes_of(Key("Route", "demo", name), claim, None, found, "common")


def test_one_of_several_of_a_host_has_its_own() -> None:
    for path in ("", "/"):
        assert {"cookies", "policies"} & told(path).keys() == set()
    ways: tuple[Way, ...] = ("http", "edge", "reencrypt")
    for way in ways:
        found = told("/a", way)
        assert found["cookies"] == "common-e31527df"
        assert "k" in found["policies"]
    assert told("/a", name="other")["cookies"] != told("/a")["cookies"]
    assert "cookies" not in told("/a", "passthrough")


def test_what_a_route_says_counts_more() -> None:
    assert told("/a", cookie_name="mine")["cookies"] == told("", cookie_name="mine")["cookies"]
    assert told("/a", cookie_name="mine")["policies"] == "k"
    # What cannot be used is as if it was not there.
    assert told("/a", cookie_name="not mine") == told("/a")
    off = told("/a", disable_cookies="true")
    assert (off["policies"], off.get("cookies")) == ("c", None)


@given(st.text())
def test_a_name_is_one_word_in_a_header_and_a_map(text: str) -> None:
    name = told("/a", cookie_name=text)["cookies"]
    assert name in (text, told("/a")["cookies"])
    assert name.isascii()
    assert name.replace("-", "").replace("_", "").isalnum() or set(name) <= {"-", "_"}
