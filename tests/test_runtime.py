"""The socket client against peers that misbehave in every way we know; see `peers`."""

import contextlib
import http.server
import os
import random
import select
import signal
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peers import (
    PATIENCE,
    SLACK,
    Connection,
    Peer,
    Script,
    await_readable,
    clients,
    fails,
    healthy,
    peers_in,
    works,
)
from stand import EchoServer, fresh_ip

from sidecar.errors import (
    CommandRefusedError,
    DisconnectedError,
    LocalProtocolError,
    RemoteProtocolError,
)
from sidecar.operations import OpenPort, Operation, SetAddress, SetState, SetWeight
from sidecar.pool import Address
from sidecar.protocol import IN_FLIGHT_MAX_BYTES
from sidecar.runtime import RuntimeClient

MakeServer = Callable[..., EchoServer]
MakeClient = Callable[..., RuntimeClient]
MakePeer = Callable[..., Peer]


@pytest.fixture
def make_peer(tmp_path: Path) -> Iterator[MakePeer]:
    with peers_in(tmp_path) as make:
        yield make


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    with clients() as make:
        yield make


# -- it works ----------------------------------------------------------------------------------


def test_replies_come_in_the_order_of_the_commands(
    make_peer: MakePeer, make_client: MakeClient
) -> None:
    peer = make_peer(healthy)
    client = make_client(peer.address)
    assert client.ask("one") == "answer to one"
    assert client.ask_all(["two", "three four"]) == ["answer to two", "answer to three four"]
    assert peer.lines == ["prompt", "one", "two", "three four"]
    assert client.connections == 1


def test_nothing_to_ask_needs_no_connection(tmp_path: Path, make_client: MakeClient) -> None:
    client = make_client(str(tmp_path / "absent.sock"))
    assert client.ask_all([]) == []
    assert client.apply([]) == []
    assert client.connections == 0


def test_nothing_to_ask_on_an_open_connection(make_peer: MakePeer, make_client: MakeClient) -> None:
    client = make_client(make_peer(healthy).address)
    client.ask("one")
    assert client.ask_all([]) == []
    assert client.ask("two") == "answer to two"


@pytest.mark.parametrize(
    ("family", "ip"), [(socket.AF_INET, None), (socket.AF_INET6, "::1")], ids=["IPv4", "IPv6"]
)
def test_host_and_port(
    make_peer: MakePeer,
    make_client: MakeClient,
    family: socket.AddressFamily,
    ip: str | None,
) -> None:
    peer = make_peer(healthy, family=family, where=(ip or fresh_ip(), 0))
    client = make_client(peer.address)
    assert client.ask("one") == "answer to one"
    if ip:
        assert peer.address.startswith("[::1]:")


def test_replies_may_take_longer_together_than_one_may(
    make_peer: MakePeer, make_client: MakeClient
) -> None:
    def slow(connection: Connection) -> None:
        connection.greet()
        for _ in range(8):
            connection.peer.go.wait(0.2)
            connection.answer(1)

    client = make_client(make_peer(slow).address, 1.0)
    commands = [f"command {number}" for number in range(8)]
    assert client.ask_all(commands) == [f"answer to {command}" for command in commands]


def test_a_reply_in_single_bytes(make_peer: MakePeer, make_client: MakeClient) -> None:
    def dripping(connection: Connection) -> None:
        for data in (b"\n> ", b"one\n > \n>\ntwo\n\n> ", b"\n> "):
            connection.line()
            for byte in data:
                connection.send(bytes([byte]))

    client = make_client(make_peer(dripping).address)
    assert client.ask_all(["a", "b"]) == ["one\n > \n>\ntwo", ""]


@pytest.mark.parametrize("size", [20, 1000, 4100, IN_FLIGHT_MAX_BYTES - 1])
def test_never_more_in_flight_than_haproxy_can_take(
    make_peer: MakePeer, make_client: MakeClient, size: int
) -> None:
    seen: list[int] = []  # how many bytes were unanswered when nothing more came

    def counting(connection: Connection) -> None:
        connection.greet()
        waiting = b""
        while True:
            # Take all that the client sends of its own accord.
            while select.select([connection.socket], [], [], 0.05 if waiting else None)[0]:
                data = connection.socket.recv(65536)
                if not data:
                    return
                waiting += data
            seen.append(len(waiting))
            # Answer some, never all at once, so that a client that counts wrong runs ahead.
            count = max(1, waiting.count(b"\n") // 2)
            for _ in range(count):
                line, _, waiting = waiting.partition(b"\n")
                connection.send(line[:10] + b"\n\n> ")

    commands = [f"{number:010}".ljust(size, "x") for number in range(60_000 // size)]
    client = make_client(make_peer(counting).address)
    assert client.ask_all(commands) == [command[:10] for command in commands]
    assert max(seen) <= IN_FLIGHT_MAX_BYTES
    # And it is pipelined, as far as commands fit.
    assert max(seen) > IN_FLIGHT_MAX_BYTES - (size + 1)


# -- no connection -----------------------------------------------------------------------------


def test_an_absent_socket(tmp_path: Path, make_client: MakeClient) -> None:
    path = tmp_path / "absent.sock"
    error = fails(make_client(str(path)))
    assert isinstance(error, DisconnectedError)
    assert error.address == str(path)
    assert error.doing == "connecting"
    assert error.problem == "No such file or directory"
    assert str(path) in str(error)


def test_a_socket_that_nobody_listens_on(tmp_path: Path, make_client: MakeClient) -> None:
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    error = fails(make_client(str(path)))
    assert isinstance(error, DisconnectedError)
    assert error.problem == "Connection refused"


def test_a_path_that_is_too_long(tmp_path: Path, make_client: MakeClient) -> None:
    error = fails(make_client(str(tmp_path / ("x" * 120))))
    assert isinstance(error, DisconnectedError)
    assert error.problem == "AF_UNIX path too long"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_path_that_is_no_socket(tmp_path: Path, make_client: MakeClient, kind: str) -> None:
    path = tmp_path / "thing"
    path.write_text("1\n") if kind == "file" else path.mkdir()
    error = fails(make_client(str(path)))
    assert isinstance(error, DisconnectedError)
    assert error.doing == "connecting"


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to open everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_socket_without_permission(make_peer: MakePeer, make_client: MakeClient) -> None:
    peer = make_peer(healthy)
    Path(peer.address).chmod(0)
    client = make_client(peer.address)
    with as_nobody():
        error = fails(client)
    assert isinstance(error, DisconnectedError)
    assert error.problem == "Permission denied"
    Path(peer.address).chmod(0o600)
    works(client)


def test_a_queue_of_connections_that_is_full(tmp_path: Path, make_client: MakeClient) -> None:
    path = str(tmp_path / "full.sock")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        with pytest.raises(BlockingIOError):  # noqa: PT012  how many fit is the kernel's business
            for _ in range(10):
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(path)
        error = fails(make_client(path))
    assert isinstance(error, DisconnectedError)
    assert error.doing == "connecting"


def test_a_port_that_nobody_listens_on(make_client: MakeClient) -> None:
    error = fails(make_client(f"{fresh_ip()}:9"))
    assert isinstance(error, DisconnectedError)
    assert error.problem == "Connection refused"


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
def test_a_host_that_can_be_no_name(make_client: MakeClient, host: str) -> None:
    error = fails(make_client(f"{host}:9999"))
    assert isinstance(error, DisconnectedError)
    assert error.doing == "connecting"
    assert error.problem


# -- what may happen to a connection -----------------------------------------------------------


def hangs_at_once(connection: Connection) -> None:
    connection.listen()


def hangs_after_the_prompt(connection: Connection) -> None:
    connection.greet()
    connection.listen()


def hangs_in_the_prompt(connection: Connection) -> None:
    connection.line()
    connection.send(b"\n>")
    connection.listen()


def hangs_in_a_reply(connection: Connection) -> None:
    connection.greet()
    connection.line()
    connection.send(b"half of a re")
    connection.listen()


def hangs_between_replies(connection: Connection) -> None:
    connection.greet()
    connection.answer(1)
    connection.listen()


def drips_for_ever(connection: Connection) -> None:
    connection.greet()
    connection.line()
    while not connection.peer.go.wait(0.02):
        connection.send(b"x")


def drips_the_prompt(connection: Connection) -> None:
    connection.send(b"\n")
    connection.peer.go.wait(PATIENCE / 2)
    connection.send(b">")
    connection.listen()


def closes_at_once(_: Connection) -> None:
    pass


def closes_instead_of_the_prompt(connection: Connection) -> None:
    connection.line()


def closes_in_the_prompt(connection: Connection) -> None:
    connection.line()
    connection.send(b"\n")


def closes_after_the_prompt(connection: Connection) -> None:
    connection.greet()


def closes_in_a_reply(connection: Connection) -> None:
    connection.greet()
    connection.line()
    connection.send(b"half of a re")


def closes_between_replies(connection: Connection) -> None:
    connection.greet()
    connection.answer(1)


def resets(connection: Connection) -> None:
    connection.greet()
    connection.line()
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


BREAKS: dict[Script, str] = {
    hangs_at_once: "no complete reply in 0.4 s; it hangs",
    hangs_after_the_prompt: "no complete reply in 0.4 s",
    hangs_in_the_prompt: "no complete reply in 0.4 s",
    hangs_in_a_reply: "no complete reply in 0.4 s, only 'half of a re'",
    hangs_between_replies: "no complete reply in 0.4 s",
    drips_for_ever: "no complete reply in 0.4 s, only 'xxx",
    drips_the_prompt: "no complete reply in 0.4 s",
    closes_at_once: "",  # EPIPE, ECONNRESET or EOF, as it happens
    closes_instead_of_the_prompt: "HAProxy closed the connection",
    closes_in_the_prompt: "HAProxy closed the connection",
    closes_after_the_prompt: "",
    closes_in_a_reply: "",
    closes_between_replies: "",
    resets: "",
}


@pytest.mark.parametrize("script", BREAKS, ids=lambda script: script.__name__)
@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET], ids=["unix", "tcp"])
def test_a_connection_that_breaks_is_an_error_and_the_next_call_works(
    make_peer: MakePeer,
    make_client: MakeClient,
    family: socket.AddressFamily,
    script: Script,
) -> None:
    peer = make_peer(
        script, healthy, family=family, where=(fresh_ip(), 0) if family == socket.AF_INET else None
    )
    client = make_client(peer.address)
    error = fails(client, "one", "two", "three")
    assert isinstance(error, DisconnectedError)
    assert error.problem.startswith(BREAKS[script])
    assert error.problem
    assert peer.address in str(error)
    # No byte of the broken connection is taken for a reply of the new one.
    works(client)
    assert client.connections == 2


@pytest.mark.parametrize(
    "script", [hangs_at_once, hangs_after_the_prompt, hangs_in_a_reply, drips_for_ever]
)
def test_patience_is_kept(make_peer: MakePeer, make_client: MakeClient, script: Script) -> None:
    client = make_client(make_peer(script).address)
    start = time.monotonic()
    fails(client)
    assert PATIENCE * 0.9 < time.monotonic() - start < PATIENCE + SLACK


def test_the_error_names_the_command_that_was_not_answered(
    make_peer: MakePeer, make_client: MakeClient
) -> None:
    client = make_client(make_peer(hangs_between_replies).address)
    error = fails(client, "one", "two", "three")
    assert isinstance(error, DisconnectedError)
    assert error.doing == "waiting for the reply to 'two'"


def test_an_interrupt_leaves_no_reply_behind_for_the_next_command(
    make_peer: MakePeer, make_client: MakeClient
) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    def late(connection: Connection) -> None:
        connection.greet()
        connection.line()
        os.kill(os.getpid(), signal.SIGUSR1)
        connection.peer.go.wait(10)
        connection.send(b"the answer to one, too late\n\n> ")
        connection.answer()

    peer = make_peer(late, healthy)
    client = make_client(peer.address, 10)
    former = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupted):
            client.ask("one")
    finally:
        signal.signal(signal.SIGUSR1, former)
    peer.go.set()
    assert client.ask("two") == "answer to two"


# -- what is no HAProxy ------------------------------------------------------------------------


def says(data: bytes) -> Script:
    def script(connection: Connection) -> None:
        connection.send(data)
        connection.listen()

    return script


def says_after_a_line(data: bytes) -> Script:
    def script(connection: Connection) -> None:
        connection.line()
        connection.send(data)
        connection.listen()

    return script


NONSENSE: dict[str, Script] = {
    "ssh": says(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"),
    "mysql": says(b"\x4a\x00\x00\x00\x0a8.0.36\x00"),
    "smtp": says(b"220 mail ESMTP\r\n"),
    "http": says_after_a_line(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
    "tls alert": says_after_a_line(b"\x15\x03\x03\x00\x02\x02\x0a"),
    "echo": says_after_a_line(b"prompt\n"),
    "random": says(random.Random(1).randbytes(4096)),
    "another prompt": says_after_a_line(b"\n$ "),
    "a prompt twice": says_after_a_line(b"\n> \n> "),
    "a prompt and more": says_after_a_line(b"\n> welcome"),
    "haproxy without prompt": says_after_a_line(b"\n"),
    "newlines": says_after_a_line(b"\n\n\n\n\n\n"),
}


@pytest.mark.parametrize("script", NONSENSE.values(), ids=NONSENSE.keys())
def test_who_does_not_answer_prompt_as_haproxy_does_is_not_asked_anything(
    make_peer: MakePeer, make_client: MakeClient, script: Script
) -> None:
    peer = make_peer(script, healthy)
    client = make_client(peer.address)
    error = fails(client)
    # Too little to judge is waited for.
    unclear = script is NONSENSE["haproxy without prompt"]
    assert isinstance(error, DisconnectedError if unclear else RemoteProtocolError)
    assert peer.address in str(error)
    assert "show info" not in peer.lines
    works(client)


def test_a_real_web_server_is_no_haproxy(make_client: MakeClient) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server((fresh_ip(), 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            host, port = server.server_address[:2]
            error = fails(make_client(f"{host!s}:{port}"))
        finally:
            server.shutdown()
            thread.join(10)
    assert isinstance(error, RemoteProtocolError)
    assert "no HAProxy Runtime API" in str(error)


def test_a_real_echo_server_is_no_haproxy(make_server: MakeServer, make_client: MakeClient) -> None:
    server = make_server("somebody")
    error = fails(make_client(str(server.address)))
    assert isinstance(error, RemoteProtocolError)
    assert "somebody" in str(error)


# -- replies to nothing ------------------------------------------------------------------------


def test_more_replies_than_commands(make_peer: MakePeer, make_client: MakeClient) -> None:
    def twice(connection: Connection) -> None:
        connection.greet()
        connection.line()
        connection.send(b"one\n\n> two\n\n> ")
        connection.listen()

    client = make_client(make_peer(twice, healthy).address)
    error = fails(client)
    assert isinstance(error, RemoteProtocolError)
    assert "a reply to nothing: 'two'" in str(error)
    works(client)


@pytest.mark.parametrize(
    "surprise",
    [b"surprise\n\n> ", b"surpr", b"\n", b"\n> ", b"x" * 100_000],
    ids=["reply", "text", "newline", "prompt", "much"],
)
@pytest.mark.parametrize("when", ["with the reply", "later"])
def test_bytes_that_nobody_asked_for_never_become_a_reply(
    make_peer: MakePeer,
    make_client: MakeClient,
    surprise: bytes,
    when: str,
) -> None:
    def surprising(connection: Connection) -> None:
        connection.greet()
        line = connection.line()
        assert line == b"one"
        if when == "later":
            connection.send(b"answer to one\n\n> ")
            connection.peer.go.wait(10)
            connection.send(surprise)
        else:
            connection.send(b"answer to one\n\n> " + surprise)
        connection.answer()

    peer = make_peer(surprising, healthy)
    client = make_client(peer.address)
    if when == "later" or b"\n> " not in surprise:
        assert client.ask("one") == "answer to one"
        peer.go.set()
        if when == "later":
            await_readable(client)
        error = fails(client, "two")
        assert "nobody asked for" in str(error)
    else:
        # It may come in one piece with the reply or after it.
        error = fails(client, "one")
        assert "a reply to nothing" in str(error)
    assert isinstance(error, RemoteProtocolError)
    assert "two" not in peer.lines
    works(client)


def test_a_connection_that_was_closed_while_idle_is_an_error_before_anything_is_sent(
    make_peer: MakePeer, make_client: MakeClient
) -> None:
    # No silent reconnect: what was planned for the former process must not reach the next one.
    def leaving(connection: Connection) -> None:
        connection.greet()
        connection.answer(1)
        connection.peer.go.wait(10)

    peer = make_peer(leaving, healthy)
    client = make_client(peer.address)
    client.ask("one")
    peer.go.set()
    await_readable(client)
    error = fails(client, "two")
    assert isinstance(error, DisconnectedError)
    assert (error.doing, error.problem) == ("while idle", "HAProxy closed the connection")
    assert peer.lines == ["prompt", "one"]
    works(client)


# -- what we do not send -----------------------------------------------------------------------


@pytest.mark.parametrize("line", ["", "one;two", "one\ntwo", "one <<", "\\", "x" * 8192])
def test_a_command_that_cannot_be_sent_sends_nothing(
    make_peer: MakePeer, make_client: MakeClient, line: str
) -> None:
    peer = make_peer(healthy)
    client = make_client(peer.address)
    with pytest.raises(LocalProtocolError):
        client.ask_all(["before", line, "after"])
    assert client.connections == 0
    client.ask("one")
    with pytest.raises(LocalProtocolError):
        client.ask_all(["before", line, "after"])
    # The connection is as good as before.
    assert client.ask("two") == "answer to two"
    assert client.connections == 1
    assert peer.lines == ["prompt", "one", "two"]


def answers(*replies: bytes) -> Script:
    def script(connection: Connection) -> None:
        connection.greet()
        for reply in replies:
            if connection.line() is None:
                return
            connection.send(reply + b"\n> ")
        connection.listen()

    return script


def test_one_refused_operation_does_not_stop_the_others(
    make_peer: MakePeer, make_client: MakeClient
) -> None:
    peer = make_peer(answers(b"", b"No such server.\n", b"", b"All sockets are already enabled.\n"))
    client = make_client(peer.address)
    operations: list[Operation] = [
        SetWeight(30000, "s1", 1),
        SetState(30000, "s9", "ready"),
        SetAddress(30000, "s1", Address("10.0.0.1", 99999)),
        SetState(30000, "s1;quit", "ready"),
        SetState(30000, "s1", "ready"),
        OpenPort(30000),
    ]
    results = client.apply(operations)
    assert [type(result) for result in results] == [
        type(None),
        CommandRefusedError,
        LocalProtocolError,
        LocalProtocolError,
        type(None),
        type(None),
    ]
    refused = results[1]
    assert isinstance(refused, CommandRefusedError)
    assert refused.command == "set server be_tcp-30000/s9 state ready"
    assert refused.reply == "No such server."
    assert peer.lines == [
        "prompt",
        "set server be_tcp-30000/s1 weight 1",
        "set server be_tcp-30000/s9 state ready",
        "set server be_tcp-30000/s1 state ready",
        "enable frontend tcp-30000",
    ]


def test_operations_that_all_cannot_be_sent_send_nothing(
    tmp_path: Path, make_client: MakeClient
) -> None:
    client = make_client(str(tmp_path / "absent.sock"))
    (error,) = client.apply([SetWeight(30000, "s1", 257)])
    assert isinstance(error, LocalProtocolError)


def test_a_connection_that_breaks_stops_all_operations(
    make_peer: MakePeer, make_client: MakeClient
) -> None:
    client = make_client(make_peer(closes_between_replies).address)
    with pytest.raises(DisconnectedError):
        client.apply([SetWeight(30000, "s1", 1), SetWeight(30000, "s1", 2)])
    assert not client.connected
