"""Which endpoint addresses become servers (`sidecar.routing.endpoints`), and what may follow a
colon
(`sidecar.common.hostport`)."""

import ipaddress
import socket

import pytest
from core import resolved, servers, web
from hypothesis import example, given
from hypothesis import strategies as st
from stand import route, service, slice_

from sidecar.common.hostport import canonical_ip, is_unix_socket, split_host_port
from sidecar.common.text import shown
from sidecar.model.verdicts import Reason
from sidecar.routing.own_addresses import denier


def test_doubles_count_once_however_they_are_written() -> None:
    two = slice_(endpoints=["10.0.0.1", "2001:DB8:0::1"], name="two")
    one = slice_(endpoints=["::ffff:10.0.0.1", "2001:db8::0:1", "::FFFF:A00:1"], name="one")
    assert servers(resolved(route(), service(), two, one)) == {
        "10.0.0.1:9000": ("ready", 256),
        "[2001:db8::1]:9000": ("ready", 256),
    }


@pytest.mark.parametrize(
    "ip",
    [
        *(
            "127.0.0.1",
            "127.255.0.9",
            "::ffff:127.0.0.1",
            "::FFFF:7f00:1",
            "::1",
            "0:0:0:0:0:0:0:1",
        ),
        *("0.0.0.0", "::", "169.254.169.254", "::ffff:a9fe:a9fe", "fe80::1"),
        *("224.0.0.1", "ff02::1", "255.255.255.255"),
    ],
)
def test_denied_networks_are_left_out_however_they_are_written(ip: str) -> None:
    found = web(ip)
    assert (found.servers, found.reason) == ((), Reason.ENDPOINTS_DENIED)
    assert "endpoints.deny" in found.message
    beside = web(ip, "10.0.0.1")
    assert servers(beside) == {"10.0.0.1:9000": ("ready", 256)}
    assert beside.reason == Reason.ADMITTED
    assert "1 endpoint skipped" in beside.message


@pytest.mark.parametrize(
    "ip",
    [
        *("db.example.com", "10.0.0", "10.0.0.1/32", "010.0.0.1", "0x7f.1", "2130706433", ""),
        *(" 10.0.0.1", "10.0.0.1\n", "[::1]", "fe80::1%eth0", "::1%lo", "::127.0.0.1", "::7f00:1"),
        "x" * 5000,
    ],
    ids=lambda ip: ip[:20],
)
def test_what_is_no_address_is_left_out_and_told(ip: str) -> None:
    found = web(ip, "10.0.0.1")
    assert servers(found) == {"10.0.0.1:9000": ("ready", 256)}
    assert shown(ip) in found.message
    assert "not a valid IP address" in found.message
    assert len(found.message) < 200


def test_many_that_are_left_out_are_counted_once_each() -> None:
    bad = [f"127.0.0.{n}" for n in range(9)]
    found = resolved(route(), service(), *(slice_(endpoints=bad, name=name) for name in "ab"))
    assert found.message.startswith("9 endpoints skipped: 127.0.0.0 is")
    assert found.message.endswith("; and 6 more")


def test_a_network_may_be_denied_in_ipv6_clothes() -> None:
    denied = denier([ipaddress.ip_network("::ffff:10.0.0.0/104")])
    assert [denied(ip) for ip in ("10.9.9.9", "11.0.0.1", "2001:db8::1")] == [True, False, False]


@given(st.ip_addresses())
@example(ipaddress.ip_address("::1.2.3.4"))
@example(ipaddress.ip_address("2001:db8:0:1:0:0:0:1"))
@example(ipaddress.ip_address("2001:0:1:0:1:0:1:0"))
def test_an_address_is_written_as_c_libraries_do(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    plain = socket.inet_ntop(family, ip.packed).removeprefix("::ffff:")
    assert canonical_ip(str(ip)) in {plain, None}
    assert canonical_ip(ip.exploded) == canonical_ip(str(ip))
    if ip.version == 4 or ip >= ipaddress.IPv6Address(2**32):
        assert canonical_ip(str(ip)) is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8405", ("127.0.0.1", 8405)),
        ("[::1]:1", ("::1", 1)),
        ("::1:65535", ("::1", 65535)),
        ("haproxy_1.demo.svc:9999", ("haproxy_1.demo.svc", 9999)),
    ],
)
def test_host_and_port_are_taken_apart(text: str, expected: tuple[str, int]) -> None:
    assert split_host_port(text) == expected
    assert not is_unix_socket(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "8405", ":8405", "*:8405", "localhost:", "localhost:0", "localhost:65536", "a b:1"),
        *("::8405", "[::1:8405", "::1]:1", "a/b:1", "h:\uff11", "h:-1", "h:1.0", "h:" + "1" * 5000),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_host_and_port_is_told_with_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"write host:port, like 127\.0\.0\.1:8405"):
        split_host_port(text)


@pytest.mark.parametrize("text", ["run/admin.sock", "admin.sock", "/run/x:9999", "./h:80", "h:"])
def test_what_is_a_path_is_no_address(text: str) -> None:
    assert is_unix_socket(text)
