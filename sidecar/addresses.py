"""Where something listens, as text: ``host:port`` or a unix path. Pure."""

import re


def split_host_port(value: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` taken apart; raises ValueError."""
    host, _, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError("write host:port, like 127.0.0.1:8405, with a port from 1 to 65535")
    return host, int(port)


def is_unix_socket(value: str) -> bool:
    """Whether the Runtime API's address is a path rather than ``host:port``."""
    return "/" in value or not re.search(r":[0-9]+$", value)
