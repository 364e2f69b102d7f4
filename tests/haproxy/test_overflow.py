"""More endpoints than slots: servers are added while HAProxy runs, and deleted when they go."""

import contextlib
import json
import logging
import socket
from pathlib import Path

import pytest
from cli import run_cli
from drive import (
    PORT,
    ByHand,
    Intercept,
    Load,
    World,
    await_state,
    leaving,
    operations,
    served_by,
    slot_of,
    stat,
)
from drive import app as objects
from stand import (
    EchoServer,
    MakeServer,
    MakeStand,
    Stand,
    app,
    await_,
    await_ready,
    await_told,
    converged,
    fresh_ip,
    held,
    route,
    running,
    service,
    slice_,
)

from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.config import template_path
from sidecar.listeners.tcp import unit_of
from sidecar.model.pool import Address

#: Two slots for each of two ports.
TWO = [{"ports": ["30000-30001"], "slots": 2}]


def names(stand: Stand) -> set[str]:
    return set(stand.port(PORT).servers)


def await_names(stand: Stand, *wanted: str) -> None:
    await_(lambda: names(stand) == set(wanted), f"just {wanted}", 15)


def addresses(count: int) -> list[Address]:
    """Endpoints that nobody connects to."""
    ip = fresh_ip().rsplit(".", 2)[0]
    return [Address(f"{ip}.{100 + n // 250}.{1 + n % 250}", 9000) for n in range(count)]


def test_a_rollout_that_doubles_the_endpoints(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = make_stand(pools=TWO)
    old = [make_server(f"old-{number}") for number in range(4)]
    new = [make_server(f"new-{number}") for number in range(4)]
    world = World(stand, *objects("web", PORT, *old))
    files.enter_context(world.sidecar())
    assert stand.ready(PORT) == sorted(one.address for one in old)
    assert names(stand) == {"s1", "s2", "x1", "x2"}
    sessions = [held(files, stand, PORT) for _ in range(8)]
    assert {session.server for session in sessions} == {server.name for server in old}
    before = stand.slots(PORT)
    load = Load(stand, threads=2)
    files.callback(load.stop)

    world.serve(*old, *new)
    await_ready(stand, PORT, *old, *new)
    assert len(names(stand)) == 8
    world.serve(*map(leaving, old), *new)
    await_ready(stand, PORT, *new)
    world.serve(*new)
    for server in old:
        await_state(stand, server, "maint")
    world.settle()
    # Each of the old ones still has a session: its server stays, and stays the same.
    assert {where: name for where, name in stand.slots(PORT).items() if where in before} == before
    for session in sessions:
        session.echo()
        session.close()
    # The new ones stay where they are; what is left of the pool's slots is free.
    kept = stand.slots(PORT, "ready")
    assert not set(kept.values()) & {"s1", "s2", "x1", "x2"}
    await_names(stand, "s1", "s2", *kept.values())
    load.stop()
    assert load.failures == []
    assert load.served.keys() >= {server.name for server in new}


def test_an_added_server_drains_and_is_deleted_when_it_is_gone_and_idle(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 1, "balance": "roundrobin"}])
    a, b, c = (make_server(name) for name in "abc")
    world = World(stand, *objects("web", PORT, a))
    files.enter_context(world.sidecar())
    world.serve(a, b)
    await_ready(stand, PORT, a, b)
    assert slot_of(stand, b).name == "x1"
    sessions = {client.server: client for client in (held(files, stand, PORT) for _ in range(2))}
    world.serve(a, leaving(b))
    await_state(stand, b, "drain")
    assert served_by(stand) == {"a"}
    world.serve(a, b)
    assert await_state(stand, b, "ready") == "x1", "it came back"
    world.serve(a)
    await_state(stand, b, "maint")
    # Another one is not called as the one that has sessions.
    world.serve(a, c)
    await_ready(stand, PORT, a, c)
    world.settle()
    assert slot_of(stand, c).name == "x2"
    sessions["b"].echo()
    sessions["b"].close()
    await_names(stand, "s1", "x2")
    world.serve(a)
    await_names(stand, "s1")
    sessions["a"].echo()


def test_hundreds_are_added_and_deleted(make_stand: MakeStand, files: contextlib.ExitStack) -> None:
    stand, many = make_stand(pools=TWO), addresses(500)
    world = World(stand, *objects("web", PORT, *many[:2]))
    daemon = files.enter_context(world.sidecar())
    before = stand.slots(PORT)
    world.serve(*many)
    await_ready(stand, PORT, *many)
    assert operations(daemon)["AddServer"] == 498
    assert {where: stand.slots(PORT)[where] for where in before} == before
    world.serve(*many[:2])
    await_names(stand, "s1", "s2")
    await_(lambda: operations(daemon)["DeleteServer"] == 498, "all are counted")
    assert stand.slots(PORT, "ready") == before


def test_an_added_server_is_checked_as_a_slot_is(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    check = {"enabled": True, "interval": "100ms", "rise": 1, "fall": 2}
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 1, "check": check}])
    a, b = make_server("a"), make_server("b")
    dead = Address(fresh_ip(), 9000)
    world = World(stand, *objects("web", PORT, a))
    files.enter_context(world.sidecar())
    world.serve(a, b, dead)
    await_ready(stand, PORT, a, b, dead)
    assert slot_of(stand, a).name == "s1"
    await_(lambda: slot_of(stand, b).up, "the good one is up")
    await_(lambda: not slot_of(stand, dead).up, "the dead one is down")
    rows = stat(stand)
    row = rows[slot_of(stand, dead).name]
    assert row["status"] == "DOWN"
    assert row["check_status"] == "L4CON"
    assert int(row["lbtot"]) == 0, "a connection was led to it"
    assert served_by(stand) == {"a", "b"}
    # One that dies later.
    b.close()
    await_(lambda: not slot_of(stand, b).up, "it is down", 3)
    assert served_by(stand) == {"a"}
    for column in ("rise", "fall", "check_rise", "check_fall"):
        assert len({one.get(column) for one in rows.values()}) == 1


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_an_added_server_gets_the_proxy_protocol_as_a_slot_does(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, version: str
) -> None:
    stand = make_stand(
        pools=[{"ports": ["30000"], "slots": 1, "send_proxy": version, "balance": "roundrobin"}]
    )
    a, b = make_server("a"), make_server("b")
    world = World(stand, *objects("web", PORT, a, b))
    files.enter_context(world.sidecar())
    assert sorted(stand.slots(PORT, "ready").values()) == ["s1", "x1"]
    starts = {"v1": b"PROXY TCP4 ", "v2": b"\r\n\r\n\0\r\nQUIT\n"}
    served = set()
    for _ in range(2):
        with socket.create_connection((stand.ip, PORT), 5) as client, client.makefile("rb") as file:
            served.add(file.readline().strip().decode())
            # An echo server returns what it got first.
            assert file.read(len(starts[version])) == starts[version]
    assert served == {"a", "b"}


def test_names_do_not_clash_with_what_somebody_added_by_hand(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 1}])
    a, b, foreign = (make_server(name) for name in ("a", "b", "foreign"))
    world = World(stand, *objects("web", PORT, a))
    files.enter_context(world.sidecar())
    for command in (
        f"add server be_tcp-{PORT}/x1 {foreign.address}",
        f"set server be_tcp-{PORT}/x1 state ready",
    ):
        stand.client.ask(command)
    world.serve(a, b)
    await_ready(stand, PORT, a, b)
    assert slot_of(stand, b).name == "x2"
    assert served_by(stand) == {"a", "b"}
    await_names(stand, "s1", "x2")


def test_a_name_that_somebody_takes_at_the_last_instant(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, tmp_path: Path
) -> None:
    """A refusal that says nothing of what the backend can: it is tried again."""
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 1}])
    a, b, foreign = (make_server(name) for name in ("a", "b", "foreign"))
    clashes: list[str] = []
    somebody = files.enter_context(RuntimeClient(stand.settings.haproxy.socket))

    def before(line: str) -> None:
        if line.startswith("add server ") and not clashes:
            clashes.append(somebody.ask(f"add server be_tcp-{PORT}/x1 {foreign.address}"))

    relay = Intercept(tmp_path / "relay.sock", stand.settings.haproxy.socket, before)
    files.callback(relay.close)
    world = World(stand, *objects("web", PORT, a))
    daemon = files.enter_context(world.sidecar(socket=relay.path))
    world.serve(a, b)
    await_ready(stand, PORT, a, b)
    assert clashes == ["New server registered."]
    await_(lambda: len(names(stand)) == 2, "the foreign one is gone")
    converged(daemon)
    world.serve(a, b, Address(fresh_ip(), 9000))
    await_(lambda: len(stand.ready(PORT)) == 3, "one more is added")


def test_what_somebody_else_added_is_not_taken_for_a_free_slot(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """It lacks the pool's options: here the endpoint would miss the PROXY protocol."""
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 1, "send_proxy": "v1"}])
    a, b = make_server("a"), make_server("b")
    world = World(stand, *objects("web", PORT, a))
    files.enter_context(world.sidecar())
    stand.client.ask(f"add server be_tcp-{PORT}/x1 {fresh_ip()}:9000")
    world.serve(a, b)
    await_ready(stand, PORT, a, b)
    assert slot_of(stand, b).name == "x2"
    await_names(stand, "s1", "x2")


def test_after_a_restart_of_haproxy_they_come_back(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = make_stand(pools=TWO)
    servers = [make_server(f"server-{number}") for number in range(5)]
    world = World(stand, *objects("web", PORT, *servers))
    files.enter_context(world.sidecar())
    state_file = stand.settings.haproxy.state_file
    await_(lambda: " x3 " in state_file.read_text(), "the state is saved")
    stand.stop_haproxy()
    stand.start_haproxy()
    await_ready(stand, PORT, *servers)
    world.settle()
    assert names(stand) == {"s1", "s2", "x1", "x2", "x3"}
    assert served_by(stand, 20) == {server.name for server in servers}


def test_a_restarted_sidecar_takes_over_what_was_added(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = make_stand(pools=TWO)
    servers = [make_server(f"server-{number}") for number in range(4)]
    world = World(stand, *objects("web", PORT, *servers))
    with world.sidecar():
        sessions = [held(files, stand, PORT) for _ in range(4)]
        before = stand.slots(PORT, "ready")
    with world.sidecar() as daemon:
        assert not operations(daemon)
        assert stand.slots(PORT, "ready") == before
        world.serve(*servers[:2])
        await_ready(stand, PORT, *servers[:2])
        for session in sessions:
            session.echo()
            session.close()
        await_names(stand, *{"s1", "s2", *stand.slots(PORT, "ready").values()})


def test_the_limit_of_a_route_and_how_many_are_left_out(
    make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sidecar")
    stand, other = make_stand(pools=TWO, limits={"max_servers": 5}), make_server("other")
    many = [address.ip for address in addresses(9)]
    stand.write("web.yaml", *app("web", PORT, many[3:]))
    stand.write("other.yaml", *app("other", PORT + 1, [other]))

    def left_out() -> dict[int, int]:
        status = run_cli("status", "-c", stand.settings_file, "--json")
        assert status.code == 0
        return {item["port"]: item["left_out"] for item in json.loads(status.out)["ports"]}

    with running(stand.daemon()) as daemon:
        converged(daemon)
        assert len(stand.ready(PORT)) == 5
        assert left_out() == {PORT: 1, PORT + 1: 0}
        served = stand.slots(PORT, "ready")
        # Those that serve go on when others come, whatever their addresses.
        stand.write("web.yaml", *app("web", PORT, many))
        await_told(caplog, "4 endpoints skipped")
        await_(lambda: left_out()[PORT] == 4, "the status says it")
        assert stand.slots(PORT, "ready") == served
        assert served_by(stand, 4, PORT + 1) == {"other"}
        shown = run_cli("status", "-c", stand.settings_file)
        assert "4 endpoints skipped" in shown.out
        # One that goes makes room for one that waited.
        gone = next(iter(served))
        stand.write("web.yaml", *app("web", PORT, [ip for ip in many if ip != gone.ip]))
        await_(lambda: gone not in stand.ready(PORT), "it left")
        await_(lambda: len(stand.ready(PORT)) == 5, "another has its place")
        await_(lambda: left_out()[PORT] == 3, "the status says it")
        stand.write("web.yaml", *app("web", PORT, many[:3]))
        await_(lambda: left_out()[PORT] == 0, "none is left out")
        await_(lambda: len(stand.ready(PORT)) == 3, "three serve")


@pytest.fixture
def fixed(make_stand: MakeStand, tmp_path: Path) -> Stand:
    """A HAProxy whose backends refuse to have servers added."""
    template = tmp_path / "static.cfg.j2"
    text = template_path().read_text()
    assert "balance {{ pool.balance }}" in text
    template.write_text(text.replace("balance {{ pool.balance }}", "balance static-rr"))
    stand = make_stand(start=False, pools=TWO)
    section = stand.settings.haproxy.model_copy(update={"template": template})
    stand.settings = stand.settings.model_copy(update={"haproxy": section})
    return stand.start()


def test_a_backend_that_refuses_added_servers_has_its_slots(
    fixed: Stand,
    make_server: MakeServer,
    files: contextlib.ExitStack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "sidecar")
    servers: list[EchoServer] = [make_server(f"server-{number}") for number in range(4)]
    world = World(fixed, *objects("web", PORT, *servers))
    daemon = files.enter_context(world.sidecar())
    assert len(fixed.ready(PORT)) == 2
    assert names(fixed) == {"s1", "s2"}
    assert daemon.reconciler.known.left_out == {unit_of(PORT): 2}
    assert f"port {PORT}: HAProxy cannot add servers" in caplog.text
    refused = caplog.text.count("cannot add servers")
    # Who waits gets the next slot that is idle; nothing is refused again.
    first = [server for server in servers if server.address in fixed.ready(PORT)]
    waits = [server for server in servers if server not in first]
    world.serve(first[0], *waits)
    await_(lambda: first[1].address not in fixed.ready(PORT), "it left")
    await_(lambda: len(fixed.ready(PORT)) == 2, "another has its slot")
    assert daemon.reconciler.known.left_out == {unit_of(PORT): 1}
    assert caplog.text.count("cannot add servers") == refused
    assert "no free slot" not in caplog.text


def test_all_servers_of_a_backend_that_refuses_added_ones_are_replaced_at_one_go(
    fixed: Stand,
) -> None:
    blue, green = ([fresh_ip(), fresh_ip()] for _ in range(2))
    hand = ByHand(fixed)
    hand.go(route("web", PORT), service("web"), slice_("web", [*blue, fresh_ip()]))
    hand.step()  # by now it is known that nothing can be added
    for ips in (green, blue, green):
        hand.step(slice_("web", ips))
        assert [address.ip for address in fixed.ready(PORT)] == sorted(ips)
        assert hand.reconciler.known.left_out == {}


def test_where_nothing_can_be_added_a_busy_slot_is_taken_with_a_warning(
    fixed: Stand,
    make_server: MakeServer,
    files: contextlib.ExitStack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "sidecar")
    a, b, c, d = (make_server(name) for name in "abcd")
    world = World(fixed, *objects("web", PORT, a, b))
    files.enter_context(world.sidecar())
    sessions = [held(files, fixed, PORT) for _ in range(4)]
    assert {session.server for session in sessions} == {"a", "b"}
    load = Load(fixed, threads=1)
    files.callback(load.stop)
    world.serve(c, d)
    await_ready(fixed, PORT, c, d)
    assert names(fixed) == {"s1", "s2"}
    await_told(caplog, "no free slot")
    assert "add slots to the pool" in caplog.text
    assert served_by(fixed) == {"c", "d"}
    for session in sessions:
        session.echo()
    load.stop()
    assert load.failures == []
