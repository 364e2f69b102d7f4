"""HAProxy's long replies as tables: ``show stat``, ``show servers state``, ``show sess`` and
``show info``.

Column names are HAProxy's own, so that its manual explains them; only ``pod`` and ``state`` are
ours. Any other reply, including a refusal, is not a table. Pure.
"""

import csv
from collections.abc import Mapping, Sequence

from sidecar.cli.grid import Grid, Pairs
from sidecar.cli.shell.lines import split_target
from sidecar.common.durations import format_span
from sidecar.common.errors import RemoteProtocolError
from sidecar.haproxy.naming import port_of_backend, port_of_frontend
from sidecar.haproxy.sessions import Session, parse_sessions
from sidecar.haproxy.state import state_of
from sidecar.model.pool import PARKED

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
