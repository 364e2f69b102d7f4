"""Reads HAProxy: which process answers, and the pool's ports as it has them.

Used by the loop and by commands that only look. Changes nothing in HAProxy.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from sidecar.haproxy.attempts import Attempts
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.naming import backend_name, frontend_name
from sidecar.haproxy.state import (
    ObservedPort,
    ObservedServer,
    ProcessInfo,
    leaving,
    parse_frontends,
    parse_info,
    parse_server_sessions,
    parse_servers_state,
    parse_session_ids,
    used,
)
from sidecar.haproxy.stats import (
    Connections,
    Counts,
    ServerTraffic,
    Traffic,
    parse_attempts,
    parse_connections,
    parse_port_traffic,
    parse_server_traffic,
)
from sidecar.model.pool import Address, Pool, format_ports

#: A full dump costs as much as looking at about this part of the ports one by one.
_FULL_DUMP_FRACTION = 8

OTHER_CONFIG = "it runs on another haproxy.cfg: render it from these settings and restart HAProxy"


_NONE_KNOWN: Mapping[int, bool] = MappingProxyType({})


#: port -> server name -> the address that HAProxy must show.
Readback = Mapping[int, Mapping[str, Address]]


class Look(NamedTuple):
    """What to ask for to see ``ports``, and which process answers.

    ``lines``: that first, then servers, then frontends, then the sessions of ``counted``.
    ``whole``: they ask for full dumps, which show the other ports too. ``known_open``: port ->
    whether it listens, where that need not be asked for.
    """

    lines: Sequence[str]
    ports: frozenset[int]
    counted: Sequence[int]
    whole: bool
    known_open: Mapping[int, bool]


class Observer:
    """Looks at one HAProxy over ``client``, as far as it concerns ``pool``."""

    def __init__(self, client: RuntimeClient, pool: Pool) -> None:
        self._client = client
        self._pool = pool
        # What HAProxy has of the pool, as the last full look found it.
        self._existing = frozenset(pool.ports)

    def info(self) -> ProcessInfo:
        """Which HAProxy answers. Raises RuntimeAPIError."""
        return parse_info(self._client.ask("show info"))

    def look(
        self, ports: Collection[int], *, counted: Collection[int] = (), with_sessions: bool = False
    ) -> tuple[ProcessInfo, dict[int, ObservedPort]]:
        """Which process answers, and ``ports`` as it has them, in ascending order.

        A port of which HAProxy lacks the frontend or the backend is left out. Sessions are
        counted where planning needs them, or on all used servers; on ``counted``, where that is
        likely, in the same exchange. Raises RuntimeAPIError.
        """
        look = self.look_at(ports, counted=counted)
        answers = self._client.ask_all(look.lines)
        return self.seen(look, answers, used if with_sessions else leaving)

    def look_at(
        self,
        ports: Collection[int],
        *,
        known_open: Mapping[int, bool] = _NONE_KNOWN,
        counted: Collection[int] = (),
    ) -> Look:
        """What to ask for to see ``ports``; see `Look`."""
        whole = self._is_cheaper_at_once(ports)
        shown = frozenset(ports) if whole else self._existing.intersection(ports)
        asked = [port for port in shown if port not in known_open]
        counted = sorted(shown.intersection(counted))
        lines = ["show info"]
        if whole:
            lines += ["show servers state"]
            lines += ["show stat -1 1 -1"] if asked else []
        else:
            lines += [f"show servers state {backend_name(port)}" for port in shown]
            lines += [f"show stat {frontend_name(port)} 1 -1" for port in asked]
        lines += [_sessions_of(port) for port in counted]
        return Look(lines, shown, counted, whole, known_open)

    def seen(
        self, look: Look, answers: Sequence[str], counts: Callable[[ObservedPort], bool]
    ) -> tuple[ProcessInfo, dict[int, ObservedPort]]:
        """As `look`, of HAProxy's ``answers`` to that. Sessions are counted on the ports that
        ``counts`` chooses, by now: servers that went to maint in the same exchange may still get
        a connection that HAProxy had chosen them for."""
        info, *tables = answers
        of_servers = 1 if look.whole else len(look.ports)
        of_frontends = len(tables) - len(look.counted)
        servers: dict[int, dict[str, ObservedServer]] = {}
        frontends = dict(look.known_open)
        for table in tables[:of_servers]:
            servers.update(parse_servers_state(table))
        for table in tables[of_servers:of_frontends]:
            frontends.update(parse_frontends(table))
        if look.whole and of_servers < of_frontends:
            self._existing = frozenset(servers.keys() & frontends.keys())
        ports = {
            port: ObservedPort(port, frontends[port], servers[port])
            for port in sorted(servers.keys() & frontends.keys() & look.ports)
        }
        missing = [port for port in ports if counts(ports[port]) and port not in look.counted]
        for table in tables[of_frontends:] + self._client.ask_all(
            [_sessions_of(port) for port in missing]
        ):
            if not _is_absent(table):
                _put_sessions(table, servers)
        return parse_info(info), ports

    def readback_of(self, ports: Collection[int]) -> list[str]:
        """What to ask for to see the addresses of ``ports``."""
        if self._is_cheaper_at_once(ports):
            return ["show servers state"]
        return [f"show servers state {backend_name(port)}" for port in ports]

    def addresses_shown(self, wanted: Readback, tables: Sequence[str]) -> set[int]:
        """The ports of ``wanted`` whose addresses HAProxy shows in its answer to `readback_of`
        them."""
        servers: dict[int, dict[str, ObservedServer]] = {}
        for table in tables:
            servers.update(parse_servers_state(table))
        return {
            port
            for port, addresses in wanted.items()
            if all(
                (slot := servers.get(port, {}).get(name)) and slot.address == address
                for name, address in addresses.items()
            )
        }

    def session_ids(self) -> Mapping[tuple[int, str], list[str]]:
        """(port, server name) -> HAProxy's names of the sessions that run on it now."""
        return parse_session_ids(self._client.ask("show sess"))

    def traffic(self, ports: Collection[int]) -> Traffic:
        """What HAProxy counts on ``ports``, and how they are; those that it lacks are left out.
        Raises RuntimeAPIError."""
        lines = ["show info"]
        for port in ports:
            lines += [f"show stat {frontend_name(port)} 1 -1"]
            lines += [f"show stat {backend_name(port)} 6 -1"]
            lines += [f"show servers state {backend_name(port)}"]
        info, *tables = self._client.ask_all(lines)
        counts: dict[int, Counts] = {}
        connections: dict[int, Connections] = {}
        servers: dict[int, dict[str, ServerTraffic]] = {}
        attempts: dict[int, Attempts] = {}
        observed: dict[int, ObservedPort] = {}
        for port, frontend, backend, state in zip(
            ports, tables[0::3], tables[1::3], tables[2::3], strict=True
        ):
            if _is_absent(frontend) or _is_absent(backend):
                continue
            counts |= parse_port_traffic(frontend)
            connections |= parse_connections(frontend)
            servers |= parse_server_traffic(backend)
            attempts |= parse_attempts(backend)
            slots = parse_servers_state(state).get(port, {})
            observed[port] = ObservedPort(port, parse_frontends(frontend)[port], slots)
        return Traffic(parse_info(info), counts, connections, servers, attempts, observed)

    def _is_cheaper_at_once(self, ports: Collection[object]) -> bool:
        return len(ports) * _FULL_DUMP_FRACTION > len(self._pool.by_port)


def _sessions_of(port: int) -> str:
    return f"show stat {backend_name(port)} 4 -1"


def _put_sessions(table: str, servers: Mapping[int, dict[str, ObservedServer]]) -> None:
    """Put the sessions that ``table`` counts into ``servers``."""
    for port, counts in parse_server_sessions(table).items():
        slots = servers.get(port, {})
        for name, count in counts.items():
            if slot := slots.get(name):
                slots[name] = slot._replace(sessions=count)


def _is_absent(table: str) -> bool:
    """HAProxy has no such proxy: it was started on another haproxy.cfg."""
    return not table.strip() or table.startswith("No such proxy")


def compare(pool: Pool, observed: Mapping[int, ObservedPort]) -> Iterable[str]:
    """What a running HAProxy lacks of the pool, in words for a person; nothing if all is there."""
    if absent := [port for port in pool.ports if port not in observed]:
        yield (
            f"HAProxy has no frontend {frontend_name(absent[0])} with backend"
            f" {backend_name(absent[0])} (missing ports: {format_ports(absent)}); {OTHER_CONFIG}"
        )
    for port, seen in observed.items():
        if lacking := [name for name in pool.slot_names(port) if name not in seen.servers]:
            yield (
                f"HAProxy's backend {backend_name(port)} lacks"
                f" {len(lacking)} of {pool.by_port[port].slots} slots, first"
                f" {lacking[0]}; {OTHER_CONFIG}"
            )
