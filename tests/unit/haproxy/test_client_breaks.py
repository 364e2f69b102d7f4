"""The socket client against peers that are not there, break off, or are no HAProxy; see `peers`."""

import contextlib
import http.server
import os
import random
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
    MakeClient,
    MakePeer,
    Script,
    closes_between_replies,
    fails,
    healthy,
    works,
)
from stand import EchoServer, fresh_ip

from sidecar.common.errors import (
    DisconnectedError,
    RemoteProtocolError,
)
from sidecar.haproxy.protocol import Command
from sidecar.haproxy.refusal import why_refused
from sidecar.listeners.tcp import unit_of

MakeServer = Callable[..., EchoServer]


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
        error, words = fails(client), why_refused(peer.address)
    assert isinstance(error, DisconnectedError)
    assert error.problem == words
    assert words.startswith("permission denied: ")
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


def resets(connection: Connection) -> None:
    connection.greet()
    connection.line()
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


BREAKS: dict[Script, str] = {
    hangs_at_once: "no complete reply within 0.4 s; it hangs",
    hangs_after_the_prompt: "no complete reply within 0.4 s",
    hangs_in_the_prompt: "no complete reply within 0.4 s",
    hangs_in_a_reply: "no complete reply within 0.4 s, only 'half of a re'",
    hangs_between_replies: "no complete reply within 0.4 s",
    drips_for_ever: "no complete reply within 0.4 s, only 'xxx",
    drips_the_prompt: "no complete reply within 0.4 s",
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


def test_the_error_never_shows_the_payload_of_a_command(
    make_peer: MakePeer, make_client: MakeClient
) -> None:
    class Certificate:
        unit = unit_of(30000)

        def command(self) -> Command:
            return Command("set ssl cert a.pem", b"PRIVATE KEY")

        def succeeded(self, reply: str) -> bool:
            return bool(reply)

    def silent(connection: Connection) -> None:
        connection.greet()
        connection.listen()

    client = make_client(make_peer(silent).address)
    with pytest.raises(DisconnectedError) as caught:
        client.apply([Certificate()])
    assert caught.value.doing == "waiting for the reply to 'set ssl cert a.pem <<'"
    assert "PRIVATE" not in repr(caught.value) + str(caught.value)


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
    assert "is not an HAProxy Runtime API" in str(error)


def test_a_real_echo_server_is_no_haproxy(make_server: MakeServer, make_client: MakeClient) -> None:
    server = make_server("somebody")
    error = fails(make_client(str(server.address)))
    assert isinstance(error, RemoteProtocolError)
    assert "somebody" in str(error)
