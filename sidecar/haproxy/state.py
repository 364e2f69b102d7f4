"""What HAProxy says of itself, as values: the parsing of its three tables, by column name.

Sources: management.txt 9.1 (CSV of "show stat"), 9.3 ("show info", "show servers state"). Pure.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from sys import intern
from typing import Literal, NamedTuple

from sidecar.common.errors import RemoteProtocolError
from sidecar.common.text import shown
from sidecar.haproxy.naming import own_backend
from sidecar.haproxy.operations import State
from sidecar.model.desired import MAXCONN, Attributes, BackendName, ClaimKey, Unit
from sidecar.model.pool import PARKED, Address

# Bits of srv_admin_state. The others only say why (0x02 tracks a server, 0x04 was disabled in
# haproxy.cfg) and stay set on a server that is ready.
_FORCED_MAINT = 0x01
_RESOLUTION_MAINT = 0x20
_FORCED_DRAIN = 0x08

# srv_op_state: 0 stopped, 1 starting, 2 running, 3 stopping.
_STOPPED = "0"

# Bits of srv_check_state and srv_agent_state.
_CHECK_CONFIGURED = 0x02
_CHECK_ENABLED = 0x04

#: What we need of a server: what is its own, and what it often shares with others.
_SERVER_COLUMNS = ("be_name", "srv_name", "srv_addr")
_REST_COLUMNS = (
    "srv_port",
    "srv_admin_state",
    "srv_op_state",
    "srv_uweight",
    "srv_time_since_last_change",
    "srv_check_state",
    "srv_agent_state",
)

#: Whether a server's health is checked: it has no checks, or they are off or on.
Checks = Literal["none", "off", "on"]

# Reads six of some eighty lines and skips the rest: it is asked for with each look.
_INFO = re.compile(
    r"^(Version|Pid|Start_time_sec|Uptime_sec|CurrConns|Stopping): (.*)$", re.MULTILINE
)

#: Port, state, weight, up, seconds since its last change, checks.
_Rest = tuple[int, State, int, bool, int, Checks]

#: A named tuple of all its fields, in half the time that calling it takes.
_new = tuple.__new__

#: A frontend's states in which it listens; FULL listens but lets connections wait.
_LISTENING = frozenset({"OPEN", "FULL"})


class ObservedServer(NamedTuple):
    """One server of a backend as HAProxy has it.

    ``up``: HAProxy would use it (health and state together).
    ``seconds_since_change``: how long it has been in its operational state, in whole seconds; for
    one in maint, since it went there.
    ``sessions``: how many it has now; None where nobody asked.
    ``checks``: where they are not on, its health stays as somebody set it.
    ``maxconn``: how many connections it may have, 0 for any number; None where nobody asked.
    """

    name: str
    address: Address
    state: State
    weight: int
    up: bool
    seconds_since_change: int
    sessions: int | None = None
    checks: Checks = "none"
    maxconn: int | None = None


@dataclass(frozen=True, slots=True)
class ObservedUnit:
    """One backend of the pool as HAProxy has it. ``exposed``: the keys that lead to it.
    ``servers``: name -> server, in HAProxy's order. ``attributes``: what else it is told of it."""

    unit: Unit
    exposed: frozenset[ClaimKey]
    servers: Mapping[str, ObservedServer]
    attributes: Attributes = field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Whether clients get there."""
        return bool(self.exposed)


def limited(observed: ObservedUnit) -> bool:
    """Whether servers may have a limit of connections, which has to be asked for."""
    return MAXCONN in observed.attributes


def leaving(observed: ObservedUnit) -> bool:
    """Whether planning needs sessions: some slot is in maint with an address."""
    slots = observed.servers.values()
    return any(slot.state == "maint" and slot.address != PARKED for slot in slots)


def used(observed: ObservedUnit) -> bool:
    """Whether some slot has an endpoint, or had one that may still have sessions."""
    return any(slot.address != PARKED for slot in observed.servers.values())


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """Which HAProxy answers, of ``show info``.

    ``identity`` tells one process from the next: in containers the PID repeats, so it is PID and
    start time together.
    """

    version: str
    pid: int
    start_time_seconds: int
    uptime_seconds: int
    current_connections: int
    stopping: bool

    @property
    def identity(self) -> tuple[int, int]:
        return (self.pid, self.start_time_seconds)

    @property
    def version_tuple(self) -> tuple[int, ...]:
        """``(2, 6)`` of ``2.6.12-1+deb12u4``, to compare with."""
        return tuple(int(part) for part in re.findall(r"[0-9]+", self.version)[:2])


def parse_info(text: str) -> ProcessInfo:
    """``show info``. Raises RemoteProtocolError if it is something else."""
    fields = dict(_INFO.findall(text))
    try:
        return ProcessInfo(
            version=fields["Version"],
            pid=int(fields["Pid"]),
            start_time_seconds=int(fields["Start_time_sec"]) if "Start_time_sec" in fields else 0,
            uptime_seconds=int(fields["Uptime_sec"]),
            current_connections=int(fields["CurrConns"]),
            stopping=fields["Stopping"] != "0",
        )
    except (KeyError, ValueError) as exc:
        raise RemoteProtocolError(f"not a reply to 'show info': {text[:200]!r}") from exc


def parse_servers_state(text: str) -> dict[BackendName, dict[str, ObservedServer]]:
    """``show servers state``: backend -> name -> server, of our backends only.

    Raises RemoteProtocolError if it is something else, or a column that we need is missing.
    """
    lines = text.split("\n")
    if len(lines) < 2 or lines[0].strip() != "1" or not lines[1].startswith("# "):
        raise RemoteProtocolError(f"not a reply to 'show servers state': {text[:200]!r}")
    try:
        backend, name, ip = _columns(lines[1], " ", _SERVER_COLUMNS)
        others = _columns(lines[1], " ", _REST_COLUMNS)
    except ValueError as exc:
        raise RemoteProtocolError(f"'show servers state' lacks a column: {exc}") from exc
    # Most rows are equal but for their first columns: what comes behind is parsed once.
    head = max(backend, name, ip) + 1
    alike = head <= min(others)
    rests: dict[str, _Rest] = {}
    # Slots that nobody uses are the same in all backends, and share one value.
    unused: dict[tuple[str, str], ObservedServer] = {}
    found: dict[BackendName, dict[str, ObservedServer]] = {}
    last_backend, slots = "", None
    line = ""
    try:
        for line in lines[2:]:
            if not line:
                continue
            row = line.split(" ", head)
            if row[backend] != last_backend:
                last_backend = row[backend]
                own = own_backend(last_backend)
                slots = None if own is None else found.setdefault(own, {})
            if slots is None:
                continue
            key = row[head] if alike else line
            is_unused = row[ip] == PARKED.ip
            if is_unused and (server := unused.get((row[name], key))):
                slots[server.name] = server
                continue
            if (rest := rests.get(key)) is None:
                rest = rests[key] = _rest(line.split(" "), others)
            port, state, weight, up, since, checks = rest
            slot, address = intern(row[name]), _new(Address, (row[ip], port))
            row_of = (slot, address, state, weight, up, since, None, checks, None)
            server = _new(ObservedServer, row_of)
            slots[slot] = server
            if is_unused:
                unused[slot, key] = server
    except (IndexError, ValueError) as exc:
        raise RemoteProtocolError(
            f"a row of 'show servers state' is broken: {line[:200]!r}"
        ) from exc
    return found


def _rest(row: Sequence[str], columns: Sequence[int]) -> _Rest:
    """``columns``: where the `_REST_COLUMNS` stand in ``row``."""
    port, admin, operational, weight, since, check, agent = (row[index] for index in columns)
    up, checks = operational != _STOPPED, _checks_of(int(check), int(agent))
    return int(port), state_of(int(admin)), int(weight), up, int(since), checks


def _checks_of(check_state: int, agent_state: int) -> Checks:
    """An agent (of a template of one's own) sets the health as a check does."""
    if (check_state | agent_state) & _CHECK_ENABLED:
        return "on"
    return "off" if check_state & _CHECK_CONFIGURED else "none"


def state_of(admin_state: int) -> State:
    """What ``srv_admin_state`` of "show servers state" means."""
    if admin_state & (_FORCED_MAINT | _RESOLUTION_MAINT):
        return "maint"
    return "drain" if admin_state & _FORCED_DRAIN else "ready"


def parse_frontends(text: str) -> dict[str, bool]:
    """``show stat`` of frontends: frontend's name -> whether it listens."""
    return {
        row["pxname"]: row["status"] in _LISTENING
        for row in stat_rows(text, ("pxname", "svname", "status"))
        if row["svname"] == "FRONTEND"
    }


def parse_server_sessions(text: str) -> dict[BackendName, dict[str, int]]:
    """``show stat`` of servers: backend -> server name -> sessions now (column ``scur``).

    In HTTP one whose answer is all there is none any more to HAProxy 2.6, but its connection is
    kept for others once the client has read it: there it counts for as long as it is used.
    """
    found: dict[BackendName, dict[str, int]] = {}
    for row in stat_tuples(text, ("pxname", "svname", "scur", "used_conn_cur", "mode")):
        proxy, name, current, used_connections, mode = row
        own = own_backend(proxy)
        if own is not None and name not in ("FRONTEND", "BACKEND"):
            try:
                sessions = int(current or 0)
                if mode == "http":
                    sessions = max(sessions, int(used_connections or 0))
                found.setdefault(own, {})[name] = sessions
            except ValueError as exc:
                raise RemoteProtocolError(f"a row of 'show stat' is broken: {shown(row)}") from exc
    return found


def parse_server_limits(text: str) -> dict[BackendName, dict[str, int]]:
    """``show stat`` of servers: backend -> server name -> how many connections it may have (column
    ``slim``, empty for any number)."""
    found: dict[BackendName, dict[str, int]] = {}
    for row in stat_rows(text, ("pxname", "svname", "slim")):
        own = own_backend(row["pxname"])
        if own is not None and row["svname"] not in ("FRONTEND", "BACKEND"):
            try:
                found.setdefault(own, {})[row["svname"]] = int(row["slim"] or 0)
            except ValueError as exc:
                raise RemoteProtocolError(f"a row of 'show stat' is broken: {shown(row)}") from exc
    return found


def parse_session_ids(text: str) -> dict[tuple[BackendName, str], list[str]]:
    """``show sess``: (backend, server name) -> HAProxy's names of the sessions on it."""
    found: dict[tuple[BackendName, str], list[str]] = {}
    for line in text.split("\n"):
        name, _, rest = line.partition(": ")
        fields = dict(word.split("=", 1) for word in rest.split(" ") if "=" in word)
        own = own_backend(fields.get("be", ""))
        if own is not None and fields.get("srv", "<none>") != "<none>":
            found.setdefault((own, fields["srv"]), []).append(name)
    return found


def stat_rows(text: str, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a "show stat" CSV with the ``needed`` columns by name.

    Raises RemoteProtocolError if it is something else, or lacks one of them.
    """
    return (dict(zip(needed, row, strict=True)) for row in stat_tuples(text, needed))


def stat_tuples(text: str, needed: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The same, each row's ``needed`` columns in their order; there are two at least."""
    lines = text.split("\n")
    if not lines[0].startswith("# pxname,"):
        raise RemoteProtocolError(f"not a reply to 'show stat': {text[:200]!r}")
    try:
        of = itemgetter(*_columns(lines[0], ",", needed))
    except ValueError as exc:
        raise RemoteProtocolError(f"'show stat' lacks a column: {exc}") from exc
    row: list[str] = []
    try:
        for row in csv.reader(line for line in lines[1:] if line):
            yield of(row)
    except (IndexError, csv.Error) as exc:
        raise RemoteProtocolError(f"a row of 'show stat' is broken: {shown(row)}") from exc


@lru_cache(maxsize=64)  # one and the same process always has the same header
def _columns(header: str, separator: str, needed: tuple[str, ...]) -> tuple[int, ...]:
    """Where the ``needed`` columns stand. Raises ValueError if one does not."""
    names = header.removeprefix("# ").split(separator)
    return tuple(names.index(name) for name in needed)
