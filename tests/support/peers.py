"""What listens where HAProxy should, for tests of the socket client.

A `Peer` is a real listening socket with a thread a connection: it speaks bytes, nothing is patched.
"""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.common.errors import RuntimeAPIError
from sidecar.haproxy.client import RuntimeClient

#: What our clients grant a reply when they wait in vain, and how much later they give up at most.
PATIENCE = 0.4
SLACK = 3.0


class Connection:
    """One connection of a peer, as its script uses it."""

    def __init__(self, connection: socket.socket, peer: "Peer") -> None:
        self.socket = connection
        self.peer = peer
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes | None:
        """The next line without its newline; None at the end."""
        while b"\n" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                return None
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        self.peer.lines.append(line.decode())
        return line

    def greet(self) -> None:
        """Do what HAProxy does on ``prompt``."""
        assert self.line() == b"prompt"
        self.send(b"\n> ")

    def answer(self, count: int = 1_000_000) -> None:
        """Answer the next ``count`` commands, each with its own text."""
        for _ in range(count):
            line = self.line()
            if line is None:
                return
            self.send(b"answer to " + line + b"\n\n> ")

    def listen(self) -> None:
        """Take what comes until the other end closes."""
        while self.socket.recv(65536):
            pass


Script = Callable[[Connection], None]


def healthy(connection: Connection) -> None:
    connection.greet()
    connection.answer()


def closes_between_replies(connection: Connection) -> None:
    connection.greet()
    connection.answer(1)


class Peer:
    """Something that listens where HAProxy should. Each connection is served by the next of
    ``scripts``, and by the last one from then on; when a script ends, its connection is closed.

    ``lines``: what was received, of scripts that read lines.
    """

    def __init__(self, family: socket.AddressFamily, where: object, *scripts: Script) -> None:
        self.lines: list[str] = []
        self.failures: list[BaseException] = []
        #: For scripts that wait for the test to let them go on.
        self.go = threading.Event()
        self._scripts = list(scripts)
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind(where)  # type: ignore[arg-type]
        self._listener.listen()
        name = self._listener.getsockname()
        host = name if family == socket.AF_UNIX else f"[{name[0]}]" if ":" in name[0] else name[0]
        self.address: str = host if family == socket.AF_UNIX else f"{host}:{name[1]}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, script), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, script: Script) -> None:
        try:
            with connection:
                script(Connection(connection, self))
        except OSError:
            pass  # the client or the test closed it
        except BaseException as exc:  # noqa: BLE001  raised in `close`, where the test sees it
            self.failures.append(exc)

    def close(self) -> None:
        self.go.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(10)
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        if self.failures:
            raise self.failures[0]


MakePeer = Callable[..., Peer]
MakeClient = Callable[..., RuntimeClient]


@contextlib.contextmanager
def peers_in(folder: Path) -> Iterator[MakePeer]:
    """Makes peers, on a unix socket unless told otherwise."""
    peers: list[Peer] = []

    def make(
        *scripts: Script,
        family: socket.AddressFamily = socket.AF_UNIX,
        where: object = None,
    ) -> Peer:
        where = where or str(folder / f"peer{len(peers)}.sock")
        peers.append(Peer(family, where, *scripts))
        return peers[-1]

    yield make
    for peer in peers:
        peer.close()


@contextlib.contextmanager
def clients() -> Iterator[MakeClient]:
    """Makes clients that are closed in the end."""
    with contextlib.ExitStack() as stack:

        def make(address: str, timeout_seconds: float = 10) -> RuntimeClient:
            return stack.enter_context(RuntimeClient(address, timeout_seconds))

        yield make


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def fails(client: RuntimeClient, *lines: str) -> RuntimeAPIError:
    """The error of asking ``lines``, which comes in time and leaves no connection behind."""
    client.timeout_seconds = PATIENCE
    with within(PATIENCE + SLACK), pytest.raises(RuntimeAPIError) as caught:
        client.ask_all(lines or ["show info"])
    assert not client.connected
    assert client.fileno() is None
    return caught.value


def works(client: RuntimeClient) -> None:
    """It gets the right reply to each command, as if nothing had been."""
    client.timeout_seconds = 10  # the machine may be busy
    assert client.ask_all(["four", "five"]) == ["answer to four", "answer to five"]


def await_readable(client: RuntimeClient) -> None:
    descriptor = client.fileno()
    assert descriptor is not None
    assert select.select([descriptor], [], [], 10)[0]
