"""The PROXY protocol (proxy-protocol.txt) through a real HAProxy, byte by byte."""

import contextlib
import ipaddress
import re
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from stand import EchoServer, Stand, await_, fresh_ip

from sidecar.haproxy.operations import SetAddress, SetState
from sidecar.listeners.tcp import unit_of
from sidecar.model.pool import Address

MakeStand = Callable[..., Stand]
MakeServer = Callable[..., EchoServer]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
#: What a load balancer in front of us would say of its client.
FRONT_V1 = b"PROXY TCP4 192.0.2.7 198.51.100.9 1111 2222\r\n"
FRONT_V1_IPV6 = b"PROXY TCP6 2001:db8::7 2001:db8::9 1111 2222\r\n"
FRONT_V2 = (
    SIGNATURE
    + b"\x21\x11"
    + struct.pack(
        "!H4s4sHH", 12, socket.inet_aton("192.0.2.7"), socket.inet_aton("198.51.100.9"), 1111, 2222
    )
)
FRONT_V2_IPV6 = (
    SIGNATURE
    + b"\x21\x21"
    + struct.pack(
        "!H16s16sHH",
        36,
        ipaddress.ip_address("2001:db8::7").packed,
        ipaddress.ip_address("2001:db8::9").packed,
        1111,
        2222,
    )
)
FROM_THE_FRONT = ("192.0.2.7", 1111, "198.51.100.9", 2222)
FROM_THE_FRONT_IPV6 = ("2001:db8::7", 1111, "2001:db8::9", 2222)


class Server:
    """A server that says nothing of its own: what arrives is what HAProxy sent."""

    def __init__(self, ip: str) -> None:
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        self._listener = socket.create_server((ip, 0), family=family)
        self._listener.settimeout(10)
        bound, port, *_ = self._listener.getsockname()
        self.address = Address(bound, port)

    @contextlib.contextmanager
    def accept(self) -> Iterator[socket.socket]:
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(10)
            yield connection

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def make_raw() -> Iterator[Callable[..., Server]]:
    with contextlib.ExitStack() as stack:

        def make(ip: str | None = None) -> Server:
            server = Server(ip or fresh_ip())
            stack.callback(server.close)
            return server

        yield make


def exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = connection.recv(count - len(data))
        assert chunk, f"closed after {data!r}"
        data += chunk
    return data


def read_v1(connection: socket.socket) -> tuple[str, int, str, int]:
    line = b""
    while not line.endswith(b"\r\n"):
        assert len(line) < 107, line
        line += exactly(connection, 1)
    found = re.fullmatch(rb"PROXY TCP([46]) (\S+) (\S+) (\d+) (\d+)\r\n", line)
    assert found, line
    family, source, destination, source_port, destination_port = (
        part.decode() for part in found.groups()
    )
    assert ipaddress.ip_address(source).version == int(family)
    return source, int(source_port), destination, int(destination_port)


def read_v2(connection: socket.socket) -> tuple[str, int, str, int]:
    header = exactly(connection, 16)
    assert header[:12] == SIGNATURE
    assert header[12] == 0x21  # version 2, PROXY
    size = 16 if header[13] == 0x21 else 4
    assert header[13] == (0x21 if size == 16 else 0x11)  # TCP over IPv6 or IPv4
    body = exactly(connection, struct.unpack("!H", header[14:])[0])
    source, destination = body[:size], body[size : 2 * size]
    ports = struct.unpack("!HH", body[2 * size : 2 * size + 4])
    return (
        str(ipaddress.ip_address(source)),
        ports[0],
        str(ipaddress.ip_address(destination)),
        ports[1],
    )


READ = {"v1": read_v1, "v2": read_v2}


def lead(stand: Stand, server: Address, port: int = 30000) -> None:
    """Open ``port`` to ``server``."""
    stand.client.apply([SetAddress(unit_of(port), "s1", server)])
    await_(lambda: stand.port(port).servers["s1"].address == server, "the address is shown")
    assert stand.client.apply([SetState(unit_of(port), "s1", "ready")]) == [""]


def both_ways(client: socket.socket, connection: socket.socket) -> None:
    """Not a byte more or less than what was sent arrives after the header."""
    client.sendall(b"hello\r\n")
    assert exactly(connection, 7) == b"hello\r\n"
    connection.sendall(b"welcome")
    assert exactly(client, 7) == b"welcome"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_send_proxy_tells_the_server_who_the_client_is(
    make_stand: MakeStand, make_raw: Callable[..., Server], version: str
) -> None:
    server = make_raw()
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 1, "send_proxy": version}])
    lead(stand, server.address)
    with socket.create_connection((stand.ip, 30000), 5) as client, server.accept() as connection:
        assert READ[version](connection) == (*client.getsockname(), stand.ip, 30000)
        both_ways(client, connection)


@pytest.mark.parametrize(("version", "start"), [("v1", b"PROXY "), ("v2", SIGNATURE)])
def test_a_check_sends_the_header_too(
    make_stand: MakeStand, make_raw: Callable[..., Server], version: str, start: bytes
) -> None:
    # Else a server that insists on it would be found down.
    server = make_raw()
    check = {"enabled": True, "interval": "50ms"}
    pool = {"ports": ["30000"], "slots": 1, "send_proxy": version, "check": check}
    lead(make_stand(pools=[pool]), server.address)
    with server.accept() as connection:
        assert exactly(connection, len(start)) == start


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_send_proxy_between_ipv4_and_ipv6(
    make_stand: MakeStand, make_raw: Callable[..., Server], version: str
) -> None:
    server = make_raw("::1")
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 1, "send_proxy": version}])
    lead(stand, server.address)
    with socket.create_connection((stand.ip, 30000), 5) as client, server.accept() as connection:
        assert READ[version](connection) == (*client.getsockname(), stand.ip, 30000)
        both_ways(client, connection)


@pytest.mark.parametrize(
    ("header", "origin"),
    [
        (FRONT_V1, FROM_THE_FRONT),
        (FRONT_V2, FROM_THE_FRONT),
        (FRONT_V1_IPV6, FROM_THE_FRONT_IPV6),
        (FRONT_V2_IPV6, FROM_THE_FRONT_IPV6),
    ],
    ids=["v1", "v2", "v1 IPv6", "v2 IPv6"],
)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_what_the_load_balancer_in_front_said_reaches_the_server(
    make_stand: MakeStand,
    make_raw: Callable[..., Server],
    header: bytes,
    origin: tuple[str, int, str, int],
    version: str,
) -> None:
    server = make_raw()
    pool = {"ports": ["30000"], "slots": 1, "accept_proxy": True, "send_proxy": version}
    stand = make_stand(pools=[pool])
    lead(stand, server.address)
    with socket.create_connection((stand.ip, 30000), 5) as client:
        client.sendall(header)
        with server.accept() as connection:
            assert READ[version](connection) == origin
            both_ways(client, connection)


@pytest.mark.parametrize("header", [FRONT_V1, FRONT_V2], ids=["v1", "v2"])
def test_accept_proxy_takes_the_header_away(
    make_stand: MakeStand, make_raw: Callable[..., Server], header: bytes
) -> None:
    server = make_raw()
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 1, "accept_proxy": True}])
    lead(stand, server.address)
    with socket.create_connection((stand.ip, 30000), 5) as client:
        # In one piece, as proxy-protocol.txt demands: HAProxy closes when it comes in several.
        client.sendall(header + b"and more")
        with server.accept() as connection:
            assert exactly(connection, 8) == b"and more"
            both_ways(client, connection)


def test_accept_proxy_refuses_who_does_not_speak_it(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    server = make_server()
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 1, "accept_proxy": True}])
    lead(stand, server.address)
    with socket.create_connection((stand.ip, 30000), 5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
        assert closed(client)
    assert server.accepted == 0


def test_without_it_the_header_is_the_clients_own_bytes(
    make_stand: MakeStand, make_raw: Callable[..., Server]
) -> None:
    server = make_raw()
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 1}])
    lead(stand, server.address)
    with socket.create_connection((stand.ip, 30000), 5) as client:
        client.sendall(FRONT_V1)
        with server.accept() as connection:
            assert exactly(connection, len(FRONT_V1)) == FRONT_V1
            both_ways(client, connection)


def test_pools_of_one_haproxy_differ(
    make_stand: MakeStand, make_raw: Callable[..., Server]
) -> None:
    plain, proxied = make_raw(), make_raw()
    stand = make_stand(
        pools=[
            {"ports": ["30000"], "slots": 1},
            {"ports": ["30001"], "slots": 1, "send_proxy": "v2"},
        ]
    )
    lead(stand, plain.address, 30000)
    lead(stand, proxied.address, 30001)
    with socket.create_connection((stand.ip, 30000), 5) as client, plain.accept() as connection:
        both_ways(client, connection)
    with socket.create_connection((stand.ip, 30001), 5) as client, proxied.accept() as connection:
        assert read_v2(connection) == (*client.getsockname(), stand.ip, 30001)
        both_ways(client, connection)


def closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
