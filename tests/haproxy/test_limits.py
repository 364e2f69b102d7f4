"""Nobody takes another's connections: a port that is full, a HAProxy that is full, hostile clients
of its metrics, and few open files. Each with idle clients, which hold what they have.
"""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli import command
from stand import (
    EchoServer,
    MakeServer,
    MakeStand,
    Stand,
    await_,
    await_leads_to,
    fill,
    fresh_ip,
    held,
)

from sidecar.common.hostport import split_host_port
from sidecar.haproxy.capacity import files_for
from sidecar.haproxy.operations import SetAddress, SetState
from sidecar.listeners.tcp import unit_of

pytestmark = pytest.mark.serial

FULL, OTHER, PORTS = 30000, 30001, (30000, 30001, 30002)

#: HAProxy's maxconn, and what is left of it for all ports, and for the metrics.
MAXCONN, ALL_PORTS, METRICS, METRICS_SOURCE = 100, 75, 18, 4


@pytest.fixture
def server(make_server: MakeServer) -> EchoServer:
    return make_server()


@pytest.fixture
def stand(make_stand: MakeStand, server: EchoServer) -> Stand:
    """Three ports that lead to the server; 30 connections each, 75 together."""
    return serving(make_stand(**limits(each=30)), server)


def limits(maxconn: int = MAXCONN, each: int | None = None) -> dict[str, Any]:
    """The settings of three ports, and HAProxy's metrics."""
    haproxy = {"maxconn": maxconn, "metrics_listen": f"{fresh_ip()}:8404"}
    pool = {"ports": ["30000-30002"], "slots": 1, "maxconn": each}
    return {"haproxy": haproxy, "pools": [pool]}


def serving(stand: Stand, server: EchoServer) -> Stand:
    """Each port leads to the server, as the sidecar would have it, and has no session."""
    stand.client.apply([SetAddress(unit_of(port), "s1", server.address) for port in PORTS])
    for port in PORTS:
        await_(lambda port=port: server.address in stand.slots(port), "the address is shown")
    stand.client.apply([SetState(unit_of(port), "s1", "ready") for port in PORTS])
    for port in PORTS:
        await_leads_to(stand, port, server)
        await_(lambda port=port: frontend(stand, f"tcp-{port}")["scur"] == "0", "it is left")
    return stand


def is_closed_at_once(stand: Stand, port: int) -> bool:
    """Whether a new client is neither served nor left waiting."""
    try:
        stand.connect(port).close()
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


def serves(stand: Stand, port: int) -> bool:
    return not is_closed_at_once(stand, port)


def frontend(stand: Stand, name: str) -> dict[str, str]:
    """What HAProxy shows of it, by the names of its columns."""
    head, row, *_ = stand.client.ask(f"show stat {name} 1 -1").splitlines()
    return dict(zip(head.removeprefix("# ").split(","), row.split(","), strict=True))


def metrics_address(stand: Stand) -> tuple[str, int]:
    return split_host_port(str(stand.settings.haproxy.metrics_listen))


def metrics(stand: Stand, source: str = "127.0.0.1", seconds: float = 10.0) -> str:
    """What the probe of HAProxy's container gets. Raises OSError."""
    with socket.create_connection(metrics_address(stand), seconds, (source, 0)) as probe:
        probe.sendall(b"GET /metrics?scope=global HTTP/1.1\r\nHost: haproxy\r\n\r\n")
        with probe.makefile("rb") as answer:
            return answer.read().decode()


def answers(stand: Stand, **how: Any) -> bool:
    try:
        return metrics(stand, **how).startswith("HTTP/1.1 200 ")
    except OSError:
        return False


def silent(files: contextlib.ExitStack, stand: Stand, source: str) -> None:
    """A client of the metrics that says nothing, if it is let in."""
    with contextlib.suppress(OSError):
        files.enter_context(socket.create_connection(metrics_address(stand), 5, (source, 0)))


@pytest.mark.parametrize("kind", ["http", "tls"])
def test_listeners_and_ports_together_leave_the_reserve(
    make_stand: MakeStand, files: contextlib.ExitStack, kind: str
) -> None:
    address = (fresh_ip(), 8080)
    listeners = [{"name": "l", "kind": kind, "bind": [f"{address[0]}:{address[1]}"]}]
    stand = make_stand(**limits(), listeners=listeners)
    for _ in range(ALL_PORTS):
        files.enter_context(socket.create_connection(address, 5))
    await_(lambda: frontend(stand, "web-l")["scur"] == str(ALL_PORTS), "all are in")
    with contextlib.suppress(ConnectionResetError), socket.create_connection(address, 5) as late:
        assert late.recv(1) == b""
    assert answers(stand)


# -- ports -------------------------------------------------------------------------------------


def test_a_full_port_closes_what_is_too_many_and_no_other_is_touched(
    stand: Stand, files: contextlib.ExitStack
) -> None:
    before = held(files, stand, OTHER)
    clients = files.enter_context(contextlib.ExitStack())
    fill(clients, stand, FULL, 30)
    closed = int(frontend(stand, f"tcp-{FULL}")["dcon"])
    for _ in range(20):
        assert is_closed_at_once(stand, FULL)
    before.echo()
    assert serves(stand, OTHER)
    # What is seen of it: one more is accepted than served, to be closed.
    await_(lambda: frontend(stand, f"tcp-{FULL}")["scur"] == "30", "those closed are gone")
    seen = frontend(stand, f"tcp-{FULL}")
    assert (seen["scur"], seen["smax"], seen["slim"]) == ("30", "31", "31")
    assert int(seen["dcon"]) == closed + 20
    assert seen["status"] == "OPEN"
    # As soon as one goes, another one has its place.
    clients.close()
    await_(lambda: serves(stand, FULL), "the port serves again")
    await_(lambda: frontend(stand, f"tcp-{FULL}")["scur"] == "0", "nothing is left")
    fill(files, stand, FULL, 30)
    assert is_closed_at_once(stand, FULL)


def test_a_port_without_a_limit_of_its_own_has_its_share(
    make_stand: MakeStand, server: EchoServer, files: contextlib.ExitStack
) -> None:
    stand = serving(make_stand(**limits()), server)
    fill(files, stand, FULL, 38)
    assert is_closed_at_once(stand, FULL)
    assert serves(stand, OTHER)


def states(pid: int) -> Iterator[str]:
    """Of each thread, as /proc has it."""
    for file in Path(f"/proc/{pid}/task").glob("*/stat"):
        yield file.read_text().rpartition(") ")[2][0]


def test_a_burst_is_not_cut_down_to_a_ports_limit(
    make_stand: MakeStand, server: EchoServer, files: contextlib.ExitStack
) -> None:
    stand = serving(make_stand(**limits(each=5)), server)
    pid = stand.info().pid
    os.kill(pid, signal.SIGSTOP)
    files.callback(os.kill, pid, signal.SIGCONT)
    await_(lambda: set(states(pid)) == {"T"}, "all of its threads have stopped")
    # The kernel takes them all, though HAProxy takes none now.
    for _ in range(200):
        files.enter_context(socket.create_connection((stand.ip, FULL), 5))


# -- HAProxy as a whole ------------------------------------------------------------------------


def test_a_full_haproxy_answers_its_probe_and_the_sidecar(
    stand: Stand, files: contextlib.ExitStack
) -> None:
    clients = files.enter_context(contextlib.ExitStack())
    for port, count in zip(PORTS, (30, 30, ALL_PORTS - 60), strict=True):
        fill(clients, stand, port, count)
    for port in PORTS:
        assert is_closed_at_once(stand, port)
    for _ in range(METRICS):
        assert answers(stand)
    assert f"\nMaxconn: {MAXCONN}\n" in stand.client.ask("show info")
    counted = f"\nCurrConns: {ALL_PORTS}\n"
    await_(lambda: counted in stand.client.ask("show info"), "they are all, and the CLI is none")
    clients.close()
    for port in PORTS:
        await_(lambda port=port: serves(stand, port), f"port {port} serves again")


def test_a_frozen_haproxy_does_not_answer_its_probe(
    stand: Stand, files: contextlib.ExitStack
) -> None:
    pid = stand.info().pid
    os.kill(pid, signal.SIGSTOP)
    files.callback(os.kill, pid, signal.SIGCONT)
    with pytest.raises(TimeoutError):
        metrics(stand, seconds=1)
    os.kill(pid, signal.SIGCONT)
    assert answers(stand)


# -- the metrics -------------------------------------------------------------------------------


def test_one_address_cannot_take_the_metrics_connections(
    stand: Stand, files: contextlib.ExitStack
) -> None:
    hostile = fresh_ip()
    for _ in range(3 * METRICS):
        silent(files, stand, hostile)
    assert answers(stand)
    assert int(frontend(stand, "haproxy-metrics")["dcon"]) >= METRICS, "closed at once"
    assert serves(stand, FULL)


def test_many_addresses_take_the_metrics_connections_for_seconds_and_no_ports(
    stand: Stand, files: contextlib.ExitStack
) -> None:
    for _ in range(2 * METRICS // METRICS_SOURCE):
        hostile = fresh_ip()
        for _ in range(METRICS_SOURCE):
            silent(files, stand, hostile)
    for port in PORTS:
        fill(files, stand, port, ALL_PORTS // len(PORTS))
    # Who asks in good faith waits for those before it, who have seconds to say something.
    await_(lambda: answers(stand), "the metrics answer", 60)
    assert frontend(stand, "haproxy-metrics")["smax"] == str(METRICS)


def test_who_asks_for_metrics_too_slowly_is_let_go_of(stand: Stand) -> None:
    with socket.create_connection(metrics_address(stand), 0.1) as slow:

        def is_let_go_of() -> bool:
            try:
                slow.sendall(b"X")
                return not slow.recv(1024).startswith(b"HTTP/1.1 200 ")
            except TimeoutError:
                return False
            except OSError:
                return True

        await_(is_let_go_of, "a request that never ends is given up", 30)


def test_a_connection_for_metrics_ends_with_the_answer(stand: Stand) -> None:
    # In HTTP/1.1 it would stay, and be one of the few.
    head, _, body = metrics(stand).partition("\r\n\r\n")
    assert "\r\nconnection: close" in head.lower()
    assert f"haproxy_process_max_connections {MAXCONN}" in body


# -- open files --------------------------------------------------------------------------------


def with_files(count: int) -> list[str]:
    """What goes before a command that may have so many files open, even as root."""
    shell = ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(count)]
    powers = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]
    return shell + (powers if os.geteuid() == 0 else [])


def render_with(stand: Stand, files_max: int) -> subprocess.CompletedProcess[str]:
    """``render``, as the init container of the same pod has the same limit."""
    render = command("render", "-c", stand.settings_file)
    return subprocess.run(
        [*with_files(files_max), *render], capture_output=True, text=True, check=False, timeout=30
    )


def test_with_few_open_files_it_starts_and_serves_what_it_says(
    make_stand: MakeStand, server: EchoServer, files: contextlib.ExitStack
) -> None:
    stand = make_stand(start=False, **limits(maxconn=20_000))
    rendered = render_with(stand, 500)
    assert rendered.returncode == 0, rendered.stderr
    warning, _ = rendered.stderr.splitlines()
    assert warning.startswith(
        "warning: haproxy.maxconn: lowered from 20000 to 120, the most that a"
    )
    assert warning.removeprefix("warning: ") in stand.settings.haproxy.config.read_text()
    stand.start_haproxy(*with_files(500))
    said = (stand.folder / "haproxy.log").read_text()
    assert "WARNING" not in said
    assert "ALERT" not in said
    assert "\nMaxconn: 120\n" in stand.client.ask("show info")
    # It has the files for all of them: each session takes two.
    serving(stand, server)
    for port, count in zip(PORTS, (45, 45, 0), strict=True):
        fill(files, stand, port, count)
    assert is_closed_at_once(stand, OTHER)
    assert answers(stand)


def test_as_many_files_as_it_takes_are_enough(make_stand: MakeStand) -> None:
    stand = make_stand(start=False, **limits(maxconn=20_000))
    fewest = files_for(stand.pool, 64)
    assert render_with(stand, fewest).returncode == 0
    assert stand.start_haproxy(*with_files(fewest))
    failed = render_with(stand, fewest - 1)
    assert failed.returncode == 2
    assert f"a limit of {fewest - 1} open files is too low for" in failed.stderr
    assert f"(at least {fewest})" in failed.stderr
