"""What HAProxy counts: sessions, bytes and health of the ports that somebody looks at.

Nothing is decided on these figures, so the loop never reads them; whoever shows them does, on a
connection of its own. Source: management.txt 9.1, the CSV of "show stat". Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sidecar.common.errors import RemoteProtocolError
from sidecar.haproxy.attempts import Attempts
from sidecar.haproxy.lease_counts import BackendCounts, Counters, Times
from sidecar.haproxy.naming import port_of_backend, port_of_frontend, web_backend
from sidecar.haproxy.state import ObservedUnit, ProcessInfo, stat_rows, stat_tuples
from sidecar.model.desired import BackendName, Unit

_COUNTS = ("pxname", "svname", "scur", "rate", "bin", "bout")
_ATTEMPTS = ("stot", "econ", "wretr", "wredis")
#: In the order of `Counters`, behind those that each backend has, and of `Times`.
_REQUESTS = ("req_tot", *(f"hrsp_{code}" for code in ("1xx", "2xx", "3xx", "4xx", "5xx", "other")))
_OUTCOMES = ("bin", "bout", "econ", "eresp", "wretr", "wredis")
_TIMES = ("qtime", "ctime", "rtime", "ttime")
_WEB_COLUMNS = (
    *("pxname", "svname", "scur", "rate", "stot"),
    *(*_REQUESTS, *_OUTCOMES, *_TIMES, *(f"{name}_max" for name in _TIMES)),
)
_SERVER_COLUMNS = (*_COUNTS, *_ATTEMPTS, "status", "check_status", "lastchg")


class Counts(NamedTuple):
    """Of a port or a server. ``sessions``: now. ``sessions_per_second``: over the last second.
    ``bytes_in``, ``bytes_out``: from and to clients, since HAProxy started."""

    sessions: int
    sessions_per_second: int
    bytes_in: int
    bytes_out: int


class Connections(NamedTuple):
    """Of a port, now and at most since HAProxy started. ``limit``: how many there may be."""

    now: int
    most: int
    limit: int

    @property
    def full(self) -> bool:
        """Whether further ones are closed at once."""
        return self.now >= self.limit


class ServerTraffic(NamedTuple):
    """One server. ``check``: its health check's last result, like ``L4OK``; "" without checks.
    ``attempts``: since HAProxy started. ``seconds_since_change``: since it last went up or down."""

    counts: Counts
    attempts: Attempts
    up: bool
    check: str
    seconds_since_change: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """One look, everything by port; a port that HAProxy lacks is nowhere.

    ``ports``: what its frontend counts. ``servers``: by name. ``attempts``: its backend's, since
    HAProxy started. ``observed``: by unit, how they were at that instant. ``web``: what the
    backends for Routes by host count, whoever had them.
    """

    process: ProcessInfo
    ports: Mapping[int, Counts]
    connections: Mapping[int, Connections]
    servers: Mapping[int, Mapping[str, ServerTraffic]]
    attempts: Mapping[int, Attempts]
    observed: Mapping[Unit, ObservedUnit]
    web: Mapping[Unit, BackendCounts]


def parse_port_traffic(text: str) -> dict[int, Counts]:
    """``show stat`` of frontends: port -> its counts, of our frontends only."""
    found = {}
    for row in stat_rows(text, _COUNTS):
        port = port_of_frontend(row["pxname"])
        if port is not None and row["svname"] == "FRONTEND":
            found[port] = _counts(row)
    return found


def parse_server_traffic(text: str) -> dict[int, dict[str, ServerTraffic]]:
    """``show stat`` of servers: port -> server name -> its traffic, of our backends only."""
    found: dict[int, dict[str, ServerTraffic]] = {}
    for row in stat_rows(text, _SERVER_COLUMNS):
        port = port_of_backend(row["pxname"])
        if port is not None and row["svname"] not in ("FRONTEND", "BACKEND"):
            found.setdefault(port, {})[row["svname"]] = ServerTraffic(
                _counts(row),
                _attempts(row),
                # "DOWN 1/2" is on its way up; "UP 2/3" on its way down and still used.
                not row["status"].startswith("DOWN"),
                # "* L4OK": a check is under way, and this is the last one's result.
                row["check_status"].removeprefix("* "),
                _number(row, "lastchg"),
            )
    return found


def parse_connections(text: str) -> dict[int, Connections]:
    """``show stat`` of frontends: port -> its connections, of our frontends only."""
    found = {}
    for row in stat_rows(text, ("pxname", "svname", "scur", "smax", "slim")):
        port = port_of_frontend(row["pxname"])
        if port is not None and row["svname"] == "FRONTEND":
            # haproxy.cfg's maxconn has room for one more, which is closed at once.
            limit = max(0, _number(row, "slim") - 1)
            found[port] = Connections(_number(row, "scur"), _number(row, "smax"), limit)
    return found


def parse_attempts(text: str) -> dict[int, Attempts]:
    """``show stat`` of backends: port -> what was attempted since HAProxy started, of our backends
    only."""
    found = {}
    for row in stat_rows(text, ("pxname", "svname", *_ATTEMPTS)):
        port = port_of_backend(row["pxname"])
        if port is not None and row["svname"] == "BACKEND":
            found[port] = _attempts(row)
    return found


def parse_web_backends(text: str) -> dict[Unit, BackendCounts]:
    """``show stat`` of backends: unit -> what it counts, of those for Routes by host only."""
    found: dict[Unit, BackendCounts] = {}
    # Most backends of a large pool are idle: their rows are alike, and are read once.
    known: dict[tuple[str, ...], BackendCounts] = {}
    for row in stat_tuples(text, _WEB_COLUMNS):
        name, kind, figures = row[0], row[1], row[2:]
        if kind == "BACKEND" and web_backend(name):
            if figures not in known:
                known[figures] = _backend_counts(dict(zip(_WEB_COLUMNS, row, strict=True)))
            found[BackendName(name)] = known[figures]
    return found


def _backend_counts(row: Mapping[str, str]) -> BackendCounts:
    # HAProxy leaves empty what there is in mode http only.
    http = bool(row["req_tot"])
    return BackendCounts(
        http,
        _number(row, "scur"),
        _number(row, "rate"),
        Counters(*(_number(row, column) for column in ("stot", *_REQUESTS, *_OUTCOMES))),
        _times(row, "", http=http),
        _times(row, "_max", http=http),
    )


def _times(row: Mapping[str, str], suffix: str, *, http: bool) -> Times:
    queue, connect, response, total = (_number(row, f"{name}{suffix}") for name in _TIMES)
    return Times(queue, connect, response if http else None, total)


def _attempts(row: Mapping[str, str]) -> Attempts:
    return Attempts(*(_number(row, column) for column in _ATTEMPTS))


def _counts(row: Mapping[str, str]) -> Counts:
    return Counts(
        _number(row, "scur"), _number(row, "rate"), _number(row, "bin"), _number(row, "bout")
    )


def _number(row: Mapping[str, str], column: str) -> int:
    try:
        return int(row[column] or 0)
    except ValueError as exc:
        raise RemoteProtocolError(f"a row of 'show stat' is broken: {row!r}") from exc
