"""``sessions``: who is connected to a port, through which slot to which pod."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sidecar.cli.config import load_settings
from sidecar.cli.grid import Grid, lay_out
from sidecar.cli.screen import terminal_width
from sidecar.cli.targets import Named, find_port
from sidecar.common.durations import format_span
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.naming import backend_name
from sidecar.haproxy.sessions import Session, parse_port_sessions, with_ages
from sidecar.model.pool import PortPool
from sidecar.settings.schema import Settings

_LISTS = ("show sess all", "show sess")


def sessions(config: Path | None, target: str, *, as_json: bool) -> None:
    """Print the sessions of a port, or of a Route's port, the longest first.

    Raises RuntimeAPIError if HAProxy is away, and what `find_port` raises.
    """
    named, rows = read_sessions(load_settings(config), target)
    if as_json:
        report = {"port": named.port, "route": named.route, "sessions": rows}
        json.dump(report, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    _show(named, rows)


def read_sessions(settings: Settings, target: str) -> tuple[Named, list[dict[str, Any]]]:
    """The port that ``target`` names, and its sessions, the longest first. Raises as above."""
    named = find_port(settings, target)
    with connect(settings) as client:
        lists = client.ask_all(_LISTS)
    found = with_ages(*(parse_port_sessions(text, named.port) for text in lists))
    timeouts = settings.pool().by_port[named.port], settings.web.timeouts.tunnel
    return named, [_row(item, named, *timeouts) for item in _by_age(found)]


def connect(settings: Settings) -> RuntimeClient:
    return RuntimeClient(settings.haproxy.socket, settings.haproxy.timeout)


def describe(named: Named) -> str:
    """``port 13306 (demo/mysql)``."""
    return f"port {named.port}" + (f" ({named.route})" if named.route else "")


def _by_age(found: Sequence[Session]) -> list[Session]:
    return sorted(found, key=lambda item: item.age_seconds or 0, reverse=True)


def _row(
    item: Session, named: Named, pool: PortPool, tunnel_timeout_seconds: float
) -> dict[str, Any]:
    """One of ``sessions[]`` of the JSON; the shape is documented in docs/reference.md."""
    timeouts = pool.client_timeout_seconds, pool.server_timeout_seconds
    if item.backend not in (None, backend_name(named.port)):
        timeouts = tunnel_timeout_seconds, tunnel_timeout_seconds
    return {
        "id": item.id,
        "client": item.client,
        "age_seconds": item.age_seconds,
        "idle_seconds": item.idle_seconds(*timeouts),
        "slot": item.server,
        "address": item.address,
        "pod": named.pods.get(item.address or ""),
        "bytes_in": item.bytes_in,
        "bytes_out": item.bytes_out,
    }


def _show(named: Named, rows: Sequence[Mapping[str, Any]]) -> None:
    if named.problem:
        sys.stderr.write(f"{names_are_missing(named)}\n")
    sys.stdout.write("\n".join([*session_lines(named, rows, terminal_width()), ""]))


def names_are_missing(named: Named) -> str:
    """Where it has a problem."""
    return f"names of Routes and pods are missing: {named.problem}"


def session_lines(
    named: Named, rows: Sequence[Mapping[str, Any]], width: int | None
) -> Iterator[str]:
    """What a person reads of what `read_sessions` has; no wider than ``width`` where there is
    one."""
    yield f"{describe(named)}: {len(rows)} session{'s' * (len(rows) != 1)}"
    if not rows:
        return
    columns = ("CLIENT", "AGE", "IDLE", "SERVER", "SLOT", "POD", "IN", "OUT")
    cells = tuple(
        (
            row["client"],
            format_span(row["age_seconds"]),
            format_span(row["idle_seconds"]),
            row["address"] or "-",
            row["slot"] or "-",
            row["pod"] or "",
            _count(row["bytes_in"]),
            _count(row["bytes_out"]),
        )
        for row in rows
    )
    table = Grid(columns, cells, frozenset(columns) - {"POD"}, (False,) * len(cells))
    yield ""
    yield from lay_out(table, width, all_rows=True)


def _count(size_bytes: int | None) -> str:
    """``512 B``, ``1.5 MB``; ``-`` for what is not known."""
    if size_bytes is None:
        return "-"
    size, units = float(size_bytes), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"
