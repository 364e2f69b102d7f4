"""The Runtime API over a socket: one persistent connection, pipelined, with deadlines.

Owns the only place where an OSError of that socket becomes our error. Knows nothing of ports,
slots or plans. Not thread-safe: each thread that talks to HAProxy has a client of its own.
"""

import itertools
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from sidecar.common.errors import (
    CommandRefusedError,
    DisconnectedError,
    LocalProtocolError,
    MasterSocketError,
    RemoteProtocolError,
)
from sidecar.common.hostport import is_unix_socket, split_host_port
from sidecar.common.text import reason_of
from sidecar.haproxy.authorities import long_commit
from sidecar.haproxy.certificates import Store
from sidecar.haproxy.operations import Outcome, Request
from sidecar.haproxy.protocol import (
    IN_FLIGHT_MAX_BYTES,
    MASTER_PROMPT,
    PROMPT,
    Command,
    ReplyFraming,
    encode,
    encode_line,
    reply_text,
    waits_for_all,
    without_echo,
)
from sidecar.haproxy.refusal import why_refused

_READ_BYTES = 256 * 1024

#: What a DisconnectedError says of a socket at which nobody is.
CONNECTING = "connecting"

_PROMPT = b"prompt\n"


def readable(descriptors: Iterable[int], seconds: float) -> frozenset[int]:
    """Those that can be read, or have ended, waiting ``seconds`` for one at most. By poll(), since
    select() fails with a descriptor above 1023, and anybody may have opened the others."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return frozenset(descriptor for descriptor, _ in poll.poll(seconds * 1000))


class Marks(Protocol):
    """Of commits that are carried out."""

    def begin(self, store: Store, /) -> None: ...
    def end(self, store: Store, /) -> None: ...


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
        self._connected_to: tuple[int, int] | None = None
        self._framing = ReplyFraming()
        #: Where it is kept that a long commit is under way, if anywhere.
        self.marks: Marks | None = None

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

    @property
    def superseded(self) -> bool:
        """Whether the path leads to another socket than the one that we are connected to: a new
        HAProxy took it while the old one still answers us."""
        now = self._identity()
        return self._socket is not None and now is not None and now != self._connected_to

    def ask(self, line: str) -> str:
        """One command's reply. Raises DisconnectedError, RemoteProtocolError."""
        return self.ask_all([line])[0]

    def ask_all(self, lines: Sequence[str]) -> list[str]:
        """The replies to ``lines``, in their order; nothing is judged.

        Raises LocalProtocolError (nothing was sent), DisconnectedError or RemoteProtocolError
        (any of them may have been carried out).
        """
        return self._converse(iter([encode_line(line) for line in lines]))

    def apply(self, operations: Sequence[Request]) -> list[Outcome]:
        """Carry out ``operations`` in order; for each, HAProxy's reply if it succeeded, else its
        error.

        One refused operation does not stop the others. Raises as `ask_all` does.
        """
        return self.apply_and_ask(operations, ())[0]

    def apply_and_ask(
        self, operations: Sequence[Request], lines: Sequence[str]
    ) -> tuple[list[Outcome], list[str]]:
        """`apply` and then `ask_all`, without a pause between them for a round trip."""
        questions = [encode_line(line) for line in lines]
        outcomes: list[Outcome] = [""] * len(operations)
        sent: list[tuple[int, Command]] = []  # with their indexes in ``operations``

        def commands() -> Iterator[bytes]:
            for index, operation in enumerate(operations):
                try:
                    command = operation.command()
                    encoded = encode(command)
                except LocalProtocolError as exc:
                    outcomes[index] = exc
                else:
                    sent.append((index, command))
                    yield encoded
            yield from questions

        replies = self._marked(operations, commands())
        for (index, command), came in zip(sent, replies, strict=False):
            reply = came if command.payload is None else without_echo(came)
            done = operations[index].succeeded(reply)
            outcomes[index] = reply if done else CommandRefusedError(command.line, reply)
        return outcomes, replies[len(sent) :]

    def _marked(self, operations: Sequence[Request], commands: Iterator[bytes]) -> list[str]:
        """`_converse`, with a mark that stays if no reply comes to what may take its time."""
        marks = self.marks
        stores = {store for item in operations if (store := long_commit(item))} if marks else set()
        if not marks or not stores:
            return self._converse(commands)
        self._converse(iter([encode_line("show version")]))  # who does not answer gets nothing
        for store in stores:
            marks.begin(store)
        replies = self._converse(commands)
        for store in stores:
            marks.end(store)
        return replies

    def fileno(self) -> int | None:
        """For `readable`, which means, while nothing was asked, that HAProxy went away."""
        return self._socket.fileno() if self._socket else None

    def _converse(self, commands: Iterator[bytes]) -> list[str]:
        """The replies to ``commands``, which are made while HAProxy works on those before."""
        first = next(commands, None)
        if first is None:
            return []
        try:
            return self._exchange(self._connected(), itertools.chain([first], commands))
        except OSError as exc:
            self.close()
            raise DisconnectedError(self.address, "talking to HAProxy", reason_of(exc)) from exc
        except BaseException:
            # After an interrupt too: the reply that is still to come would pass for another's.
            self.close()
            raise

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._connected_to = self._identity()
            self._socket = _connect(self.address, self.timeout_seconds)
            self._framing = ReplyFraming()
            self.connections += 1
            self._enter_interactive_mode(self._socket)
        else:
            self._expect_silence(self._socket)
        return self._socket

    def _identity(self) -> tuple[int, int] | None:
        """Which file the socket is; None where there is none, or it is no file."""
        try:
            status = os.stat(self.address)  # noqa: PTH116 - a third of the time, at each step
        except OSError:
            return None
        return (status.st_ino, status.st_ctime_ns)

    def _expect_silence(self, connection: socket.socket) -> None:
        """What came while nothing was asked would pass for the reply to the next command.

        A connection that was closed is not replaced here: whoever asks must learn that another
        process may answer from now on.
        """
        connection.setblocking(False)
        try:
            data = connection.recv(_READ_BYTES)
        except BlockingIOError:
            data = None
        if data == b"":
            raise DisconnectedError(self.address, "while idle", "HAProxy closed the connection")
        if data or not self._framing.idle:
            came = data[:80] if data else self._framing.unfinished
            raise RemoteProtocolError(f"{self.address} sent unsolicited data: {came!r}")

    def _enter_interactive_mode(self, connection: socket.socket) -> None:
        """Send ``prompt`` and take its answer, which is nothing but the first prompt.

        Here it shows whether HAProxy listens at all: anything else would be misread for ever.
        """
        connection.sendall(_PROMPT)
        deadline = time.monotonic() + self.timeout_seconds
        greeting = b""
        while len(greeting) < len(PROMPT):
            greeting += self._receive(connection, deadline, _PROMPT)
            if greeting.startswith(MASTER_PROMPT):
                raise MasterSocketError(self.address)
            if not PROMPT.startswith(greeting):
                raise RemoteProtocolError(
                    f"{self.address} is not an HAProxy Runtime API: it replied {greeting[:80]!r}"
                )

    def _exchange(self, connection: socket.socket, commands: Iterator[bytes]) -> list[str]:
        replies: list[str] = []
        waiting: deque[bytes] = deque()  # sent, and not answered yet
        in_flight_bytes = 0
        command = next(commands, None)
        while True:
            batch = []
            # Not one by one: HAProxy is busy with what is in flight, and so are we with the next.
            refills = in_flight_bytes <= IN_FLIGHT_MAX_BYTES // 2
            while (
                refills
                and command
                and (
                    not in_flight_bytes
                    or (
                        in_flight_bytes + len(command) <= IN_FLIGHT_MAX_BYTES
                        and not waits_for_all(command)
                    )
                )
            ):
                batch.append(command)
                in_flight_bytes += len(command)
                command = next(commands, None)
            if batch:
                connection.settimeout(self.timeout_seconds)
                connection.sendall(b"".join(batch))
                waiting.extend(batch)
            if not waiting:
                return replies
            came = self._next_replies(connection, waiting[0])
            if len(came) > len(waiting):
                raise RemoteProtocolError(f"unexpected reply: {came[len(waiting)][:80]!r}")
            in_flight_bytes -= sum(len(waiting.popleft()) for _ in came)
            replies += came

    def _next_replies(self, connection: socket.socket, command: bytes) -> list[str]:
        """At least one reply, within the time that a single one may take."""
        deadline = time.monotonic() + self.timeout_seconds
        while True:
            data = self._receive(connection, deadline, command)
            if replies := self._framing.receive_data(data):
                return replies

    def _receive(self, connection: socket.socket, deadline: float, command: bytes) -> bytes:
        try:
            data = _receive(connection, deadline)
        except TimeoutError as exc:
            doing = _waiting_for(command)
            problem = f"no complete reply within {self.timeout_seconds:g} s"
            if self._framing.unfinished:
                problem += f", only {self._framing.unfinished!r}"
            elif command == _PROMPT:
                problem += "; it hangs, or its CLI connections (10 by default) are all in use"
            raise DisconnectedError(self.address, doing, problem) from exc
        if not data:
            raise DisconnectedError(
                self.address, _waiting_for(command), "HAProxy closed the connection"
            )
        return data


class MasterClient:
    """The CLI of a HAProxy master (``haproxy -W -S``), which passes what begins with ``@1`` on to
    a worker (management.txt 9.4).

    For a person: each command has a connection of its own, whose end is the reply's end, since
    the master's interactive mode frames replies otherwise on each version. It ends when our side
    of it does.
    """

    def __init__(self, address: str, timeout_seconds: float = 5.0) -> None:
        self.address = address
        self.timeout_seconds = timeout_seconds

    def ask(self, line: str) -> str:
        """One command's reply. Raises LocalProtocolError, DisconnectedError."""
        command = encode_line(line)
        reply = bytearray()
        deadline = time.monotonic() + self.timeout_seconds
        try:
            with _connect(self.address, self.timeout_seconds) as connection:
                connection.sendall(command)
                connection.shutdown(socket.SHUT_WR)
                while data := _receive(connection, deadline):
                    reply += data
        except OSError as exc:
            raise DisconnectedError(self.address, _waiting_for(command), reason_of(exc)) from exc
        return reply_text(reply)


def _connect(address: str, timeout_seconds: float) -> socket.socket:
    try:
        if not is_unix_socket(address):
            return socket.create_connection(split_host_port(address), timeout_seconds)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_seconds)
            connection.connect(address)
        except BaseException:
            connection.close()
            raise
    except PermissionError as exc:
        reason = why_refused(address) if is_unix_socket(address) else reason_of(exc)
        raise DisconnectedError(address, CONNECTING, reason) from exc
    except (OSError, ValueError) as exc:  # a host that cannot be a name
        raise DisconnectedError(address, CONNECTING, reason_of(exc)) from exc
    else:
        return connection


def _receive(connection: socket.socket, deadline: float) -> bytes:
    """What comes next; empty at the end. Raises TimeoutError after ``deadline``."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    connection.settimeout(left)
    return connection.recv(_READ_BYTES)


def _waiting_for(command: bytes) -> str:
    # Not what follows the line: it may be a private key.
    return f"waiting for the reply to {command.splitlines()[0].decode('ascii')!r}"
