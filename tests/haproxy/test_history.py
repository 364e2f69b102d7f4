"""What the running sidecar remembers of what it did, and whom it blames."""

import contextlib
import itertools
import time
from typing import Any

import pytest
from core import PORTS, closing, opening, units
from stand import (
    EchoServer,
    MakeServer,
    MakeStand,
    Stand,
    app,
    await_,
    await_ready,
    await_refused,
    converged,
    held,
    running,
    slice_,
)
from web import get

from sidecar.common.errors import CommandRefusedError, LocalProtocolError
from sidecar.control.history import CAUSES_MAX, MEETING_MAX, OPERATIONS_MAX, History, Met
from sidecar.haproxy.operations import SetState, SetWeight
from sidecar.listeners.tcp import unit_of
from sidecar.model.change import Change
from sidecar.model.objects import Cause, Key
from sidecar.routing.store import Store

DEADLINE = "haproxy.router.openshift.io/drain-deadline"

SLICE = Key("EndpointSlice", "demo", "web-1")


def entries(stand: Stand, port: int) -> list[Any]:
    found: list[Any] = get(stand, f"/api/history?port={port}").json["entries"]
    return found


def test_what_was_done_and_because_of_what(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = make_stand(timing={"resync": "1s"})
    a, b = make_server("a"), make_server("b")
    stand.write("web.yaml", *app("web", 30000, [a]))
    daemon = files.enter_context(running(stand.daemon()))
    converged(daemon)
    first = entries(stand, 30000)
    assert first[0]["command"] == "set server be_tcp-30000/s1 state ready"
    assert all(item["done"] and item["duration_seconds"] >= 0 for item in first)
    address = first[-1]
    assert address["command"].startswith(f"set server be_tcp-30000/s1 addr {a.address.ip}")
    assert "IP changed from" in address["reply"]
    pid = stand.info().pid
    assert "Route demo/web was added" in address["causes"]
    assert f"found HAProxy with PID {pid}" in address["causes"]

    stand.write("web.yaml", *app("web", 30000, [a, b]))
    await_ready(stand, 30000, a, b)
    converged(daemon)
    newest = entries(stand, 30000)[0]
    assert newest["causes"] == ["EndpointSlice demo/web-1 was changed"]

    # Somebody else, and the sidecar that repairs it.
    stand.client.ask("set server be_tcp-30000/s1 state drain")
    await_ready(stand, 30000, a, b)
    await_(lambda: "somebody else" in str(entries(stand, 30000)[0]["causes"]), "it is told")

    # A refusal, with HAProxy's own words.
    stand.client.ask("shutdown frontend tcp-30001")
    stand.write("other.yaml", *app("other", 30001, [a]))
    await_(lambda: entries(stand, 30001) and not entries(stand, 30001)[0]["done"], "it is refused")
    refused = entries(stand, 30001)[0]
    assert refused["command"] == "enable frontend tcp-30001"
    assert refused["reply"] == "Frontend was previously shut down, cannot enable."

    everything = get(stand, "/api/history").json
    assert everything["operations_total"] >= len(everything["entries"])
    assert {item["port"] for item in everything["entries"]} >= {30000, 30001, 30009}
    assert get(stand, "/api/history?port=x").status == 400
    changed = get(stand, "/api/status").json
    assert all(item["changed_seconds_ago"] is not None for item in changed["ports"])


def test_a_time_that_is_over_is_named_by_its_setting(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand = make_stand(timing={"close_after": "100ms"})
    server = make_server()
    stand.write("web.yaml", *app("web", 30000, [server]))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        stand.write("web.yaml", *app("web", 30000))
        await_refused(stand, 30000)

        def closing() -> list[Any]:
            found = entries(stand, 30000)
            return [item for item in found if item["command"].startswith("disable")]

        await_(closing, "it is told")
        assert closing()[0]["causes"][0] == "without a server for timing.close_after (100ms)"


@pytest.mark.parametrize(
    ("own", "cause"),
    [
        (None, "drain.deadline (1s) has passed"),
        ("100ms", "the Route's drain-deadline (100ms) has passed"),
    ],
)
def test_whose_deadline_ends_sessions_is_named(
    make_stand: MakeStand,
    make_server: MakeServer,
    files: contextlib.ExitStack,
    own: str | None,
    cause: str,
) -> None:
    stand, a, b = make_stand(drain={"deadline": "1s"}), make_server("a"), make_server("b")

    def serve(*servers: EchoServer) -> None:
        route, *others = app("web", 30000, list(servers))
        if own:
            route["metadata"]["annotations"][DEADLINE] = own
        stand.write("web.yaml", route, *others)

    serve(a)
    daemon = files.enter_context(running(stand.daemon()))
    converged(daemon)
    held(files, stand, 30000)
    serve(b)
    await_(lambda: a.address not in stand.slots(30000), "the slot of the former one is parked")
    converged(daemon)
    found = {item["command"]: item["causes"] for item in entries(stand, 30000)}
    assert found["shutdown sessions server be_tcp-30000/s1"] == [cause]


def test_a_slot_that_is_parked_late_and_another_attempt_say_why(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    stand.write("web.yaml", *app("web", 30000, [a]))
    daemon = files.enter_context(running(stand.daemon()))
    converged(daemon)
    client = held(files, stand, 30000)
    stand.write("web.yaml", *app("web", 30000, [b]))
    await_ready(stand, 30000, b)
    converged(daemon)
    assert a.address in stand.slots(30000)
    client.close()
    await_(lambda: a.address not in stand.slots(30000), "the slot of the former one is parked")
    converged(daemon)
    parked = entries(stand, 30000)[0]
    assert parked["command"].startswith("set server be_tcp-30000/s1 addr")
    assert parked["causes"] == ["a removed endpoint has no sessions left"]

    stand.client.ask("shutdown frontend tcp-30001")
    stand.write("other.yaml", *app("other", 30001, [a]))

    def again() -> bool:
        return "an earlier attempt failed" in entries(stand, 30001)[0]["causes"]

    await_(lambda: entries(stand, 30001) and again(), "it is tried again")
    refused = [item for item in entries(stand, 30001) if not item["done"]]
    assert refused[-1]["causes"] == ["Route demo/other was added"]


def test_the_last_ones_only() -> None:
    history = History(PORTS, clock=lambda: 1000.0)
    history.record(
        [SetWeight(unit_of(30000), "s1", number % 257) for number in range(OPERATIONS_MAX + 5)],
        [""] * (OPERATIONS_MAX + 5),
        0.25,
    )
    history.record([opening(30001)], [""], 0.5)
    found = history.entries()
    assert len(found) == OPERATIONS_MAX
    assert history.complete_since_seconds == 1000.0
    assert (found[0].port, found[0].duration_seconds) == (30001, 0.5)
    assert found[-1].command.endswith(f"weight {6 % 257}")
    assert history.total == OPERATIONS_MAX + 6
    assert len(history.entries(unit_of(30000))) == OPERATIONS_MAX - 1
    assert history.changed_seconds_ago() == dict.fromkeys(units(30000, 30001), 0.0)


def test_what_happened_outlives_meetings() -> None:
    seconds = itertools.count(1)
    history = History(PORTS, clock=lambda: float(next(seconds)))
    history.blame(unit_of(30000), cause := Cause(Key("Route", "demo", "web"), "added"))
    history.record([opening(30000)], [""], 0.1)
    assert history.complete_since_seconds is None
    history.blame(unit_of(30000), Met(7))
    for _ in range(OPERATIONS_MAX):
        history.blame(unit_of(30001), Met(7))
        history.record([closing(30001)], [""], 0.1)
    # Whose Route changed meanwhile, too, is no mere meeting.
    history.record([opening(30000)], [""], 0.1)
    found = history.entries()
    assert len(found) == MEETING_MAX + 2
    assert found[0].causes == (str(cause), "found HAProxy with PID 7")
    assert found[-1].causes == (str(cause),)
    # The one before the oldest that is left.
    assert history.complete_since_seconds == found[-2].at_seconds - 1


def test_causes_are_of_the_port_until_it_is_as_desired() -> None:
    history = History(PORTS, time.time)
    causes = [Cause(Key("Route", "demo", f"r{number}"), "changed") for number in range(5)]
    for cause in causes:
        history.blame(unit_of(30000), cause)
        history.blame(unit_of(30000), cause)
    history.record([opening(30000), closing(30001)], ["", ""], 0.1)
    closed, opened = history.entries()
    assert opened.causes == tuple(map(str, causes[-CAUSES_MAX:]))
    assert closed.causes == ()
    history.settled(unit_of(30000))
    history.record([closing(30000)], [""], 0.1)
    assert history.entries()[0].causes == closed.causes


def test_what_could_not_be_done() -> None:
    history = History(PORTS, time.time)
    never_sent = SetState(unit_of(30000), "s1;quit", "ready")
    history.record(
        [opening(30000), never_sent],
        [CommandRefusedError("enable frontend tcp-30000", "No."), LocalProtocolError("two words")],
        0.1,
    )
    local, refused = history.entries()
    assert (refused.done, refused.command, refused.reply) == (
        *(False, "enable frontend tcp-30000", "No."),
    )
    assert (local.done, local.command, local.reply) == (False, "SetState", "two words")


def test_a_change_says_what_became_of_the_object() -> None:
    store, item = Store(), slice_("web", ["10.0.0.1"])
    added = store.apply([Change(item.key, item)])
    assert added[SLICE] == added[Key("Service", "demo", "web")] == Cause(SLICE, "added")
    changed = store.apply([Change(item.key, slice_("web", ["10.0.0.2"]))])
    assert str(changed[SLICE]) == "EndpointSlice demo/web-1 was changed"
    assert store.apply([Change(item.key, None)])[SLICE].what == "removed"


def test_a_meeting_pushes_nothing_out_that_happened(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    ports = 2 * MEETING_MAX
    stand, server = make_stand(pools=[{"ports": [f"30000-{30000 + ports - 1}"]}]), make_server()
    with running(stand.daemon()) as daemon:
        converged(daemon)
        entries = daemon.reconciler.history.entries()
        assert len(entries) == MEETING_MAX
        assert all("found HAProxy with PID" in entry.causes[0] for entry in entries)
        assert get(stand, "/api/history").json["complete_since_seconds"] == entries[0].at_seconds
        stand.write("web.yaml", *app("web", 30000, [server]))
        await_ready(stand, 30000, server)
        converged(daemon)
        entries = daemon.reconciler.history.entries()
        happened = [entry for entry in entries if "found HAProxy with PID" not in entry.causes[0]]
        assert [entry.port for entry in happened] == [30000] * len(happened)
        assert len(entries) == MEETING_MAX + len(happened)


def test_what_nobody_asked_for_says_which_setting_did(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, server = make_stand(timing={"close_after": "100ms"}), make_server()
    stand.write("web.yaml", *app("web", 30000, [server]))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        stand.write("web.yaml", *app("web", 30000, []))
        await_refused(stand, 30000)
        await_(lambda: not stand.slots(30000), "its slot is parked")

        def causes() -> set[str]:
            found = daemon.reconciler.history.entries(unit_of(30000))
            return {cause for entry in found for cause in entry.causes}

        await_(lambda: "without a server for timing.close_after (100ms)" in causes(), "it says why")
        await_(lambda: "a removed endpoint has no sessions left" in causes(), "it says why")
