"""What HAProxy counts of Routes by host, with the real one: in the status, `why` and the metrics,
and never told of another Route than that whose it was."""

from typing import Any

from by_host import MakeNamed, WebStand, ask, host_app
from cli import run_cli
from stand import MakeServer, MakeStand, await_, converged, running
from web import get


def traffic(web: WebStand, host: str) -> Any:
    hosts = get(web.stand, "/api/status").json["hosts"]
    return next((item["traffic"] for item in hosts if item["host"] == host), None)


def sums(web: WebStand, host: str) -> tuple[int, int, int, int]:
    """Requests, 2xx, 5xx, those that no server accepted."""
    found = traffic(web, host)
    if found is None:
        return (-1, -1, -1, -1)
    codes = found["responses"]
    return (found["requests"], codes["2xx"], codes["5xx"], found["connection_errors"])


def metrics(web: WebStand, route: str) -> dict[str, float]:
    """The lines of a Route, without what is in front of its name."""
    namespace, _, name = route.partition("/")
    label = f'route="{name}",route_namespace="{namespace}"'
    found = {}
    for line in get(web.stand, "/metrics").body.splitlines():
        if line.startswith("haproxy_sidecar_route_") and label in line:
            key, _, value = line.rpartition(" ")
            found[key.replace(label, "").removeprefix("haproxy_sidecar_route_")] = float(value)
    return found


def test_requests_codes_bytes_and_times_of_each_route(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand)
    dead = named("dead")
    dead.close()
    web.stand.write(
        "web.yaml",
        *host_app("shop", "shop.example", [named("shop")]),
        *host_app("dead", "dead.example", [dead]),
    )
    with running(web.stand.daemon()) as daemon:
        web.await_served("shop.example", "shop")
        converged(daemon)
        before = sums(web, "shop.example")[0]
        for _ in range(5):
            assert ask(web.http, "shop.example").status == 200
        assert ask(web.http, "dead.example").status == 503
        await_(lambda: sums(web, "shop.example") == (before + 5, before + 5, 0, 0), "shop's")
        await_(lambda: sums(web, "dead.example") == (1, 0, 1, 1), "dead's")
        shop, dead_ = traffic(web, "shop.example"), traffic(web, "dead.example")
        assert shop["bytes_in"] > 0 < shop["bytes_out"]
        assert shop["sessions"] == 0
        assert shop["sessions_total"] == shop["requests"]
        assert 0 <= shop["average"]["total"] <= shop["most"]["total"] < 10_000
        assert dead_["retries"] + dead_["redispatches"] > 0

        table = run_cli("status", "-c", web.stand.settings_file).out
        row = next(line.split() for line in table.splitlines() if "demo/dead" in line)
        assert row[-4:-1] == ["0", "1", "1"]
        assert "REQUESTS" in table
        # Where no Route has a port, nothing stands for the ports' table.
        assert "\n\n\n" not in table
        assert "\n\nHOST " in table

        # Of what failed: a step of `why`, which is no verdict on what is now.
        why = run_cli("why", "-c", web.stand.settings_file, "dead.example").out
        assert "1 request in the last" in why
        assert "1 was accepted by no server" in why
        assert "responses: 5xx 1" in why
        why = run_cli("why", "-c", web.stand.settings_file, "http://shop.example/x").out
        assert "no server failed" in why
        assert f"responses: 2xx {before + 5}" in why

        # As of the last slow compare, or of a report that is newer.
        await_(lambda: metrics(web, "demo/dead").get("sessions_total{}") == 1, "metrics")
        found = metrics(web, "demo/dead")
        assert found['responses_total{code="5xx",}'] == 1
        assert found['responses_total{code="2xx",}'] == 0
        assert found["connection_errors_total{}"] == 1
        assert found["current_sessions{}"] == 0


def test_passthrough_has_connections_and_no_requests(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    web = WebStand.make(make_stand)
    one = make_server("one")
    web.stand.write("web.yaml", *host_app("one", "one.example", [one], termination="passthrough"))
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.passed_to("one.example") == "one", "one is served")
        converged(daemon)
        before = traffic(web, "one.example")["sessions_total"]
        assert web.passed_to("one.example") == "one"
        await_(lambda: traffic(web, "one.example")["sessions_total"] == before + 1, "it is counted")
        found = traffic(web, "one.example")
        assert (found["requests"], found["responses"]) == (None, None)
        assert found["average"]["response"] is None
        why = run_cli("why", "-c", web.stand.settings_file, "one.example").out
        assert f"{before + 1} connections in the last" in why
        assert metrics(web, "demo/one")["sessions_total{}"] == before + 1


def test_a_backend_that_changes_hands_counts_from_zero(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    """One backend, so the second Route gets that of the first."""
    web = WebStand.make(make_stand, backends={"http": 1})
    a, b = named("a"), named("b")
    with running(web.stand.daemon()) as daemon:
        for number in range(3):
            web.stand.write("web.yaml", *host_app("a", "a.example", [a]))
            web.await_served("a.example", "a")
            converged(daemon)
            for _ in range(7):
                ask(web.http, "a.example")
            await_(lambda: sums(web, "a.example")[0] == 8, "a's are counted")
            web.stand.write("web.yaml", *host_app("b", "b.example", [b]))
            while web.served("b.example") != "b":
                told = traffic(web, "b.example")
                assert told is None or told["requests"] == 0, f"b's are a's, round {number}"
            converged(daemon)
            await_(lambda: sums(web, "b.example")[0] == 1, "b's are counted")
            told = traffic(web, "b.example")
            assert told["average"] == dict.fromkeys(("queue", "connect", "response", "total"))
            assert told["responses"]["2xx"] == 1
            assert metrics(web, "demo/a") == {}
            assert metrics(web, "demo/b").get("sessions_total{}") == 1


def test_a_restarted_sidecar_and_a_restarted_haproxy_begin_anew(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand)
    web.stand.write("web.yaml", *host_app("a", "a.example", [named("a")]))
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "a")
        converged(daemon)
        await_(lambda: sums(web, "a.example")[0] > 0, "it is counted")
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        # Whose the former ones were, nobody knows.
        await_(lambda: sums(web, "a.example") == (0, 0, 0, 0), "it begins anew")
        assert traffic(web, "a.example")["average"]["total"] is None
        ask(web.http, "a.example")
        await_(lambda: sums(web, "a.example")[0] == 1, "it is counted")
        state = web.stand.settings.haproxy.state_file
        hosts = state.parent / "maps" / "hosts.map"
        await_(lambda: "a.example" in hosts.read_text(), "the map is saved")
        web.stand.stop_haproxy()
        web.stand.start_haproxy()
        await_(lambda: sums(web, "a.example")[0] == 0, "it begins anew")
        ask(web.http, "a.example")
        await_(lambda: sums(web, "a.example")[0] == 1, "it is counted")


def test_without_a_sidecar_nobody_knows_whose_it_was(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand)
    web.stand.write("web.yaml", *host_app("a", "a.example", [named("a")]))
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "a")
        converged(daemon)
    table = run_cli("status", "-c", web.stand.settings_file).out
    assert "a.example" in table
    assert "REQUESTS" not in table
