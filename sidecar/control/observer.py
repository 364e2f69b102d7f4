"""Reads HAProxy: which process answers, and the units as it has them.

Used by the loop and by commands that only look. Changes nothing in HAProxy.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from sidecar.haproxy.attempts import Attempts
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.naming import backend_name, frontend_name
from sidecar.haproxy.state import (
    ObservedServer,
    ObservedUnit,
    ProcessInfo,
    leaving,
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
    parse_web_backends,
)
from sidecar.listeners.base import ListenerKind
from sidecar.model.desired import ClaimKey, Unit
from sidecar.model.pool import Address

#: A full dump costs as much as looking at about this part of the units one by one.
_FULL_DUMP_FRACTION = 8

_NONE_KNOWN: Mapping[Unit, frozenset[ClaimKey]] = MappingProxyType({})


#: unit -> server name -> the address that HAProxy must show.
Readback = Mapping[Unit, Mapping[str, Address]]


class Look(NamedTuple):
    """What to ask for to see ``units``, and which process answers.

    ``lines``: that first, then ``of_servers`` lines for servers, then what leads to them, then the
    sessions of ``counted``. ``whole``: they ask for full dumps, which show the other units too.
    ``known``: unit -> the keys that lead to it, where that need not be asked for.
    """

    lines: Sequence[str]
    units: frozenset[Unit]
    of_servers: int
    counted: Sequence[Unit]
    whole: bool
    known: Mapping[Unit, frozenset[ClaimKey]]


class Observer:
    """Looks at one HAProxy over ``client``, as far as it concerns ``kind``."""

    def __init__(self, client: RuntimeClient, kind: ListenerKind) -> None:
        self._client = client
        self._kind = kind
        self._place = {unit: number for number, unit in enumerate(kind.classes)}
        # What HAProxy has of the kind's, as the last full look found it.
        self._existing = frozenset(kind.classes)

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
        look = self.look_at(units, counted=counted)
        answers = self._client.ask_all(look.lines)
        return self.seen(look, answers, used if with_sessions else leaving)

    def look_at(
        self,
        units: Collection[Unit],
        *,
        known: Mapping[Unit, frozenset[ClaimKey]] = _NONE_KNOWN,
        counted: Collection[Unit] = (),
        touched: Collection[ClaimKey] = (),
    ) -> Look:
        """What to ask for to see ``units``; see `Look`. ``touched``: the keys that were changed
        since the last look, on other units, too."""
        whole = self._is_cheaper_at_once(units)
        shown = frozenset(units) if whole else self._existing.intersection(units)
        asked = [unit for unit in shown if unit not in known]
        counted = sorted(shown.intersection(counted))
        of_servers = (
            ["show servers state"] if whole else [f"show servers state {unit}" for unit in shown]
        )
        lines = ["show info", *of_servers]
        if asked or touched:
            lines += self._kind.questions(None if whole and asked else asked, touched)
        lines += [_sessions_of(unit) for unit in counted]
        return Look(lines, shown, len(of_servers), counted, whole, known)

    def seen(
        self, look: Look, answers: Sequence[str], counts: Callable[[ObservedUnit], bool]
    ) -> tuple[ProcessInfo, dict[Unit, ObservedUnit]]:
        """As `look`, of HAProxy's ``answers`` to that. Sessions are counted on the units that
        ``counts`` chooses, by now: servers that went to maint in the same exchange may still get
        a connection that HAProxy had chosen them for."""
        info, *tables = answers
        end = len(tables) - len(look.counted)
        asked = look.lines[1 + look.of_servers : 1 + end]
        exposing = dict(zip(asked, tables[look.of_servers : end], strict=True))
        servers: dict[Unit, dict[str, ObservedServer]] = {}
        for table in tables[: look.of_servers]:
            servers.update(parse_servers_state(table))
        asked_for = self._kind.classes if look.whole else look.units
        exposed = {**self._kind.parse(exposing, asked_for), **look.known}
        if look.whole and look.units - look.known.keys():
            self._existing = frozenset(servers.keys() & exposed.keys())
        there = servers.keys() & exposed.keys() & look.units
        units = {
            unit: ObservedUnit(unit, exposed[unit], servers[unit], self._kind.attributes(unit))
            for unit in sorted(there, key=self._place.__getitem__)
        }
        missing = [unit for unit in units if counts(units[unit]) and unit not in look.counted]
        for table in tables[end:] + self._client.ask_all([_sessions_of(unit) for unit in missing]):
            if not _is_absent(table):
                _put_sessions(table, servers)
        return parse_info(info), units

    def readback_of(self, units: Collection[Unit]) -> list[str]:
        """What to ask for to see the addresses of ``units``."""
        if self._is_cheaper_at_once(units):
            return ["show servers state"]
        return [f"show servers state {unit}" for unit in units]

    def addresses_shown(self, wanted: Readback, tables: Sequence[str]) -> set[Unit]:
        """Those of ``wanted`` whose addresses HAProxy shows in its answer to `readback_of` them."""
        servers: dict[Unit, dict[str, ObservedServer]] = {}
        for table in tables:
            servers.update(parse_servers_state(table))
        return {
            unit
            for unit, addresses in wanted.items()
            if all(
                (slot := servers.get(unit, {}).get(name)) and slot.address == address
                for name, address in addresses.items()
            )
        }

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
            if _is_absent(frontend) or _is_absent(backend):
                continue
            counts |= parse_port_traffic(frontend)
            connections |= parse_connections(frontend)
            servers |= parse_server_traffic(backend)
            attempts |= parse_attempts(backend)
            unit = backend_name(port)
            slots = parse_servers_state(state).get(unit, {})
            observed[unit] = ObservedUnit(
                unit, self._kind.parse({"show stat ": frontend}, [unit])[unit], slots
            )
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


def _is_absent(table: str) -> bool:
    """HAProxy has no such proxy: it was started on another haproxy.cfg."""
    return not table.strip() or table.startswith("No such proxy")
