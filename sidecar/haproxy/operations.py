"""What the sidecar can ask of HAProxy: each operation with its command and its proof of success.

Each operation is a frozen value (no tuple, or enabling a frontend would equal disabling it) of one
*unit*, with `command()`, what HAProxy reads, and `succeeded(reply)`, whether that reply says that
it worked. The texts are in `sidecar.haproxy.dialect`; any other text is failure, because HAProxy
has no status codes and a reply that we do not know proves nothing. HAProxy checks little (port
99999 silently becomes 34463), so ranges are checked here. Pure.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from sidecar.common.errors import CommandRefusedError, LocalProtocolError
from sidecar.haproxy import dialect
from sidecar.haproxy.protocol import Command
from sidecar.model.desired import BackendName, ClaimKey, Unit
from sidecar.model.pool import PARKED, WEIGHT_MAX, Address

#: HAProxy's administrative states of a server (management.txt, "set server").
State = Literal["ready", "drain", "maint"]


class Request(Protocol):
    """One change of HAProxy."""

    def command(self) -> Command:
        """Raises LocalProtocolError if HAProxy would read something else."""

    def succeeded(self, reply: str) -> bool:
        """Whether ``reply`` proves that it worked."""


class Operation(Request, Protocol):
    """A change for one unit."""

    @property
    def unit(self) -> Unit:
        """What it is done for: that fails with it, and has it in its history."""


class KeyOperation(Operation, Protocol):
    """One that lets a key lead to its unit, or nowhere."""

    @property
    def key(self) -> ClaimKey: ...


@dataclass(frozen=True, slots=True)
class SetAddress:
    """Lead a server elsewhere; its running sessions stay where they are."""

    unit: BackendName
    server: str
    address: Address

    def command(self) -> Command:
        if not 1 <= self.address.port <= 65535:
            raise LocalProtocolError(f"not a TCP port: {self.address}")
        where, (ip, port) = f"{self.unit}/{self.server}", self.address
        return Command.of("set", "server", where, "addr", ip, "port", str(port))

    def succeeded(self, reply: str) -> bool:
        return dialect.ADDRESS_SET.fullmatch(reply) is not None


@dataclass(frozen=True, slots=True)
class SetWeight:
    """Change a server's share of new connections."""

    unit: BackendName
    server: str
    weight: int

    def command(self) -> Command:
        if not 0 <= self.weight <= WEIGHT_MAX:
            raise LocalProtocolError(f"not a valid weight: {self.weight}")
        where = f"{self.unit}/{self.server}"
        return Command.of("set", "server", where, "weight", str(self.weight))

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.SILENCE


@dataclass(frozen=True, slots=True)
class SetMaxconn:
    """Change how many connections a server may have at a time, 0 for any number; those that are
    too many stay."""

    unit: BackendName
    server: str
    maxconn: int

    def command(self) -> Command:
        # HAProxy cuts off what is larger.
        if not 0 <= self.maxconn < 2**31:
            raise LocalProtocolError(f"not a valid maxconn: {self.maxconn}")
        where = f"{self.unit}/{self.server}"
        return Command.of("set", "maxconn", "server", where, str(self.maxconn))

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.SILENCE


@dataclass(frozen=True, slots=True)
class SetState:
    """Change a server's administrative state; running sessions stay."""

    unit: BackendName
    server: str
    state: State

    def command(self) -> Command:
        return Command.of("set", "server", f"{self.unit}/{self.server}", "state", self.state)

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.SILENCE


@dataclass(frozen=True, slots=True)
class OpenPort:
    """Let the frontend of ``key``, which leads to ``unit``, listen again."""

    unit: BackendName
    key: ClaimKey
    frontend: str

    def command(self) -> Command:
        return Command.of("enable", "frontend", self.frontend)

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.FRONTEND_ENABLED


@dataclass(frozen=True, slots=True)
class ClosePort:
    """Stop the frontend of ``key``, which leads to ``unit``, from listening: connection refused;
    running sessions stay."""

    unit: BackendName
    key: ClaimKey
    frontend: str

    def command(self) -> Command:
        return Command.of("disable", "frontend", self.frontend)

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.FRONTEND_DISABLED


@dataclass(frozen=True, slots=True)
class AddServer:
    """Give a backend one more server, parked and in maint as a slot is (management.txt, "add
    server"): 2.6 calculates its cookie only when it gets another address.

    ``options``: those of the pool's slots, since ``default-server`` is not inherited.
    """

    unit: BackendName
    server: str
    weight: int
    options: tuple[str, ...]

    def command(self) -> Command:
        where = f"{self.unit}/{self.server}"
        words = ("add", "server", where, str(PARKED), "weight", str(self.weight))
        return Command.of(*words, *self.options)

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.SERVER_ADDED


@dataclass(frozen=True, slots=True)
class DeleteServer:
    """Take away an added server that is in maint and idle."""

    unit: BackendName
    server: str

    def command(self) -> Command:
        return Command.of("del", "server", f"{self.unit}/{self.server}")

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.SERVER_DELETED


@dataclass(frozen=True, slots=True)
class EnableHealth:
    """Turn a server's checks on: those of an added one are off, and somebody may turn them off."""

    unit: BackendName
    server: str

    def command(self) -> Command:
        return Command.of("enable", "health", f"{self.unit}/{self.server}")

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.SILENCE


@dataclass(frozen=True, slots=True)
class SetHealth:
    """Call a checked server healthy or not, until its next checks say otherwise."""

    unit: BackendName
    server: str
    health: Literal["up", "down"]

    def command(self) -> Command:
        return Command.of("set", "server", f"{self.unit}/{self.server}", "health", self.health)

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.SILENCE


@dataclass(frozen=True, slots=True)
class EndSessions:
    """End all sessions of a server."""

    unit: BackendName
    server: str

    def command(self) -> Command:
        return Command.of("shutdown", "sessions", "server", f"{self.unit}/{self.server}")

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.SILENCE


@dataclass(frozen=True, slots=True)
class EndSession:
    """End one session. ``session``: HAProxy's name for it, of ``show sess``."""

    unit: BackendName
    session: str

    def command(self) -> Command:
        return Command.of("shutdown", "session", self.session)

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.SESSION_ENDED


#: What became of one: HAProxy's reply, or why it failed.
Outcome = str | CommandRefusedError | LocalProtocolError
