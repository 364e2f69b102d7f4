"""The few settings that say where the running sidecar is, read without loading all others.

What is plainly right is taken; anything else is left to `sidecar.settings.parsing`, which says what
is wrong. Must not judge, nor read files or the environment.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.common.documents import DocumentError, read_entries
from sidecar.common.durations import parse_duration
from sidecar.common.hostport import is_unix_socket, split_host_port

#: The environment variable of the annotated-Route router that names the router.
ROUTER_NAME_VARIABLE = "WZH_ROUTER_NAME"

ROUTER_NAME = "wzh-router-1"
SOCKET = "run/admin.sock"
TIMEOUT_SECONDS = 5.0
LISTEN = "127.0.0.1:8405"

#: All keys: one that is not among them is a mistake that must be told.
KEYS = frozenset(
    {
        *("router_name", "haproxy", "source", "annotations", "pools", "listeners", "web", "drain"),
        *("endpoints", "dns", "limits", "http", "timing", "kubernetes", "log"),
    }
)
HAPROXY_KEYS = frozenset(
    {"socket", "config", "state_file", "template", "maxconn", "metrics_listen", "timeout"}
)
HTTP_KEYS = frozenset({"listen", "token_file"})

#: Text about which there are no two opinions.
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+\[\]-]{1,90}")


class Whereabouts(NamedTuple):
    """``listen``: http.listen. ``socket``: HAProxy's, as all processes understand it."""

    router_name: str
    socket: str
    timeout_seconds: float
    listen: str | None
    token_file: Path | None


def whereabouts(text: str, environment: Mapping[str, str]) -> Whereabouts | None:
    """Of settings in YAML; None if they have to be looked at more closely."""
    try:
        documents = [entry.data for entry in read_entries(text.encode(), is_json=False)]
        data = _section({"": documents[0] if len(documents) == 1 else documents or None}, "", KEYS)
        haproxy = _section(data, "haproxy", HAPROXY_KEYS)
        http = _section(data, "http", HTTP_KEYS)
        listen = http.get("listen", LISTEN)
        token_file = http.get("token_file")
        return Whereabouts(
            _plain(environment.get(ROUTER_NAME_VARIABLE) or data.get("router_name", ROUTER_NAME)),
            _socket(_plain(haproxy.get("socket", SOCKET))),
            _seconds(haproxy["timeout"]) if "timeout" in haproxy else TIMEOUT_SECONDS,
            None if listen is None else _listen(_plain(listen)),
            None if token_file is None else Path(_plain(token_file)),
        )
    except (DocumentError, ValueError):
        return None


def _section(data: Mapping[str, Any], name: str, keys: frozenset[str]) -> Mapping[str, Any]:
    """What is below ``name``, with none but these keys. Raises ValueError."""
    section = data.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict) or not section.keys() <= keys:
        raise ValueError(name)
    return section


def _plain(value: Any) -> str:
    if not isinstance(value, str) or not _PLAIN.fullmatch(value):
        raise ValueError("not plain")
    return value


def _listen(value: str) -> str:
    split_host_port(value)
    if value.lower().startswith(("fe", "[fe")):
        raise ValueError("may be link-local")
    return value


def _socket(value: str) -> str:
    if not is_unix_socket(value):
        return _listen(value)
    return _plain(str(Path(value).absolute()))


def _seconds(value: Any) -> float:
    seconds = parse_duration(_plain(value))
    if not seconds:
        raise ValueError("must be more than 0")
    return seconds
