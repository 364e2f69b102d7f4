"""/api of a running sidecar: what it tells, to whom, and that it cannot hold the loop up."""

import base64
import contextlib
import gzip
import http.client
import json
import logging
import os
import signal
import threading
import time
from typing import Any

import pytest
from cli import run_cli
from stand import (
    MakeServer,
    MakeStand,
    app,
    await_,
    await_ready,
    converged,
    free_port,
    held,
    running,
)
from web import get

from sidecar.admin.workers import WORKERS
from sidecar.common.errors import BusyError
from sidecar.common.hostport import split_host_port
from sidecar.control.loop_calls import WAITING_MAX, LoopCalls
from sidecar.haproxy.stats import parse_attempts, parse_port_traffic, parse_server_traffic


def test_figures_follow_haproxy(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, server = make_stand(), make_server()
    stand.write("web.yaml", *app("web", 30000, [server]))
    with running(stand.daemon()) as daemon:
        converged(daemon)

        def port() -> Any:
            return get(stand, "/api/status").json["ports"][0]

        assert (port()["sessions"], port()["bytes_out"]) == (0, 0)
        client = held(files, stand, 30000)
        client.echo(b"x" * 1000)
        await_(lambda: port()["sessions"] == 1, "the session is counted")
        assert port()["servers"][0]["sessions"] == 1
        client.close()
        await_(lambda: port()["bytes_out"] >= 1000, "its bytes are counted when it ends")
        assert port()["bytes_in"] == 1000
        assert port()["sessions"] == 0
        # HAProxy goes and comes back: the figures do too.
        stand.stop_haproxy()
        await_(lambda: get(stand, "/api/status").json["haproxy"] is None, "it is away")
        assert get(stand, "/api/status").json["converged"] is False
        assert port()["sessions"] is None or port()["state"] == "open"
        info = stand.start_haproxy()
        await_(
            lambda: (get(stand, "/api/status").json["haproxy"] or {}).get("pid") == info.pid, "back"
        )
        await_ready(stand, 30000, server)


def test_a_page_gets_only_what_is_different(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, server = make_stand(), make_server()
    stand.write("web.yaml", *app("web", 30000, [server]), *app("db", 30001, [server]))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        await_(lambda: daemon.reconciler.sampler.connections, "what HAProxy counts is noted")
        first = get(stand, "/api/updates").json
        assert first["whole"] is True
        assert {row["key"] for row in first["rows"]} == {"port:30000", "port:30001"}
        assert first["rows"][0].keys() - get(stand, "/api/status").json["ports"][0].keys() == {
            "key",
            "problems",
        }
        held(files, stand, 30001)

        def news() -> Any:
            found = get(stand, f"/api/updates?since={first['version']}").json
            assert found["whole"] is False
            return found["rows"]

        (row,) = await_(news, "it is counted")
        assert (row["key"], row["sessions"]) == ("port:30001", 1)
        stand.remove("web.yaml")
        gone = await_(
            lambda: get(stand, f"/api/updates?since={first['version']}").json["gone"], "it is gone"
        )
        assert "port:30000" in gone
        # Another sidecar's numbers mean nothing.
        assert get(stand, "/api/updates?since=0.1").json["whole"] is True


def test_an_update_says_how_old_its_figures_are(make_stand: MakeStand) -> None:
    """By which whoever asks can tell when the counts were so."""
    stand = make_stand()
    with running(stand.daemon()) as daemon:
        converged(daemon)

        def asked() -> tuple[str, float, float, float]:
            began = time.monotonic()
            found = get(stand, "/api/updates").json
            return found["version"], found["age_seconds"], began, time.monotonic()

        # Others ask all the time, and get the same one while it is fresh.
        answers = [asked()]
        while answers[-1][3] < answers[0][2] + 2.5:
            answers.append(asked())
    versions = {version for version, *_ in answers}
    assert 2 <= len(versions) <= 4
    for version in versions:
        # All of them name one moment.
        of_it = [answer for answer in answers if answer[0] == version]
        assert (
            max(began - age for _, age, began, _ in of_it)
            <= min(ended - age for _, age, _, ended in of_it) + 0.001
        )
    assert all(0 <= age < 5 for _, age, *_ in answers)


def test_what_is_sent_is_compressed_and_not_sent_twice(make_stand: MakeStand) -> None:
    stand = make_stand()
    with running(stand.daemon()) as daemon:
        converged(daemon)
        plain = get(stand, "/api/history")
        assert "Content-Encoding" not in plain.headers
        assert plain.headers["Vary"] == "Accept-Encoding"
        host, port = split_host_port(stand.settings.http.listen or "")
        with contextlib.closing(http.client.HTTPConnection(host, port, timeout=10)) as connection:
            connection.request("GET", "/api/history", headers={"Accept-Encoding": "gzip"})
            answer = connection.getresponse()
            packed = answer.read()
            assert answer.headers["Content-Encoding"] == "gzip"
            assert answer.headers["ETag"] == plain.headers["ETag"]
            assert gzip.decompress(packed).decode() == plain.body
            assert len(packed) * 2 < len(plain.body)
            # The connection is kept, and has no body in it that nobody expects.
            connection.request(
                "GET", "/api/history", headers={"If-None-Match": answer.headers["ETag"]}
            )
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (304, b"")
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
        # Who is denied is told so, whatever it says that it has.
        assert get(stand, "/", Host="evil.example", **{"If-None-Match": "*"}).status == 403


def test_who_looks_does_not_hold_a_soft_stop_up(make_stand: MakeStand) -> None:
    stand = make_stand()
    with running(stand.daemon()) as daemon:
        converged(daemon)
        assert get(stand, "/api/status").json["haproxy"]
        # It ends when the last connection of its CLI does.
        stand.stop_haproxy(signal.SIGUSR1)


def test_a_check_that_fails_shows_at_once(make_stand: MakeStand, make_server: MakeServer) -> None:
    check = {"enabled": True, "interval": "50ms", "fall": 1}
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 2, "check": check}])
    server = make_server()
    stand.write("web.yaml", *app("web", 30000, [server]))
    with running(stand.daemon()) as daemon:
        converged(daemon)

        def state() -> tuple[str, str]:
            found = get(stand, "/api/status").json["ports"][0]["servers"][0]
            return found["state"], found["check"]

        await_(lambda: state() == ("ready", "L4OK"), "it is checked")
        server.close()
        await_(lambda: state() == ("down", "L4CON"), "it is down")


def test_over_the_loopback_of_a_pod(make_stand: MakeStand) -> None:
    """0.0.0.0 is that, too; `kubectl exec` and port-forward come there."""
    stand = make_stand(http={"listen": f"0.0.0.0:{free_port('0.0.0.0')}"})
    with running(stand.daemon()) as daemon:
        converged(daemon)
        assert get(stand, "/api/status").status == 200
        assert get(stand, "/").status == 200
        # A web page elsewhere, whose name leads here now.
        refused = get(stand, "/api/status", Host="evil.example")
        assert refused.status == 404
        assert "set http.token_file" in refused.body
        assert get(stand, "/readyz", Host="evil.example").status == 200
        assert get(stand, "/metrics", Host="evil.example").status == 200
        for command in (["status"], ["history"]):
            told = run_cli(*command, "-c", stand.settings_file)
            assert (told.code, "no running sidecar" in told.out) == (0, False), told.out


def test_with_a_token(make_stand: MakeStand) -> None:
    stand = make_stand()
    file = stand.folder / "token"
    data = {**stand.settings_data["http"], "token_file": str(file)}
    section = stand.settings.http.model_validate(data)
    stand.settings = stand.settings.model_copy(update={"http": section})
    stand.settings_file.write_text(json.dumps({**stand.settings_data, "http": data}))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        assert get(stand, "/api/status").status == 503, "the file is not there yet"
        file.write_text("geheim é\n")
        denied = get(stand, "/api/status")
        assert denied.status == 401
        assert denied.headers["WWW-Authenticate"].startswith("Basic ")
        assert get(stand, "/api/status", Authorization="Bearer wrong").status == 401
        assert get(stand, "/api/status", Authorization="Basic !!!").status == 401
        assert get(stand, "/api/status", Authorization="Negotiate geheim").status == 401
        basic = base64.b64encode("me:geheim é".encode()).decode()
        assert get(stand, "/api/status", Authorization=f"Basic {basic}").status == 200
        assert get(stand, "/healthz").status == 200
        file.write_text("renewed\n")
        assert get(stand, "/api/status", Authorization=f"Basic {basic}").status == 401
        assert get(stand, "/api/status", Authorization="Bearer renewed").status == 200
        assert "converged" in run_cli("status", "-c", stand.settings_file).out


def test_an_unreadable_token_file_is_said_once(
    make_stand: MakeStand, caplog: pytest.LogCaptureFixture
) -> None:
    stand = make_stand()
    file = stand.folder / "token"
    section = stand.settings.http.model_copy(update={"token_file": file})
    stand.settings = stand.settings.model_copy(update={"http": section})
    caplog.set_level(logging.INFO)

    def said() -> list[str]:
        found = [record.getMessage() for record in caplog.records]
        return [line for line in found if line.startswith("http.token_file ")]

    with running(stand.daemon()) as daemon:
        converged(daemon)
        for _ in range(20):
            answer = get(stand, "/api/status", Authorization="Bearer secret")
            assert (answer.status, answer.body) == (
                503,
                "http.token_file is empty or cannot be read\n",
            )
        assert said() == [
            f"http.token_file {file} cannot be read: [Errno 2] No such file or directory: '{file}'"
        ]
        file.write_text("\n")
        for _ in range(20):
            assert get(stand, "/api/status", Authorization="Bearer ").status == 503
        assert said()[1:] == [f"http.token_file {file} is empty"]
        file.write_text("secret\n")
        for _ in range(20):
            assert get(stand, "/api/status", Authorization="Bearer secret").status == 200
        assert said()[2:] == [f"http.token_file {file} is readable again"]


def test_probes_do_not_wait_for_the_loop(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.settings = stand.settings.model_copy(
        update={"haproxy": stand.settings.haproxy.model_copy(update={"timeout": 20.0})}
    )
    with running(stand.daemon()) as daemon:
        converged(daemon)
        pid = stand.info().pid
        statuses: list[int] = []
        askers = [
            threading.Thread(target=lambda: statuses.append(get(stand, "/api/status").status))
            for _ in range(WORKERS * 2)
        ]
        os.kill(pid, signal.SIGSTOP)
        try:
            await_(lambda: daemon._busy_since, "the loop waits for HAProxy")
            for asker in askers:
                asker.start()
            for _ in range(20):
                assert get(stand, "/healthz").status == 200
                assert get(stand, "/readyz").status in (200, 503)
            assert not statuses, "nobody else was answered meanwhile"
        finally:
            os.kill(pid, signal.SIGCONT)
        for asker in askers:
            asker.join(20)
        assert len(statuses) == len(askers)


def test_the_loop_answers_between_its_steps() -> None:
    woken = threading.Event()
    calls = LoopCalls(woken.set)
    answers: list[object] = []

    def ask() -> None:
        answers.append(calls.ask(lambda: threading.current_thread().name, 10))

    thread = threading.Thread(target=ask)
    thread.start()
    assert woken.wait(10)
    calls.answer()
    thread.join()
    assert answers == [threading.current_thread().name]


def test_an_error_is_the_askers() -> None:
    woken = threading.Event()
    calls = LoopCalls(woken.set)

    def wrong() -> None:
        raise ValueError("mine")

    def answer() -> None:
        woken.wait(10)
        calls.answer()

    loop = threading.Thread(target=answer)
    loop.start()
    with pytest.raises(ValueError, match="mine"):
        calls.ask(wrong, 10)
    loop.join()


def test_a_loop_without_time() -> None:
    calls, asked = LoopCalls(lambda: None), []
    with pytest.raises(BusyError, match=r"did not answer within 0\.01 s"):
        calls.ask(lambda: asked.append(1), 0.01)
    calls.answer()
    assert not asked, "nobody waits for it any more"
    calls.close()
    began = time.monotonic()
    with pytest.raises(BusyError, match="shutting down"):
        calls.ask(lambda: 1, 60)
    assert time.monotonic() - began < 60


def test_too_many_ask() -> None:
    calls = LoopCalls(lambda: None)
    for _ in range(WAITING_MAX):
        with pytest.raises(BusyError, match="did not answer within"):
            calls.ask(lambda: 1, 0.001)
    with pytest.raises(BusyError, match="too many"):
        calls.ask(lambda: 1, 60)


def test_traffic_is_read_by_column_name() -> None:
    header = (
        "# pxname,svname,bin,bout,scur,rate,status,check_status,lastchg,stot,econ,wretr,wredis,"
    )
    text = (
        f"{header}\n"
        "be_tcp-30000,s1,5,6,7,8,UP 1/3,* L4OK,12,9,3,2,1,\n"
        "be_tcp-30000,s2,0,0,0,0,DOWN 1/2,L4TOUT,3,,,,,\n"
        "be_tcp-30000,s3,,,,,no check,,,,,,,\n"
        "other,s1,1,1,1,1,UP,,1,1,1,1,1,\n"
        "be_tcp-30000,BACKEND,1,1,1,1,UP,,1,9,3,2,1,\n"
    )
    found = parse_server_traffic(text)
    assert found.keys() == {30000}
    s1, s2, s3 = found[30000].values()
    assert (s1.counts, s1.up, s1.check, s1.seconds_since_change) == ((7, 8, 5, 6), True, "L4OK", 12)
    assert s1.attempts == (9, 3, 2, 1)
    assert parse_attempts(text) == {30000: (9, 3, 2, 1)}
    assert (s2.up, s2.check) == (False, "L4TOUT")
    assert (s3.counts, s3.up, s3.check) == ((0, 0, 0, 0), True, "")
    ports = parse_port_traffic(f"{header}\ntcp-30000,FRONTEND,5,6,7,8,OPEN,,,\nx,FRONTEND,,,,,,,,")
    assert ports == {30000: (7, 8, 5, 6)}
