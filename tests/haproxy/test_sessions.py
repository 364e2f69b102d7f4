"""``show sess`` read on all versions, and the commands ``sessions`` and ``kick``."""

import contextlib
import json
import os
import signal
import subprocess
import time

import pytest
from cli import ROOT, clean_environment, command, run_cli
from hypothesis import given
from hypothesis import strategies as st
from stand import (
    Client,
    EchoServer,
    MakeServer,
    MakeStand,
    Stand,
    app,
    await_,
    await_ready,
    converged,
    held,
    running,
)

from sidecar.cli.top.work import Work
from sidecar.cli.whom import find_sidecar
from sidecar.common.errors import RemoteProtocolError
from sidecar.haproxy.sessions import Session, parse_port_sessions, parse_sessions, parse_span

# -- parsing -----------------------------------------------------------------------------------

# As they came, but for fields that nobody reads.
ONE_LINE = {
    "2.6": """\
0x55a0: proto=tcpv4 src=10.0.0.9:38130 fe=tcp-9001 be=be_tcp-9001 srv=s1 ts=00 epoch=0 age=1m2s \
calls=3 rate=1 cpu=0 lat=0 rq[f=848000h,i=0,an=00h,rx=59m58s,wx=,ax=] \
rp[f=80008000h,i=0,an=00h,rx=59m50s,wx=,ax=] scf=[8,0h,fd=13] scb=[8,1h,fd=17] exp=59m58s rc=0 \
c_exp=
0x7fd8: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s calls=1 \
rq[f=c08000h,i=0,an=00h,rx=,wx=,ax=] rp[f=80008002h,rx=,wx=,ax=] scf=[8,200h,fd=12] exp= rc=0
""",
    "3.2": """\
0x55a0: proto=tcpv4 src=10.0.0.9:38130 fe=tcp-9001 be=be_tcp-9001 srv=s1 ts=00 epoch=0 age=1m2s \
calls=3 rate=0 cpu=0 lat=0 rq[f=848000h,i=0,an=00h,ax=] rp[f=80008000h,i=0,an=00h,ax=] \
scf=[8,0h,fd=13,rex=59m58s,wex=] scb=[8,1h,fd=14,rex=59m50s,wex=] exp=59m58s rc=0 c_exp=
0x7fd8: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s calls=1 \
rq[f=10848101h,i=0,an=00h,ax=] scf=[8,0h,fd=18,rex=,wex=] scb=[8,1h,fd=-1,rex=,wex=] exp=1h rc=0
""",
}

ALL = {
    "2.6": """\
0x55a0: [21/Nov/2026:10:51:08.882696] id=2 proto=tcpv4 source=10.0.0.9:38130
  flags=0x4a, conn_retries=0, conn_exp=<NEVER> conn_et=0x000 srv_conn=0x5592, waiting=0 epoch=0
  frontend=tcp-9001 (id=2 mode=tcp), listener=? (id=1) addr=127.77.0.1:9001
  backend=be_tcp-9001 (id=3 mode=tcp) addr=127.0.0.1:48832
  server=s1 (id=1) addr=127.77.0.2:9000
  task=0x5592 (state=0x00 nice=0 calls=3 rate=1 exp=59m58s tmask=0x1 age=1m2s)
  scf=0x5592c62c76c0 flags=0x00000000 state=EST endp=CONN,0x5592c638e080,0x028c0001 sub=1
      co0=0x7fd8a40399c0 ctrl=tcpv4 xprt=RAW mux=PASS data=STRM target=LISTENER:0x5592c61a59d0
  scb=0x5592c629eab0 flags=0x00000001 state=EST endp=CONN,0x5592c6390540,0x028c0001 sub=1
  req=0x5592c638f6a0 (f=0x848000 an=0x0 pipe=0 tofwd=-1 total=1000)
      an_exp=<NEVER> rex=59m58s wex=<NEVER>
      buf=0x5592c638f6a8 data=(nil) o=0 p=0 i=0 size=0
  res=0x5592c638f700 (f=0x80008000 an=0x0 pipe=0 tofwd=-1 total=7)
      an_exp=<NEVER> rex=59m50s wex=<NEVER>
      buf=0x5592c638f708 data=(nil) o=0 p=0 i=0 size=0
""",
    "3.2": """\
0x55a0: [21/Nov/2026:10:51:18.165133] id=1 proto=tcpv4 source=10.0.0.9:38130
  flags=0x4a, conn_retries=0, conn_exp=<NEVER> conn_et=0x000 srv_conn=0x7f72, waiting=0 epoch=0
  p_con=2 p_stc=3 p_req=5 p_res=5 p_prp=5
  frontend=tcp-9001 (id=2 mode=tcp), listener=? (id=1) addr=127.77.0.1:9001
  backend=be_tcp-9001 (id=3 mode=tcp) addr=127.0.0.1:42488
  server=s1 (id=1) addr=127.77.0.2:9000
  task=0x7f72 (state=0x00 nice=0 calls=3 rate=0 exp=59m58s tid=0(1/0) age=1m2s)
  scf=0x7f72 flags=0x00 ioto=1h state=EST sub=1 rex=59m58s wex=<NEVER> rto=59m58s wto=<NEVER>
    iobuf.flags=0x00000000 .pipe=0 .buf=0@(nil)+0/0
  scb=0x7f72 flags=0x01 ioto=1h state=EST sub=1 rex=59m50s wex=<NEVER> rto=59m58s wto=<NEVER>
    iobuf.flags=0x00000000 .pipe=0 .buf=0@(nil)+0/0
  req=0x7f721a70c428 (f=0x848000 an=0x0 tofwd=-1 total=1000)
      an_exp=<NEVER> buf=0x7f721a70c430 data=(nil) o=0 p=0 i=0 size=0
  res=0x7f721a70c470 (f=0x80008000 an=0x0 tofwd=-1 total=7)
""",
}

SHORT = Session(
    id="0x55a0",
    client="10.0.0.9:38130",
    frontend="tcp-9001",
    backend="be_tcp-9001",
    server="s1",
    age_seconds=62,
    client_left_seconds=3598,
    server_left_seconds=3590,
    address=None,
    bytes_in=None,
    bytes_out=None,
)


@pytest.mark.parametrize("version", ONE_LINE)
def test_a_line_a_session(version: str) -> None:
    ours, cli = parse_sessions(ONE_LINE[version])
    assert ours == SHORT
    assert (cli.client, cli.frontend, cli.backend, cli.server) == ("unix:1", "GLOBAL", None, None)
    assert (cli.age_seconds, cli.client_left_seconds, cli.server_left_seconds) == (0, None, None)
    assert parse_port_sessions(ONE_LINE[version], 9001) == [ours]
    assert parse_port_sessions(ONE_LINE[version], 900) == []


@pytest.mark.parametrize("version", ALL)
def test_all_of_a_session(version: str) -> None:
    whole = SHORT._replace(address="127.77.0.2:9000", bytes_in=1000, bytes_out=7)
    assert parse_sessions(ALL[version]) == [whole]
    other = ALL[version].replace("tcp-9001", "tcp-19001").replace("0x55a0:", "0x55b0:")
    assert parse_port_sessions(other + ALL[version], 9001) == [whole]
    assert whole.idle_seconds(3600.0, 3600.0) == 2
    assert whole.idle_seconds(7200.0, 7200.0) == 62, "never longer than it lives"


def test_a_frontend_of_ours_that_leads_elsewhere_is_not_the_ports() -> None:
    text = ONE_LINE["3.2"].replace("be=be_tcp-9001", "be=other")
    assert parse_port_sessions(text, 9001) == []


def test_what_is_no_list_of_sessions() -> None:
    assert parse_sessions("") == []
    with pytest.raises(RemoteProtocolError, match="not a reply to 'show sess'"):
        parse_sessions("Permission denied\n")


@given(st.text())
def test_unknown_words_do_no_harm(text: str) -> None:
    (session, *_) = parse_sessions(f"0x1: {text}")
    assert session.id == "0x1"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("1m38s", 98), ("1d2h", 93600), ("1h", 3600), ("", None), ("<NEVER>", None)],
)
def test_spans(text: str, seconds: int | None) -> None:
    assert parse_span(text) == seconds


# -- a real HAProxy ----------------------------------------------------------------------------


def with_pods(*servers: EchoServer) -> list[dict[str, object]]:
    return [
        {"addresses": [item.address.ip], "targetRef": {"kind": "Pod", "name": f"pod-{item.name}"}}
        for item in servers
    ]


def listed(stand: Stand, target: object) -> list[dict[str, object]]:
    done = run_cli("sessions", target, "-c", stand.settings_file, "--json")
    assert done.code == 0, done.err
    found: list[dict[str, object]] = json.loads(done.out)["sessions"]
    return found


def await_sessions(stand: Stand, port: int, count: int) -> None:
    await_(lambda: len(listed(stand, port)) == count, f"port {port} has {count} sessions")


def alive(*clients: Client) -> int:
    """How many of them still carry bytes."""
    count = 0
    for client in clients:
        with contextlib.suppress(OSError):
            client.echo()
            count += 1
    return count


def test_the_sessions_of_a_port_and_of_a_route(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    stand.write("web.yaml", *app("web", 30000, with_pods(a, b), created="2020-01-01T00:00:00Z"))
    stand.write("other.yaml", *app("other", 30001, [a]))
    stand.write("late.yaml", *app("late", 30000, [a], created="2030-01-01T00:00:00Z"))
    converged(files.enter_context(running(stand.daemon())))
    first = held(files, stand, 30000)
    held(files, stand, 30000)
    held(files, stand, 30001)
    first.echo(b"x" * 1000)
    await_sessions(stand, 30000, 2)

    rows = {str(row["pod"]): row for row in listed(stand, "demo/web")}
    assert rows.keys() == {"pod-a", "pod-b"}
    row = rows[f"pod-{first.server}"]
    host, port = first.socket.getsockname()
    server = {"a": a, "b": b}[first.server]
    assert row["client"] == f"{host}:{port}"
    assert row["address"] == str(server.address)
    assert row["slot"] == stand.slots(30000)[server.address]
    assert (row["bytes_in"], row["bytes_out"]) == (1000, 1000 + len("a\n"))

    # Idle grows by itself, and a byte ends it.
    def idle() -> int:
        rows = {row["client"]: row for row in listed(stand, 30000)}
        return int(str(rows[f"{host}:{port}"]["idle_seconds"]))

    await_(lambda: idle() >= 2, "it is idle", 30)

    def busy() -> bool:
        first.echo()
        return idle() < 2

    await_(busy, "it is not idle", 30)

    ours = ("-c", stand.settings_file)
    shown = run_cli("sessions", "30000", *ours)
    head, table = shown.out.split("\n\n")
    assert head == "port 30000 (demo/web): 2 sessions"
    lines = table.splitlines()
    assert lines[0].split() == ["CLIENT", "AGE", "IDLE", "SERVER", "SLOT", "POD", "IN", "OUT"]
    assert "pod-a" in table
    assert run_cli("sessions", "30002", *ours).out == "port 30002: 0 sessions\n"

    for target, code, told in [
        ("9", 2, "port 9 is in no pool; available ports: 30000-30009"),
        ("demo", 2, "'demo' is neither a port, like 13306, nor NAMESPACE/ROUTE"),
        ("demo/nope", 2, "no Route 'demo/nope' names this router (wzh-router-1)"),
        ("demo/late", 1, "Route demo/late has no port: PortAlreadyClaimed: "),
    ]:
        for name in ("sessions", "kick"):
            done = run_cli(name, target, *ours)
            assert (done.code, done.out) == (code, "")
            assert told in done.err

    # The running sidecar knows the names.
    stand.manifests.rename(stand.manifests.with_name("elsewhere"))
    assert run_cli("sessions", "demo/web", *ours).out.startswith("port 30000 (demo/web): 2 ")


def test_ages_are_right_where_haproxy_was_held_up(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, server = make_stand(), make_server()
    stand.write("web.yaml", *app("web", 30000, [server]))
    converged(files.enter_context(running(stand.daemon())))
    await_ready(stand, 30000, server)
    pid = stand.info().pid
    os.kill(pid, signal.SIGSTOP)
    # HAProxy's own clock falls behind the machine's by as much.
    time.sleep(2)
    os.kill(pid, signal.SIGCONT)
    held(files, stand, 30000)

    def age() -> int:
        (found,) = parse_port_sessions(stand.client.ask("show sess"), 30000)
        assert found.age_seconds is not None
        return found.age_seconds

    for seconds in range(4):
        await_(lambda least=seconds: age() >= least, "it grows")
        before = age()
        (row,) = listed(stand, 30000)
        assert row["age_seconds"] in range(before, age() + 1)
    shown = run_cli("sessions", "30000", "-c", stand.settings_file)
    assert shown.out.splitlines()[-1].split()[1] != "-"


def test_a_port_has_a_number_even_if_nobody_knows_its_name(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.manifests.rename(stand.manifests.with_name("elsewhere"))
    done = run_cli("sessions", "30000", "-c", stand.settings_file)
    assert (done.code, done.out) == (0, "port 30000: 0 sessions\n")
    assert done.err.startswith("names of Routes and pods are missing: ")
    assert run_cli("sessions", "demo/web", "-c", stand.settings_file).code == 3
    # In `top`, too, which has them while the sidecar is away.
    work = Work(stand.settings_file, find_sidecar(stand.settings_file, None))
    text = work.sessions("30000", 80)
    assert text.title == "port 30000: 0 sessions"
    assert text.lines == [done.err.rstrip()]


def test_no_haproxy_no_sessions(make_stand: MakeStand) -> None:
    stand = make_stand(start=False)
    for name in ("sessions", "kick"):
        assert run_cli(name, "30000", "-c", stand.settings_file).code == 3


def test_kick_ends_the_sessions_of_one_port_in_steps(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a = make_stand(), make_server("a")
    stand.write("web.yaml", *app("web", 30000, with_pods(a)))
    stand.write("other.yaml", *app("other", 30001, [a]))
    converged(files.enter_context(running(stand.daemon())))
    ours = [held(files, stand, 30000) for _ in range(5)]
    others = [held(files, stand, 30001) for _ in range(5)]
    await_sessions(stand, 30000, 5)

    unasked = run_cli("kick", "30000", "-c", stand.settings_file)
    assert (unasked.code, unasked.out) == (2, "")
    slot = stand.slots(30000)[a.address]
    question = (
        f"end 5 sessions on port 30000 (demo/web): 5 on {slot} {a.address} pod-a;"
        " at most 100 per second? "
    )
    assert question in unasked.err
    assert alive(*ours) == 5

    process = subprocess.Popen(
        command("kick", "demo/web", "-c", stand.settings_file, "--per-second", "2", "--yes"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=clean_environment(),
        text=True,
    )
    # Whoever comes back meanwhile is left alone, though HAProxy may give it a name of before.
    await_(lambda: alive(*ours) <= 3, "the first two are ended", 30)
    back = [held(files, stand, 30000) for _ in range(3)]
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err.splitlines() == ["ended 2 of 5", "ended 4 of 5"]
    assert out == f"ended 5 sessions on port 30000 (demo/web)\n  5 on {slot} {a.address} pod-a\n"
    await_(lambda: alive(*ours) == 0, "all five are ended")
    assert alive(*back) == 3
    assert alive(*others) == 5

    for client in back:
        client.close()
    await_sessions(stand, 30000, 0)
    done = run_cli("kick", "30000", "-c", stand.settings_file, "--yes")
    assert done == (0, "no sessions on port 30000 (demo/web)\n", "")


@pytest.mark.parametrize("by", ["slot", "pod", "address"])
def test_kick_ends_the_sessions_of_one_server(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, by: str
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    stand.write("web.yaml", *app("web", 30000, with_pods(a, b)))
    converged(files.enter_context(running(stand.daemon())))
    await_ready(stand, 30000, a, b)
    clients = [held(files, stand, 30000) for _ in range(6)]
    on_a = [client for client in clients if client.server == "a"]
    on_b = [client for client in clients if client.server == "b"]
    assert on_a
    assert on_b
    await_sessions(stand, 30000, 6)
    slot = stand.slots(30000)[a.address]
    server = {"slot": slot, "pod": "pod-a", "address": str(a.address)}[by]
    done = run_cli("kick", "30000", "--server", server, "--yes", "-c", stand.settings_file)
    assert done.code == 0
    assert done.out == (
        f"ended {len(on_a)} sessions on port 30000 (demo/web), server {server}\n"
        f"  {len(on_a)} on {slot} {a.address} pod-a\n"
    )
    await_(lambda: alive(*on_a) == 0, "those of a are ended")
    assert alive(*on_b) == len(on_b)

    unknown = run_cli("kick", "30000", "--server", "c", "--yes", "-c", stand.settings_file)
    assert unknown.code == 2
    assert "has no server 'c'; name a slot (s1), an address (10.0.0.1:80) or a pod: " in unknown.err
    assert "pod-a, pod-b" in unknown.err
