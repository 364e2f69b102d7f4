"""`rate-limit-connections` of Routes with a port: how much each client may ask, live."""

import contextlib
import socket
from typing import Any

import pytest
from stand import EchoServer, MakeServer, MakeStand, Stand, app, await_, converged, running
from test_port_clients import POOLS, files_of, stand_of, told

SWITCH = "haproxy.router.openshift.io/rate-limit-connections"
PORT = 30000
ONE, TWO = "127.0.0.21", "127.0.0.22"


def write(stand: Stand, server: EchoServer, port: int = PORT, **limits: str) -> None:
    wishes = {f"{SWITCH}.{name.replace('_', '-')}": text for name, text in limits.items()}
    objects = app(server.name, port, [server.address.ip])
    objects[0]["metadata"]["annotations"] |= {**wishes, SWITCH: "true"} if limits else {}
    stand.write(f"{server.name}.yaml", *objects)


def await_limits(stand: Stand, text: str | None) -> None:
    wanted = [] if text is None else [text]
    await_(lambda: [line.partition("/")[2] for line in told(stand)] == wanted, f"it is {text}")


@pytest.mark.parametrize("pool", [*POOLS, "behind"])
def test_connections_of_each_client(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, pool: str
) -> None:
    more: dict[str, Any] = {"accept_proxy": True} if pool == "behind" else {}
    stand = stand_of(make_stand, "own" if pool == "behind" else pool, **more)
    server = make_server("web")

    def connect(source: str) -> str:
        """Held until the test ends."""
        client = files.enter_context(
            socket.create_connection((stand.ip, PORT), 5, source_address=(source, 0))
        )
        with contextlib.suppress(ConnectionError):
            if pool == "behind":
                client.sendall(f"PROXY TCP4 {source} {stand.ip} 1024 {PORT}\r\n".encode())
            return client.makefile("rb").readline().decode().strip()
        return ""

    def served(source: str, count: int) -> int:
        found = 0
        for _ in range(count):
            with contextlib.suppress(ConnectionError, TimeoutError):
                found += connect(source) == "web"
        return found

    with running(stand.daemon()) as daemon:
        write(stand, server)
        # HAProxy listens for a moment before it is told that nobody is to be served yet.
        await_(lambda: served(ONE, 1), "it leads somewhere")
        converged(daemon)
        assert told(stand) == []
        assert served(ONE, 5) == 5
        write(stand, server, concurrent_tcp="3")
        await_limits(stand, "3//")
        # Those of before are not counted.
        assert served(ONE, 5) == 3
        assert served(TWO, 4) == 3
        write(stand, server, concurrent_tcp="5")
        await_limits(stand, "5//")
        assert served(ONE, 5) == 2
        write(stand, server, rate_tcp="4")
        await_limits(stand, "/4/")
        assert served("127.0.0.23", 6) == 4
        assert served("127.0.0.24", 4) == 4
        write(stand, server)
        await_limits(stand, None)
        converged(daemon)
        assert served(ONE, 6) == 6


def test_each_route_counts_its_own_clients(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = stand_of(make_stand)
    ports = {"one": PORT, "two": PORT + 1}
    for name, port in ports.items():
        write(stand, make_server(name), port, concurrent_tcp="2")
    found: list[str] = []
    with running(stand.daemon()) as daemon:
        await_(lambda: len(told(stand)) == 2, "both have their limits")
        await_(lambda: not any(map(stand.is_refused, ports.values())), "both are open")
        converged(daemon)
        for port in (*ports.values(),) * 3:
            with contextlib.suppress(ConnectionError):
                client = files.enter_context(
                    socket.create_connection((stand.ip, port), 5, source_address=(ONE, 0))
                )
                found.append(client.makefile("rb").readline().decode().strip())
    assert sorted(filter(None, found)) == ["one", "one", "two", "two"]


def test_they_outlive_a_restart(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand, server = stand_of(make_stand), make_server("web")
    write(stand, server, rate_tcp="2")
    file, state = files_of(stand).port_limits_map, stand.settings.haproxy.state_file
    with running(stand.daemon()) as daemon:
        await_limits(stand, "/2/")
        converged(daemon)
        await_(lambda: "//2/" in file.read_text(), "it is saved")
        await_(lambda: server.address.ip in state.read_text(), "the state is saved")
        stand.client.ask(f"clear map {file}")
        await_limits(stand, None)
        await_limits(stand, "/2/")
        converged(daemon)
    stand.stop_haproxy()
    stand.start_haproxy()
    await_limits(stand, "/2/")
    found = []
    for _ in range(4):
        with contextlib.suppress(ConnectionError), contextlib.closing(stand.connect(PORT)) as it:
            found.append(it.server)
    assert found == ["web", "web"]
