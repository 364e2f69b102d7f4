"""`pools[].source`: where the connections to servers come from, as the servers see it."""

import contextlib
import csv
import re
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from cli import run_cli
from stand import (
    MakeStand,
    Stand,
    await_,
    await_refused,
    converged,
    fresh_ip,
    route_manifest,
    running,
    service_manifest,
    slice_manifest,
)

from sidecar.model.pool import Address

MakeSeer = Callable[[str], "Seer"]


class Seer:
    """A server that tells each client where it came from. ``seen``: from where they came."""

    def __init__(self, ip: str) -> None:
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        self._listener = socket.create_server((ip, 0), family=family)
        self._listener.setblocking(False)
        bound, port, *_ = self._listener.getsockname()
        self.address = Address(bound, port)
        self.seen: list[str] = []

    def serve(self) -> None:
        """Answers all that have connected until now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, (ip, *_) = self._listener.accept()
                with connection:
                    self.seen.append(ip)
                    connection.sendall(ip.encode())

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def make_seer() -> Iterator[MakeSeer]:
    with contextlib.ExitStack() as stack:

        def make(ip: str) -> Seer:
            server = Seer(ip)
            stack.callback(server.close)
            return server

        yield make


def told(stand: Stand, port: int, *servers: Seer) -> str:
    """What a client of ``port`` is told; "" if it is refused or closed."""
    with contextlib.suppress(ConnectionError), socket.create_connection((stand.ip, port), 5) as it:
        it.setblocking(False)
        text: list[bytes] = []

        def ended() -> bool:
            for server in servers:
                server.serve()
            with contextlib.suppress(BlockingIOError):
                text.append(it.recv(100))
            return text[-1:] == [b""]

        await_(ended, "the connection ends")
        return b"".join(text).decode()
    return ""


def to(name: str, port: int, *servers: Seer) -> list[dict[str, Any]]:
    """A Route of ``port`` to these servers, each in a slice of its own."""
    slices = []
    for number, server in enumerate(servers):
        item = slice_manifest(name, [server.address.ip], port=server.address.port)
        item["metadata"]["name"] = f"{name}-{number}"
        slices.append(item)
    return [route_manifest(name, port), service_manifest(name), *slices]


def health(stand: Stand, port: int) -> tuple[str, str]:
    """Of the first server: its state, and how its last check went."""
    rows = csv.DictReader(stand.client.ask(f"show stat be_tcp-{port} 4 -1").splitlines())
    first = next(rows)
    return first["status"], first["check_status"]


def test_each_pool_has_its_source(make_stand: MakeStand, make_seer: MakeSeer) -> None:
    one, two = fresh_ip(), fresh_ip()
    stand = make_stand(
        pools=[
            {"ports": ["30000"], "source": one},
            {"ports": ["30001"], "source": two, "check": {"enabled": True, "interval": "100ms"}},
            {"ports": ["30002"], "source": "::1"},
            {"ports": ["30003"]},
        ]
    )
    a, b, c, d = (make_seer(ip) for ip in (fresh_ip(), fresh_ip(), "::1", fresh_ip()))
    servers = {30000: (a, one), 30001: (b, two), 30002: (c, "::1"), 30003: (d, "127.0.0.1")}
    for port, (server, _) in servers.items():
        stand.write(f"{port}.yaml", *to(f"web-{port}", port, server))
    with running(stand.daemon()):
        for port, (server, source) in servers.items():
            await_(lambda: told(stand, port, server) == source, f"{port} comes from {source}")  # noqa: B023
        checked = partial(health, stand, 30001)
        await_(lambda: checked() == ("UP", "L4OK"), "its check succeeds")


def test_servers_added_at_run_time_have_it(make_stand: MakeStand, make_seer: MakeSeer) -> None:
    source, check = fresh_ip(), {"enabled": True, "interval": "100ms"}
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 1, "source": source, "check": check}])
    first = make_seer(fresh_ip())
    stand.write("web.yaml", *to("web", 30000, first))
    with running(stand.daemon()):
        await_(lambda: told(stand, 30000, first) == source, "it is served")
        second = make_seer(fresh_ip())
        stand.write("web.yaml", *to("web", 30000, first, second))
        await_(lambda: told(stand, 30000, first, second) and second.seen, "both serve")
        assert {*first.seen, *second.seen} == {source}


@pytest.mark.parametrize(
    ("source", "other"), [("127.0.0.9", "IPv6"), ("::1", "IPv4")], ids=["IPv4", "IPv6"]
)
def test_the_other_ip_version_is_skipped(
    make_stand: MakeStand, make_seer: MakeSeer, source: str, other: str
) -> None:
    """HAProxy would close its clients' connections."""
    stand = make_stand(pools=[{"ports": ["30000-30001"], "source": source}])
    pair = {"IPv4": make_seer(fresh_ip()), "IPv6": make_seer("::1")}
    skipped = pair.pop(other)
    (used,) = pair.values()
    stand.write("web.yaml", *to("web", 30000, used, skipped))
    stand.write("none.yaml", *to("none", 30001, skipped))
    with running(stand.daemon()) as daemon:
        await_(lambda: told(stand, 30000, used) == source, "it is served")
        converged(daemon)
        assert stand.ready(30000) == [used.address]
        await_refused(stand, 30001)
        verdicts = {item.route.name: item for item in daemon._routing.verdicts()}
        why = f"{skipped.address.ip} is of another IP version than the source of the port's pool"
        assert verdicts["web"].message == f"1 endpoint skipped: {why}"
        assert (verdicts["none"].reason, verdicts["none"].message) == (
            "EndpointsDenied",
            f"1 endpoint skipped: {why}",
        )
        assert skipped.seen == []
        line = f"{re.escape(str(skipped.address))} .*: its IP version is not that of pools"
        assert re.search(line, run_cli("why", "30001", "-c", stand.settings_file).out)


def test_checks_come_from_it(make_stand: MakeStand, make_seer: MakeSeer) -> None:
    """HAProxy ends the handshake of a check before a server sees it: what is seen here is that no
    check succeeds from where no connection can."""
    check = {"enabled": True, "interval": "100ms"}
    stand = make_stand(pools=[{"ports": ["30000"], "source": "192.0.2.7", "check": check}])
    server = make_seer(fresh_ip())
    stand.write("web.yaml", *to("web", 30000, server))
    with running(stand.daemon()):
        await_(lambda: health(stand, 30000) == ("DOWN", "L4CON"), "its check fails")


def test_an_address_of_another_machine(make_stand: MakeStand, make_seer: MakeSeer) -> None:
    """Nobody is served from an address that was not asked for; what HAProxy says is documented."""
    stand = make_stand(pools=[{"ports": ["30000"], "source": "192.0.2.7"}])
    server = make_seer(fresh_ip())
    stand.write("web.yaml", *to("web", 30000, server))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        await_(lambda: stand.ready(30000) == [server.address], "it is ready")
        assert told(stand, 30000, server) == ""
        server.serve()
        assert server.seen == []
        said = "Cannot bind to source address before connect()"
        await_(lambda: said in (stand.folder / "haproxy.log").read_text(), "HAProxy says why")
