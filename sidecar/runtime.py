"""The Runtime API over a socket: one persistent connection, pipelined, with deadlines.

Owns the only place where an OSError of that socket becomes our error. Knows nothing of ports,
slots or plans. Not thread-safe: each thread that talks to HAProxy has a client of its own.
"""

import socket
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from sidecar.addresses import is_unix_socket, split_host_port
from sidecar.errors import (
    CommandRefusedError,
    DisconnectedError,
    LocalProtocolError,
    RemoteProtocolError,
)
from sidecar.operations import Operation
from sidecar.protocol import IN_FLIGHT_MAX_BYTES, PROMPT, ReplyFraming, encode_line

_READ_BYTES = 256 * 1024


class RuntimeClient:
    """A connection to HAProxy's stats socket.

    ``address``: a unix path or ``host:port``. ``timeout_seconds``: how long connecting, and each
    single reply, may take. After any error but a refused command the connection is closed, and
    the next call opens a new one.
    """

    def __init__(self, address: str, timeout_seconds: float = 5.0) -> None:
        self.address = address
        self.timeout_seconds = timeout_seconds
        #: How often a connection was made; a change tells that there was a gap.
        self.connections = 0
        self._socket: socket.socket | None = None
        self._framing = ReplyFraming()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def ask(self, line: str) -> str:
        """One command's reply. Raises DisconnectedError, RemoteProtocolError."""
        return self.ask_all([line])[0]

    def ask_all(self, lines: Sequence[str]) -> list[str]:
        """The replies to ``lines``, in their order; nothing is judged.

        Raises LocalProtocolError (nothing was sent), DisconnectedError or RemoteProtocolError
        (any of them may have been carried out).
        """
        commands = [encode_line(line) for line in lines]
        try:
            return self._exchange(self._connected(), commands)
        except OSError as exc:
            self.close()
            raise DisconnectedError(self.address, "talking to HAProxy", _reason(exc)) from exc
        except (DisconnectedError, RemoteProtocolError):
            self.close()
            raise

    def apply(
        self, operations: Sequence[Operation]
    ) -> list[CommandRefusedError | LocalProtocolError | None]:
        """Carry out ``operations`` in order; for each, None if it succeeded, else its error.

        One refused operation does not stop the others. Raises as `ask_all` does.
        """
        lines: list[str] = []
        invalid: dict[int, LocalProtocolError] = {}
        for index, operation in enumerate(operations):
            try:
                lines.append(operation.line())
            except LocalProtocolError as exc:
                invalid[index] = exc
        replies = iter(zip(lines, self.ask_all(lines), strict=True))
        results: list[CommandRefusedError | LocalProtocolError | None] = []
        for index, operation in enumerate(operations):
            if error := invalid.get(index):
                results.append(error)
                continue
            line, reply = next(replies)
            results.append(None if operation.done(reply) else CommandRefusedError(line, reply))
        return results

    def fileno(self) -> int | None:
        """For select(): readable while nothing was asked means that HAProxy went away."""
        return self._socket.fileno() if self._socket else None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = self._connect()
            self._framing = ReplyFraming()
            self.connections += 1
            self._enter_interactive_mode(self._socket)
        return self._socket

    def _connect(self) -> socket.socket:
        try:
            if not is_unix_socket(self.address):
                return socket.create_connection(split_host_port(self.address), self.timeout_seconds)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(self.timeout_seconds)
                connection.connect(self.address)
            except BaseException:
                connection.close()
                raise
        except OSError as exc:
            raise DisconnectedError(self.address, "connecting", _reason(exc)) from exc
        else:
            return connection

    def _enter_interactive_mode(self, connection: socket.socket) -> None:
        """Send ``prompt`` and take its answer, which is nothing but the first prompt.

        Here it shows whether HAProxy listens at all: anything else would be misread for ever.
        """
        connection.sendall(b"prompt\n")
        deadline = time.monotonic() + self.timeout_seconds
        greeting = b""
        while len(greeting) < len(PROMPT):
            greeting += self._receive(connection, deadline, "waiting for the prompt")
            if not PROMPT.startswith(greeting[: len(PROMPT)]):
                raise RemoteProtocolError(
                    f"no HAProxy Runtime API at {self.address}: it said {greeting[:80]!r}"
                )

    def _exchange(self, connection: socket.socket, commands: Sequence[bytes]) -> list[str]:
        replies: list[str] = []
        unanswered: deque[int] = deque()  # the size of each command under way
        in_flight = sent = 0
        while len(replies) < len(commands):
            first = sent
            while sent < len(commands) and (
                not in_flight or in_flight + len(commands[sent]) <= IN_FLIGHT_MAX_BYTES
            ):
                in_flight += len(commands[sent])
                unanswered.append(len(commands[sent]))
                sent += 1
            if sent > first:
                connection.settimeout(self.timeout_seconds)
                connection.sendall(b"".join(commands[first:sent]))
            for reply in self._next_replies(connection, commands[len(replies)]):
                if not unanswered:
                    raise RemoteProtocolError(f"a reply to nothing: {reply[:80]!r}")
                in_flight -= unanswered.popleft()
                replies.append(reply)
        return replies

    def _next_replies(self, connection: socket.socket, command: bytes) -> list[str]:
        """At least one reply, within the time that a single one may take."""
        deadline = time.monotonic() + self.timeout_seconds
        doing = f"waiting for the reply to {command.decode('ascii').strip()!r}"
        while True:
            data = self._receive(connection, deadline, doing)
            if replies := self._framing.receive_data(data):
                return replies

    def _receive(self, connection: socket.socket, deadline: float, doing: str) -> bytes:
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError  # noqa: TRY301  the same as what recv raises
            connection.settimeout(left)
            data = connection.recv(_READ_BYTES)
        except TimeoutError as exc:
            problem = f"no complete reply in {self.timeout_seconds:g} s"
            if self._framing.unfinished:
                problem += f", only {self._framing.unfinished!r}"
            raise DisconnectedError(self.address, doing, problem) from exc
        if not data:
            raise DisconnectedError(self.address, doing, "HAProxy closed the connection")
        return data


def _reason(error: OSError) -> str:
    """What the operating system says, without the number."""
    return error.strerror or str(error) or type(error).__name__
