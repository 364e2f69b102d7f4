"""How many requests a pod gets at a time, by annotation: as it changes on one HAProxy."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from by_host import MakeNamed, NamedServer, Reply, WebStand, ask_over, host_app
from stand import MakeServer, MakeStand, await_, converged, fresh_ip, running

from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.state import parse_server_limits
from sidecar.model.pool import Address
from sidecar.policies.pod_connections import POD_CONCURRENT_CONNECTIONS

HOST = "a.example"
UNIT = web_backend_name("http", 1)


def write(web: WebStand, servers: Any, limit: str | None, **more: Any) -> None:
    wish = {POD_CONCURRENT_CONNECTIONS.annotation: limit} if limit else {}
    web.stand.write("web.yaml", *host_app("web", HOST, servers, annotations=wish, **more))


def limits(web: WebStand, unit: str = UNIT) -> dict[str, int]:
    """Of the servers that have any."""
    found = parse_server_limits(web.stand.client.ask(f"show stat {unit} 4 -1"))
    return {name: limit for servers in found.values() for name, limit in servers.items() if limit}


class Slow:
    """An HTTP server that answers once it is told to. ``now``, ``most``: requests at a time."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.answers = threading.Event()
        lock, outer = threading.Lock(), self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    while NamedServer.read_head(self.rfile.readline):
                        with lock:
                            outer.now += 1
                            outer.most = max(outer.now, outer.most)
                        outer.answers.wait(20)
                        with lock:
                            outer.now -= 1
                        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        self.server = Server((fresh_ip(), 9000), Handler)
        self.address = Address(*self.server.server_address)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def slow() -> Iterator[Slow]:
    server = Slow()
    yield server
    server.answers.set()
    server.server.shutdown()
    server.server.server_close()


class Clients:
    """So many requests at a time. ``replies``: those that came."""

    def __init__(self, web: WebStand, count: int) -> None:
        self.replies: list[Reply] = []
        self._threads = [
            threading.Thread(target=self._ask, args=(web.http,), daemon=True) for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, address: tuple[str, int]) -> None:
        with socket.create_connection(address, 20) as connection:
            self.replies.append(ask_over(connection, f"GET / HTTP/1.1\r\nHost: {HOST}"))

    def statuses(self) -> list[int]:
        for thread in self._threads:
            thread.join(20)
        return sorted(reply.status for reply in self.replies)


def queued(web: WebStand) -> int:
    """Requests that wait for a server, of all backends."""
    rows = web.stand.client.ask("show stat -1 2 -1").splitlines()
    return sum(int(row.split(",")[2] or 0) for row in rows[1:] if row)


def test_a_pod_gets_no_more_at_a_time_and_others_wait(make_stand: MakeStand, slow: Slow) -> None:
    web = WebStand.make(make_stand)
    write(web, [slow], "2")
    with running(web.stand.daemon()) as daemon:
        await_(lambda: limits(web) == {"s1": 2}, "it has its limit")
        converged(daemon)
        clients = Clients(web, 5)
        await_(lambda: queued(web) == 3, "three wait")
        await_(lambda: slow.now == slow.most == 2, "two are served")
        slow.answers.set()
        assert clients.statuses() == [200] * 5
        assert slow.most == 2


def test_who_waits_too_long_gets_503(make_stand: MakeStand, slow: Slow) -> None:
    web = WebStand.make(make_stand)
    write(web, [slow], "1")
    with running(web.stand.daemon()) as daemon:
        await_(lambda: limits(web) == {"s1": 1}, "it has its limit")
        converged(daemon)
        clients = Clients(web, 2)
        await_(lambda: [reply.status for reply in clients.replies] == [503], "one was too long")
        slow.answers.set()
        assert clients.statuses() == [200, 503]


def test_it_is_lifted_while_requests_wait(make_stand: MakeStand, slow: Slow) -> None:
    web = WebStand.make(make_stand)
    write(web, [slow], "1")
    with running(web.stand.daemon()) as daemon:
        await_(lambda: limits(web) == {"s1": 1}, "it has its limit")
        converged(daemon)
        clients = Clients(web, 3)
        await_(lambda: queued(web) == 2, "two wait")
        write(web, [slow], None)
        await_(lambda: limits(web) == {}, "it has none any more")
        slow.answers.set()
        assert clients.statuses() == [200] * 3


def test_it_goes_with_the_route_and_is_repaired(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    one, two = named("one"), named("two")
    write(web, [one, two], "7")
    with running(web.stand.daemon()) as daemon:
        await_(lambda: limits(web) == {"s1": 7, "s2": 7}, "they have their limits")
        converged(daemon)
        # Drift.
        web.stand.client.ask(f"set maxconn server {UNIT}/s2 3")
        await_(lambda: limits(web) == {"s1": 7, "s2": 7}, "it is repaired")
        converged(daemon)
        total = daemon.reconciler.history.total
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert daemon.reconciler.history.total == 0 < total
    # HAProxy restarts alone: its state file has no limits, and its map says that there are.
    web.stand.stop_haproxy()
    web.stand.start_haproxy()
    assert limits(web) == {}
    with running(web.stand.daemon()) as daemon:
        await_(lambda: limits(web) == {"s1": 7, "s2": 7}, "they have them again")
        converged(daemon)
        # A pod that goes leaves none on its slot, nor does a Route on its backend.
        write(web, [one], "7")
        await_(lambda: limits(web) == {"s1": 7}, "the slot has none any more")
        write(web, [one, two], None)
        await_(lambda: limits(web) == {}, "the Route has none")
        write(web, [one, two], "7")
        await_(lambda: limits(web) == {"s1": 7, "s2": 7}, "they have them again")
        web.stand.remove("web.yaml")
        await_(lambda: limits(web) == {}, "nor has the backend")
        converged(daemon)
        maps = web.stand.settings.haproxy.state_file.parent / "maps"
        file = maps / "pod_connections.map"
        await_(lambda: web.stand.client.ask(f"show map {file}") == "", "and nothing is noted")


def test_more_pods_than_slots_and_other_protocols(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand, slots=1)
    servers = [named(name) for name in ("one", "two", "three")]
    write(web, servers, "7")
    with running(web.stand.daemon()) as daemon:
        await_(lambda: sorted(limits(web).values()) == [7, 7, 7], "all have their limits")
        converged(daemon)
        assert {web.served(HOST) for _ in range(9)} == {"one", "two", "three"}


def test_passthrough_has_it_too(make_stand: MakeStand, make_server: MakeServer) -> None:
    web = WebStand.make(make_stand)
    write(web, [make_server("one")], "3", termination="passthrough")
    unit = web_backend_name("passthrough", 1)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: limits(web, unit) == {"s1": 3}, "it has its limit")
        await_(lambda: web.passed_to(HOST), "it is served")
        converged(daemon)
