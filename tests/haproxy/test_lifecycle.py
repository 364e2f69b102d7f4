"""The life of a slot: free, addressed, ready, drain, maint, parked, free; with sessions on it."""

import contextlib
import itertools
from pathlib import Path

import pytest
from drive import (
    PORT,
    Intercept,
    World,
    app,
    await_parked,
    await_state,
    leaving,
    served_by,
    session_on,
    slot_of,
)
from relay import CHANGING, Relay
from stand import (
    Client,
    EchoServer,
    MakeServer,
    MakeStand,
    Stand,
    await_,
    await_ready,
    held,
    route,
    service,
)


def test_from_ready_to_free_with_a_session_on_it(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 2}])
    a, b, c = map(make_server, "abc")
    world = World(stand, *app("web", PORT, a, b))
    files.enter_context(world.sidecar())
    await_ready(stand, PORT, a, b)
    slot = slot_of(stand, a).name
    session = session_on(files, stand, a)

    world.serve(leaving(a), b)
    assert await_state(stand, a, "drain") == slot
    assert served_by(stand) == {"b"}, "a takes new connections while it drains"
    session.echo()

    world.serve(b)
    assert await_state(stand, a, "maint") == slot
    assert served_by(stand) == {"b"}
    session.echo()

    # Somebody new gets another one while the session lives, though no slot is free.
    world.serve(b, c)
    await_ready(stand, PORT, b, c)
    world.settle()
    assert slot_of(stand, a).name == slot
    assert slot_of(stand, a).state == "maint"
    session.echo()

    session.close()
    await_parked(stand, slot)


def test_a_session_that_comes_at_the_last_instant_keeps_the_slot(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, tmp_path: Path
) -> None:
    """What counts is a sample taken after the slot went to maint: this session begins after the
    look that the plan was made from."""
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 2}])
    a, b, c = map(make_server, "abc")
    sessions: list[Client] = []

    def before(line: str) -> None:
        if line == f"set server be_tcp-{PORT}/s1 state maint" and not sessions:
            sessions.append(session_on(files, stand, a))

    relay = Intercept(tmp_path / "relay.sock", stand.settings.haproxy.socket, before)
    files.callback(relay.close)
    world = World(stand, *app("web", PORT, a))
    files.enter_context(world.sidecar(socket=relay.path))
    world.serve(b)
    assert await_state(stand, a, "maint") == "s1"
    assert sessions
    world.serve(b, c)
    await_ready(stand, PORT, b, c)
    world.settle()
    assert slot_of(stand, a).name == "s1", "it was given away or parked under its session"
    assert slot_of(stand, c).name == "x1"
    sessions[0].echo()
    sessions[0].close()
    await_parked(stand, "s1")


def test_at_each_instant_of_a_change_the_port_serves(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, tmp_path: Path
) -> None:
    """A connection between any two commands gets to an endpoint that is wanted, or was."""
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 3}])
    a, b, c, d = map(make_server, "abcd")
    fit: set[str] = set()
    seen: list[tuple[str, str]] = []

    def before(line: str) -> None:
        if fit and line.startswith(CHANGING):
            try:
                client = stand.connect(PORT)
            except OSError as exc:
                seen.append((line, repr(exc)))
                return
            client.close()
            seen.append((line, client.server))

    relay = Intercept(tmp_path / "relay.sock", stand.settings.haproxy.socket, before)
    files.callback(relay.close)
    world = World(stand, *app("web", PORT, a))
    files.enter_context(world.sidecar(socket=relay.path))
    former: list[EchoServer] = [a]
    for ends in ([b], [c, d], [a, b], [c], [a, b, c, d], [b]):
        fit |= {end.name for end in (*former, *ends)}
        world.serve(*ends)
        await_ready(stand, PORT, *ends)
        wanted = {end.address for end in ends}
        await_(lambda w=wanted: stand.slots(PORT).keys() == w, "the others are parked")
        assert {who for _, who in seen} <= fit, seen
        assert len(seen) >= len(ends)
        fit.clear()
        seen.clear()
        former = ends


def test_an_address_is_read_back_before_its_server_is_ready(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, tmp_path: Path
) -> None:
    """From 3.0 on HAProxy applies an address after its reply."""
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 2}])
    servers = [make_server(name) for name in "abcd"]
    relay = Relay(tmp_path / "relay.sock", stand.settings.haproxy.socket)
    files.callback(relay.close)
    world = World(stand, *app("web", PORT, servers[0]))
    files.enter_context(world.sidecar(socket=relay.path))
    for ends in (servers[1:2], servers[2:], servers):
        world.serve(*ends)
        await_ready(stand, PORT, *ends)
    unread: set[str] = set()
    made_ready = set()
    for line in relay.commands:
        match line.split():
            case ["set", "server", where, "addr", *_] | ["add", "server", where, *_]:
                unread.add(where)
            case ["show", "servers", "state", *_]:
                unread.clear()
            case ["set", "server", where, "state", "ready"]:
                assert where not in unread, relay.commands
                made_ready.add(where)
    assert {where.split("/")[1] for where in made_ready} >= {"s1", "s2", "x1"}


def test_an_idle_slot_is_used_again(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 2}])
    servers = [make_server() for _ in range(4)]
    world = World(stand, *app("web", PORT, servers[0]))
    files.enter_context(world.sidecar())
    used = {slot_of(stand, servers[0]).name}
    for one, other in itertools.pairwise(servers):
        world.serve(other)
        await_ready(stand, PORT, other)
        assert served_by(stand, 2) == {other.name}
        used.add(slot_of(stand, other).name)
        await_(lambda one=one: one.address not in stand.slots(PORT), "the idle one is parked")
    assert used == {"s1", "s2"}


def test_when_all_endpoints_drain_they_keep_serving(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, (a, b, c) = make_stand(), map(make_server, "abc")
    world = World(stand, *app("web", PORT, a, b))
    files.enter_context(world.sidecar())
    world.serve(leaving(a), b)
    await_state(stand, a, "drain")
    world.serve(leaving(a), leaving(b))
    await_ready(stand, PORT, a, b)
    world.settle()
    assert stand.port(PORT).open
    assert served_by(stand) == {"a", "b"}
    # A new one relieves them.
    world.serve(leaving(a), leaving(b), c)
    await_ready(stand, PORT, c)
    assert stand.slots(PORT, "drain").keys() == {a.address, b.address}
    assert served_by(stand) == {"c"}


def test_an_endpoint_that_returns_to_its_sessions_has_its_slot(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, (a, b) = make_stand(), map(make_server, "ab")
    # Not the first slot, which a newcomer would get.
    world = World(stand, *app("web", PORT, b))
    files.enter_context(world.sidecar())
    world.serve(a, b)
    await_ready(stand, PORT, a, b)
    slot = slot_of(stand, a).name
    session = session_on(files, stand, a)
    world.serve(b)
    await_state(stand, a, "maint")
    world.serve(a, b)
    assert await_state(stand, a, "ready") == slot
    assert slot_of(stand, a).sessions == 1
    session.echo()
    # Held, since the balance counts connections.
    assert {held(files, stand, PORT).server for _ in range(4)} == {"a", "b"}


def test_a_service_of_weight_0_drains(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, (a, b) = make_stand(), map(make_server, "ab")
    world = World(stand, route("web", also=[("blue", 100)]), service("web"), service("blue"))
    world.serve(a)
    world.serve(b, service="blue")
    files.enter_context(world.sidecar())
    await_ready(stand, PORT, a, b)
    session = session_on(files, stand, b)
    world.put(route("web", also=[("blue", 0)]))
    await_state(stand, b, "drain")
    assert served_by(stand) == {"a"}
    session.echo()
    world.put(route("web", weight=0, also=[("blue", 100)]))
    await_state(stand, a, "drain")
    assert served_by(stand) == {"b"}


@pytest.fixture
def two_and_two(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> tuple[World, list[EchoServer], list[EchoServer]]:
    """A Route of two Services at 50/50, each with two endpoints; two more are there for one."""
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 8, "balance": "roundrobin"}])
    green = [make_server(f"green-{number}") for number in range(4)]
    blue = [make_server(f"blue-{number}") for number in range(2)]
    main = route("web", service="green", weight=50, also=[("blue", 50)])
    world = World(stand, main, service("green"), service("blue"))
    world.serve(*green[:2], service="green")
    world.serve(*blue, service="blue")
    files.enter_context(world.sidecar())
    return world, green, blue


def shares(stand: Stand, connections: int) -> dict[str, int]:
    """Connections by Service, of ``connections`` new ones."""
    found = {"green": 0, "blue": 0}
    for _ in range(connections):
        client = stand.connect(PORT)
        found[client.server.split("-")[0]] += 1
        client.close()
    return found


def weights(stand: Stand, servers: list[EchoServer]) -> list[int]:
    return [slot_of(stand, server).weight for server in servers]


def test_a_service_that_scales_keeps_its_share(
    two_and_two: tuple[World, list[EchoServer], list[EchoServer]],
) -> None:
    world, green, blue = two_and_two
    stand = world.stand
    assert weights(stand, green[:2]) == weights(stand, blue) == [256, 256]
    world.serve(*green, service="green")
    await_ready(stand, PORT, *green, *blue)
    world.settle()
    assert weights(stand, green) == [128] * 4
    assert weights(stand, blue) == [256] * 2
    served = shares(stand, 400)
    assert 160 <= served["green"] <= 240, f"not half and half: {served}"
    assert all(server.accepted for server in (*green, *blue))
    world.serve(*green[:1], service="green")
    await_ready(stand, PORT, *green[:1], *blue)
    world.settle()
    assert weights(stand, green[:1]) == [256]
    assert weights(stand, blue) == [128] * 2
    served = shares(stand, 200)
    assert 80 <= served["green"] <= 120, f"not half and half: {served}"


def test_weights_change_in_place(
    two_and_two: tuple[World, list[EchoServer], list[EchoServer]], files: contextlib.ExitStack
) -> None:
    """Sessions stay on, and no slot changes hands, when only shares are new."""
    world, green, blue = two_and_two
    stand = world.stand
    before = stand.slots(PORT)
    sessions = [held(files, stand, PORT) for _ in range(8)]
    world.put(route("web", service="green", weight=10, also=[("blue", 90)]))
    world.settle()
    assert weights(stand, green[:2]) == [28, 28]
    assert weights(stand, blue) == [256, 256]
    served = shares(stand, 200)
    assert served["green"] <= 40, f"not 10 to 90: {served}"
    assert stand.slots(PORT, "ready") == before
    for session in sessions:
        session.echo()
