"""Addresses as text: an IP, ``host:port``, or a unix path. Pure."""

import ipaddress
import re
from functools import lru_cache

_NAME = re.compile(r"[A-Za-z0-9._-]+")
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
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _NAME.fullmatch(text) is not None
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
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
    return str(ip)
