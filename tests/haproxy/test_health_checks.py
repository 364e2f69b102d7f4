"""HAProxy's own health checks: it sets the health of a server, we set its state."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from cli import run_cli
from drive import (
    PORT,
    ByHand,
    Load,
    World,
    app,
    await_parked,
    await_state,
    operations,
    served_by,
    session_on,
    slot_of,
    stat,
)
from relay import Relay
from stand import (
    EchoServer,
    MakeServer,
    MakeStand,
    Stand,
    await_,
    await_ready,
    converged,
    fresh_ip,
    running,
)
from stand import app as manifests

from sidecar.haproxy.naming import backend_name
from sidecar.model.pool import Address
from sidecar.planning.schedule import TIDY_SECONDS

#: Ten checks a second; down after two bad ones, up after two good ones.
CHECK = {"enabled": True, "interval": "100ms", "rise": 2, "fall": 2}

#: What is done by hand -> its commands, on a port with an endpoint in s1, before it gets a second
#: one, {late}.
BY_HAND: dict[str, tuple[str, ...]] = {
    "added without checks": ("add server {be}/x1 {late}:9000",),
    "added without checks, and used": (
        "add server {be}/x1 {late}:9000",
        "set server {be}/x1 state ready",
    ),
    "added, its checks off, and down": (
        "add server {be}/x1 {late}:9000 check inter 100ms rise 2 fall 2",
        "set server {be}/x1 state ready",
        "set server {be}/x1 health down",
    ),
    "checks turned off": ("disable health {be}/s1",),
    "checks turned off, and down": ("disable health {be}/s1", "set server {be}/s1 health down"),
}


@pytest.fixture
def checked(make_stand: MakeStand) -> Stand:
    """Two ports of a pool with checks; the whole is compared each second."""
    pools = [{"ports": ["30000-30001"], "slots": 4, "balance": "roundrobin", "check": CHECK}]
    return make_stand(pools=pools, timing={"resync": "1s"})


def await_up(stand: Stand, end: EchoServer | Address, *, up: bool) -> None:
    await_(lambda: slot_of(stand, end).up is up, f"{end} is {'up' if up else 'down'}")


def test_a_new_slot_gets_no_connection_before_its_first_good_check(
    checked: Stand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    a, late = make_server("a"), Address(fresh_ip(), 9000)
    world = World(checked, *app("web", PORT, a))
    files.enter_context(world.sidecar())
    load = Load(checked, threads=2)
    files.callback(load.stop)
    world.serve(a, late)
    await_state(checked, late, "ready")
    await_up(checked, late, up=False)
    name = slot_of(checked, late).name
    # It fails some checks, under load, and is still not tried.
    await_(lambda: stat(checked)[name]["check_status"] == "L4CON", "it was checked")
    enough = load.served["a"] + 500
    await_(lambda: load.served["a"] > enough, "500 connections more")
    row = stat(checked)[name]
    assert row["status"] == "DOWN"
    assert (row["lbtot"], row["econ"], row["wretr"]) == ("0", "0", "0"), "a connection was tried"
    # It comes up by itself when its server listens.
    server = make_server("late", ip=late.ip)
    await_up(checked, late, up=True)
    await_(lambda: load.served["late"], "it is used")
    load.stop()
    assert load.failures == []
    assert server.accepted


def test_the_first_servers_of_a_port_do_not_wait_for_a_check(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """Nobody else could serve: a server that may work is better than none."""
    check = CHECK | {"interval": "1h"}
    stand = make_stand(pools=[{"ports": ["30000"], "check": check}])
    a, b = make_server("a"), make_server("b")
    world = World(stand, *app("web", PORT, a, b))
    files.enter_context(world.sidecar())
    assert served_by(stand) == {"a", "b"}


def test_a_dead_server_stays_down_and_is_not_fought_over(
    checked: Stand, make_server: MakeServer, files: contextlib.ExitStack, tmp_path: Path
) -> None:
    a, b = make_server("a"), make_server("b")
    relay = Relay(tmp_path / "relay.sock", checked.settings.haproxy.socket)
    files.callback(relay.close)
    world = World(checked, *app("web", PORT, a, b))
    daemon = files.enter_context(world.sidecar(socket=relay.path))
    session = session_on(files, checked, b)
    b.close()
    await_up(checked, b, up=False)
    sent, done = len(relay.changing), operations(daemon)
    resyncs = relay.commands.count("show stat -1 1 -1")
    await_(
        lambda: relay.commands.count("show stat -1 1 -1") >= resyncs + 3, "it is compared thrice"
    )
    assert relay.changing[sent:] == []
    assert operations(daemon) == done
    assert not daemon.ready()
    assert daemon.metrics.drift._value.get() == 0
    assert slot_of(checked, b).state == "ready"
    assert served_by(checked) == {"a"}
    session.echo()
    # An endpoint that goes while it is down goes as any other, and comes back as any other.
    world.serve(a)
    await_state(checked, b, "maint")
    session.echo()
    world.serve(a, b)
    await_state(checked, b, "ready")
    await_up(checked, b, up=False)
    again = make_server("b", ip=b.address.ip)
    await_up(checked, b, up=True)
    assert served_by(checked) == {"a", "b"}
    session.echo()
    again.close()


@pytest.mark.parametrize("what", BY_HAND)
def test_whatever_somebody_does_each_server_is_checked(
    checked: Stand, make_server: MakeServer, what: str
) -> None:
    """Else one that was called unhealthy would never come back, and a dead one never go down."""
    a, late, hand = make_server("a"), make_server("late"), ByHand(checked)
    hand.step(*app("web", PORT, a))
    names = {"be": backend_name(PORT), "late": late.address.ip}
    replies = checked.client.ask_all([line.format_map(names) for line in BY_HAND[what]])
    assert {*replies} <= {"", "New server registered."}
    hand.step(*app("web", PORT, a, late))
    hand.step(after_seconds=TIDY_SECONDS)
    for server in (a, late):
        await_up(checked, server, up=True)
    assert served_by(checked) == {"a", "late"}
    for server in (a, late):
        server.close()
        await_up(checked, server, up=False)


def test_the_status_shows_it(checked: Stand, make_server: MakeServer) -> None:
    a, dead = make_server("a"), fresh_ip()
    checked.write("web.yaml", *manifests("web", PORT, [a]))

    def servers() -> dict[str, Any]:
        status = run_cli("status", "-c", checked.settings_file, "--json")
        (port,) = (item for item in json.loads(status.out)["ports"] if item["port"] == PORT)
        return {server["address"]: server["state"] for server in port["servers"]}

    with running(checked.daemon()) as daemon:
        converged(daemon)
        checked.write("web.yaml", *manifests("web", PORT, [a, dead]))
        await_ready(checked, PORT, a, Address(dead, 9000))
        await_up(checked, Address(dead, 9000), up=False)
        assert servers() == {str(a.address): "ready", f"{dead}:9000": "down"}
        assert "ready 1, down 1" in run_cli("status", "-c", checked.settings_file).out


def test_idle_slots_are_not_checked(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    # With the PROXY protocol a check sends something, so that the server sees it.
    pools = [{"ports": ["30000-30001"], "slots": 4, "check": CHECK, "send_proxy": "v1"}]
    stand = make_stand(pools=pools)
    a, b = make_server("a"), make_server("b")
    world = World(stand, *app("web", PORT, a, b))
    files.enter_context(world.sidecar())

    def await_checks(server: EchoServer, count: int) -> None:
        enough = server.accepted + count
        await_(lambda: server.accepted >= enough, f"{server.name} is checked {count} times more")

    await_checks(b, 3)
    session = session_on(files, stand, b)
    name = slot_of(stand, b).name
    # Gone, with a session left: not checked any more.
    world.serve(a)
    await_state(stand, b, "maint")
    await_checks(a, 2)  # one of b's may have been on its way
    seen = b.accepted
    await_checks(a, 8)
    assert b.accepted == seen
    # Parked, and never used: the same.
    session.close()
    await_parked(stand, name)
    await_checks(a, 8)
    assert b.accepted == seen
    rows = stat(stand)
    assert rows.pop(slot_of(stand, a).name)["check_status"] == "L4OK"
    assert {row["status"] for row in rows.values()} == {"MAINT"}
    assert len(rows) == 3
    for row in rows.values():
        assert int(row["chkfail"] or 0) == 0, f"{row['svname']} was checked"


def test_checks_survive_a_restart_of_haproxy(
    checked: Stand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    a, dead = make_server("a"), Address(fresh_ip(), 9000)
    world = World(checked, *app("web", PORT, a))
    daemon = files.enter_context(world.sidecar())
    world.serve(a, dead)
    await_ready(checked, PORT, a, dead)
    await_up(checked, dead, up=False)
    checked.stop_haproxy()
    checked.start_haproxy()
    await_ready(checked, PORT, a, dead)
    converged(daemon)
    await_up(checked, a, up=True)
    await_up(checked, dead, up=False)
    assert served_by(checked) == {"a"}


def test_when_the_last_that_is_up_leaves_those_that_wait_for_a_check_are_trusted(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """Two changes within one check's interval must not leave the port without a server."""
    slow = {"enabled": True, "interval": "1h"}
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 4, "check": slow}])
    old, new = make_server("old"), make_server("new")
    world = World(stand, *app("web", PORT, old))
    files.enter_context(world.sidecar())
    await_up(stand, old, up=True)
    load = Load(stand, threads=2)
    files.callback(load.stop)
    world.serve(old, new)
    await_state(stand, new, "ready")
    await_up(stand, new, up=False)
    world.serve(new)
    await_(lambda: old.address not in stand.slots(PORT, "ready"), "the old one has left")
    enough = load.served["new"] + 100
    await_(lambda: load.served["new"] > enough, "it is served by the new one")
    load.stop()
    assert not load.failures
