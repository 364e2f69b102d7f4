"""Reads HAProxy: which process answers, and the units as it has them.

Used by the loop and by commands that only look. Changes nothing in HAProxy.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from sidecar.haproxy.attempts import Attempts
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.dialect import is_no_proxy
from sidecar.haproxy.naming import backend_name, frontend_name
from sidecar.haproxy.state import (
    ObservedServer,
    ObservedUnit,
    ProcessInfo,
    leaving,
    limited,
    parse_frontends,
    parse_info,
    parse_server_limits,
    parse_server_sessions,
    parse_servers_state,
    parse_session_ids,
    used,
)
from sidecar.haproxy.state_text import StateText
from sidecar.haproxy.stats import (
    Connections,
    Counts,
    ServerTraffic,
    Traffic,
    parse_attempts,
    parse_connections,
    parse_port_traffic,
    parse_server_traffic,
    parse_web_backends,
)
from sidecar.listeners.base import ListenerKind
from sidecar.listeners.tcp import key_of
from sidecar.model.desired import ClaimKey, Unit
from sidecar.model.pool import Address

#: To ask for all keys costs as much as for about this part of them one by one.
_FULL_DUMP_FRACTION = 8

#: unit -> server name -> the address that HAProxy must show.
Readback = Mapping[Unit, Mapping[str, Address]]


class Look(NamedTuple):
    """What to ask for to see ``units``, and which process answers.

    ``lines``: that first, then the servers of each of ``units``, then what leads to them, then the
    sessions of ``counted``.
    """

    lines: Sequence[str]
    units: Sequence[Unit]
    counted: Sequence[Unit]


class Observer:
    """Looks at one HAProxy over ``client``, as far as it concerns ``kind``."""

    def __init__(self, client: RuntimeClient, kind: ListenerKind) -> None:
        self._client = client
        self._kind = kind
        self._place = {unit: number for number, unit in enumerate(kind.classes)}
        # All servers as last shown.
        self._state = StateText()

    @property
    def state(self) -> str:
        """All servers as they were last seen, for HAProxy's state file; "" before that."""
        return self._state.text

    def info(self) -> ProcessInfo:
        """Which HAProxy answers. Raises RuntimeAPIError."""
        return parse_info(self._client.ask("show info"))

    def look(
        self,
        units: Collection[Unit],
        *,
        counted: Collection[Unit] = (),
        with_sessions: bool = False,
    ) -> tuple[ProcessInfo, dict[Unit, ObservedUnit]]:
        """Which process answers, and ``units`` as it has them, in the kind's order.

        A unit that HAProxy lacks, or cannot expose, is left out. Sessions are counted where
        planning needs them, or on all used servers; on ``counted``, where that is likely, in the
        same exchange. Raises RuntimeAPIError.
        """
        whole = len(units) == len(self._kind.classes)
        look = self.look_at(units, counted=counted, touched=None if whole else ())
        answers = self._client.ask_all(look.lines)
        return self.seen(look, answers, used if with_sessions else leaving)

    def look_at(
        self,
        units: Collection[Unit],
        *,
        counted: Collection[Unit] = (),
        touched: Collection[ClaimKey] | None,
    ) -> Look:
        """What to ask for to see ``units``; see `Look`. ``touched``: the keys that were changed
        since the last look, on other units, too; None: any may have been."""
        shown = sorted(units, key=self._place.__getitem__)
        counted = sorted(set(shown).intersection(counted))
        lines = ["show info", *self.readback_of(shown)]
        if touched is None or self._is_cheaper_at_once(touched):
            lines += self._kind.questions(None, ())
        else:
            lines += self._kind.questions(shown, touched)
        lines += [_sessions_of(unit) for unit in counted]
        return Look(lines, shown, counted)

    def seen(
        self, look: Look, answers: Sequence[str], counts: Callable[[ObservedUnit], bool]
    ) -> tuple[ProcessInfo, dict[Unit, ObservedUnit]]:
        """As `look`, of HAProxy's ``answers`` to that. Sessions are counted on the units that
        ``counts`` chooses, by now: servers that went to maint in the same exchange may still get
        a connection that HAProxy had chosen them for."""
        info, *tables = answers
        begin, end = len(look.units), len(tables) - len(look.counted)
        exposing = dict(zip(look.lines[1 + begin : 1 + end], tables[begin:end], strict=True))
        servers = self._servers(look.units, tables[:begin])
        exposed = self._kind.parse(exposing, look.units)
        there = servers.keys() & exposed.keys()
        units = {
            unit: ObservedUnit(unit, exposed[unit], servers[unit], self._kind.attributes(unit))
            for unit in sorted(there, key=self._place.__getitem__)
        }
        missing = [
            unit
            for unit, seen in units.items()
            if (counts(seen) or limited(seen)) and unit not in look.counted
        ]
        for table in tables[end:] + self._client.ask_all([_sessions_of(unit) for unit in missing]):
            if not is_no_proxy(table):
                _put_sessions(table, servers)
                _put_limits(table, servers, units)
        return parse_info(info), units

    def readback_of(self, units: Collection[Unit]) -> list[str]:
        """What to ask for to see the addresses of ``units``. Never for those of all at once: that
        holds HAProxy up, and an answer that is larger than half a buffer kills 3.2 if its client
        goes away in the middle of it. One about a backend is, with more than some 70 servers."""
        return [f"show servers state {unit}" for unit in units]

    def addresses_shown(self, wanted: Readback, tables: Sequence[str]) -> set[Unit]:
        """Those of ``wanted`` whose addresses HAProxy shows in its answer to `readback_of` them."""
        servers = self._servers(list(wanted), tables)
        return {
            unit
            for unit, addresses in wanted.items()
            if all(
                (slot := servers.get(unit, {}).get(name)) and slot.address == address
                for name, address in addresses.items()
            )
        }

    def _servers(
        self, units: Sequence[Unit], tables: Sequence[str]
    ) -> Mapping[Unit, dict[str, ObservedServer]]:
        """Those of ``units`` in HAProxy's answers, which are kept."""
        for unit, table in zip(units, tables, strict=True):
            self._state.put(unit, table)
        text = self._state.of(units)
        return parse_servers_state(text) if text else {}

    def session_ids(self) -> Mapping[tuple[Unit, str], list[str]]:
        """(unit, server name) -> HAProxy's names of the sessions that run on it now."""
        return parse_session_ids(self._client.ask("show sess"))

    def traffic(self, ports: Collection[int], *, web: bool = False) -> Traffic:
        """What HAProxy counts on ``ports``, and how they are; those that it lacks are left out.
        ``web``: and on all backends for Routes by host. Raises RuntimeAPIError."""
        lines = ["show info", *["show stat -1 2 -1"] * web]
        for port in ports:
            lines += [f"show stat {frontend_name(port)} 1 -1"]
            lines += [f"show stat {backend_name(port)} 6 -1"]
            lines += [f"show servers state {backend_name(port)}"]
        info, *tables = self._client.ask_all(lines)
        by_host = parse_web_backends(tables.pop(0)) if web else {}
        counts: dict[int, Counts] = {}
        connections: dict[int, Connections] = {}
        servers: dict[int, dict[str, ServerTraffic]] = {}
        attempts: dict[int, Attempts] = {}
        observed: dict[Unit, ObservedUnit] = {}
        for port, frontend, backend, state in zip(
            ports, tables[0::3], tables[1::3], tables[2::3], strict=True
        ):
            if is_no_proxy(frontend) or is_no_proxy(backend):
                continue
            counts |= parse_port_traffic(frontend)
            connections |= parse_connections(frontend)
            servers |= parse_server_traffic(backend)
            attempts |= parse_attempts(backend)
            unit = backend_name(port)
            slots = parse_servers_state(state).get(unit, {})
            # Not by the kind, whose memory is the loop's: this is another thread's.
            listens = parse_frontends(frontend).get(frontend_name(port))
            exposed = frozenset({key_of(port)} if listens else ())
            observed[unit] = ObservedUnit(unit, exposed, slots)
        return Traffic(parse_info(info), counts, connections, servers, attempts, observed, by_host)

    def _is_cheaper_at_once(self, units: Collection[object]) -> bool:
        return len(units) * _FULL_DUMP_FRACTION > len(self._kind.classes)


def _sessions_of(unit: Unit) -> str:
    return f"show stat {unit} 4 -1"


def _put_sessions(table: str, servers: Mapping[Unit, dict[str, ObservedServer]]) -> None:
    """Put the sessions that ``table`` counts into ``servers``."""
    for unit, counts in parse_server_sessions(table).items():
        slots = servers.get(unit, {})
        for name, count in counts.items():
            if slot := slots.get(name):
                slots[name] = slot._replace(sessions=count)


def _put_limits(
    table: str,
    servers: Mapping[Unit, dict[str, ObservedServer]],
    units: Mapping[Unit, ObservedUnit],
) -> None:
    """The same of the limits, of those of ``units`` whose servers may have any."""
    for unit, limits in (
        parse_server_limits(table).items() if any(map(limited, units.values())) else ()
    ):
        slots = servers[unit] if unit in units and limited(units[unit]) else {}
        for name, maxconn in limits.items():
            if slot := slots.get(name):
                slots[name] = slot._replace(maxconn=maxconn)
