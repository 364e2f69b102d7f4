"""Addresses as text: an IP, ``host:port``, or a unix path. Pure."""

import ipaddress
import re
from functools import lru_cache

# The last label of a name is never a number: 10.0.0 is a mistyped address.
_NAME = re.compile(r"([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\.)*(?![0-9]+$)[A-Za-z0-9_-]+")
_SCOPE = re.compile(r"[A-Za-z0-9._-]+")
_PORT = re.compile(r"[0-9]{1,5}")

# What was found of so many IPs is kept, at 150 bytes each: a slice that changes asks again for all
# of its own, which would cost some microseconds each.
IPS_KEPT = 16384


def split_host_port(value: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` taken apart; raises ValueError."""
    host, _, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not _is_host(host) or not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise ValueError(
            "write host:port, like 127.0.0.1:8405 or [::1]:8405, with a port from 1 to 65535"
        )
    return host, int(port)


def _is_host(text: str) -> bool:
    address, percent, scope = text.partition("%")
    if percent and not _SCOPE.fullmatch(scope):
        return False
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return not percent and len(text) <= 253 and _NAME.fullmatch(text) is not None
    return True


def is_unix_socket(value: str) -> bool:
    """Whether the Runtime API's address is a path rather than ``host:port``."""
    return "/" in value or not re.search(r":[0-9]+$", value)


@lru_cache(IPS_KEPT)
def canonical_ip(text: str) -> str | None:
    """The one way to write this IP, as HAProxy reports it; None if it is none.

    An IPv4 address in IPv6 clothes becomes plain IPv4, so that it cannot slip past a denied
    network; a zone (``fe80::1%eth0``) is no part of an endpoint's address; IPv4-compatible ones
    (``::1.2.3.4``, given up by RFC 4291, 2.5.5.1) lead nowhere, and C libraries disagree on how
    to write them.
    """
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None or 0xFFFF < int(ip) < 2**32:
            return None
        return str(ip.ipv4_mapped or ip)
    return text  # there is one way only to write it


def overlap(first: str, second: str) -> bool:
    """Whether two ``host:port`` cannot both be listened at."""
    (one, port), (other, other_port) = split_host_port(first), split_host_port(second)
    hosts = {_canonical(one), _canonical(other)}
    return port == other_port and (len(hosts) == 1 or any(map(_is_unspecified, hosts)))


def _canonical(host: str) -> str | ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return host


def _is_unspecified(host: str | ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """``0.0.0.0`` or ``::``, which take the port of every address."""
    return not isinstance(host, str) and host.is_unspecified
