"""What commands print for programs, and how much of it: check, plan and history."""

import json
import re
import signal

import yaml
from by_host import WebStand, host_app
from cli import Start, command, run_cli
from stand import MakeServer, MakeStand, app, await_, converged, running


def test_check_for_programs(make_stand: MakeStand) -> None:
    stand = make_stand(start=False)
    manifests = stand.folder / "checked.yaml"
    good = app("web", 30000, ["10.1.1.1", "10.1.1.2"])
    manifests.write_text(yaml.safe_dump_all([*good, *app("bad", "70000")]))
    done = run_cli("check", "-c", stand.settings_file, "--json", manifests)
    assert (done.code, done.err) == (1, "")
    found = json.loads(done.out)
    bad, web = sorted(found.pop("routes"), key=lambda item: str(item["route"]))
    assert found == {"router_name": "wzh-router-1", "certificates": [], "problems": []}
    assert web == {
        "route": "demo/web",
        "admitted": True,
        "reason": "Admitted",
        "port": 30000,
        "host": "",
        "path": "",
        "servers": 2,
        "notes": [],
    }
    assert (bad["admitted"], bad["reason"], bad["port"]) == (False, "InvalidPort", None)
    assert "'70000' is not a valid port" in bad["notes"][0]
    manifests.write_text(yaml.safe_dump_all(good))
    assert run_cli("check", "-c", stand.settings_file, "--json", manifests).code == 0


def test_plan_for_programs(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand = make_stand()
    ours = ("-c", stand.settings_file)
    stand.write("web.yaml", *app("web", 30000, [make_server("a")]))
    assert run_cli("hold", *ours, 30001).code == 0
    plain = run_cli("plan", *ours).out.splitlines()
    done = run_cli("plan", "--json", *ours)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {
        "now": plain,
        "later": [],
        "held_ports": [30001],
        "problems": [],
    }
    assert any(line.startswith("set server be_tcp-30000/s1 ") for line in plain)
    both = run_cli("plan", "--json", "--diff", *ours)
    assert (both.code, both.out) == (2, "")
    assert "write either --diff or --json" in both.err


def test_how_much_of_the_history(
    make_stand: MakeStand, make_server: MakeServer, start: Start
) -> None:
    stand, a = make_stand(), make_server("a")
    ours = ("-c", stand.settings_file)
    stand.write("web.yaml", *app("web", 30000, [a]))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        everything = run_cli("history", *ours).out.splitlines()[1:]
        assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} ", line) for line in everything)
        last = run_cli("history", "-n", 2, *ours).out.splitlines()[1:]
        assert [line.split() for line in last] == [line.split() for line in everything[-2:]]
        assert len(json.loads(run_cli("history", "--last", 3, "--json", *ours).out)["entries"]) == 3
        failed = run_cli("history", "--failed", *ours)
        assert (failed.code, failed.out) == (0, "")
        assert failed.err == "the sidecar had nothing refused on anything since it started\n"
        assert run_cli("history", "-n", 0, *ours).code == 2
        # What comes while somebody looks.
        followed = start(command("history", "-n", "1", "--follow", *ours))
        as_json = start(command("history", "30001", "--follow", "--json", *ours))
        followed.await_said("TIME")
        stand.write("other.yaml", *app("other", 30001, [a]))
        followed.await_said("enable frontend tcp-30001")
        as_json.await_said("enable frontend tcp-30001")
        for process in (followed, as_json):
            process.send(signal.SIGINT)
            assert process.wait() == 130
        assert followed.said.count("TIME") == 1
        assert "Traceback" not in followed.said
        lines = [json.loads(line) for line in as_json.said.splitlines()]
        assert all(line["port"] == 30001 for line in lines)
        assert [line["at_seconds"] for line in lines] == sorted(it["at_seconds"] for it in lines)
    gone = start(command("history", "--follow", *ours))
    await_(lambda: gone.ended, "nobody answers")
    assert gone.wait() == 3


def test_a_route_is_followed_to_another_backend(
    make_stand: MakeStand, make_server: MakeServer, start: Start
) -> None:
    web, a = WebStand.make(make_stand), make_server("a")
    stand = web.stand
    ours = ("-c", stand.settings_file)

    def serve(name: str, termination: str | None) -> None:
        stand.write(f"{name}.yaml", *host_app(name, f"{name}.test", [a], termination=termination))

    serve("shop", None)
    with running(stand.daemon()) as daemon:
        converged(daemon)
        followed = start(command("history", "--follow", "--json", *ours, "demo/shop"))
        by_host = start(command("history", "--follow", *ours, "shop.test"))
        followed.await_said("be_http_1/s1 state ready")
        by_host.await_said("be_http_1/s1 state ready")
        serve("other", None)
        serve("shop", "passthrough")
        for process in (followed, by_host):
            process.await_said("be_pass_1/s1 state ready")
            process.await_said("be_http_1/s1 state maint")
        # Without any it is not at its end, either.
        stand.remove("shop.yaml")
        followed.await_said("be_pass_1/s1 state maint")
        serve("shop", None)
        again = "hosts.map 0shop.test/ be_http_"
        await_(lambda: followed.said.count(again) == 2, f"it is served again: {followed.said}")
        for process in (followed, by_host):
            process.send(signal.SIGINT)
            assert process.wait() == 130
    told = [json.loads(line) for line in followed.said.splitlines()]
    assert len({(it["at_seconds"], it["command"]) for it in told}) == len(told)
    assert not [it for it in told if "be_http_2" in it["command"]], "which is the other's"
