"""A port that is all as desired and serves nobody, or no more: `status`, `why`, metrics and /readyz
say so."""

import contextlib
import json
import signal
import time

from cli import run_cli
from hypothesis import given
from hypothesis import strategies as st
from stand import (
    Client,
    MakeServer,
    MakeStand,
    Stand,
    app,
    await_,
    converged,
    fill,
    running,
)
from web import get

from sidecar.haproxy.attempts import NONE, Attempts, Notes, server_since
from sidecar.haproxy.stats import parse_server_traffic

counters = st.builds(Attempts, *[st.integers(0, 1000)] * 4)


@given(counters, counters)
def test_what_came_since_and_what_was_there_is_all(before: Attempts, more: Attempts) -> None:
    now = Attempts(*map(sum, zip(before, more, strict=True)))
    assert now.since(before) == more
    assert now.since(NONE) == now


def test_counters_that_began_anew_are_all_new() -> None:
    assert Attempts(3, 1, 0, 0).since(Attempts(9, 0, 0, 0)) == Attempts(3, 1, 0, 0)


def test_a_note_tells_where_attempts_failed_since_the_last() -> None:
    notes = Notes()
    assert notes.note({1: Attempts(9, 9, 9, 9), 2: NONE}, 0) == []
    assert notes.note({1: Attempts(19, 9, 9, 9), 2: Attempts(1, 0, 1, 0)}, 30) == [2]
    assert notes.note({1: Attempts(19, 9, 9, 9), 2: Attempts(1, 0, 1, 0)}, 60) == []


def test_the_base_is_a_minute_old_at_most_or_the_newest_there_is() -> None:
    notes = Notes()
    for at in (0, 30, 60, 90, 120):
        notes.note({1: Attempts(at, 0, 0, 0)}, at)
    assert notes.bases(125)[1][:2] == (35, Attempts(90, 0, 0, 0))
    assert notes.bases(500)[1][:2] == (380, Attempts(120, 0, 0, 0))


def test_servers_are_known_while_nothing_failed_on_their_port_since() -> None:
    notes = Notes()
    notes.note({1: NONE}, 0)
    notes.note({1: Attempts(5, 5, 0, 0)}, 30)
    notes.note_servers(1, {"s1": Attempts(5, 5, 0, 0)})
    assert notes.bases(40)[1].servers == {}  # of the note before
    assert notes.bases(80)[1].servers == {"s1": Attempts(5, 5, 0, 0)}


def test_a_server_did_no_more_than_its_port() -> None:
    port = Attempts(3, 3, 2, 1)
    assert server_since(Attempts(100, 50, 1, 0), None, port) == Attempts(3, 3, 1, 0)
    assert server_since(Attempts(102, 52, 1, 0), Attempts(100, 50, 1, 0), port) == (2, 2, 0, 0)


def fails(stand: Stand, port: int = 30000) -> None:
    with contextlib.suppress(OSError):
        Client((stand.ip, port)).close()
        raise AssertionError("somebody answered")


def dead_end(make_stand: MakeStand, make_server: MakeServer) -> tuple[Stand, str]:
    """A stand whose Route leads to a server where nobody listens any more."""
    stand, server = make_stand(timing={"resync": "1s"}), make_server()
    server.close()
    stand.write("web.yaml", *app("web", 30000, [server]))
    return stand, server.address.ip


def test_a_port_on_which_every_connection_fails(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, ip = dead_end(make_stand, make_server)
    with running(stand.daemon()) as daemon:
        converged(daemon)
        assert run_cli("why", "-c", stand.settings_file, 30000).code == 0
        for _ in range(3):
            fails(stand)
        await_(
            lambda: get(stand, "/api/status").json["ports"][0]["attempts"]["errors"] == 3,
            "the failures are told",
        )
        port = get(stand, "/api/status").json["ports"][0]
        assert port["attempts"]["sessions"] == 3
        assert port["servers"][0]["attempts"]["errors"] == 3
        result = run_cli("why", "-c", stand.settings_file, 30000)
        assert result.code == 1
        assert "3 of 3 connections failed in the last" in result.out
        assert f"s1 {ip}:9000" in result.out
        assert "3 of 3 connections failed" in run_cli("status", "-c", stand.settings_file).out
        # As of the last slow compare.
        await_(
            lambda: (
                'haproxy_sidecar_port_connection_errors{port="30000"' in get(stand, "/metrics").body
            ),
            "the metric is there",
        )


def test_a_probe_says_who_refuses(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand, ip = dead_end(make_stand, make_server)
    with running(stand.daemon()) as daemon:
        converged(daemon)
        result = run_cli("why", "-c", stand.settings_file, 30000, "--probe")
        assert result.code == 1
        assert f"s1 {ip}:9000: refused" in result.out
        assert f"port 30000 at {stand.ip}: accepted, then closed after" in result.out
        good = make_server()
        stand.write("web.yaml", *app("web", 30000, [good]))
        await_(lambda: stand.ready(30000) == [good.address], "it leads elsewhere")
        report = json.loads(
            run_cli("why", "-c", stand.settings_file, 30000, "--probe", "--json").out
        )
        link = report["why"]["links"][-1]
        assert (link["name"], link["mark"]) == ("probe", "ok")
        assert "connected in" in link["lines"][0]["text"]


def test_a_server_that_refuses_while_others_serve_is_named(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, dead, good = make_stand(), make_server(), make_server()
    dead.close()
    stand.write("web.yaml", *app("web", 30000, [dead, good]))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        await_(lambda: daemon.reconciler.sampler.connections, "what was before is known")
        clients = 0

        def is_tried() -> bool:
            nonlocal clients
            with contextlib.closing(Client((stand.ip, 30000))) as client:
                assert client.server == good.name
            clients += 1
            table = stand.client.ask("show stat be_tcp-30000 4 -1")
            return any(it.attempts.failed for it in parse_server_traffic(table)[30000].values())

        await_(is_tried, "the dead one is tried")
        result = run_cli("why", "-c", stand.settings_file, 30000)
        assert result.code == 0
        assert f"none of {clients} connections failed" in result.out
        assert f"{dead.address}: 0 failed" in result.out
        assert f"{good.address}: 0 failed" not in result.out


def test_a_port_at_its_limit(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, server = (
        make_stand(
            pools=[{"ports": ["30000-30001"], "slots": 2, "maxconn": 3}], timing={"resync": "1s"}
        ),
        make_server(),
    )
    stand.write("web.yaml", *app("web", 30000, [server]))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        fill(files, stand, 30000, 3)
        fails(stand)
        port = get(stand, "/api/status").json["ports"][0]
        assert (port["connections"], port["connections_limit"]) == (3, 3)
        assert port["connections_most"] >= 3
        result = run_cli("why", "-c", stand.settings_file, 30000)
        assert result.code == 1
        assert "3 of 3 connections now" in result.out
        await_(lambda: "connection limit: 30000" in get(stand, "/readyz").body, "/readyz says it")
        assert get(stand, "/readyz").status == 200
        assert 'haproxy_sidecar_port_connections{port="30000"' in get(stand, "/metrics").body


def test_a_change_by_hand_shows_at_once(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand, server = make_stand(), make_server()
    stand.write("web.yaml", *app("web", 30000, [server]))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        stand.client.ask("set server be_tcp-30000/s1 state maint")
        report = get(stand, "/api/status").json
        assert not report["converged"]
        assert report["unready"] == "changed by somebody else: ports 30000"
        port = report["ports"][0]
        assert port["servers"][0]["state"] == "maint"
        assert port["drift"] == "s1 is in maint, was ready"
        result = run_cli("why", "-c", stand.settings_file, 30000)
        assert result.code == 1
        assert "changed by somebody else: s1 is in maint, was ready" in result.out
        assert (
            "will be repaired at the next full compare"
            in run_cli("status", "-c", stand.settings_file).out
        )
        # Looking changes nothing.
        assert stand.port(30000).servers["s1"].state == "maint"


def test_a_frozen_haproxy_is_said_to_be_silent_and_nothing_else(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, server = make_stand(), make_server()
    stand.write("web.yaml", *app("web", 30000, [server]))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        process = stand._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            found = get(stand, "/api/why?subject=30000").json["why"]
            assert time.monotonic() - began < 3 * stand.settings.haproxy.timeout
            assert not found["works"]
            text = json.dumps(found)
            assert "no complete reply within 2 s" in text
            assert "not in HAProxy" not in text
            assert get(stand, "/api/status").json["ports"][0]["left_out"] == 0
        finally:
            process.send_signal(signal.SIGCONT)
