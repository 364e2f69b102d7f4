"""Sessions of endpoints that are gone end by themselves, or when the drain deadline is over."""

import contextlib
import itertools
import time
from collections.abc import Sequence

from drive import PORT, ByHand, Obituary, World, app, await_state, leaving, operations, slot_of
from relay import Relay
from stand import (
    Client,
    MakeServer,
    MakeStand,
    Stand,
    await_,
    await_refused,
    fresh_ip,
    held,
    route,
    slice_,
)

from sidecar.common.text import shown
from sidecar.haproxy.client import RuntimeClient
from sidecar.planning.schedule import Timing

#: What passes between a session's end in HAProxy and the test's knowing of it, at most.
SLACK = 1.5


def sessions(
    files: contextlib.ExitStack, stand: Stand, count: int, port: int = PORT
) -> list[Client]:
    return [held(files, stand, port) for _ in range(count)]


def watch(files: contextlib.ExitStack, clients: Sequence[Client]) -> Obituary:
    obituary = Obituary(clients)
    files.callback(obituary.stop)
    return obituary


def test_sessions_end_after_the_deadline_and_not_before(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """HAProxy counts whole seconds: endpoints that go at different parts of a second must all
    get their whole deadline, whenever and how often their ports are looked at."""
    deadline, ports = 2.0, range(PORT, PORT + 5)
    stand = make_stand(drain={"deadline": "2s"})
    a, b, c = (make_server(name) for name in "abc")
    world = World(stand, *(item for port in ports for item in app(f"web-{port}", port, a)))
    files.enter_context(world.sidecar())
    # One leaves each port, one stays on each.
    leave = {port: held(files, stand, port) for port in ports}
    for port in ports:
        world.serve(a, b, service=f"web-{port}")
    world.settle()
    stay = []
    for port in ports:
        stay += [one for one in sessions(files, stand, 4, port) if one.server == "b"]
    obituary = watch(files, [*leave.values(), *stay])

    told_at, left_at = {}, {}
    for port in ports:
        told_at[port] = time.monotonic()
        world.serve(b, service=f"web-{port}")
        await_state(stand, a, "maint", port)
        left_at[port] = time.monotonic()
        await_(
            lambda port=port: time.monotonic() > left_at[port] + 0.19, "another part of a second"
        )
    churn = itertools.cycle([(b, c), (b,)])

    def all_are_ended() -> bool:
        for port in ports:
            world.serve(*next(churn), service=f"web-{port}")
        return len(obituary.ended) >= len(ports)

    await_(all_are_ended, "they are ended", deadline + 5, every_seconds=0.05)
    # It went some time between both.
    most = {port: obituary.ended[leave[port]] - told_at[port] for port in ports}
    assert min(most.values()) > deadline, f"some had less than {deadline} s: {most}"
    lives = {port: obituary.ended[leave[port]] - left_at[port] for port in ports}
    assert max(lives.values()) < deadline + 1 + SLACK, f"some were forgotten: {lives}"
    assert stay
    assert obituary.ended.keys() == set(leave.values()), "sessions of an endpoint that stays"
    for client in stay:
        client.echo()
    for port in ports:
        await_(lambda port=port: a.address not in stand.slots(port), "the slot is free again")


def test_a_draining_endpoint_keeps_its_sessions(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """The deadline runs from when an endpoint is gone, not from when it began to terminate."""
    stand = make_stand(drain={"deadline": "1s"}, timing={"resync": "1s"})
    a, b = make_server("a"), make_server("b")
    world = World(stand, *app("web", PORT, a))
    files.enter_context(world.sidecar())
    obituary = watch(files, sessions(files, stand, 3))
    world.serve(leaving(a), b)
    await_state(stand, a, "drain")
    await_(lambda: slot_of(stand, a).seconds_since_change >= 2, "it drains for long")
    assert not obituary.ended
    world.serve(b)
    await_state(stand, a, "maint")
    gone_at = time.monotonic()
    await_(lambda: len(obituary.ended) == 3, "they are ended")
    assert min(obituary.ended.values()) > gone_at + 0.9


def test_a_server_that_was_down_for_long_gives_its_sessions_the_whole_deadline(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """HAProxy counts a server's time from when it stopped serving; the deadline must not."""
    stand = make_stand(
        pools=[
            {
                "ports": ["30000-30001"],
                "check": {"enabled": True, "interval": "100ms", "rise": 1, "fall": 1},
            }
        ],
        drain={"deadline": "1s"},
    )
    a, b = make_server("a"), make_server("b")
    world = World(stand, *app("web", PORT, a))
    files.enter_context(world.sidecar())
    obituary = watch(files, sessions(files, stand, 2))
    world.serve(a, b)
    await_state(stand, b, "ready")
    a.close()  # its listener; who is connected stays so
    await_(lambda: not slot_of(stand, a).up, "a is down")
    await_(lambda: slot_of(stand, a).seconds_since_change >= 2, "a is down for long")
    world.serve(b)
    gone_at = time.monotonic()
    await_(lambda: len(obituary.ended) == 2, "they are ended")
    lives = [ended - gone_at for ended in obituary.ended.values()]
    assert min(lives) > 0.9, f"ended {min(lives):.2f} s after it went, not 1"


def test_sessions_end_in_paced_steps(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    count, per_second = 8, 3
    stand = make_stand(drain={"deadline": "1s", "sessions_per_second": per_second})
    # Two endpoints of one port go together: the pace is the port's.
    a, b, c = (make_server(name) for name in "abc")
    world = World(stand, *app("web", PORT, a, b))
    daemon = files.enter_context(world.sidecar())
    clients = sessions(files, stand, count)
    assert {client.server for client in clients} == {"a", "b"}
    world.serve(c)
    await_state(stand, c, "ready")
    kept = held(files, stand, PORT)
    obituary = watch(files, [*clients, kept])
    await_(lambda: len(obituary.ended) == count, "all are ended", 15)
    ends = sorted(obituary.ended.values())
    # Any four of them take more than about a second.
    spans = [after - before for before, after in zip(ends, ends[per_second:], strict=False)]
    assert min(spans) > 0.8, f"{per_second + 1} ended within {min(spans):.2f} s: {ends}"
    assert ends[-1] - ends[0] < (count / per_second) * 1.0 + SLACK
    done = operations(daemon)
    assert done["EndSession"] + done["EndSessions"] >= 3
    kept.echo()
    await_(lambda: stand.slots(PORT).keys() == {c.address}, "their slots are free")


def test_nobody_waits_for_the_end_of_others_sessions(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """To end some of a server's sessions, all of HAProxy's are listed first."""
    stand, a, b = make_stand(), make_server("a"), fresh_ip()
    relay = Relay(stand.folder / "relay.sock", stand.settings.haproxy.socket)
    files.callback(relay.close)
    client = files.enter_context(RuntimeClient(relay.path))
    hand = ByHand(stand, Timing(drain_deadline_seconds=5.0, sessions_per_second=1), client)
    others = range(PORT + 1, PORT + 4)
    hand.step(*(item for port in (PORT, *others) for item in app(f"web-{port}", port, a)))
    for port in others:
        sessions(files, stand, 2, port)
    hand.step(*(slice_(f"web-{port}", [b]) for port in others))
    relay.commands.clear()
    assert hand.step(slice_(f"web-{PORT}", [b]), after_seconds=7.0) == 3 + len(others)
    ready, ends = (
        [number for number, line in enumerate(relay.commands) if line.startswith(start)]
        for start in (f"set server be_tcp-{PORT}/s2 state ready", "shutdown session")
    )
    assert len(ends) == len(others)
    assert relay.commands.count("show sess") == 1
    assert ready < [relay.commands.index("show sess")] < ends


def test_0_means_never(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = make_stand(drain={"deadline": "0s"}, timing={"resync": "1s"})
    a, b = make_server("a"), make_server("b")
    world = World(stand, *app("web", PORT, a))
    daemon = files.enter_context(world.sidecar())
    (session,) = sessions(files, stand, 1)
    world.serve(b)
    await_state(stand, a, "maint")
    # The slot was looked at again and again meanwhile.
    await_(lambda: slot_of(stand, a).seconds_since_change >= 2, "two seconds are over")
    session.echo()
    done = operations(daemon)
    assert not done["EndSession"]
    assert not done["EndSessions"]


def test_a_port_that_nobody_claims_any_more_ends_its_sessions_too(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a = make_stand(drain={"deadline": "1s"}), make_server("a")
    world = World(stand, *app("web", PORT, a))
    files.enter_context(world.sidecar())
    obituary = watch(files, sessions(files, stand, 2))
    world.remove(route("web").key)
    await_refused(stand, PORT)
    assert not obituary.ended
    await_(lambda: len(obituary.ended) == 2, "they are ended")


def test_each_route_may_have_its_own_deadline(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a, b = make_stand(drain={"deadline": "1h"}), make_server("a"), make_server("b")
    own = {PORT: "1s", PORT + 1: None, PORT + 2: "0", PORT + 3: "soon"}
    world = World(stand)
    for port, deadline in own.items():
        main, to, ends = app(f"web-{port}", port, a)
        world.put(route(main.name, port, drain_deadline=deadline), to, ends)
    files.enter_context(world.sidecar())
    clients = {port: held(files, stand, port) for port in own}
    obituary = watch(files, list(clients.values()))
    for port in own:
        world.serve(b, service=f"web-{port}")
        await_state(stand, a, "maint", port)
    await_(lambda: clients[PORT] in obituary.ended, "the one of a second is over")
    # The Route's author changes their mind: what is left has the new one.
    world.put(route(f"web-{PORT + 1}", PORT + 1, drain_deadline="2s"))
    await_(lambda: clients[PORT + 1] in obituary.ended, "the new one is over")
    await_(lambda: slot_of(stand, a, PORT + 3).seconds_since_change >= 3, "time passes")
    assert obituary.ended.keys() == {clients[PORT], clients[PORT + 1]}
    for port in (PORT + 2, PORT + 3):
        clients[port].echo()


def test_an_invalid_deadline_is_told_and_the_routers_holds(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a, b = make_stand(drain={"deadline": "1s"}), make_server("a"), make_server("b")
    invalid = dict(enumerate(["soon", "-1s", "5", "1s; show info", "", "9" * 400 + "h"], PORT))
    world = World(stand)
    for port, given in invalid.items():
        main, to, ends = app(f"web-{port}", port, a)
        world.put(route(main.name, port, drain_deadline=given), to, ends)
    daemon = files.enter_context(world.sidecar())
    for port, given in invalid.items():
        verdict = daemon._routing.verdict(route(f"web-{port}").key)
        assert verdict is not None
        assert verdict.admitted
        assert f"drain deadline {shown(given)}" in verdict.message
        assert "using the router's own until fixed" in verdict.message
    clients = [held(files, stand, port) for port in invalid]
    obituary = watch(files, clients)
    gone_at = time.monotonic()
    for port in invalid:
        world.serve(b, service=f"web-{port}")
    await_(lambda: len(obituary.ended) == len(clients), "the router's own deadline is over")
    assert min(obituary.ended.values()) - gone_at > 0.9


def test_the_deadline_outlives_the_sidecar(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a, b = make_stand(drain={"deadline": "3s"}), make_server("a"), make_server("b")
    world = World(stand, *app("web", PORT, a))
    with world.sidecar():
        clients = sessions(files, stand, 2)
        obituary = watch(files, clients)
        world.serve(b)
        await_state(stand, a, "maint")
    await_(lambda: slot_of(stand, a).seconds_since_change >= 4, "the deadline is over")
    assert not obituary.ended, "nobody was there to end them"
    started = time.monotonic()
    with world.sidecar():
        await_(lambda: len(obituary.ended) == 2, "they are ended")
        took = max(obituary.ended.values()) - started
        assert took < 2, f"the time begins anew with the sidecar: {took:.1f} s"
