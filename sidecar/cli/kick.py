"""``kick``: end the sessions on a port, or on one of its servers, at a limited rate.

Owns which sessions may be ended: those that existed when it was called. Clients that reconnect are
left alone. HAProxy identifies sessions by addresses in its memory, which it reuses at once; so each
step queries it again, and ends only sessions with the same id, client, port and, unless they were
still waiting for one, server, within the milliseconds of that reply's age.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import typer
from typer import Exit

from sidecar.cli.config import load_settings
from sidecar.cli.sessions import connect, describe
from sidecar.cli.targets import Named, find_port
from sidecar.common.errors import CommandRefusedError, LocalProtocolError, UsageError
from sidecar.common.text import counted, shown
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.naming import backend_name
from sidecar.haproxy.operations import EndSession, State
from sidecar.haproxy.sessions import Session, parse_port_sessions
from sidecar.haproxy.state import parse_servers_state
from sidecar.model.desired import BackendName

_LIST = "show sess"

#: Of the servers whose sessions would be ended, a question names so many.
_ASKED_MAX = 6


class Slot(NamedTuple):
    """A server of HAProxy's. ``address``: ``ip:port``."""

    address: str
    state: State


@dataclass(frozen=True, slots=True)
class Prospect:
    """Whose sessions would be ended. ``what``: the port and server, for a person. ``slots``: by
    their names. ``wanted``: the sessions."""

    named: Named
    what: str
    slots: Mapping[str, Slot]
    wanted: tuple[Session, ...]

    def question(self, pace: int) -> str:
        """For who is to confirm it: how many, and of whom."""
        counts = Counter(item.server or "" for item in self.wanted)
        # Those that nobody may have thought of first; a slot's name alone says little.
        ordered = sorted(counts, key=lambda name: (not self._is_former(name), -counts[name], name))
        told = [f"{counts[name]} on {self.title(name)}" for name in ordered[:_ASKED_MAX]]
        if more := ordered[_ASKED_MAX:]:
            sessions = sum(counts[name] for name in more)
            told.append(f"{sessions} on {counted(len(more), 'more server')}")
        whole = f"end {_sessions(len(self.wanted))} on {self.what}"
        return f"{whole}: {', '.join(told)}; at most {pace} per second?"

    def title(self, name: str) -> str:
        """``s1 10.0.0.1:80 web-0``, and what is not usual of it; the name alone of a server that is
        not known."""
        if not name:
            return "no server yet"
        if name not in self.slots:
            return name
        address, state = self.slots[name]
        notes = [] if state == "ready" else [f"in {state}"]
        if self._is_former(name):
            notes.append(f"not a server of {self.named.route or 'a Route'}")
        told = f" ({', '.join(notes)})" if notes else ""
        return f"{name} {address} {self.named.pods.get(address, '')}".rstrip() + told

    def _is_former(self, name: str) -> bool:
        """Whether it is known to be no server of the Route's that has the port now: a former
        one's, whose sessions HAProxy lets end by themselves."""
        return name in self.slots and self.slots[name].address in self.named.former


@dataclass
class Tally:
    """What became of the sessions. ``ended``: server, or "" for none -> how many."""

    ended: Counter[str] = field(default_factory=Counter)
    gone: int = 0
    refused: list[CommandRefusedError | LocalProtocolError] = field(default_factory=list)

    def lines(self, prospect: Prospect) -> Iterator[str]:
        """For a person; not what was refused."""
        yield f"ended {_sessions(self.ended.total())} on {prospect.what}"
        for name, count in sorted(self.ended.items()):
            yield f"  {count} on {prospect.title(name)}"
        if self.gone:
            yield f"  {self.gone} more ended on their own"

    def refusals(self) -> Iterator[str]:
        """The first ones."""
        return (f"not ended: {error}" for error in self.refused[:3])


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
        prospect = foresee(client, named, server)
        if not prospect.wanted:
            sys.stdout.write(f"no sessions on {prospect.what}\n")
            return
        if not yes and not _confirmed(prospect.question(pace)):
            sys.stdout.write("no session was ended\n")
            raise Exit(1)
        tally = Tally()
        try:
            end(client, prospect, pace, tally, lambda text: sys.stderr.write(f"{text}\n"))
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; so far:\n")
            raise Exit(130) from None
        finally:
            for line in tally.lines(prospect):
                sys.stdout.write(f"{line}\n")
            for line in tally.refusals():
                sys.stderr.write(f"{line}\n")
    if tally.refused:
        raise Exit(1)


def foresee(client: RuntimeClient, named: Named, server: str | None) -> Prospect:
    """What there is to end now. Raises UsageError for a server that is not there."""
    found = _list(client, named.port)
    slots = _slots(client, named, found)
    only = None if server is None else _find_slots(server, slots, named)
    wanted = tuple(item for item in found if only is None or item.server in only)
    what = describe(named) + (f", server {server}" if server else "")
    return Prospect(named, what, slots, wanted)


def _slots(client: RuntimeClient, named: Named, sessions: Sequence[Session]) -> dict[str, Slot]:
    """All servers of the port, and of those who share it and have one of ``sessions``, by their
    names."""
    own = backend_name(named.port)
    shared = {BackendName(item.backend) for item in sessions if item.backend} - {own}
    units = [own, *sorted(shared)]
    tables = client.ask_all([f"show servers state {unit}" for unit in units])
    return {
        name if unit == own else f"{unit}/{name}": Slot(str(server.address), server.state)
        for unit, table in zip(units, tables, strict=True)
        for name, server in parse_servers_state(table).get(unit, {}).items()
    }


def _find_slots(server: str, slots: Mapping[str, Slot], named: Named) -> frozenset[str]:
    """The slots that ``server`` means, by name, address or pod; a pod may have several."""
    found = frozenset(
        name
        for name, (address, _) in slots.items()
        if server in (name, address, named.pods.get(address))
    )
    if not found:
        addresses = {slot.address for slot in slots.values()}
        there = sorted({pod for address, pod in named.pods.items() if address in addresses})
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


def end(
    client: RuntimeClient,
    prospect: Prospect,
    pace: int,
    tally: Tally,
    told: Callable[[str], object],
) -> None:
    """End them, at most ``pace`` of them at once and then nothing for a second. ``told``: how far
    it is, whenever it is not done."""
    port, wanted = prospect.named.port, prospect.wanted
    # Its name and client -> its server. Age is no part of it, and nothing else is certain.
    left = {(item.id, item.client): item.server for item in wanted}
    for _ in range(0, len(wanted), pace):  # enough if none leaves by itself
        there = [item for item in _list(client, port) if _is_one_of(left, item)]
        tally.gone += len(left) - len(there)
        step, rest = there[:pace], there[pace:]
        left = {(item.id, item.client): item.server for item in rest}
        results = client.apply([EndSession(backend_name(port), item.id) for item in step])
        for item, outcome in zip(step, results, strict=True):
            if isinstance(outcome, str):
                tally.ended[item.server or ""] += 1
            else:
                tally.refused.append(outcome)
        if not left:
            return
        told(f"ended {tally.ended.total()} of {len(wanted)}")
        time.sleep(1.0)


def _is_one_of(left: Mapping[tuple[str, str], str | None], item: Session) -> bool:
    """One that waited for a server, and has it by now, is the same."""
    key = item.id, item.client
    return key in left and left[key] in (None, item.server)


def _sessions(count: int) -> str:
    return f"{count} session{'s' * (count != 1)}"
