"""Servers and clients for the benches, as processes of their own.

    python bench/load.py servers        answers on the addresses that it is given
    python bench/load.py clients        connects, short and long-lived, and counts what broke

Both read one JSON object a line from stdin, answer one a line on stdout, and end with stdin. They
are no threads of the bench, so that what is measured never waits for its own load.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal, Self

#: A connection that takes longer than this, or an echo, has failed.
TIMEOUT_SECONDS = 3.0

#: How often a long-lived connection sends something.
ECHO_SECONDS = 0.5

#: How soon a process has to answer an order.
_ORDER_SECONDS = 60.0


class Worker:
    """One of this file's processes. `order` asks it for something and takes its answer."""

    def __init__(self, role: Literal["servers", "clients"]) -> None:
        self._role = role
        self._process = subprocess.Popen(
            [sys.executable, __file__, role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def order(self, **order: Any) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise SystemExit("a worker has no pipes")
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        readable, _, _ = select.select([stdout], [], [], _ORDER_SECONDS)
        line = stdout.readline() if readable else ""
        if not line:
            raise SystemExit(f"no answer to {list(order)} from the {self._role}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


class _Echo(asyncio.Protocol):
    """Says which address it is, then echoes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(f"{transport.get_extra_info('sockname')[0]}\n".encode())

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def servers(orders: asyncio.Queue[dict[str, Any]]) -> None:
    """``{"addresses": [[ip, port], …]}``: listen there until the end."""
    loop = asyncio.get_running_loop()
    order = await orders.get()
    for ip, port in order["addresses"]:
        await loop.create_server(_Echo, ip, port, backlog=1024)
    answer({})
    while await orders.get():
        pass


class Clients:
    """The load on one router at ``ip``.

    ``rate``: short connections a second (connect, greeting, echo, close), over ``ports`` in turn.
    ``long_each``: long-lived ones of each port from the start; ``long_rate``: more of them a
    second from then on. ``owners``: server's IP -> port that it belongs to; ``stay``: the servers
    that are never removed.
    """

    def __init__(
        self,
        *,
        ip: str,
        ports: list[int],
        rate: float,
        long_each: int,
        long_rate: float,
        owners: dict[str, int],
        stay: list[str],
    ) -> None:
        self.ip, self.ports, self.rate = ip, ports, rate
        self.long_each, self.long_rate = long_each, long_rate
        self.owners, self.stay = owners, frozenset(stay)
        self.seconds: list[float] = []
        self.failures: Counter[str] = Counter()
        self.misled = 0
        self.opened: Counter[str] = Counter()  # long-lived, on servers that "stay" or "leave"
        self.lost: Counter[str] = Counter()  # the same
        self.reasons: Counter[str] = Counter()
        self.alive = 0
        self._short_tasks: set[asyncio.Task[None]] = set()
        self._long_tasks: set[asyncio.Task[None]] = set()

    async def run(self, orders: asyncio.Queue[dict[str, Any]]) -> None:
        loop = asyncio.get_running_loop()
        gc.disable()
        await asyncio.gather(
            *(self._long(port) for port in self.ports for _ in range(self.long_each))
        )
        answer({"opened": dict(self.opened)})
        short = loop.create_task(self._paced(self.rate, self._short, self._short_tasks))
        long = loop.create_task(self._paced(self.long_rate, self._long, self._long_tasks))
        await orders.get()
        for task in (short, long):
            task.cancel()
        if self._short_tasks:
            await asyncio.wait(self._short_tasks)
        await asyncio.sleep(2 * ECHO_SECONDS)  # each long-lived one echoes once more
        answer(
            {
                "seconds": self.seconds,
                "failures": dict(self.failures),
                "misled": self.misled,
                "opened": dict(self.opened),
                "lost": dict(self.lost),
                "reasons": dict(self.reasons),
                "alive": self.alive,
            }
        )
        await orders.get()
        for task in self._long_tasks:
            task.cancel()

    async def _paced(
        self,
        rate: float,
        action: Callable[[int], Coroutine[Any, Any, None]],
        tasks: set[asyncio.Task[None]],
    ) -> None:
        """Start ``rate`` of ``action`` a second whatever becomes of them: a slow router gets no
        less load than a quick one."""
        loop = asyncio.get_running_loop()
        start, number = loop.time(), 0
        while rate:
            await asyncio.sleep(start + number / rate - loop.time())
            _keep(tasks, action(self.ports[number % len(self.ports)]))
            number += 1

    async def _short(self, port: int) -> None:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                with socket.socket() as connection:
                    await self._greeted(connection, port)
                    await _echo(connection)
        except (OSError, TimeoutError) as exc:
            self.failures[_kind(exc)] += 1
        else:
            self.seconds.append(time.perf_counter() - start)

    async def _long(self, port: int) -> None:
        """Open one; that it lasts is seen by a task of its own."""
        connection = socket.socket()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                server = await self._greeted(connection, port)
        except (OSError, TimeoutError) as exc:
            connection.close()
            self.failures[_kind(exc)] += 1
            return
        fate = "stay" if server in self.stay else "leave"
        self.opened[fate] += 1
        _keep(self._long_tasks, self._last(connection, fate))

    async def _last(self, connection: socket.socket, fate: str) -> None:
        self.alive += 1
        try:
            while True:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await _echo(connection)
                await asyncio.sleep(ECHO_SECONDS)
        except (OSError, TimeoutError) as exc:
            self.lost[fate] += 1
            self.reasons[_kind(exc)] += 1
        finally:
            self.alive -= 1
            connection.close()

    async def _greeted(self, connection: socket.socket, port: int) -> str:
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        await loop.sock_connect(connection, (self.ip, port))
        greeting = await loop.sock_recv(connection, 64)
        if not greeting:
            raise ConnectionAbortedError
        server = greeting.decode().strip()
        self.misled += self.owners[server] != port
        return server


def _keep(tasks: set[asyncio.Task[None]], coroutine: Coroutine[Any, Any, None]) -> None:
    """Run it as one of ``tasks``, for as long as it lasts."""
    task = asyncio.get_running_loop().create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _echo(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, b"ping")
    if not await loop.sock_recv(connection, 64):
        raise ConnectionAbortedError


def _kind(error: Exception) -> str:
    names: dict[type[Exception], str] = {
        ConnectionRefusedError: "refused",
        ConnectionResetError: "reset",
        BrokenPipeError: "reset",
        ConnectionAbortedError: "closed",  # ours, for an end without an error
        TimeoutError: "timeout",
    }
    return names.get(type(error), type(error).__name__)


def answer(values: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


async def work(role: str) -> None:
    """Read orders until stdin ends; then this process does, whatever it is at."""
    orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    reader = asyncio.StreamReader(limit=2**22)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )

    async def serve() -> None:
        if role == "servers":
            await servers(orders)
        else:
            await Clients(**await orders.get()).run(orders)

    task = asyncio.create_task(serve())
    while line := await reader.readline():
        orders.put_nowait(json.loads(line))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=f"{Path(__file__).name}: see its first lines")
    parser.add_argument("role", choices=["servers", "clients"])
    asyncio.run(work(parser.parse_args().role))
