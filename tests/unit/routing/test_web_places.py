"""`sidecar.routing.web_places`: what HAProxy is told of one Route by host."""

from collections.abc import Mapping

import pytest

from sidecar.listeners.host_rules import InsecurePolicy, WebClaim
from sidecar.model.desired import Attributes
from sidecar.model.header_actions import HeaderAction, HeaderNames
from sidecar.model.objects import Key
from sidecar.policies.headers import with_headers
from sidecar.policies.registry import read
from sidecar.routing.web_places import attributes_of

NAMES = HeaderNames(("X-One",), ("X-Two",))
HEADERS = (HeaderAction("request", "", "X-One", "1"), HeaderAction("response", "", "X-Two", "1"))


def told(
    path: str, wishes: Mapping[str, str] = {}, insecure: InsecurePolicy = "None"
) -> Attributes:
    claim = WebClaim("a.test", path, wildcard=False, termination="edge", insecure=insecure)
    found = with_headers(read(wishes.items(), "edge"), HEADERS, NAMES)
    return attributes_of(Key("Route", "demo", "web"), claim, None, found, "common")


@pytest.mark.parametrize(
    ("path", "wishes", "letters"),
    [
        ("", {}, "AQls"),
        ("/a", {}, "AQkls"),
        ("/a", {"disable_cookies": "true"}, "AQcls"),
        ("/a", {"cookie_name": "mine"}, "AQkls"),
    ],
)
def test_each_letter_stands_beside_those_of_others(
    path: str, wishes: Mapping[str, str], letters: str
) -> None:
    assert told(path, {**wishes, "cookie-same-site": "Lax"})["policies"] == letters


def test_a_redirect_takes_nobody_elses_flag() -> None:
    assert told("", {"ip_allowlist": "10.0.0.1"}, "Redirect")["flags"] == "rw"
    assert told("", insecure="Redirect")["flags"] == "r"
    assert told("")["flags"] == "-"
