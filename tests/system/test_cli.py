"""The commands as their users see them: what is printed, where, and the exit code."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from by_host import host_app
from cli import ROOT, clean_environment, command, run_cli, spawn_cli
from stand import EchoServer, Stand, app, await_, await_leads_to, held, running

from sidecar import __version__

MakeStand = Callable[..., Stand]
MakeServer = Callable[..., EchoServer]

#: What only a command that works may load.
HEAVY = ("kubernetes", "pydantic", "jinja2", "prometheus_client", "prompt_toolkit", "yaml", "rich")


@pytest.fixture
def files() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    """Settings with one small pool, in a folder of their own."""
    path = tmp_path / "sidecar.yaml"
    data = {
        "haproxy": {
            "socket": str(tmp_path / "admin.sock"),
            "config": str(tmp_path / "out" / "haproxy.cfg"),
            "state_file": str(tmp_path / "out" / "servers.state"),
        },
        "source": {"path": str(tmp_path / "manifests")},
        "pools": [{"ports": ["30000-30003"], "slots": 2}],
        "limits": {"max_servers": 8},
    }
    (tmp_path / "manifests").mkdir()
    path.write_text(yaml.safe_dump(data))
    return path


def edit(settings_file: Path, **changed: Any) -> None:
    data = yaml.safe_load(settings_file.read_text())
    settings_file.write_text(yaml.safe_dump({**data, **changed}))


def test_version() -> None:
    assert run_cli("--version") == (0, f"haproxy-sidecar {__version__}\n", "")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from sidecar.cli import main; sys.argv = ['haproxy-sidecar', '--help']\n"
        "try: main()\n"
        "except SystemExit as exc: assert not exc.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *text, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    assert not done.stderr
    assert all(len(line) <= 80 for line in text)
    commands = [line.split()[0] for line in text[text.index("Commands:") + 1 :]]
    assert {"render", "run", "up", "check", "plan", "status", "shell"} <= set(commands)
    assert not any(line.endswith("...") for line in text[text.index("Commands:") :]), "cut off"


def test_what_runs_in_a_pod_loads_nothing_that_it_may_not_need() -> None:
    unwanted = {"asyncio", "dns", "jinja2", "kubernetes", "prompt_toolkit", "rich", "tenacity"}
    code = f"import sys, sidecar.cli.run; print([*{unwanted} & sys.modules.keys()])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_python_m_sidecar_is_the_same_command() -> None:
    assert spawn_cli("--version").out == f"haproxy-sidecar {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Usage: haproxy-sidecar [OPTIONS] COMMAND"),
        (["chek"], "No such command 'chek'"),
        (["check"], "Missing argument 'MANIFESTS'"),
        (["status", "--jsn"], "No such option: --jsn"),
        (["render", "surplus"], "unexpected extra argument"),
    ],
)
def test_wrong_usage(arguments: list[str], told: str) -> None:
    done = run_cli(*arguments)
    assert done.code == 2
    assert told in done.out + done.err


@pytest.mark.parametrize("name", ["render", "run", "up", "check", "plan", "status"])
def test_settings_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text("htpp: {}\npools: [{ports: [70000], slots: 0}]\n")
    done = run_cli(name, "-c", path, *([tmp_path] if name == "check" else []))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"haproxy-sidecar: settings {path}:\n")
    assert "  htpp: no such key; did you mean http?" in done.err
    assert "  pools[0].ports: [70000]: " in done.err
    assert "  pools[0].slots: 0: " in done.err


def test_settings_that_are_not_there(tmp_path: Path) -> None:
    done = run_cli("status", "-c", tmp_path / "none.yaml")
    assert done.code == 2
    assert "none.yaml:\n  cannot be read: No such file or directory" in done.err
    assert run_cli("status", "-c", tmp_path).code == 2
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in run_cli("status", "-c", tmp_path / "binary.yaml").err


def test_the_environment_names_settings_and_router(settings_file: Path) -> None:
    manifests = settings_file.parent / "manifests"
    (manifests / "web.yaml").write_text(yaml.safe_dump_all(app("web", 30001, ["10.1.1.1"])))
    assert "30001" in run_cli("check", manifests, SIDECAR_CONFIG=str(settings_file)).out
    other = run_cli("check", "-c", settings_file, manifests, WZH_ROUTER_NAME="wzh-router-2")
    assert other.code == 0
    assert "no Route names this router" in other.out
    assert "haproxy.router.openshift.io/wzh-router-name: wzh-router-2" in other.out
    # -c goes first.
    edit(settings_file, router_name="mine")
    done = run_cli("check", "-c", settings_file, manifests, SIDECAR_CONFIG="/nonexistent")
    assert "wzh-router-name: mine" in done.out


def test_render(settings_file: Path) -> None:
    printed = run_cli("render", "-c", settings_file, "-o", "-")
    assert (printed.code, printed.err) == (0, "")
    assert "frontend tcp-30003" in printed.out
    folder = settings_file.parent
    assert not (folder / "out").exists(), "-o - writes nothing"

    default = run_cli("render", "-c", settings_file)
    assert (default.code, default.out) == (0, "")
    config = folder / "out" / "haproxy.cfg"
    assert default.err == f"wrote {config}: 4 ports, 2 server slots each\n"
    assert config.read_text() == printed.out
    assert (folder / "out" / "servers.state").read_text() == "1\n"

    elsewhere = folder / "new" / "here.cfg"
    assert run_cli("render", "-c", settings_file, "-o", elsewhere).code == 0
    assert elsewhere.read_text() == printed.out

    (folder / "out" / "servers.state").write_text("precious\n")
    run_cli("render", "-c", settings_file)
    assert (folder / "out" / "servers.state").read_text() == "precious\n"

    (folder / "file").write_text("")
    failed = run_cli("render", "-c", settings_file, "-o", folder / "file" / "haproxy.cfg")
    assert failed.code == 2
    assert "cannot be written: " in failed.err


def test_check(settings_file: Path) -> None:
    manifests = settings_file.parent / "manifests"
    (manifests / "web.yaml").write_text(yaml.safe_dump_all(app("web", 30001, ["10.1.1.1"])))
    good = run_cli("check", "-c", settings_file, manifests)
    assert (good.code, good.err) == (0, "")
    assert good.out.splitlines() == [
        " PORT  ROUTE     VERDICT   SERVERS",
        "30001  demo/web  Admitted        1",
    ]
    many = [f"10.1.1.{number}" for number in range(1, 11)]
    for name, objects in {
        "bad": app("bad", "abc"),
        "many": app("many", "auto", many),
        "empty": app("empty", 30002),
    }.items():
        (manifests / f"{name}.yaml").write_text(yaml.safe_dump_all(objects))
    (manifests / "torn.yaml").write_text("kind: [")
    mixed = run_cli("check", "-c", settings_file, manifests)
    assert mixed.code == 1
    table, why, problems = mixed.out.split("\n\n")
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["-", "demo/bad", "InvalidPort", "-"],
        ["30002", "demo/empty", "NoEndpoints", "0"],
        ["30000", "demo/many", "Admitted", "10"],
        ["30001", "demo/web", "Admitted", "1"],
    ]
    rule = 'write a number from 1 to 65535, like "13306", or "auto"'
    assert why.splitlines() == [
        "why",
        f"  demo/bad: 'abc' is not a valid port; {rule}",
        "  demo/empty: no ready endpoint in Service 'empty'",
        "  demo/many: 2 endpoints skipped, limits.max_servers is 8",
    ]
    assert problems.startswith(f"problems\n  {manifests}/torn.yaml, line ")

    # Files that are named count whatever they are called; what is not named does not.
    one = manifests / "web.txt"
    (manifests / "web.yaml").rename(one)
    assert run_cli("check", "-c", settings_file, one).out == good.out
    assert run_cli("check", "-c", settings_file, one, manifests / "bad.yaml").code == 1


def test_check_shows_the_host_of_a_refused_route(settings_file: Path) -> None:
    text = settings_file.read_text()
    web = {
        "listeners": [{"name": "http", "kind": "http", "bind": ["127.0.0.9:8081"]}],
        "web": {"backends": {"http": 2}, "denied_domains": ["denied.test"]},
    }
    settings_file.write_text(text + yaml.safe_dump(web))
    manifests = settings_file.parent / "manifests"
    objects = [
        *host_app("denied", "www.denied.test", [], path="/x"),
        *host_app("good", "www.good.test", []),
    ]
    (manifests / "web.yaml").write_text(yaml.safe_dump_all(objects))
    table = run_cli("check", "-c", settings_file, manifests).out.split("\n\n")[0]
    assert [line.split()[:3] for line in table.splitlines()[1:]] == [
        ["www.denied.test/x", "demo/denied", "RouteNotAdmitted"],
        ["www.good.test", "demo/good", "NoEndpoints"],
    ]


def test_the_examples_are_good() -> None:
    # Without what `make run` adds while it runs.
    committed = [path for path in Path("examples").glob("*.yaml") if path.stem != "made-tls"]
    done = spawn_cli("check", "-c", "manifests/laptop/sidecar.yaml", *committed)
    assert done.code == 0, done.out
    rows = [line.split() for line in done.out.split("\n\n")[0].splitlines()[1:]]
    assert rows == [
        ["*.apps.example", "demo/apps", "Admitted", "2"],
        ["30001", "demo/billing", "Admitted", "1"],
        ["shop.example/cart", "demo/cart", "Admitted", "1"],
        ["login.example", "demo/login", "Admitted", "2"],
        ["13306", "demo/mysql", "Admitted", "1"],
        ["6620", "demo/ottcache-002", "NoEndpoints", "0"],
        ["30002", "demo/partner", "Admitted", "1"],
        ["api.partner.example:30443", "demo/partner-api", "Admitted", "1"],
        ["www.partner.example:30443", "demo/partner-www", "Admitted", "1"],
        ["secure.example", "demo/secure", "Admitted", "1"],
        ["shop.example", "demo/shop", "Admitted", "2"],
        ["18080", "demo/web", "Admitted", "2"],
    ]


def test_plan_prints_what_the_sidecar_then_sends(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    ours = ("-c", stand.settings_file)
    stand.write("web.yaml", *app("web", 30000, [a, b]))
    fresh = run_cli("plan", *ours)
    assert (fresh.code, fresh.err) == (0, "")
    lines = fresh.out.splitlines()
    closing = [f"disable frontend tcp-{port}" for port in range(30001, 30010)]
    assert [line for line in lines if "disable frontend" in line] == closing
    first, second = sorted([a.address, b.address])
    assert [line for line in lines if "be_tcp" in line] == [
        f"set server be_tcp-30000/s1 addr {first.ip} port {first.port}",
        f"set server be_tcp-30000/s2 addr {second.ip} port {second.port}",
        "set server be_tcp-30000/s1 state ready",
        "set server be_tcp-30000/s2 state ready",
    ]
    assert run_cli("plan", *ours).out == fresh.out, "it sends nothing"

    diff = run_cli("plan", "--diff", *ours)
    assert (diff.code, diff.err) == (0, "")
    assert diff.out.startswith(
        "port 30000  demo/web\n"
        f"+ s1 {first} ready, weight 256\n"
        f"+ s2 {second} ready, weight 256\n"
        "port 30001  unclaimed\n"
        "- open\n"
        "+ closed\n"
    )

    with running(stand.daemon()) as daemon:
        await_(lambda: not daemon.ready(), "converged")
        nothing = run_cli("plan", *ours)
        assert nothing == (0, "", "nothing to do: HAProxy has converged\n")
    stand.write("web.yaml", *app("web", 30000, [b]))
    slot = stand.slots(30000)[a.address]
    assert run_cli("plan", *ours).out == f"set server be_tcp-30000/{slot} state maint\n"
    stand.write("torn.yaml")
    (stand.manifests / "torn.yaml").write_text("{")
    assert "problem: " in run_cli("plan", *ours).err


def test_plan_tells_what_waits_from_what_is_done_now(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a, b = (
        make_stand(timing={"close_after": "1h"}, drain={"deadline": "2h"}),
        make_server("a"),
        make_server("b"),
    )
    ours = ("-c", stand.settings_file)
    stand.write("web.yaml", *app("web", 30000, [a]))
    stand.write("other.yaml", *app("other", 30001, [b]))
    with running(stand.daemon()):
        await_leads_to(stand, 30000, a)
        await_leads_to(stand, 30001, b)
        held(files, stand, 30001)
        stand.write("other.yaml", *app("other", 30001, [a]))
        await_leads_to(stand, 30001, a)
        await_(lambda: b.address in stand.slots(30001, "maint"), "it is gone")
        left = stand.slots(30001)[b.address]
        stand.write("web.yaml", *app("web", 30000, []))
        await_(lambda: stand.ready(30000) == [], "the last server is gone")
        closes = "disable frontend tcp-30000, after 1h without a server (timing.close_after)"
        ends = f"shutdown sessions server be_tcp-30001/{left}, when the drain deadline"
        await_(lambda: run_cli("plan", *ours).out == "", "all that is to be done now is done")
        told = run_cli("plan", *ours).err
        assert told == f"nothing to do now\nlater: {closes}\nlater: {ends} has passed\n"
        assert not stand.is_refused(30000), "it is as `plan` says"


def test_status(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a, b = (
        make_stand(pools=[{"ports": ["30000-30009"], "slots": 2}], limits={"max_servers": 2}),
        *map(make_server, "ab"),
    )
    ours = ("-c", stand.settings_file)
    stand.write("web.yaml", *app("web", 30000, [a]))
    stand.write("waits.yaml", *app("waits", 30001))
    stand.write("bad.yaml", *app("bad", "70000"))
    daemon = files.enter_context(running(stand.daemon()))
    await_(lambda: not daemon.ready(), "converged")
    session = stand.connect(30000)
    files.callback(session.close)
    pods = [
        {"addresses": [f"10.1.1.{number}"], "targetRef": {"kind": "Pod", "name": f"pod-{number}"}}
        for number in (1, 2, 3)
    ]
    stand.write("web.yaml", *app("web", 30000, [b]), *app("many", 30002, pods))
    await_(lambda: stand.ready(30000) == [b.address], "b is served")
    await_(lambda: stand.port(30002).open, "as many as there are slots are served")

    shown = run_cli("status", *ours)
    assert (shown.code, shown.err) == (0, "")
    info = stand.info()
    head, table, notes, waiting = shown.out.split("\n\n")
    lines = [line.rstrip() for line in head.splitlines()]
    assert lines[0] == "router   wzh-router-1  converged"
    assert lines[1].startswith(f"HAProxy  {info.version}, PID {info.pid}, up ")
    assert lines[2].startswith(f"source   directory {stand.manifests}, changed ")
    assert lines[3] == "pool     2 open, 3 claimed, 7 free ports; 4 used, 16 free slots"
    rows = [line.split() for line in table.splitlines()]
    assert " ".join(rows[0]) == "PORT STATE ROUTE SERVERS POD SESSIONS NEW/S IN OUT CHANGED"
    slot_a, slot_b = stand.slots(30000)[a.address], stand.slots(30000)[b.address]
    assert rows[1][:7] == ["30000", "open", "demo/web", "ready", "1,", "maint", "1"]
    assert rows[2][:4] == [str(b.address), slot_b, "ready", "0"]
    assert rows[3][:4] == [str(a.address), slot_a, "maint", "1"]
    assert rows[4][:4] == ["30001", "closed", "demo/waits", "none"]
    assert rows[5][:5] == ["30002", "open", "demo/many", "ready", "2"]
    assert rows[6][:5] == ["10.1.1.1:9000", "s1", "ready", "pod-1", "0"]
    assert rows[7][:5] == ["10.1.1.2:9000", "s2", "ready", "pod-2", "0"]
    assert notes.splitlines() == [
        "notes",
        "  30001 demo/waits: NoEndpoints: no ready endpoint in Service 'waits'",
        "  30002 demo/many: 1 endpoint skipped; see limits.max_servers and pools[].slots",
    ]
    assert waiting.startswith("not served\n  demo/bad: InvalidPort: '70000' is not a valid port")

    report = json.loads(run_cli("status", *ours, "--json").out)
    assert (report["router_name"], report["asked"]) == ("wzh-router-1", "sidecar")
    assert (report["converged"], report["unready"]) == (True, "")
    assert (report["ports_total"], report["ports_claimed"]) == (10, 3)
    assert (report["slots_total"], report["slots_used"]) == (20, 4)
    # What is narrowed has the totals of the whole pool, all of them.
    assert report["ports_open"] == 2
    narrowed = run_cli("status", "30001", *ours).out
    assert "30000" not in narrowed
    assert lines[3] in narrowed
    assert report["problems"] == []
    assert report["haproxy"].keys() == {"version", "pid", "uptime_seconds", "connections"}
    assert report["haproxy"]["pid"] == info.pid
    web, waits, many = report["ports"]
    # `connections_most`: each thread of HAProxy that wakes for a connection counts it for a moment.
    varying = (
        *("servers", "message", "changed_seconds_ago", "bytes_in", "bytes_out", "attempts"),
        "connections_most",
    )
    assert {key: web[key] for key in web if key not in varying} == {
        "port": 30000,
        "pool": "p0",
        "state": "open",
        "route": "demo/web",
        "reason": "Admitted",
        "sessions": 1,
        "left_out": 0,
        "held": False,
        "failure": "",
        "sessions_per_second": web["sessions_per_second"],
        "connections": 1,
        "connections_limit": web["connections_limit"],
        "drift": "",
        "shared": False,
        "held_by": "",
        "held_at_seconds": None,
        "held_reason": "",
    }
    assert web["connections_most"] >= 1
    assert web["attempts"]["errors"] == 0
    server = {server["address"]: server for server in web["servers"]}[str(a.address)]
    figures = ("sessions_per_second", "bytes_in", "bytes_out", "seconds_since_change", "attempts")
    assert {key: server[key] for key in server if key not in figures} == {
        "slot": slot_a,
        "address": str(a.address),
        "state": "maint",
        "weight": 256,
        "sessions": 1,
        "service": None,
        "pod": None,
        "node": None,
        "check": "",
    }
    assert many["left_out"] == 1
    assert many["servers"][0]["service"] == "many"
    assert many["servers"][0]["pod"] == "pod-1"
    assert (waits["state"], waits["servers"], waits["sessions"]) == ("closed", [], 0)
    assert [(item["route"], item["port"], item["reason"]) for item in report["waiting"]] == [
        ("demo/bad", None, "InvalidPort")
    ]


def test_status_of_some(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand, server = make_stand(), make_server()
    stand.write("web.yaml", *app("web", 30000, [server], namespace="shop"))
    stand.write("mysql.yaml", *app("mysql", 30001, namespace="shop"))
    stand.write("other.yaml", *app("web", 30002, namespace="lab"))
    stand.write("bad.yaml", *app("bad", "x", namespace="lab"))

    def seen(*arguments: str) -> tuple[list[int], list[str]]:
        report = json.loads(run_cli("status", "-c", stand.settings_file, "--json", *arguments).out)
        assert report["ports_total"] == 10
        ports = [item["port"] for item in report["ports"] if item["route"]]
        return ports, [item["route"] for item in report["waiting"]]

    with running(stand.daemon()) as daemon:
        await_(lambda: not daemon.ready(), "converged")
        assert seen() == ([30000, 30001, 30002], ["lab/bad"])
        assert seen("-n", "lab") == ([30002], ["lab/bad"])
        assert seen("web") == ([30000, 30002], [])
        assert seen("shop/web", "30001") == ([30000, 30001], [])
        assert seen("-n", "shop", "my*") == ([30001], [])
        assert seen("b*") == ([], ["lab/bad"])
        nothing = run_cli("status", "-c", stand.settings_file, "nobody")
        assert "no Route has a port" in nothing.out


def test_status_without_a_sidecar_and_beside_another(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, server = make_stand(), make_server()
    stand.write("web.yaml", *app("web", 30000, [server]))
    with running(stand.daemon()) as daemon:
        await_(lambda: not daemon.ready(), "converged")
        ours = json.loads(run_cli("status", "-c", stand.settings_file, "--json").out)
        data = yaml.safe_load(stand.settings_file.read_text())
        other = stand.folder / "other.yaml"
        other.write_text(yaml.safe_dump({**data, "router_name": "other"}))
        told = run_cli("status", "-c", other)
        assert "serves router 'wzh-router-1' with HAProxy at" in told.out
        assert "demo/web" not in told.out, "which is none of that router's"
        refused = run_cli("history", "-c", other)
        assert (refused.code, refused.out) == (3, "")
        assert "serves router 'wzh-router-1' with HAProxy at" in refused.err
        assert json.loads(run_cli("history", "-c", stand.settings_file, "--json").out).items() >= {
            ("router_name", ours["router_name"]),
            ("socket", ours["socket"]),
        }
    alone = run_cli("status", "-c", stand.settings_file)
    assert alone.code == 0
    assert "no running sidecar; read from HAProxy and the source: nothing answers at" in alone.out
    assert "Connection refused" in alone.out
    direct = json.loads(run_cli("status", "-c", stand.settings_file, "--json").out)
    assert (direct["asked"], direct["converged"], direct["changes"]) == ("haproxy", None, None)
    varying = ("changed_seconds_ago", "sessions_per_second")
    for report in (ours, direct):
        for item in report["ports"]:
            for key in varying:
                item[key] = 0
            # What was lately, only the running sidecar knows.
            for part in (item, *item["servers"]):
                part.update(attempts=None, seconds_since_change=0)
    assert direct["ports"] == ours["ports"]


def test_status_of_a_haproxy_that_is_away(settings_file: Path) -> None:
    manifests = settings_file.parent / "manifests"
    (manifests / "web.yaml").write_text(yaml.safe_dump_all(app("web", 30001, ["10.1.1.1"])))
    done = run_cli("status", "-c", settings_file)
    assert done.code == 3
    assert "HAProxy  away" in done.out
    assert "30001  unknown  demo/web" in done.out
    assert "connecting: No such file or directory; is HAProxy running, " in done.out
    report = json.loads(run_cli("status", "-c", settings_file, "--json").out)
    assert report["haproxy"] is None
    assert report["ports"][0]["state"] == "unknown"
    assert run_cli("plan", "-c", settings_file).code == 3


def test_the_folder_of_the_settings_is_not_there(settings_file: Path) -> None:
    (settings_file.parent / "manifests").rmdir()
    for name in ("status", "plan"):
        done = run_cli(name, "-c", settings_file)
        assert done.code == 3
        assert "manifests: No such file or directory; create it or name another" in done.err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["check", "examples"], ["render", "-o", "-"], ["status", "--json"]]
)
def test_a_closed_pipe_gives_no_traceback(arguments: list[str], settings_file: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    config = [] if arguments == ["--help"] else ["-c", settings_file]
    try:
        done = subprocess.run(
            command(*arguments, *config),
            stdout=write,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=clean_environment(),
            check=False,
        )
    finally:
        os.close(write)
    assert done.stderr == b""


def on_a_terminal(columns: int, *arguments: object) -> tuple[int, str]:
    """A command's exit code, and what a terminal of so many columns shows, without colours."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover  the child
        environment = {**clean_environment(), "COLUMNS": str(columns), "TERM": "xterm"}
        words = command(*arguments)
        os.execve(words[0], words, environment)
    shown = b""
    with contextlib.suppress(OSError):  # EIO is a terminal's end of file
        while data := os.read(terminal, 65536):
            shown += data
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())


def test_nothing_is_wider_than_a_terminal_and_nothing_is_folded_in_a_pipe(
    settings_file: Path,
) -> None:
    manifests = settings_file.parent / "manifests"
    route = app("a-name-of-a-route-that-is-long", "abc", namespace="and-a-long-namespace")
    (manifests / "bad.yaml").write_text(yaml.safe_dump_all(route))
    piped = run_cli("check", "-c", settings_file, manifests)
    lines = [line.split() for line in piped.out.splitlines()]
    assert ["-", "and-a-long-namespace/a-name-of-a-route-that-is-long", "InvalidPort", "-"] in lines
    assert 'like "13306", or "auto"\n' in piped.out

    code, text = on_a_terminal(60, "check", "-c", settings_file, manifests)
    assert code == 1
    assert all(len(line) <= 60 for line in text.splitlines())
    assert "'abc' is not a valid port; write a number" in " ".join(text.split())


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_status_gives_way_on_a_narrow_terminal(
    make_stand: MakeStand, make_server: MakeServer, columns: int
) -> None:
    stand = make_stand()
    pods = [
        {
            "addresses": [make_server().address.ip],
            "targetRef": {"kind": "Pod", "name": f"web-7d4b9c6f-{number}"},
            "nodeName": f"node-{number}.example.internal",
        }
        for number in range(2)
    ]
    stand.write("web.yaml", *app("web", 30000, pods), *app("bad", "x"))
    with running(stand.daemon()) as daemon:
        await_(lambda: not daemon.ready(), "converged")
        code, text = on_a_terminal(columns, "status", "-c", stand.settings_file)
    assert code == 0
    assert all(len(line) <= columns for line in text.splitlines())
    for word in ("30000", "open", "demo/web", "ready 2", "web-7d4b9c6f-1", "converged"):
        assert word in text, "this is there on any terminal"
    assert ("node-1.example.internal" in text) == (columns >= 120)
