"""What the sidecar can ask of HAProxy: each operation with its command and its proof of success.

Each operation is a frozen value (no tuple, or opening a port would equal closing it) with
`line()`, the command as HAProxy reads it, and `done(reply)`, whether that reply says that it
worked. The texts are those of HAProxy 2.4 to 3.5; any other text is failure, because HAProxy has
no status codes and a reply that we do not know proves nothing.
HAProxy checks little (port 99999 silently becomes 34463), so ranges are checked here. Pure.
"""

import re
from dataclasses import dataclass
from typing import Literal

from sidecar.errors import LocalProtocolError
from sidecar.pool import WEIGHT_MAX, Address, backend_name, frontend_name

#: HAProxy's administrative states of a server (management.txt, "set server").
State = Literal["ready", "drain", "maint"]

# Up to 2.8 both halves are reported, changed or not; from 3.0 on only what changed, or that nothing
# did, and it means "accepted": the address is applied a moment later, which a read-back shows.
# A half that failed has a text of its own beside the half that worked.
_IP_DONE = r"(?:IP changed from '[^']*' to '[^']*'|no need to change the addr)"
_PORT_DONE = r"(?:port changed from '[^']*' to '[^']*'|no need to change the port)"
_ADDRESS_DONE = re.compile(
    rf"nothing changed|(?:{_IP_DONE}, {_PORT_DONE}|{_IP_DONE}|{_PORT_DONE})(?: by '[^']*')?"
)


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
        return _ADDRESS_DONE.fullmatch(reply) is not None


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
        return not reply


@dataclass(frozen=True, slots=True)
class SetState:
    """Change a server's administrative state; running sessions stay."""

    port: int
    server: str
    state: State

    def line(self) -> str:
        return _line("set", "server", _server(self.port, self.server), "state", self.state)

    def done(self, reply: str) -> bool:
        return not reply


@dataclass(frozen=True, slots=True)
class OpenPort:
    """Let a frontend listen again."""

    port: int

    def line(self) -> str:
        return f"enable frontend {frontend_name(self.port)}"

    def done(self, reply: str) -> bool:
        return reply in ("", "All sockets are already enabled.")


@dataclass(frozen=True, slots=True)
class ClosePort:
    """Stop a frontend from listening: connection refused; running sessions stay."""

    port: int

    def line(self) -> str:
        return f"disable frontend {frontend_name(self.port)}"

    def done(self, reply: str) -> bool:
        return reply in ("", "All sockets are already disabled.")


Operation = SetAddress | SetWeight | SetState | OpenPort | ClosePort
