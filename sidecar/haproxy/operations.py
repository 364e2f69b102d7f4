"""What the sidecar can ask of HAProxy: each operation with its command and its proof of success.

Each operation is a frozen value (no tuple, or opening a port would equal closing it) with `line()`,
the command as HAProxy reads it, and `done(reply)`, whether that reply says that it worked. The
texts are in `sidecar.haproxy.dialect`; any other text is failure, because HAProxy has no status
codes and a reply that we do not know proves nothing. HAProxy checks little (port 99999 silently
becomes 34463), so ranges are checked here. Pure.
"""

from dataclasses import dataclass
from typing import Literal

from sidecar.common.errors import CommandRefusedError, LocalProtocolError
from sidecar.haproxy import dialect
from sidecar.haproxy.naming import backend_name, frontend_name
from sidecar.model.pool import WEIGHT_MAX, Address

#: HAProxy's administrative states of a server (management.txt, "set server").
State = Literal["ready", "drain", "maint"]


def _line(*words: str) -> str:
    """A command of ``words``; raises LocalProtocolError if HAProxy would see other words."""
    line = " ".join(words)
    if line.count(" ") != len(words) - 1 or not all(words):
        raise LocalProtocolError(f"a word is empty or has a space: {words!r}")
    return line


def _server(port: int, name: str) -> str:
    return f"{backend_name(port)}/{name}"


@dataclass(frozen=True, slots=True)
class SetAddress:
    """Lead a server elsewhere; its running sessions stay where they are."""

    port: int
    server: str
    address: Address

    def line(self) -> str:
        if not 1 <= self.address.port <= 65535:
            raise LocalProtocolError(f"no TCP port: {self.address}")
        where, (ip, port) = _server(self.port, self.server), self.address
        return _line("set", "server", where, "addr", ip, "port", str(port))

    def done(self, reply: str) -> bool:
        return dialect.ADDRESS_SET.fullmatch(reply) is not None


@dataclass(frozen=True, slots=True)
class SetWeight:
    """Change a server's share of new connections."""

    port: int
    server: str
    weight: int

    def line(self) -> str:
        if not 0 <= self.weight <= WEIGHT_MAX:
            raise LocalProtocolError(f"no weight of HAProxy: {self.weight}")
        where = _server(self.port, self.server)
        return _line("set", "server", where, "weight", str(self.weight))

    def done(self, reply: str) -> bool:
        return reply in dialect.SILENCE


@dataclass(frozen=True, slots=True)
class SetState:
    """Change a server's administrative state; running sessions stay."""

    port: int
    server: str
    state: State

    def line(self) -> str:
        return _line("set", "server", _server(self.port, self.server), "state", self.state)

    def done(self, reply: str) -> bool:
        return reply in dialect.SILENCE


@dataclass(frozen=True, slots=True)
class OpenPort:
    """Let a frontend listen again."""

    port: int

    def line(self) -> str:
        return f"enable frontend {frontend_name(self.port)}"

    def done(self, reply: str) -> bool:
        return reply in dialect.PORT_OPENED


@dataclass(frozen=True, slots=True)
class ClosePort:
    """Stop a frontend from listening: connection refused; running sessions stay."""

    port: int

    def line(self) -> str:
        return f"disable frontend {frontend_name(self.port)}"

    def done(self, reply: str) -> bool:
        return reply in dialect.PORT_CLOSED


@dataclass(frozen=True, slots=True)
class AddServer:
    """Give a backend one more server, in maint (management.txt, "add server").

    ``options``: those of the pool's slots, since ``default-server`` is not inherited.
    """

    port: int
    server: str
    address: Address
    weight: int
    options: tuple[str, ...]

    def line(self) -> str:
        where = _server(self.port, self.server)
        words = ("add", "server", where, str(self.address), "weight", str(self.weight))
        return _line(*words, *self.options)

    def done(self, reply: str) -> bool:
        return reply in dialect.SERVER_ADDED


@dataclass(frozen=True, slots=True)
class DeleteServer:
    """Take away an added server that is in maint and idle."""

    port: int
    server: str

    def line(self) -> str:
        return _line("del", "server", _server(self.port, self.server))

    def done(self, reply: str) -> bool:
        return reply in dialect.SERVER_DELETED


@dataclass(frozen=True, slots=True)
class EnableHealth:
    """Turn a server's checks on: those of an added one are off, and somebody may turn them off."""

    port: int
    server: str

    def line(self) -> str:
        return _line("enable", "health", _server(self.port, self.server))

    def done(self, reply: str) -> bool:
        return reply in dialect.SILENCE


@dataclass(frozen=True, slots=True)
class SetHealth:
    """Call a checked server healthy or not, until its next checks say otherwise."""

    port: int
    server: str
    health: Literal["up", "down"]

    def line(self) -> str:
        return _line("set", "server", _server(self.port, self.server), "health", self.health)

    def done(self, reply: str) -> bool:
        return reply in dialect.SILENCE


@dataclass(frozen=True, slots=True)
class EndSessions:
    """End sessions of a server: ``count`` of them, or ``all``.

    Only the latter is one command; for the former the reconciler ends them one by one.
    """

    port: int
    server: str
    count: int
    all: bool

    def line(self) -> str:
        return _line("shutdown", "sessions", "server", _server(self.port, self.server))

    def done(self, reply: str) -> bool:
        return reply in dialect.SILENCE


@dataclass(frozen=True, slots=True)
class EndSession:
    """End one session. ``session``: HAProxy's name for it, of ``show sess``."""

    port: int
    session: str

    def line(self) -> str:
        return _line("shutdown", "session", self.session)

    def done(self, reply: str) -> bool:
        return reply in dialect.SESSION_ENDED


Operation = (
    SetAddress
    | SetWeight
    | SetState
    | OpenPort
    | ClosePort
    | AddServer
    | DeleteServer
    | EnableHealth
    | SetHealth
    | EndSessions
    | EndSession
)

#: What became of one: HAProxy's reply, or why it failed.
Outcome = str | CommandRefusedError | LocalProtocolError
