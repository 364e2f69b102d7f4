"""Egress by SNI: a port that leads out of the cluster to the names that Routes allow, and to no
others. A DNS server of the test resolves them, and the servers outside end TLS themselves."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from authority import Authority
from by_host import client_hello
from nameserver import SERVFAIL, NameServer
from stand import MakeStand, Stand, await_, await_refused, converged, route_manifest, running
from tls import TLSServer, greeted

from sidecar.haproxy.web_files import WebFiles

PORT, OUTSIDE = 30000, 9000


@pytest.fixture
def dns_server() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.close()


@pytest.fixture
def stand(make_stand: MakeStand, dns_server: NameServer) -> Stand:
    return make_stand(
        pools=[{"ports": [str(PORT)], "shared_by_sni": True}],
        web={"backends": {"passthrough": 4}, "timeouts": {"inspect": "1s"}},
        dns={"servers": [dns_server.address], "timeout": "1s"},
    )


@pytest.fixture
def outside(
    tmp_path_factory: pytest.TempPathFactory, dns_server: NameServer, files: contextlib.ExitStack
) -> dict[str, TLSServer]:
    """Servers by name; DNS has all of them."""
    authority = Authority(tmp_path_factory.mktemp("ca"))
    found = {}
    for name in ("api.partner.example", "www.partner.example", "other.example"):
        found[name] = TLSServer(name, authority)
        files.callback(found[name].close)
        dns_server.zone[name] = [f"A {found[name].address.ip}"]
    return found


def allow(host: str, port: int = OUTSIDE) -> tuple[dict[str, Any], ...]:
    """A Route that lets clients of the port get to ``host``."""
    name = host.replace(".", "-")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {"type": "ExternalName", "externalName": host, "ports": [{"port": port}]},
    }
    return route_manifest(name, PORT, host=host, tls={"termination": "passthrough"}), service


def reached(stand: Stand, sni: str | None) -> str:
    """Whose certificate and greeting a client gets; "" if it is closed."""
    found = greeted((stand.ip, PORT), sni)
    return found.name if found else ""


def await_reached(stand: Stand, sni: str, by: str) -> None:
    await_(lambda: reached(stand, sni) == by, f"{sni} is answered by {by or 'nobody'}")


def test_only_allowed_names_are_reached(
    stand: Stand, outside: dict[str, TLSServer], dns_server: NameServer
) -> None:
    one, two, other = outside
    stand.write("one.yaml", *allow(one))
    stand.write("two.yaml", *allow(two))
    with running(stand.daemon()) as daemon:
        for name in (one, two):
            await_reached(stand, name, name)
            found = greeted((stand.ip, PORT), name)
            assert found == (name, outside[name].der)
        # What a client says decides, not where it wanted to go: whoever says another name, or
        # none, or speaks no TLS, gets nowhere.
        assert reached(stand, other) == ""
        assert reached(stand, None) == ""
        with socket.create_connection((stand.ip, PORT), 5) as plain:
            plain.sendall(f"GET / HTTP/1.1\r\nHost: {one}\r\n\r\n".encode())
            with contextlib.suppress(ConnectionResetError):
                assert plain.recv(100) == b""
        assert dns_server.looks(other) == 0, "nobody asks for names that nobody allows"

        # Live: one more, and one less.
        stand.write("other.yaml", *allow(other))
        await_reached(stand, other, other)
        stand.remove("one.yaml")
        await_reached(stand, one, "")
        assert reached(stand, two) == two
        for file in ("two.yaml", "other.yaml"):
            stand.remove(file)
        await_refused(stand, PORT)
        converged(daemon)


def test_a_port_whose_letters_are_lost_lets_nobody_in(
    stand: Stand, outside: dict[str, TLSServer]
) -> None:
    """They say whether there is a list of clients, which else would not be looked at."""
    one, *_ = outside
    stand.write("one.yaml", *allow(one))
    with running(stand.daemon()) as daemon:
        await_reached(stand, one, one)
        converged(daemon)
    flags = WebFiles.beside(stand.settings.haproxy.state_file).flags_map
    stand.client.ask(f"clear map {flags}")
    assert reached(stand, one) == ""
    with running(stand.daemon()):
        await_reached(stand, one, one)


def test_a_name_is_followed(
    stand: Stand, outside: dict[str, TLSServer], dns_server: NameServer
) -> None:
    """Its addresses change, connections that are open stay; and DNS may fail meanwhile."""
    one, two, _ = outside
    stand.write("one.yaml", *allow(one))
    with running(stand.daemon()):
        await_reached(stand, one, one)
        with socket.create_connection((stand.ip, PORT), 5) as held:
            held.sendall(client_hello(one))
            assert held.recv(1) == b"\x16", "the server's part of the handshake"
            dns_server.zone[one] = dns_server.zone[two]
            await_reached(stand, one, two)
            asked = dns_server.looks(one)
            dns_server.zone[one] = SERVFAIL
            await_(lambda: dns_server.looks(one) > asked + 1, "it fails", 20)
            assert reached(stand, one) == two
            held.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while held.recv(4096):
                    pass
                pytest.fail("the open connection has ended")


def test_a_name_that_leads_back_to_the_router_is_refused(
    stand: Stand, outside: dict[str, TLSServer], dns_server: NameServer
) -> None:
    """As it does where the clients' DNS was changed for all, and the router asks the same."""
    one, two, _ = outside
    dns_server.zone[one] = [f"A {stand.ip}"]
    stand.write("one.yaml", *allow(one, PORT))
    stand.write("two.yaml", *allow(two))
    with running(stand.daemon()) as daemon:
        await_reached(stand, two, two)
        converged(daemon)
        said = next(item for item in daemon._routing.verdicts() if item.host == one)
        assert said.reason == "EndpointsDenied"
        assert said.message == f"1 endpoint skipped: {stand.ip}:{PORT} is this router itself"
        assert reached(stand, one) == ""
