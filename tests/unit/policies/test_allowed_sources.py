"""`sidecar.policies.allowed_sources`: which clients may connect."""

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
import shapes
from core import DENIED, POOL
from hypothesis import given
from hypothesis import strategies as st
from parts import routing_for, web_for
from stand import changes, route, service, slice_

from sidecar.haproxy.naming import web_backend_name
from sidecar.listeners.port_maps import PORT_SOURCES, judged_by
from sidecar.listeners.tcp import TCPPorts, unit_of
from sidecar.model.header_actions import HeaderNames
from sidecar.model.objects import Route
from sidecar.model.parsing import project
from sidecar.model.verdicts import Reason
from sidecar.policies.allowed_sources import (
    ALLOWED_SOURCES,
    IP_ALLOWLIST,
    IP_WHITELIST,
    refusal,
)
from sidecar.policies.registry import policies_of, read
from sidecar.routing.table import Routing

UNITS = [web_backend_name("http", number) for number in (1, 2)]


def by_host(**wishes: str) -> Route:
    item = replace(route("web", None), host="a.test", namespace="default")
    return replace(item, wishes=tuple(wishes.items()))


def fed(*objects: Any) -> Routing:
    routing = routing_for(TCPPorts(POOL), denied=DENIED, web=web_for({"http": UNITS}))
    routing.apply(changes(*objects))
    routing.adopt({})
    return routing


def allowed(text: str) -> set[str]:
    told = read([("ip_allowlist", text)], "http").told
    assert told["flags"] == "w"
    return set(told[ALLOWED_SOURCES].split(","))


def looked_up(address: str) -> str:
    """As haproxy.cfg does it."""
    found = ipaddress.ip_address(address)
    return f"{found.version}/{found.packed.hex().upper()}"


def admits(text: str, address: str) -> bool:
    return any(map(looked_up(address).startswith, allowed(text)))


def test_of_two_lists_one_counts_and_nobody_else_may_come() -> None:
    lists = {IP_ALLOWLIST.annotation: "10.0.0.1", IP_WHITELIST.annotation: "10.0.0.2"}
    for written in (lists, dict(reversed(lists.items()))):
        item = project(shapes.route({"host": "a.test"}, written), shapes.KEYS)
        assert isinstance(item, Route)
        told = policies_of(item, "http", HeaderNames()).told
        assert set(told[ALLOWED_SOURCES].split(",")) == allowed("10.0.0.1")


def test_a_network_is_what_its_addresses_begin_with() -> None:
    four = {item for item in allowed("10.0.0.0/8 192.0.2.7") if item[0] == "4"}
    assert four == {"4/0A", "4/C0000207"}
    assert {item for item in allowed("10.64.0.0/10") if item[0] == "4"} == {
        f"4/0A{digit}" for digit in "4567"
    }
    assert allowed("2001:db8::/31") == {"6/20010DB8", "6/20010DB9"}
    assert allowed("::/0") == {"6/"}


@pytest.mark.parametrize(
    ("text", "address", "admitted"),
    [
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "a00::1", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "::ffff:11.1.2.3", False),
        (" 10.1.2.3/8\t 192.0.2.1 ", "192.0.2.1", True),
        ("0.0.0.0/0", "::1", False),
        ("0.0.0.0/0", "203.0.113.9", True),
        ("fe80::/10", "febf::1", True),
        ("fe80::/10", "fec0::1", False),
    ],
)
def test_who_is_admitted(text: str, address: str, *, admitted: bool) -> None:
    assert admits(text, address) is admitted


NETWORKS = st.ip_addresses().flatmap(
    lambda ip: st.integers(0, ip.max_prefixlen).map(lambda bits: (ip, bits))
)


@given(NETWORKS, st.ip_addresses())
def test_any_network_admits_its_addresses_alone(
    network: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int],
    other: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    ip, bits = network
    text, whole = f"{ip}/{bits}", ipaddress.ip_network(f"{ip}/{bits}", strict=False)
    assert admits(text, str(ip))
    mapped = getattr(other, "ipv4_mapped", None) or other
    assert admits(text, str(other)) is (other in whole or mapped in whole)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("nonsense", "'nonsense' is no address"),
        ("10. 1.2.3.4", "'10.' is no address"),
        ("1.2.3.4/64", "'1.2.3.4/64' is no address"),
        ("10.0.0.1,10.0.0.2", "is no address"),
        (" ".join(["10.0.0.1"] * 501), "501 of them"),
    ],
)
def test_what_cannot_be_used_opens_no_route(text: str, problem: str) -> None:
    item = by_host(ip_whitelist=text)
    found = refusal(item)
    assert found is not None
    assert found.reason == Reason.INVALID_ANNOTATION
    assert found.message.startswith(IP_WHITELIST.annotation)
    assert problem in found.message
    routing = fed(item, service("web"), slice_("web", ["10.0.0.1"]))
    verdict = routing.verdict(item.key)
    assert verdict is not None
    assert not verdict.admitted
    assert routing.owned(item.key) is None


def test_the_allowlist_counts_where_there_are_both() -> None:
    wishes = [("ip_allowlist", "10.0.0.1"), ("ip_whitelist", "nonsense")]
    found = read(wishes, "http")
    assert "4/0A000001" in found.told[ALLOWED_SOURCES]
    assert refusal(by_host(**dict(wishes))) is None
    assert refusal(by_host(ip_allowlist="nonsense", ip_whitelist="10.0.0.1")) is not None


def test_who_is_refused_by_it_keeps_the_host() -> None:
    first = replace(by_host(ip_allowlist="x"), created_seconds=1)
    other = replace(by_host(), namespace="other", uid="other", created_seconds=2)
    routing = fed(first, other)
    found = routing.verdict(other.key)
    assert found is not None
    assert found.reason == Reason.HOST_ALREADY_CLAIMED
    # Served as soon as it can be used, and no more when it cannot.
    routing.apply(changes(replace(first, wishes=(("ip_allowlist", "::1"),))))
    assert routing.owned(first.key) is not None
    routing.apply(changes(first))
    assert routing.owned(first.key) is None


def test_a_route_with_a_port_has_it_too() -> None:
    item = replace(route("web", 30000), wishes=(("ip_whitelist", "10.0.0.1"),))
    routing = fed(item, service("web"), slice_("web", ["10.0.0.1"]))
    found = routing.verdict(item.key)
    assert found is not None
    assert (found.reason, found.port, found.message) == (Reason.ADMITTED, 30000, "")
    claimed = routing.claim(unit_of(30000))
    assert claimed is not None
    mark = judged_by(claimed.attributes)
    assert set(claimed.attributes[PORT_SOURCES].split(",")) == {
        f"{mark}/{part}" for part in allowed("10.0.0.1")
    }


@pytest.mark.parametrize("port", [30000, "auto"])
def test_who_is_refused_by_it_keeps_the_port(port: object) -> None:
    first = replace(
        route("web", port, created_seconds=1), wishes=(("ip_allowlist", "x"),), uid="first"
    )
    routing = fed(first, service("web"), slice_("web", ["10.0.0.1"]))
    found = routing.verdict(first.key)
    assert found is not None
    assert (found.reason, found.port) == (Reason.INVALID_ANNOTATION, 30000)
    assert routing.owned(first.key) is None
    assert routing.claim(unit_of(30000)) is None
    other = route("other", 30000, created_seconds=2)
    routing.apply(changes(other))
    waiting = routing.verdict(other.key)
    assert waiting is not None
    assert waiting.reason == Reason.PORT_ALREADY_CLAIMED
    # Served as soon as it can be used, and no more when it cannot.
    routing.apply(changes(replace(first, wishes=(("ip_allowlist", "::1"),))))
    assert routing.owned(first.key) == unit_of(30000)
    routing.apply(changes(first))
    assert routing.owned(first.key) is None
