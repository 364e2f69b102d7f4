"""Clients of a chaos run that mean no good: they come to a port, or to the sidecar's HTTP port, and
stay. Who else must be served meanwhile is checked after each step.
"""

import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from itertools import cycle, islice

from rig import Clients
from stand import Client, Stand, await_

#: Of each port; and of HAProxy, so that few are enough to take all of it.
PORT_MAXCONN, HAPROXY_MAXCONN = 50, 400
#: More than the short connections of others that come or go just now.
COMING_AND_GOING = 4
#: A busy machine is no fault.
PATIENCE_SECONDS = 10.0
_EACH_TURN = 20


def fetch(url: str) -> tuple[int, str]:
    """Status and text. Raises OSError."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode().strip()


class FullPort:
    """Idle clients of one port, as many as it takes: it promises nothing until they have left."""

    def __init__(self, stand: Stand, clients: Clients) -> None:
        self._stand, self._clients = stand, clients
        self._crowd: list[Client] = []
        self.port: int | None = None

    def come(self, port: int) -> None:
        promise, era = self._clients.promises[port], self._clients.era
        steady, promise.steady = promise.steady and not promise.tampered, False
        self.port = port
        for _ in range(PORT_MAXCONN + 1):
            try:
                self._crowd.append(self._stand.connect(port))
            except OSError as exc:
                # It is full, or is nobody's just now; who relies on it relies on its limit, too.
                seen = self._sessions(port) if steady else PORT_MAXCONN
                if seen < PORT_MAXCONN - COMING_AND_GOING and era == self._clients.era:
                    self._clients.faults.append(f"port {port}: {exc!r} at {seen} connections")
                break
        else:
            self._clients.faults.append(f"port {port}: {PORT_MAXCONN + 1} connections and more")

    def leave(self) -> None:
        """And the port has room again."""
        port, count = self.port, len(self._crowd)
        self.close()
        if port is not None and count:
            room = PORT_MAXCONN - count + COMING_AND_GOING
            await_(lambda: self._sessions(port) <= room, f"port {port} is left", PATIENCE_SECONDS)

    def close(self) -> None:
        for client in self._crowd:
            client.close()
        self.port, self._crowd = None, []

    def __len__(self) -> int:
        return len(self._crowd)

    def look(self) -> None:
        """HAProxy's metrics answer a probe."""
        if self.port is not None:
            url = f"http://{self._stand.settings.haproxy.metrics_listen}/metrics?scope=global"
            status, said = fetch(url)
            assert status == 200, said

    def _sessions(self, port: int) -> int:
        head, row, *_ = self._stand.client.ask(f"show stat tcp-{port} 1 -1").splitlines()
        shown = dict(zip(head.removeprefix("# ").split(","), row.split(","), strict=True))
        return int(shown["scur"])


class HTTPCrowd:
    """Clients of the sidecar's HTTP port; half of them say nothing, the others a byte at times.
    Whoever is closed comes back. ``answers``: whether the sidecar should."""

    def __init__(self, address: tuple[str, int], answers: Callable[[], bool]) -> None:
        self._address, self._answers = address, answers
        self._crowd: list[socket.socket] = []
        self._turns: Iterator[int] = cycle(())

    def come(self, count: int) -> None:
        self._crowd = [self._connect() for _ in range(count)]
        self._turns = cycle(range(count))

    def leave(self) -> None:
        for one in self._crowd:
            one.close()
        self._crowd = []

    def look(self) -> None:
        """Some have their turn, and a probe comes."""
        if not self._crowd:
            return
        for number in islice(self._turns, _EACH_TURN):
            one = self._crowd[number]
            try:
                if number % 2:
                    one.send(b"G")
                closed = one.recv(1) == b""
            except BlockingIOError:
                continue
            except OSError:
                closed = True
            if closed:
                one.close()
                self._crowd[number] = self._connect()
        for path in ("healthz", "readyz"):
            answers, said = self._answers(), ""
            try:
                status, said = fetch("http://{}:{}/{}".format(*self._address, path))
            except OSError as exc:
                said = repr(exc)
                status = 0 if answers and self._answers() else 200
            assert status == 200 or (status and path == "readyz"), f"/{path}: {said}"

    def _connect(self) -> socket.socket:
        one = socket.socket()
        one.setblocking(False)
        with contextlib.suppress(OSError):
            one.connect(self._address)
        return one
