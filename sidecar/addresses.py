"""Where something listens, as text: ``host:port`` or a unix path. Pure."""

import ipaddress
import re

_NAME = re.compile(r"[A-Za-z0-9._-]+")
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
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _NAME.fullmatch(text) is not None
    return True


def is_unix_socket(value: str) -> bool:
    """Whether the Runtime API's address is a path rather than ``host:port``."""
    return "/" in value or not re.search(r":[0-9]+$", value)
