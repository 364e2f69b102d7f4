"""HAProxy's long replies as tables: ``show stat``, ``show servers state``, ``show sess`` and
``show info``.

Column names are HAProxy's own, so that its manual explains them; only ``pod`` and ``state`` are
ours. Columns that say nothing in any row are left out, and on a terminal the rows of slots that
nobody uses, and the last columns where it is too narrow; each is counted below the table. Any other
reply, and a refusal, is no table. Laid out by hand: rich takes some 30 us a cell, and a pool has
tens of thousands. Pure.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sidecar.cli.shell.lines import split_target
from sidecar.durations import format_span
from sidecar.errors import RemoteProtocolError
from sidecar.observed import state_of
from sidecar.pool import PARKED, port_of_backend, port_of_frontend
from sidecar.sessions import Session, parse_sessions

#: (port, server) -> the pod behind it
Pods = Mapping[tuple[int, str], str]

# What is looked for most, and first; the others follow in HAProxy's order.
_STAT_FIRST = (
    *("pxname", "svname", "pod", "addr", "status", "scur", "smax", "stot", "rate", "bin", "bout"),
    *("weight", "lastchg", "econ", "eresp", "wretr", "wredis", "chkdown", "check_status"),
)
_STATE_FIRST = (
    *("be_name", "srv_name", "pod", "srv_addr", "srv_port", "state", "srv_uweight"),
    "srv_time_since_last_change",
)

#: Values that say nothing.
_NOTHING = frozenset({"", "-", "0"})

_GAP = "  "


class Grid(NamedTuple):
    """A table. ``first``: columns that are shown even if they say nothing. ``unused``: whether a
    row is of a slot, or a port, that nobody uses; one for each row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    first: frozenset[str]
    unused: tuple[bool, ...]


class Pairs(NamedTuple):
    """Names and values: ``show info``."""

    items: tuple[tuple[str, str], ...]


def read_table(command: str, reply: str, pods: Pods) -> Grid | Pairs | None:
    """The ``reply`` to ``command`` as a table; None where it is none."""
    match split_target(command)[1].split(" "):
        case ["show", "stat", *_] if reply.startswith("# pxname,"):
            return _stat(reply, pods)
        case ["show", "servers", "state", *_] if reply.startswith("1\n# be_id "):
            return _servers_state(reply, pods)
        case ["show", "sess"] | ["show", "sess", "susp"] | ["show", "sess", "older", _]:
            return _sessions(reply, pods)
        case ["show", "info"] if reply.startswith("Name: "):
            pairs = (line.partition(": ") for line in reply.splitlines())
            return Pairs(tuple((name, value) for name, colon, value in pairs if colon))
        case _:
            return None


def _stat(reply: str, pods: Pods) -> Grid:
    rows = list(csv.DictReader(reply.removeprefix("# ").splitlines()))
    # A port's rows stand in two places: its frontend's and its backend's. It is used if its
    # frontend is open or any of its servers has an address.
    busy: set[int] = set()
    ports: list[int | None] = []
    for row in rows:
        port = port_of_frontend(row["pxname"])
        if port is None:
            port = port_of_backend(row["pxname"])
        ports.append(port)
        if port is not None and not _idle(row):
            busy.add(port)
        row["pod"] = "" if port is None else pods.get((port, row["svname"]), "")
    unused = [
        port is not None and (_idle(row) if _is_server(row) else port not in busy)
        for port, row in zip(ports, rows, strict=True)
    ]
    return _grid(rows, _STAT_FIRST, unused)


def _is_server(row: Mapping[str, str]) -> bool:
    return row["svname"] not in ("FRONTEND", "BACKEND")


def _idle(row: Mapping[str, str]) -> bool:
    """Of a row of "show stat": nothing happens there, and nothing can."""
    if row.get("scur") not in ("0", ""):
        return False
    match row["svname"]:
        case "FRONTEND":
            return row["status"] not in ("OPEN", "FULL")
        case "BACKEND":
            return True  # as its servers are
        case _:
            return row["status"].startswith("MAINT") and row.get("addr") in (str(PARKED), "", None)


def _servers_state(reply: str, pods: Pods) -> Grid:
    rows = list(csv.DictReader(reply.partition("# ")[2].splitlines(), delimiter=" "))
    unused = []
    for row in rows:
        port = port_of_backend(row["be_name"])
        row["pod"] = "" if port is None else pods.get((port, row["srv_name"]), "")
        state: str = state_of(int(row["srv_admin_state"]))
        row["state"] = "down" if state == "ready" and row["srv_op_state"] == "0" else state
        parked = (row["srv_addr"], row["srv_port"]) == (PARKED.ip, str(PARKED.port))
        unused.append(port is not None and state == "maint" and parked)
    return _grid(rows, _STATE_FIRST, unused)


def _sessions(reply: str, pods: Pods) -> Grid | None:
    try:
        sessions = parse_sessions(reply)
    except RemoteProtocolError:
        return None
    columns = ("source", "fe", "srv", "pod", "age", "left", "id")
    rows = tuple(_session_row(item, pods) for item in sessions)
    return Grid(columns, rows, frozenset(columns) - {"pod"}, (False,) * len(rows))


def _session_row(item: Session, pods: Pods) -> tuple[str, ...]:
    port = port_of_backend(item.backend or "")
    pod = "" if port is None else pods.get((port, item.server or ""), "")
    lefts = [left for left in (item.client_left_seconds, item.server_left_seconds) if left]
    return (
        item.client,
        item.frontend,
        item.server or "-",
        pod,
        format_span(item.age_seconds),
        format_span(min(lefts, default=None)),
        item.id,
    )


def _grid(rows: Sequence[Mapping[str, str]], first: Sequence[str], unused: Sequence[bool]) -> Grid:
    """All columns of ``rows``, in their order but for those that come ``first``."""
    have = [name for name in (rows[0] if rows else ()) if name]
    columns = [name for name in first if name in have]
    columns += [name for name in have if name not in first]
    return Grid(
        tuple(columns),
        tuple(tuple(row[name] or "" for name in columns) for row in rows),
        frozenset(first) - {"pod", "addr"},
        tuple(unused),
    )


def lay_out(table: Grid | Pairs, width: int | None, *, all_rows: bool) -> list[str]:
    """The table's lines, no wider than ``width`` where there is one; notes on what was left out
    come last."""
    if isinstance(table, Pairs):
        return _lay_out_pairs(table, width)
    shown = [
        row for row, unused in zip(table.rows, table.unused, strict=True) if all_rows or not unused
    ]
    telling = [
        index
        for index, name in enumerate(table.columns)
        if name in table.first or any(row[index] not in _NOTHING for row in shown)
    ]
    cells = [[table.columns[index] for index in telling]]
    cells += [[row[index] for index in telling] for row in shown]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    fitting = _fitting(widths, width)
    numeric = [all(_is_number(row[index]) for row in cells[1:]) for index in range(fitting)]
    lines = [_line(row[:fitting], widths, numeric) for row in cells]
    if hidden := len(table.rows) - len(shown):
        lines.append(f"({hidden} unused slots and ports left out: `:all on`)")
    if fitting < len(telling):
        left_out = ", ".join(cells[0][fitting:])
        note = f"(no room for {left_out})"
        lines.append(note if width is None or len(note) <= width else f"{note[: width - 2]}…)")
    return lines


def _fitting(widths: Sequence[int], width: int | None) -> int:
    """How many columns have room; one at least."""
    used, count = 0, 0
    for column in widths:
        used += column + (len(_GAP) if count else 0)
        if width is not None and used > width and count:
            break
        count += 1
    return count


def _is_number(text: str) -> bool:
    return not text or text == "-" or text.lstrip("-").isdigit()


def _line(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    cells = (
        text.rjust(width) if right else text.ljust(width)
        for text, width, right in zip(row, widths, numeric, strict=False)
    )
    return _GAP.join(cells).rstrip()


def _lay_out_pairs(table: Pairs, width: int | None) -> list[str]:
    """One below the other, in as many columns as there is room for."""
    name_width = max((len(name) for name, _ in table.items), default=0)
    lines = [f"{name.ljust(name_width)}{_GAP}{value}" for name, value in table.items]
    cell = max(map(len, lines), default=1) + len(_GAP)
    columns = 1 if width is None else max(1, (width + len(_GAP)) // cell)
    height = -(-len(lines) // columns)
    return [_GAP.join(_columns(lines[row::height], cell)).rstrip() for row in range(height)]


def _columns(cells: Iterable[str], width: int) -> Iterable[str]:
    return (cell.ljust(width - len(_GAP)) for cell in cells)
