"""``why --probe``: connects to each server of a port, and through the port, like a client.

From where the command runs: in the pod that is HAProxy's network, elsewhere it may differ.
"""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from sidecar.common.hostport import split_host_port
from sidecar.common.text import reason_of
from sidecar.model.pool import PortPool
from sidecar.reporting.reports import PortReport

#: For a connection to open; a server in the same network takes a millisecond.
CONNECT_SECONDS = 2.0

#: How long one through the port is watched: HAProxy closes it when it found no server, which takes
#: it up to three retries a second apart.
WATCH_SECONDS = 4.0

_AT_ONCE = 16


class Probed(NamedTuple):
    """``who``: what was connected to. ``what``: how it went."""

    works: bool
    who: str
    what: str


def probe(item: PortReport, pool: PortPool) -> list[Probed]:
    """All servers of ``item`` that take connections, then its port on each address of ``pool``."""
    servers = [server for server in item.servers if server.state in ("ready", "down")]
    with ThreadPoolExecutor(_AT_ONCE) as workers:
        direct = [
            workers.submit(_direct, f"{server.slot} {server.address}", server.address)
            for server in servers
        ]
        through = [
            workers.submit(_through, ip, item.port, shared=item.shared) for ip in _reachable(pool)
        ]
        return [task.result() for task in (*direct, *through)]


def _reachable(pool: PortPool) -> Iterator[str]:
    """Where to connect from this machine to what listens on all addresses."""
    for ip in pool.bind:
        yield {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(ip, ip)  # noqa: S104  nothing is bound


def _direct(who: str, address: str) -> Probed:
    began = time.monotonic()
    try:
        socket.create_connection(split_host_port(address), CONNECT_SECONDS).close()
    except OSError as exc:
        return Probed(False, who, _reason(exc))
    return Probed(True, who, f"connected in {_ms(began)} ms")


def _through(ip: str, port: int, *, shared: bool) -> Probed:
    """``shared``: without a name to ask for, no server is behind it."""
    who, began = f"port {port} at {ip}", time.monotonic()
    try:
        with socket.create_connection((ip, port), CONNECT_SECONDS) as connection:
            took = _ms(began)
            if shared:
                return Probed(True, who, f"connected in {took} ms; no name was asked for")
            connection.settimeout(WATCH_SECONDS)
            try:
                closed = not connection.recv(1)
            except TimeoutError:
                closed = False
    except ConnectionResetError:
        closed, took = True, _ms(began)
    except OSError as exc:
        return Probed(False, who, _reason(exc))
    if closed:
        return Probed(False, who, f"accepted, then closed after {_ms(began)} ms")
    return Probed(True, who, f"connected in {took} ms, still open")


def _ms(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"timed out after {CONNECT_SECONDS:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return reason_of(error).lower()
