"""What the sidecar can ask of HAProxy: each operation with its command and its proof of success.

Each operation is a frozen value with `line()`, the command as HAProxy reads it, and `done(reply)`,
whether that reply says that it worked. The texts are those of HAProxy 2.4 to 3.5; any other text
is failure, because HAProxy has no status codes and a reply that we do not know proves nothing.
HAProxy checks little (port 99999 silently becomes 34463), so ranges are checked here. Pure.
"""

import re
from typing import Literal, NamedTuple

from sidecar.errors import LocalProtocolError
from sidecar.pool import WEIGHT_MAX, Address, backend_name, frontend_name

#: HAProxy's administrative states of a server (management.txt, "set server").
State = Literal["ready", "drain", "maint"]

# Both halves are always reported, in any combination. From 3.0 on they mean "accepted": the
# address is applied a moment later, which only a read-back shows.
_ADDRESS_DONE = re.compile(
    r"(?:IP changed from '[^']*' to '[^']*'|no need to change the addr),? ?"
    r"(?:port changed from '[^']*' to '[^']*'|no need to change the port)"
    r"(?: by '[^']*')?\.?"
)


class SetAddress(NamedTuple):
    """Lead a server elsewhere; its running sessions stay where they are."""

    port: int
    server: str
    address: Address

    def line(self) -> str:
        if not 1 <= self.address.port <= 65535:
            raise LocalProtocolError(f"no TCP port: {self.address}")
        where = f"{backend_name(self.port)}/{self.server}"
        return f"set server {where} addr {self.address.ip} port {self.address.port}"

    def done(self, reply: str) -> bool:
        return _ADDRESS_DONE.fullmatch(reply) is not None


class SetWeight(NamedTuple):
    """Change a server's share of new connections."""

    port: int
    server: str
    weight: int

    def line(self) -> str:
        if not 0 <= self.weight <= WEIGHT_MAX:
            raise LocalProtocolError(f"no weight of HAProxy: {self.weight}")
        return f"set server {backend_name(self.port)}/{self.server} weight {self.weight}"

    def done(self, reply: str) -> bool:
        return not reply


class SetState(NamedTuple):
    """Change a server's administrative state; running sessions stay."""

    port: int
    server: str
    state: State

    def line(self) -> str:
        return f"set server {backend_name(self.port)}/{self.server} state {self.state}"

    def done(self, reply: str) -> bool:
        return not reply


class OpenPort(NamedTuple):
    """Let a frontend listen again."""

    port: int

    def line(self) -> str:
        return f"enable frontend {frontend_name(self.port)}"

    def done(self, reply: str) -> bool:
        return reply in ("", "All sockets are already enabled.")


class ClosePort(NamedTuple):
    """Stop a frontend from listening: connection refused; running sessions stay."""

    port: int

    def line(self) -> str:
        return f"disable frontend {frontend_name(self.port)}"

    def done(self, reply: str) -> bool:
        return reply in ("", "All sockets are already disabled.")


Operation = SetAddress | SetWeight | SetState | OpenPort | ClosePort
