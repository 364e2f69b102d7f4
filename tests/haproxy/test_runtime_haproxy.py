"""The socket client against a real HAProxy."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from peers import MakeClient, fails
from stand import Stand, fresh_ip

from sidecar.common.errors import DisconnectedError, RuntimeAPIError
from sidecar.haproxy.protocol import IN_FLIGHT_MAX_BYTES
from sidecar.haproxy.state import parse_info, parse_servers_state
from sidecar.listeners.tcp import unit_of

MakeStand = Callable[..., Stand]


def test_twenty_thousand_commands_at_once(make_stand: MakeStand) -> None:
    stand = make_stand()
    lines: list[str] = []
    for number in range(10_000):
        port = 30000 + number % 10
        lines.append(f"set server be_tcp-{port}/s1 weight {number % 257}")
        lines.append(f"show servers state be_tcp-{port}")
    replies = stand.client.ask_all(lines)
    assert len(replies) == len(lines)
    for number in range(10_000):
        done, table = replies[2 * number : 2 * number + 2]
        port = 30000 + number % 10
        assert done == ""
        servers = parse_servers_state(table)
        assert servers.keys() == {unit_of(port)}
        assert servers[unit_of(port)]["s1"].weight == number % 257
    assert stand.client.connections == 1


def test_the_longest_command_on_haproxy(make_stand: MakeStand) -> None:
    stand = make_stand()
    line = "show stat ".ljust(IN_FLIGHT_MAX_BYTES - 6, "x") + " 1 -1"
    assert len(line) == IN_FLIGHT_MAX_BYTES - 1
    replies = stand.client.ask_all([line] * 5 + ["show info"])
    assert replies[:5] == ["No such proxy."] * 5
    assert parse_info(replies[5]).pid == stand.info().pid


@pytest.mark.parametrize("command", ["quit", "prompt"])
def test_a_command_that_ends_the_conversation(make_stand: MakeStand, command: str) -> None:
    stand = make_stand()
    with pytest.raises(DisconnectedError):
        stand.client.ask(command)
    assert stand.client.ask("show info").startswith("Name: HAProxy")


def test_all_connections_for_the_runtime_api_taken(
    make_stand: MakeStand, make_client: MakeClient
) -> None:
    stand = make_stand()
    stand.client.close()
    address = stand.settings.haproxy.socket
    others = [make_client(address) for _ in range(10)]
    for other in others:
        other.ask("show info")
    eleventh = make_client(address)
    error = fails(eleventh)
    assert isinstance(error, DisconnectedError)
    assert error.doing == "waiting for the reply to 'prompt'"
    assert "its CLI connections (10 by default) are all in use" in str(error)
    # The others are not disturbed, and the next one gets the place that becomes free.
    for other in others:
        other.ask("show info")
    others[0].close()
    eleventh.timeout_seconds = 10
    assert eleventh.ask("show info")


def test_replies_of_more_than_a_megabyte(make_stand: MakeStand) -> None:
    stand = make_stand(pools=[{"ports": ["30000-30999"], "slots": 16}])
    state, stat, info = stand.client.ask_all(["show servers state", "show stat", "show info"])
    assert len(state) > 1_000_000
    assert len(stat) > 1_000_000
    servers = parse_servers_state(state)
    assert servers.keys() == {unit_of(port) for port in range(30000, 31000)}
    assert all(len(slots) == 16 for slots in servers.values())
    # 16 servers, a frontend and a backend each; a header, and HAProxy's own.
    assert stat.count("\nbe_tcp-") == 17_000
    assert parse_info(info).pid == stand.info().pid


def test_haproxy_killed_during_a_batch(make_stand: MakeStand) -> None:
    stand = make_stand()
    before = stand.info()
    lines = ["show servers state"] * 2000
    first_is_done = threading.Event()
    errors: list[RuntimeAPIError] = []

    def ask_for_ever() -> None:
        try:
            while True:
                stand.client.ask_all(lines)
                first_is_done.set()
        except RuntimeAPIError as exc:
            errors.append(exc)

    thread = threading.Thread(target=ask_for_ever)
    thread.start()
    assert first_is_done.wait(60)
    stand.stop_haproxy(signal.SIGKILL)
    thread.join(30)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [DisconnectedError]
    stand.start_haproxy()
    after = parse_info(stand.client.ask("show info"))
    assert after.identity != before.identity


def test_haproxy_that_is_stopped_in_its_tracks(
    make_stand: MakeStand, make_client: MakeClient
) -> None:
    stand = make_stand()
    client = make_client(stand.settings.haproxy.socket)
    pid = parse_info(client.ask("show info")).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        error = fails(client)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert isinstance(error, DisconnectedError)
    assert error.doing == "waiting for the reply to 'show info'"
    assert error.problem == "no complete reply within 0.4 s"
    client.timeout_seconds = 10
    assert parse_info(client.ask("show info")).pid == pid


@pytest.mark.parametrize("host", [None, "[::1]"], ids=["IPv4", "IPv6"])
def test_the_runtime_api_on_tcp(tmp_path: Path, make_stand: MakeStand, host: str | None) -> None:
    with socket.create_server(("::1" if host else fresh_ip(), 0), family=family_of(host)) as probe:
        ip, port = probe.getsockname()[:2]
    address = f"{host or ip}:{port}"
    files = {"config": str(tmp_path / "haproxy.cfg"), "state_file": str(tmp_path / "state")}
    stand = make_stand(haproxy={"socket": address, **files})
    lines = [f"set server be_tcp-30000/s1 weight {number % 257}" for number in range(5000)]
    assert stand.client.ask_all(lines) == [""] * 5000
    assert stand.port(30000).servers["s1"].weight == 4999 % 257


def family_of(host: str | None) -> socket.AddressFamily:
    return socket.AF_INET6 if host else socket.AF_INET


#: HAProxy's commands that say something and end, of all versions. Some lack arguments here, or do
#: not exist in this version: that is answered too.
COMMANDS = """
add acl; add map; add server; clear counters; clear map; clear table; del acl; del map; del server;
disable agent; disable frontend; disable health; disable server; dump ssl cert; dump stats-file;
echo; echo >; echo > x; enable frontend; enable server; get acl; get map; get var; get weight; help;
help set; new ssl cert; set anon; set maxconn frontend; set maxconn global; set maxconn server;
set map; set profiling; set rate-limit; set server; set severity-output; set table; set timeout cli;
set var; set weight; show acl; show activity; show anon; show backend; show cache; show cli level;
show cli sockets; show dev; show env; show errors; show events; show fd; show info; show info json;
show info typed; show libs; show map; show peers; show pools; show profiling; show quic; show
resolvers; show schema json; show servers conn; show servers state; show sess; show sess all;
show ssl cert; show startup-logs; show stat; show stat json; show stat typed; show table; show
tasks; show threads; show trace; show version; user nonsense; wait; nonsense
"""


def test_every_reply_of_haproxy_ends_with_one_prompt(make_stand: MakeStand) -> None:
    stand = make_stand()
    for line in " ".join(COMMANDS.split()).split("; "):
        for command in (line, f"{line} nonsense", f"{line} nonsense 1 2 3"):
            _, marker, info = stand.client.ask_all([command, "show stat nowhere 1 -1", "show info"])
            assert marker == "No such proxy.", command
            assert info.startswith("Name: HAProxy"), command
    assert stand.client.connections == 1
