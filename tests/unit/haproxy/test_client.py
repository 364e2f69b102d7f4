"""The socket client against peers that answer, also too much; see `peers`.

Those that do not are in `test_runtime_breaks`.
"""

import select
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from core import opening
from peers import (
    Connection,
    MakeClient,
    MakePeer,
    Script,
    await_readable,
    closes_between_replies,
    fails,
    healthy,
    works,
)
from stand import EchoServer, fresh_ip

from sidecar.common.errors import (
    CommandRefusedError,
    DisconnectedError,
    LocalProtocolError,
    RemoteProtocolError,
)
from sidecar.haproxy.operations import Operation, SetAddress, SetState, SetWeight
from sidecar.haproxy.protocol import IN_FLIGHT_MAX_BYTES
from sidecar.listeners.tcp import unit_of
from sidecar.model.pool import Address

MakeServer = Callable[..., EchoServer]


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
    assert "unexpected reply: 'two'" in str(error)
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
        assert "unsolicited data" in str(error)
    else:
        # It may come in one piece with the reply or after it.
        error = fails(client, "one")
        assert "unexpected reply" in str(error)
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
        SetWeight(unit_of(30000), "s1", 1),
        SetState(unit_of(30000), "s9", "ready"),
        SetAddress(unit_of(30000), "s1", Address("10.0.0.1", 99999)),
        SetState(unit_of(30000), "s1;quit", "ready"),
        SetState(unit_of(30000), "s1", "ready"),
        opening(30000),
    ]
    results = client.apply(operations)
    assert [type(result) for result in results] == [
        str,
        CommandRefusedError,
        LocalProtocolError,
        LocalProtocolError,
        str,
        str,
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


def test_operations_and_questions_in_one_exchange(
    make_peer: MakePeer, make_client: MakeClient
) -> None:
    peer = make_peer(answers(b"", b"No such server.\n", b"one\n", b"two\n"))
    client = make_client(peer.address)
    operations: list[Operation] = [
        SetWeight(unit_of(30000), "s1", 1),
        SetWeight(unit_of(30000), "s1", 257),
        SetState(unit_of(30000), "s9", "ready"),
    ]
    outcomes, replies = client.apply_and_ask(operations, ["ask one", "ask two"])
    assert [type(outcome) for outcome in outcomes] == [str, LocalProtocolError, CommandRefusedError]
    assert replies == ["one", "two"]
    assert peer.lines[-2:] == ["ask one", "ask two"]
    with pytest.raises(LocalProtocolError):
        client.apply_and_ask(operations, ["ask;"])
    assert peer.lines[-2:] == ["ask one", "ask two"]


def test_operations_that_all_cannot_be_sent_send_nothing(
    tmp_path: Path, make_client: MakeClient
) -> None:
    client = make_client(str(tmp_path / "absent.sock"))
    (error,) = client.apply([SetWeight(unit_of(30000), "s1", 257)])
    assert isinstance(error, LocalProtocolError)


def test_a_connection_that_breaks_stops_all_operations(
    make_peer: MakePeer, make_client: MakeClient
) -> None:
    client = make_client(make_peer(closes_between_replies).address)
    with pytest.raises(DisconnectedError):
        client.apply([SetWeight(unit_of(30000), "s1", 1), SetWeight(unit_of(30000), "s1", 2)])
    assert not client.connected
