"""A client of Routes by host, in a process of its own: it counts for nobody but itself.

Started by `Asker`. All times are of the monotonic clock, which processes share.
"""

import contextlib
import hashlib
import itertools
import multiprocessing
import re
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

from handshake import shake_hands

#: Requests that are on their way on a connection at once.
PIPELINED = 50

#: Between two requests of who waits for an answer: HAProxy and the sidecar have work to do.
_PAUSE_SECONDS = 0.0003

#: Who did not answer for so long will not answer again.
_SURE_SECONDS = 0.1


class Asker:
    """Asks at ``address``."""

    def __init__(self, address: tuple[str, int]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, address), daemon=True)
        self._process.start()
        other.close()
        self._pipe.recv()

    def close(self) -> None:
        self._pipe.close()
        self._process.join(20)
        self._process.kill()

    def expect(self, host: str, body: str | None, servers: int, seconds: float) -> None:
        """Begin to ask for ``host``, until a 200 has this ``body``, or any for None; each time so
        often that each of its ``servers`` has a turn. Returns after the first time, so that what
        is changed then is what it waits for."""
        self._pipe.send(("expect", host, body, servers, seconds))
        if self._pipe.recv():
            raise SystemExit(f"bench: {host} is answered by {body or 'somebody'} too early")

    def answered_at(self) -> float:
        """When the answer came. Raises SystemExit if it did not."""
        at: float | None = self._pipe.recv()
        if at is None:
            raise SystemExit("bench: an answer did not come in time")
        return at

    def expect_certificate(self, host: str, digest: str, seconds: float) -> None:
        """Begin to shake hands as ``host``, until a certificate with this SHA-256 is shown. Returns
        after the first time."""
        self._pipe.send(("certificate", host, digest, seconds))
        if self._pipe.recv():
            raise SystemExit(f"bench: {host} has its certificate too early")

    def handshakes(self, hosts: Sequence[str], count: int) -> None:
        """``count`` whole ones in all, one after the other, as each of ``hosts`` in turn, with a
        request in each."""
        self._pipe.send(("handshakes", hosts, count))
        if not self._pipe.recv():
            raise SystemExit("bench: not every request was answered by 200")

    def follow(self, host: str, new: str, seconds: float) -> None:
        """Begin to ask for ``host``, each time on a connection of its own, until only ``new``
        answers. Returns after the first time."""
        self._pipe.send(("follow", host, new, seconds))
        if self._pipe.recv():
            raise SystemExit(f"bench: {host} is answered by {new} too early")

    def followed(self) -> "Followed":
        """Raises SystemExit if it did not come in time."""
        found: Followed | None = self._pipe.recv()
        if found is None:
            raise SystemExit("bench: an answer did not come in time")
        return found

    def served(self, hosts: Sequence[str]) -> int:
        """How many of ``hosts``, from the first one on, are answered by 200."""
        self._pipe.send(("served", hosts))
        count: int = self._pipe.recv()
        return count

    def flood(self, hosts: Sequence[str], count: int) -> int:
        """Ask pipelined, over a connection for each of ``hosts``, ``count`` times in all; how
        often the answer was 200."""
        self._pipe.send(("flood", hosts, count))
        answered: int = self._pipe.recv()
        return answered


class Followed(NamedTuple):
    """When the new server answered first, and the last time that another one did (0.0: never).
    ``failed`` of ``asked`` got no 200."""

    first_new: float
    last_old: float
    asked: int
    failed: int


def _serve(pipe: Connection, address: tuple[str, int]) -> None:
    pipe.send(None)
    while True:
        try:
            what, *order = pipe.recv()
        except EOFError:
            return
        match what:
            case "flood":
                pipe.send(_flood(address, *order))
            case "handshakes":
                pipe.send(_handshakes(address, *order))
            case "follow":
                _follow(pipe, address, *order)
            case "served":
                pipe.send(_served(address, *order))
            case "certificate":
                _expect_certificate(pipe, address, *order)
            case _:
                _expect(pipe, address, *order)


def _expect(
    pipe: Connection,
    address: tuple[str, int],
    host: str,
    body: str | None,
    servers: int,
    seconds: float,
) -> None:
    requests = _request(host) * servers
    wanted = b"HTTP/1.1 200 " if body is None else f"\r\n\r\n{body}".encode()
    _wait(pipe, lambda: wanted in _answers(address, requests), seconds)


def _follow(
    pipe: Connection, address: tuple[str, int], host: str, new: str, seconds: float
) -> None:
    ends = time.perf_counter() + seconds
    first_new = last_old = 0.0
    asked = failed = 0
    request, wanted = _request(host), f"\r\n\r\n{new}".encode()
    while True:
        answer, now = _answers(address, request), time.perf_counter()
        asked += 1
        if not answer.startswith(b"HTTP/1.1 200 "):
            failed += 1
        elif answer.endswith(wanted):
            first_new = first_new or now
        else:
            last_old = now
        if asked == 1:
            pipe.send(bool(first_new))
        if first_new and now > max(first_new, last_old) + _SURE_SECONDS:
            pipe.send(Followed(first_new, last_old, asked, failed))
            return
        if now > ends:
            pipe.send(None)
            return
        time.sleep(_PAUSE_SECONDS)


def _served(address: tuple[str, int], hosts: Sequence[str]) -> int:
    for done in range(0, len(hosts), PIPELINED):
        some = hosts[done : done + PIPELINED]
        # What comes after one that is not served yet may be, but nobody asks for it.
        answers = _answers(address, b"".join(map(_request, some))).split(b"HTTP/1.1 ")[1:]
        good = itertools.takewhile(lambda answer: answer.startswith(b"200 "), answers)
        if (count := len(list(good))) < len(some):
            return done + count
    return len(hosts)


def _expect_certificate(
    pipe: Connection, address: tuple[str, int], host: str, digest: str, seconds: float
) -> None:
    _wait(pipe, lambda: _digest(address, host) == digest, seconds)


def _wait(pipe: Connection, shows: Callable[[], bool], seconds: float) -> None:
    ends = time.perf_counter() + seconds
    there = shows()
    pipe.send(there)
    while not there and time.perf_counter() < ends:
        time.sleep(_PAUSE_SECONDS)
        there = shows()
    pipe.send(time.perf_counter() if there else None)


def _digest(address: tuple[str, int], host: str) -> str:
    """Of the certificate that is shown; "" where the handshake fails, as in a reload."""
    with contextlib.suppress(OSError), shake_hands(address, host) as secured:
        return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
    return ""


def _handshakes(address: tuple[str, int], hosts: Sequence[str], count: int) -> bool:
    for host in itertools.islice(itertools.cycle(hosts), count):
        with shake_hands(address, host) as secured:
            secured.sendall(_request(host))
            if not secured.recv(65536).startswith(b"HTTP/1.1 200 "):
                return False
    return True


def _request(host: str) -> bytes:
    return f"GET /a/b?c HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def _answers(address: tuple[str, int], requests: bytes) -> bytes:
    """All of them; fewer, of a process that a reload stops."""
    data = b""
    with contextlib.suppress(OSError), socket.create_connection(address, 20) as connection:
        connection.sendall(requests)
        connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(65536):
            data += chunk
    return data


def _flood(address: tuple[str, int], hosts: Sequence[str], count: int) -> int:
    """All answers have the same length: that of the first one."""
    requests = list(map(_request, hosts))
    connections = [socket.create_connection(address, 20) for _ in hosts]
    answered = 0
    try:
        size = len(_first(connections[0], requests[0])) * PIPELINED
        for _ in range(count // (PIPELINED * len(hosts))):
            for request, connection in zip(requests, connections, strict=True):
                connection.sendall(request * PIPELINED)
            for connection in connections:
                data = b""
                while len(data) < size:
                    chunk = connection.recv(size - len(data))
                    if not chunk:
                        raise ConnectionResetError("closed instead of an answer")
                    data += chunk
                answered += data.count(b"HTTP/1.1 200 ")
    finally:
        for connection in connections:
            connection.close()
    return answered


def _first(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    data = b""
    while (length := _length(data)) is None or len(data) < length:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionResetError("closed instead of an answer")
        data += chunk
    return data


def _length(data: bytes) -> int | None:
    """Of the whole answer, once its head is there."""
    head, end, _ = data.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
    return len(head) + len(end) + int(found[1]) if end and found else None
