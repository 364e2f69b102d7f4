"""Where something listens, as text: ``host:port`` or a unix path. Pure."""

import ipaddress
import re

# The last label of a name is never a number: 10.0.0 is a mistyped address.
_NAME = re.compile(r"([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\.)*(?![0-9]+$)[A-Za-z0-9_-]+")
_SCOPE = re.compile(r"[A-Za-z0-9._-]+")
_PORT = re.compile(r"[0-9]{1,5}")


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
