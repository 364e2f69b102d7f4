"""``kick``: end the sessions on a port, or on one of its servers, at a limited rate.

Owns which sessions may be ended: those that existed when it was called. Clients that reconnect are
left alone. HAProxy identifies sessions by addresses in its memory, which it reuses at once; so each
step queries it again, and ends only sessions with the same id, client, port and server, within the
milliseconds of that reply's age.
"""

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import typer
from typer import Exit

from sidecar.cli.context import load_settings
from sidecar.cli.sessions import connect, describe
from sidecar.cli.targets import Named, find_port
from sidecar.common.errors import CommandRefusedError, LocalProtocolError, UsageError
from sidecar.common.text import shown
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.naming import backend_name
from sidecar.haproxy.operations import EndSession
from sidecar.haproxy.sessions import Session, parse_port_sessions
from sidecar.haproxy.state import parse_servers_state
from sidecar.model.desired import BackendName

_LIST = "show sess"

#: Which session: its name, client and server. Age is no part of it, and nothing else is certain.
_Identity = tuple[str, str, str | None]


@dataclass
class _Tally:
    """What became of the sessions. ``ended``: server, or "" for none -> how many."""

    ended: Counter[str] = field(default_factory=Counter)
    gone: int = 0
    refused: list[CommandRefusedError | LocalProtocolError] = field(default_factory=list)


def kick(
    config: Path | None, target: str, server: str | None, per_second: int | None, *, yes: bool
) -> None:
    """End them, and say how many of which server. ``server``: a slot, pod or address; None for
    all. ``per_second``: None for ``drain.sessions_per_second`` of the settings.

    Raises RuntimeAPIError if HAProxy is away, UsageError for a server that is not there or
    without ``yes`` where nobody can be asked, and what `find_port` raises.
    """
    settings = load_settings(config)
    pace = per_second or settings.drain.sessions_per_second
    named = find_port(settings, target)
    with connect(settings) as client:
        found = _list(client, named.port)
        slots = _slots(client, named, found)
        only = None if server is None else _find_slots(server, slots, named)
        wanted = [item for item in found if only is None or item.server in only]
        what = describe(named) + (f", server {server}" if server else "")
        if not wanted:
            sys.stdout.write(f"no sessions on {what}\n")
            return
        question = f"end {_sessions(len(wanted))} on {what}, at most {pace} per second?"
        if not yes and not _confirmed(question):
            sys.stdout.write("no session was ended\n")
            raise Exit(1)
        tally = _Tally()
        try:
            _end(client, named.port, wanted, pace, tally)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; so far:\n")
            raise Exit(130) from None
        finally:
            _tell(tally, what, {name: _title(name, slots, named) for name in slots})
    if tally.refused:
        raise Exit(1)


def _slots(client: RuntimeClient, named: Named, sessions: Sequence[Session]) -> dict[str, str]:
    """slot -> ``ip:port``, of all servers of the port, and of those who share it and have one of
    ``sessions``."""
    own = backend_name(named.port)
    shared = {BackendName(item.backend) for item in sessions if item.backend} - {own}
    units = [own, *sorted(shared)]
    tables = client.ask_all([f"show servers state {unit}" for unit in units])
    return {
        name if unit == own else f"{unit}/{name}": str(server.address)
        for unit, table in zip(units, tables, strict=True)
        for name, server in parse_servers_state(table).get(unit, {}).items()
    }


def _find_slots(server: str, slots: Mapping[str, str], named: Named) -> frozenset[str]:
    """The slots that ``server`` means, by name, address or pod; a pod may have several."""
    found = frozenset(
        name
        for name, address in slots.items()
        if server in (name, address, named.pods.get(address))
    )
    if not found:
        there = sorted({pod for address, pod in named.pods.items() if address in slots.values()})
        raise UsageError(
            f"{describe(named)} has no server {shown(server)}; name a slot (s1), an address"
            f" (10.0.0.1:80) or a pod{': ' + ', '.join(there[:10]) if there else ''}"
        )
    return found


def _list(client: RuntimeClient, port: int) -> list[Session]:
    return parse_port_sessions(client.ask(_LIST), port)


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"{question} stdin is not a terminal; use --yes")
    return typer.confirm(question, err=True)


def _end(
    client: RuntimeClient, port: int, wanted: Sequence[Session], pace: int, tally: _Tally
) -> None:
    """End ``wanted``, at most ``pace`` of them at once and then nothing for a second."""
    left = {_identity(item) for item in wanted}
    for _ in range(0, len(wanted), pace):  # enough if none leaves by itself
        there = [item for item in _list(client, port) if _identity(item) in left]
        tally.gone += len(left) - len(there)
        step, rest = there[:pace], there[pace:]
        left = {_identity(item) for item in rest}
        results = client.apply([EndSession(backend_name(port), item.id) for item in step])
        for item, outcome in zip(step, results, strict=True):
            if isinstance(outcome, str):
                tally.ended[item.server or ""] += 1
            else:
                tally.refused.append(outcome)
        if not left:
            return
        sys.stderr.write(f"ended {tally.ended.total()} of {len(wanted)}\n")
        time.sleep(1.0)


def _identity(item: Session) -> _Identity:
    return (item.id, item.client, item.server)


def _tell(tally: _Tally, what: str, titles: Mapping[str, str]) -> None:
    sys.stdout.write(f"ended {_sessions(tally.ended.total())} on {what}\n")
    for name, count in sorted(tally.ended.items()):
        sys.stdout.write(f"  {count} on {titles.get(name, name) or 'no server yet'}\n")
    if tally.gone:
        sys.stdout.write(f"  {tally.gone} more ended on their own\n")
    for error in tally.refused[:3]:
        sys.stderr.write(f"not ended: {error}\n")


def _title(name: str, slots: Mapping[str, str], named: Named) -> str:
    """``s1 10.0.0.1:80 web-0``."""
    pod = named.pods.get(slots[name], "")
    return f"{name} {slots[name]} {pod}".rstrip()


def _sessions(count: int) -> str:
    return f"{count} session{'s' * (count != 1)}"
