"""`rate-limit-connections`: how much each client may ask of a Route, as it changes live."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from by_host import MakeNamed, WebStand, client_hello, host_app, is_tls
from handshake import shake_hands
from slow_server import SlowServer
from stand import MakeServer, MakeStand, Stand, app, await_, converged, running

from sidecar.haproxy.web_files import WebFiles
from sidecar.model.objects import Key
from sidecar.policies.rate_limits import limits_of

SWITCH = "haproxy.router.openshift.io/rate-limit-connections"
CONCURRENT, RATE, REQUESTS = (
    f"{SWITCH}.{name}" for name in ("concurrent-tcp", "rate-tcp", "rate-http")
)
#: No limit.
NONE = ""
HOST = "a.example"
HEAD = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


@pytest.fixture
def slow(files: contextlib.ExitStack) -> SlowServer:
    server = SlowServer()
    files.callback(server.close)
    return server


def limits(**found: str) -> dict[str, str]:
    names = {"concurrent": CONCURRENT, "rate": RATE, "requests": REQUESTS}
    return {SWITCH: "true", **{names[name]: text for name, text in found.items()}}


def write(web: WebStand, server: Any, wishes: dict[str, str], **rest: Any) -> None:
    web.stand.write("web.yaml", *host_app("web", HOST, [server], annotations=wishes, **rest))


def files_of(stand: Stand) -> WebFiles:
    return WebFiles.beside(stand.settings.haproxy.state_file)


def told(stand: Stand) -> str:
    """What HAProxy has of the one Route, without by what it knows it; "" for nothing."""
    shown = stand.client.ask(f"show map {files_of(stand).limits_map}").strip()
    return shown.rpartition(" ")[2].partition("/")[2]


def await_told(stand: Stand, *wanted: object) -> None:
    text = "/".join(map(str, wanted))
    await_(lambda: told(stand) == text, f"HAProxy is told {text}")


def counted(stand: Stand) -> dict[str, dict[str, int]]:
    """Who is counted, and of each what."""
    found = {}
    for line in stand.client.ask("show table client-rates").splitlines():
        if key := re.search(r" key=(\S+) ", line):
            numbers = re.findall(r"(\w+)(?:\(\d+\))?=(\d+)", line.partition("exp=")[2])
            found[key[1]] = {name: int(number) for name, number in numbers}
    return found


def await_forgotten(stand: Stand, what: str) -> None:
    """Until ``what`` of every client is 0 again; asking them would count."""

    def is_so() -> bool:
        return all(item[what] == 0 for item in counted(stand).values())

    await_(is_so, f"{what} is over", 25, every_seconds=0.1)


def open_(address: tuple[str, int], source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(address, 10, source_address=(source, 0))


def asked(connection: socket.socket, count: int = 1) -> int:
    """How many of ``count`` requests are answered; the connection is closed if it is fewer."""
    with contextlib.suppress(ConnectionError), connection.makefile("rb") as stream:
        for number in range(count):
            connection.sendall(HEAD)
            head = ""
            while line := stream.readline().strip().decode():
                head += f"{line}\n"
            if not head.startswith("HTTP/1.1 200"):
                assert head == ""  # closed without an answer
                return number
            size = int(head.lower().partition("content-length: ")[2].split("\n")[0])
            assert len(stream.read(size)) == size
        return count
    return 0


@pytest.mark.parametrize("termination", [None, "edge"])
def test_requests_at_a_time(
    make_stand: MakeStand,
    slow: SlowServer,
    files: contextlib.ExitStack,
    termination: str | None,
) -> None:
    web = WebStand.make(make_stand)

    def begin() -> socket.socket:
        connection = shake_hands(web.tls, HOST) if termination else open_(web.http)
        files.callback(connection.close)
        connection.sendall(HEAD)
        return connection

    def answered(connection: socket.socket) -> bytes:
        with contextlib.suppress(ConnectionError), connection.makefile("rb") as stream:
            return stream.readline()
        return b""

    write(web, slow, limits(concurrent="3"), termination=termination)
    with running(web.stand.daemon()) as daemon:
        await_told(web.stand, 3, NONE, NONE)
        converged(daemon)
        if termination:
            await_(lambda: web.ended("nobody.example") == "503", "TLS ends")
        for _ in range(2):
            slow.may_end.clear()
            running_ = [begin() for _ in range(3)]
            for connection in running_:
                assert answered(connection).startswith(b"HTTP/1.1 200")
            for _ in range(2):
                assert answered(begin()) == b""
            if termination is None:
                other = open_(web.http, "127.0.0.9")
                files.callback(other.close)
                other.sendall(HEAD)
                assert answered(other).startswith(b"HTTP/1.1 200")
            slow.may_end.set()
            # What a client keeps open for further requests does not count.
            await_forgotten(web.stand, "conn_cur")
        assert slow.asked == 6 + (2 if termination is None else 0)
        assert denied(web.stand, "be_http_1") == 4


def denied(stand: Stand, proxy: str, side: str = "BACKEND") -> int:
    """HAProxy's own counter."""
    shown = stand.client.ask("show stat").splitlines()
    names = shown[0].removeprefix("# ").split(",")
    rows = [dict(zip(names, line.split(","), strict=False)) for line in shown[1:]]
    (row,) = (item for item in rows if (item["pxname"], item["svname"]) == (proxy, side))
    return int(row["dreq"])


def frames(stream: Any) -> Iterator[tuple[int, int, bytes]]:
    """Kind, number of the stream and content of those that come (RFC 9113, 4.1)."""
    while len(head := stream.read(9)) == 9:
        size = int.from_bytes(head[:3])
        yield head[3], int.from_bytes(head[5:]), stream.read(size)


def test_requests_at_a_time_over_one_connection(
    make_stand: MakeStand, slow: SlowServer, files: contextlib.ExitStack
) -> None:
    """HTTP/2: the one that is too many is answered, and the others go on."""
    web = WebStand.make(make_stand)
    write(web, slow, limits(concurrent="3"))
    block = b"\x82\x86\x84\x41" + bytes([len(HOST)]) + HOST.encode()

    def ask(number: int) -> bytes:
        return len(block).to_bytes(3) + b"\1\5" + number.to_bytes(4) + block

    with running(web.stand.daemon()) as daemon:
        await_told(web.stand, 3, NONE, NONE)
        converged(daemon)
        connection = files.enter_context(open_(web.http))
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        stream = files.enter_context(connection.makefile("rb"))
        bodies: dict[int, bytes] = {}
        connection.sendall(b"".join(map(ask, (1, 3, 5))))
        further = False
        for kind, number, content in frames(stream):
            if kind == 1 and number == 7:
                assert b"429" in content  # HPACK has no number for it
                slow.may_end.set()
            elif kind == 0 and number != 7:
                bodies[number] = bodies.get(number, b"") + content
            if len(bodies) == 3 and not further:
                connection.sendall(ask(7))
                further = True
            if list(bodies.values()) == [b"slowslow"] * 3:
                break
        assert set(bodies) == {1, 3, 5}
        assert slow.may_end.is_set()
        assert slow.asked == 3


@pytest.mark.parametrize("name", ["rate", "requests"])
def test_requests_in_a_time(make_stand: MakeStand, named: MakeNamed, name: str) -> None:
    web, server = WebStand.make(make_stand), named("web")
    web.stand.write("other.yaml", *host_app("other", "other.example", [named("other")]))
    with running(web.stand.daemon()) as daemon:
        write(web, server, limits(**{name: "4"}))
        await_(lambda: told(web.stand), "it is told")
        converged(daemon)
        with open_(web.http) as connection:
            assert asked(connection, 6) == 4
        for _ in range(2):
            with open_(web.http) as connection:
                assert asked(connection) == 0
        with open_(web.http, "127.0.0.9") as connection:
            assert asked(connection, 4) == 4
        # Another Route, and nothing that it wishes is counted.
        assert web.served("other.example") == "other"
        mark = limits_of(Key("Route", "demo", "web"), "").partition("/")[0]
        assert set(counted(web.stand)) == {f"{mark}/127.0.0.1", f"{mark}/127.0.0.9"}
        assert denied(web.stand, "be_http_2") + denied(web.stand, "be_http_1") == 3
        # More are allowed, and less, and at last all.
        write(web, server, limits(**{name: "9"}))
        await_(lambda: "9" in told(web.stand), "it is told")
        converged(daemon)
        with open_(web.http) as connection:
            assert asked(connection, 6) == 2
        if name == "rate":  # the other one takes 20 s
            await_forgotten(web.stand, "conn_rate")
            with open_(web.http) as connection:
                assert asked(connection, 9) == 9
        for wishes in (
            {SWITCH: "false", RATE: "1"},
            {RATE: "1"},
            {SWITCH: "true"},
            {SWITCH: "true", RATE: "0"},
            {},
        ):
            write(web, server, limits(**{name: "1"}))
            await_(lambda: told(web.stand), "it is told")
            write(web, server, wishes)
            await_(lambda: told(web.stand) == "", "it is told no more")
            converged(daemon)
            with open_(web.http) as connection:
                assert asked(connection, 12) == 12


def passed(address: tuple[str, int]) -> tuple[socket.socket, str]:
    """A connection for the host, and who greets it; "" if it is closed."""
    connection = socket.create_connection(address, 10)
    with contextlib.suppress(ConnectionError):
        connection.sendall(client_hello(HOST))
        with connection.makefile("rb") as stream:
            if not is_tls(stream.peek(1)):
                return connection, stream.readline().strip().decode()
    return connection, ""


@pytest.mark.parametrize("shared", [False, True])
def test_connections_that_are_passed_through(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, *, shared: bool
) -> None:
    server = make_server("web")
    if shared:
        # Also where there are no listeners.
        pools = [{"ports": ["30000"], "slots": 3, "shared_by_sni": True}]
        section = {"backends": {"passthrough": 2}, "slots": 3}
        stand = make_stand(pools=pools, web=section, timing={"resync": "1s"})
        address = (stand.ip, 30000)
    else:
        web = WebStand.make(make_stand)
        stand, address = web.stand, web.tls

    def tell(wishes: dict[str, str]) -> None:
        if shared:
            tls = {"termination": "passthrough"}
            objects = app("web", 30000, [server.address.ip], host=HOST, tls=tls)
            objects[0]["metadata"]["annotations"] |= wishes
        else:
            objects = host_app("web", HOST, [server], annotations=wishes, termination="passthrough")
        stand.write("web.yaml", *objects)

    def connect() -> tuple[socket.socket, str]:
        connection, by = passed(address)
        files.callback(connection.close)
        return connection, by

    with running(stand.daemon()) as daemon:
        tell(limits(concurrent="2"))
        await_told(stand, 2, NONE, NONE)
        converged(daemon)
        (first, by), (_, and_by), (_, nobody) = connect(), connect(), connect()
        assert (by, and_by, nobody) == ("web", "web", "")
        frontend = "tcp-30000" if shared else "web-tls"
        await_(lambda: denied(stand, frontend, "FRONTEND") == 1, "it is counted")
        first.close()
        await_(lambda: [item["conn_cur"] for item in counted(stand).values()] == [1], "it ends")
        assert connect()[1] == "web"
        assert connect()[1] == ""
        tell(limits(concurrent="3", rate="9"))
        await_told(stand, 3, 9, NONE)
        converged(daemon)
        assert [connect()[1] for _ in range(2)] == ["web", ""]
        tell(limits(rate="3", requests="1"))
        await_told(stand, NONE, 3, NONE)
        converged(daemon)
        (verdict,) = daemon._routing.verdicts()
        assert f"without effect here: {REQUESTS}" in verdict.message
        await_forgotten(stand, "conn_rate")
        assert [connect()[1] for _ in range(5)] == ["web", "web", "web", "", ""]
        tell({})
        await_(lambda: told(stand) == "", "it is told no more")
        converged(daemon)
        assert [connect()[1] for _ in range(5)] == ["web"] * 5


def test_it_changes_live(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand), named("web")
    with running(web.stand.daemon()) as daemon:
        write(web, server, {})
        web.await_served(HOST, "web")
        converged(daemon)
        stop, answers = threading.Event(), []

        def keep_asking() -> None:
            while not stop.is_set():
                with open_(web.http) as connection:
                    answers.append(asked(connection, 5))

        threads = [threading.Thread(target=keep_asking) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                for number in (100_000, 200_000):
                    write(web, server, limits(concurrent="9", rate=str(number)))
                    await_told(web.stand, 9, number, NONE)
                    converged(daemon)
                write(web, server, {})
                await_(lambda: told(web.stand) == "", "it is told no more")
                converged(daemon)
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
        assert set(answers) == {5}


def test_it_outlives_a_restart_and_is_repaired(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand), named("web")
    file = files_of(web.stand).limits_map
    write(web, server, limits(rate="2"))
    with running(web.stand.daemon()) as daemon:
        await_told(web.stand, NONE, 2, NONE)
        converged(daemon)
        await_(lambda: f"/{NONE}/2/{NONE}\n" in file.read_text(), "it is saved")
        unit = file.read_text().split(" ")[0]
        for command in (f"del map {file} {unit}", f"set map {file} {unit} x/1//1"):
            total = daemon.reconciler.history.total
            web.stand.client.ask(command)
            await_(lambda total=total: daemon.reconciler.history.total > total, command)
            await_told(web.stand, NONE, 2, NONE)
            converged(daemon)
    web.stand.stop_haproxy()
    web.stand.start_haproxy()
    with open_(web.http) as connection:
        assert asked(connection, 4) == 2
    # Of a Route that lost its entry nobody is refused.
    web.stand.client.ask(f"clear map {file}")
    with open_(web.http) as connection:
        assert asked(connection, 4) == 4
    for nonsense in ("x", "///", "x///"):
        web.stand.client.ask(f"add map {file} {unit} {nonsense}")
        with open_(web.http) as connection:
            assert asked(connection, 4) == 4
        web.stand.client.ask(f"clear map {file}")


def test_a_full_table_refuses_nobody(
    make_stand: MakeStand, slow: SlowServer, files: contextlib.ExitStack
) -> None:
    web = WebStand.make(make_stand)
    config = web.stand.settings.haproxy.config
    web.stand.stop_haproxy()
    text = config.read_text()
    assert " size 100k expire 30s store conn_cur" in text
    config.write_text(text.replace(" size 100k expire 30s", " size 4 expire 30s"))
    web.stand.start_haproxy()
    write(web, slow, limits(concurrent="1", rate="2", requests="2"))
    with running(web.stand.daemon()) as daemon:
        await_told(web.stand, 1, 2, 2)
        converged(daemon)
        for number in range(1, 13):
            connection = files.enter_context(open_(web.http, f"127.0.0.{number}"))
            connection.sendall(HEAD)
            with connection.makefile("rb") as stream:
                assert stream.readline().startswith(b"HTTP/1.1 200")
        shown = web.stand.client.ask("show table client-rates")
        found = re.search(r"size:4, used:(\d+)", shown)
        assert found
        assert int(found[1]) >= 4
        # Those that are counted are refused what is too much.
        with open_(web.http, "127.0.0.1") as connection:
            assert asked(connection) == 0
