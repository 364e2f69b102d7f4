"""Connections that HAProxy keeps to servers for further requests lead to no former endpoint."""

import contextlib
import socket
from typing import Any

import pytest
from by_host import MakeNamed, NamedServer, WebStand, ask_over, host_app
from stand import MakeStand, await_, converged, running

from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.state import stat_tuples

#: One backend with one slot: what a Route leaves behind the next one gets.
ONE_SLOT: dict[str, Any] = {"backends": {"http": 1, "reencrypt": 1, "passthrough": 1}, "slots": 1}
UNIT = web_backend_name("http", 1)


def counts(web: WebStand) -> tuple[str, ...]:
    """Sessions of the first server, and connections to it that are in use; once that stays so."""
    seen: list[tuple[str, ...]] = []

    def stays() -> bool:
        text = web.stand.client.ask(f"show stat {UNIT} 4 -1")
        seen.append(next(stat_tuples(text, ("scur", "used_conn_cur"))))
        return len(seen) >= 10 and len(set(seen[-10:])) == 1

    await_(stays, "it is silent", every_seconds=0.02)
    return seen[-1]


def half_read(web: WebStand, server: NamedServer, host: str) -> socket.socket:
    """A client that has not read an answer that is all in HAProxy: its connection to the server is
    in use, but no session of it any more. From 3.0 on it is, and the client is one of many."""
    low, high = 0, 16_000_000
    while True:
        size = (low + high) // 2
        server.name = "x" * size
        asked = len(server.heads)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(web.http)
        client.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        await_(lambda asked=asked: len(server.heads) > asked, "it is asked")
        found = counts(web)
        if found == ("0", "1") or high - low < 2000:
            return client
        client.close()
        await_(lambda: counts(web) == ("0", "0"), "the client is gone")
        low, high = (size, high) if found == ("0", "0") else (low, size)


def further(web: WebStand, host: str) -> list[str]:
    """Who answers a client's first requests, and the last one: only the later ones may go to a
    connection that nobody has used twice yet."""
    line = f"GET / HTTP/1.1\r\nHost: {host}"
    with socket.create_connection(web.http, 5) as client:
        found = []
        for _ in range(3):
            client.sendall(f"{line}\r\n\r\n".encode())
            found.append(client.recv(2000).decode().partition("\r\n\r\n")[2][:20])
        return [*found, ask_over(client, line).body[:20]]


def test_a_connection_that_a_slow_client_holds_goes_to_no_other_route(
    make_stand: MakeStand, named: MakeNamed, files: contextlib.ExitStack
) -> None:
    """Its answer is all in HAProxy, so that it is no session of the server any more (2.6); but
    when the client has read it, the connection would be kept for others."""
    web = WebStand.make(make_stand, **ONE_SLOT)
    former, latter = named(""), named("latter")
    web.stand.write("web.yaml", *host_app("former", "former.example", [former]))
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        client = files.enter_context(half_read(web, former, "former.example"))
        web.stand.write("web.yaml", *host_app("latter", "latter.example", [latter]))
        # Where it waits for the backend, it gets it once the client is gone.
        with contextlib.suppress(AssertionError):
            await_(lambda: web.served("latter.example") == "latter", "it has it at once", seconds=2)
        with contextlib.suppress(TimeoutError):
            client.settimeout(1)
            while client.recv(1 << 20):
                pass
        client.close()
        await_(lambda: web.served("latter.example") == "latter", "it has the backend")
        assert {who for _ in range(20) for who in further(web, "latter.example")} == {"latter"}


@pytest.mark.parametrize("challenge", ["NTLM", "Negotiate"])
def test_a_connection_that_is_one_clients_own_leads_to_no_other_route(
    make_stand: MakeStand, named: MakeNamed, challenge: str
) -> None:
    """Who logs in with NTLM keeps the connection to the server; HAProxy 2.6 does so whatever the
    server has become, and counts it nowhere."""
    web = WebStand.make(make_stand, **ONE_SLOT)
    former = named("former", status=f"401 Unauthorized\r\nWWW-Authenticate: {challenge}")
    latter = named("latter")
    web.stand.write("web.yaml", *host_app("former", "former.example", [former]))
    with running(web.stand.daemon()) as daemon, socket.create_connection(web.http, 5) as client:
        converged(daemon)
        asked = "GET / HTTP/1.1\r\nHost: {}\r\n\r\n"
        for _ in range(2):
            client.sendall(asked.format("former.example").encode())
            assert b"401" in client.recv(2000).partition(b"\r\n")[0]
        web.stand.write("web.yaml", *host_app("latter", "latter.example", [latter]))
        await_(lambda: web.served("latter.example") == "latter", "it has the backend")
        client.sendall(asked.format("latter.example").encode())
        reply = client.recv(2000)
        if b"latter" not in reply:
            assert reply.startswith(b"HTTP/1.1 421 ")
            assert client.recv(1) == b""
        assert len(former.heads) == 2
        assert further(web, "latter.example") == ["latter"] * 4


def test_a_client_with_a_connection_of_its_own_has_all_other_routes(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    """As a load balancer does that sends the requests of many over one connection."""
    web = WebStand.make(make_stand)
    for name, lines in (
        ("ntlm", "401 Unauthorized\r\nWWW-Authenticate: NTLM"),
        ("kerberos", "401 Unauthorized\r\nWWW-Authenticate: Basic\r\nWWW-Authenticate: Negotiate"),
        ("proxy", "407 Proxy Authentication Required\r\nProxy-Authenticate: NTLM"),
        ("basic", "401 Unauthorized\r\nWWW-Authenticate: Basic"),
        ("plain", "200 OK"),
    ):
        web.stand.write(
            f"{name}.yaml", *host_app(name, f"{name}.example", [named(name, status=lines)])
        )

    def answered(client: socket.socket, name: str) -> bool:
        """By whom was asked for; whether the connection goes on."""
        client.sendall(f"GET / HTTP/1.1\r\nHost: {name}.example\r\n\r\n".encode())
        head, _, body = client.recv(2000).partition(b"\r\n\r\n")
        assert body == name.encode()
        return b"\r\nconnection: close" not in head.lower()

    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        for first in ("ntlm", "kerberos", "proxy"):
            with socket.create_connection(web.http, 5) as client:
                asked = [first, "plain", first, "basic", "basic", "plain", first]
                assert [answered(client, name) for name in asked] == [True] * 7
                # Only one such is remembered.
                other = "ntlm" if first != "ntlm" else "proxy"
                if not answered(client, other):
                    assert client.recv(1) == b""
