"""Clients that mean no good: ``crowd.py HOST PORT COUNT`` keeps so many connections open at once. A
quarter each says nothing, sends a byte a second, and reads its answer a byte a second; the last
quarter hangs up in mid-request. Whoever is closed comes back. Says "all there" when each has
connected, then "turn" after each second; ends when it is killed, or by itself after some minutes.
"""

import contextlib
import resource
import socket
import sys
import time

MAX_SECONDS = 600
LARGE = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Client:
    """One of the crowd. ``kind``: 0 silent, 1 sends slowly, 2 reads slowly, 3 hangs up."""

    def __init__(self, address: tuple[str, int], kind: int) -> None:
        self._address = address
        self._kind = kind
        self._socket: socket.socket | None = None

    def act(self) -> None:
        """What it does once a second."""
        try:
            if not self._socket or not self._goes_on(self._socket):
                self._reconnect()
        except BlockingIOError:
            pass  # nothing to read, or not connected yet
        except OSError:
            self._reconnect()

    def _goes_on(self, connection: socket.socket) -> bool:
        if self._kind == 1:
            connection.send(b"x")
        elif self._kind == 2:
            connection.send(LARGE)
        elif self._kind == 3:
            connection.send(b"GET /")
            return False
        return connection.recv(1) != b""

    def _reconnect(self) -> None:
        if self._socket:
            self._socket.close()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self._socket.connect(self._address)


def main(host: str, port: int, count: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 100), hard))
    clients = [Client((host, port), number % 4) for number in range(count)]
    for turn in range(MAX_SECONDS):
        ends = time.monotonic() + 1
        for client in clients:
            client.act()
        sys.stdout.write("turn\n" if turn else "all there\n")
        sys.stdout.flush()
        time.sleep(max(0.0, ends - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
