"""Routes by host, end to end: manifests in a folder, a daemon, the real HAProxy, real requests."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from by_host import MakeNamed, WebStand, host_app
from stand import (
    EchoServer,
    MakeServer,
    MakeStand,
    Stand,
    app,
    await_,
    await_leads_to,
    converged,
    running,
)

from sidecar.haproxy.naming import web_backend_name


def test_a_request_reaches_its_route(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand, wildcards=True)
    shop, cart, any_ = named("shop"), named("cart"), named("any")
    web.stand.write(
        "web.yaml",
        *host_app("shop", "shop.example", [shop]),
        *host_app("cart", "shop.example", [cart], path="/cart"),
        *host_app("any", "www.apps.example", [any_], wildcard=True),
    )
    with running(web.stand.daemon()) as daemon:
        web.await_served("shop.example", "shop")
        converged(daemon)
        assert web.served("SHOP.example:8081", "/cart/1?x=/") == "cart"
        assert web.served("shop.example", "/carts") == "shop"
        assert web.served("foo.apps.example") == "any"
        assert web.served("unknown.example") == "503"
        for end in ("/", "?", "/x", "?x"):
            assert web.served(f"shop.example{end}", "/cart/1") == "400"


def test_routes_come_change_and_go_on_one_haproxy(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    a, b = named("a"), named("b")
    with running(web.stand.daemon()) as daemon:
        pid = web.stand.info().pid
        web.stand.write("web.yaml", *host_app("web", "one.example", [a]))
        web.await_served("one.example", "a")
        web.stand.write("web.yaml", *host_app("web", "one.example", [b]))
        web.await_served("one.example", "b")
        web.stand.write("web.yaml", *host_app("web", "two.example", [b]))
        web.await_served("two.example", "b")
        web.await_served("one.example", "503")
        web.stand.write("web.yaml", *host_app("web", "two.example", [b], path="/x"))
        web.await_served("two.example", "b", "/x/y")
        web.await_served("two.example", "503")
        web.stand.remove("web.yaml")
        web.await_served("two.example", "503", "/x/y")
        converged(daemon)
        assert web.stand.info().pid == pid


def test_a_path_without_servers_is_not_its_hosts(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    host_app_ = host_app("shop", "shop.example", [named("shop")])
    web.stand.write("web.yaml", *host_app_, *host_app("cart", "shop.example", [], path="/cart"))
    with running(web.stand.daemon()) as daemon:
        web.await_served("shop.example", "shop")
        converged(daemon)
        assert web.served("shop.example", "/cart") == "503"


def test_a_route_for_clients_that_nobody_knows_is_for_none(
    make_stand: MakeStand, make_server: MakeServer, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand)
    only = {"haproxy.router.openshift.io/ip_whitelist": "nonsense"}
    passed, shop, admin = make_server("passed"), named("shop"), named("admin")

    def write(annotations: Mapping[str, str]) -> None:
        web.stand.write(
            "web.yaml",
            *host_app("shop", "shop.example", [shop]),
            *host_app("admin", "shop.example", [admin], path="/admin", annotations=annotations),
            *host_app("edge", "e.example", [admin], termination="edge", annotations=annotations),
            *host_app(
                "passed", "p.example", [passed], termination="passthrough", annotations=annotations
            ),
        )

    with running(web.stand.daemon()) as daemon:
        write(only)
        web.await_served("shop.example", "shop")
        converged(daemon)
        assert web.served("shop.example", "/admin") == "shop"
        assert web.ended("e.example") == "503"
        assert web.passed_to("p.example") == ""
        assert admin.heads == []
        # One that is served is so no more once the annotation comes.
        write({})
        web.await_served("shop.example", "admin", "/admin")
        await_(lambda: web.ended("e.example") == "admin", "edge is served")
        await_(lambda: web.passed_to("p.example") == "passed", "passthrough is served")
        write(only)
        web.await_served("shop.example", "shop", "/admin")
        await_(lambda: web.ended("e.example") == "503", "edge is served no more")
        await_(lambda: web.passed_to("p.example") == "", "passthrough is served no more")


def test_no_route_is_404_where_that_is_wished(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand, unmatched_status=404)
    web.stand.write(
        "web.yaml",
        *host_app("a", "a.example", [named("a")], path="/a"),
        *host_app("empty", "empty.example", []),
    )
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "a", "/a/b")
        converged(daemon)
        assert web.served("a.example", "/ab") == "404"
        assert web.served("b.example") == "404"
        assert web.ended("b.example") == "404"
        assert web.served("empty.example") == "503"


def test_passthrough_by_sni(make_stand: MakeStand, make_server: MakeServer) -> None:
    web = WebStand.make(make_stand)
    one, two = make_server("one"), make_server("two")
    web.stand.write(
        "web.yaml",
        *host_app("one", "one.example", [one], termination="passthrough"),
        *host_app("two", "two.example", [two], termination="passthrough"),
    )
    with running(web.stand.daemon()):
        await_(lambda: web.passed_to("one.example") == "one", "one is served")
        await_(lambda: web.passed_to("TWO.example") == "two", "two is served")
        assert web.passed_to("three.example") == ""


def shown(stand: Stand) -> list[str]:
    maps = stand.settings.haproxy.state_file.parent / "maps"
    lines = stand.client.ask(f"show map {maps / 'hosts.map'}").splitlines()
    return sorted(line.partition(" ")[2] for line in lines if line)


def test_a_restarted_sidecar_gives_every_route_its_backend_back(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand)
    servers = {name: named(name) for name in "abcd"}
    apps = {name: host_app(name, f"{name}.example", [server]) for name, server in servers.items()}
    web.stand.write("web.yaml", *apps["a"], *apps["b"], *apps["c"])
    with running(web.stand.daemon()) as daemon:
        web.await_served("c.example", "c")
        web.stand.write("web.yaml", *apps["b"], *apps["c"], *apps["d"])
        web.await_served("d.example", "d")
        web.await_served("a.example", "503")
        first = web_backend_name("http", 1)
        await_(lambda: daemon.reconciler.known.is_clean(first), "what a left is tidied")
        converged(daemon)
    before = shown(web.stand)
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert shown(web.stand) == before
        assert daemon.reconciler.history.total == 0
        assert {name: web.served(f"{name}.example") for name in "abcd"} == {
            **{name: name for name in "bcd"},
            "a": "503",
        }


def test_haproxy_restarts_alone_and_serves_what_it_served(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand)
    web.stand.write("web.yaml", *host_app("a", "a.example", [named("a")]))
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "a")
        converged(daemon)
        state = web.stand.settings.haproxy.state_file
        hosts = state.parent / "maps" / "hosts.map"
        await_(lambda: "a.example" in hosts.read_text(), "the map is saved")
    web.stand.stop_haproxy()
    web.stand.start_haproxy()
    assert web.served("a.example") == "a"


def test_more_routes_than_backends_refuse_the_youngest(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand, backends={"http": 2})
    servers = {name: named(name) for name in "abc"}

    def aged(name: str, minute: int) -> tuple[dict[str, Any], ...]:
        created = f"2026-01-01T00:{minute:02}:00Z"
        return host_app(name, f"{name}.example", [servers[name]], created=created)

    web.stand.write("web.yaml", *aged("b", 2), *aged("c", 3))
    with running(web.stand.daemon()) as daemon:
        web.await_served("c.example", "c")
        web.stand.write("a.yaml", *aged("a", 1))
        web.await_served("a.example", "a")
        assert web.served("b.example") == "b"
        assert web.served("c.example") == "503"
        verdicts = {item.route.name: item for item in daemon._routing.verdicts()}
        assert verdicts["c"].reason == "PoolExhausted"
        assert "web.backends" in verdicts["c"].message
        web.stand.remove("a.yaml")
        web.await_served("c.example", "c")


def test_an_older_route_of_the_host_takes_it_over(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    young = host_app("young", "a.example", [named("young")], created="2026-01-02T00:00:00Z")
    old = host_app(
        "old", "a.example", [named("old")], namespace="x", created="2026-01-01T00:00:00Z"
    )
    web.stand.write("young.yaml", *young)
    with running(web.stand.daemon()):
        web.await_served("a.example", "young")
        web.stand.write("old.yaml", *old)
        web.await_served("a.example", "old")
        web.stand.remove("old.yaml")
        web.await_served("a.example", "young")


def test_entries_changed_by_hand_are_repaired(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    web.stand.write("web.yaml", *host_app("a", "a.example", [named("a")]))
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "a")
        converged(daemon)
        before = shown(web.stand)
        file = web.stand.settings.haproxy.state_file.parent / "maps" / "hosts.map"
        web.stand.client.ask(f"del map {file} 0a.example/")
        web.stand.client.ask(f"set map {file} 0a.example? be_http_3")
        web.stand.client.ask(f"add map {file} 0b.example/ be_http_1")
        assert shown(web.stand) != before
        await_(lambda: shown(web.stand) == before, "they are as they were", 30)


def test_ports_go_on_as_before(
    make_stand: MakeStand, named: MakeNamed, make_server: Callable[..., EchoServer]
) -> None:
    web, server = WebStand.make(make_stand), make_server("tcp")
    web.stand.write("port.yaml", *app("db", 30000, [server]))
    web.stand.write("web.yaml", *host_app("a", "a.example", [named("a")]))
    with running(web.stand.daemon()):
        await_leads_to(web.stand, 30000, server)
        web.await_served("a.example", "a")


def test_entries_that_lead_nowhere_are_repaired(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    web.stand.write("web.yaml", *host_app("a", "a.example", [named("a")]))
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "a")
        converged(daemon)
        before = shown(web.stand)
        file = web.stand.settings.haproxy.state_file.parent / "maps" / "hosts.map"
        web.stand.client.ask_all(
            [
                f"set map {file} 0a.example/ nonsense",
                f"add map {file} 0b.example/ be_http_99",
                f"add map {file} 0c.example/ be_pass_1",
            ]
        )
        await_(lambda: shown(web.stand) == before, "they are as they were")
        assert web.served("a.example") == "a"


def test_a_host_that_is_handed_over_is_nobody_elses_change(
    make_stand: MakeStand, named: MakeNamed, caplog: pytest.LogCaptureFixture
) -> None:
    web = WebStand.make(make_stand)
    servers = [named("young"), named("old")]
    young = host_app("young", "a.example", servers[:1], created="2026-01-02T00:00:00Z")
    old = host_app("old", "a.example", servers[1:], created="2026-01-01T00:00:00Z")
    web.stand.write("young.yaml", *young)
    with running(web.stand.daemon()) as daemon:
        for _ in range(4):
            web.await_served("a.example", "young")
            converged(daemon)
            web.stand.write("old.yaml", *old)
            web.await_served("a.example", "old")
            converged(daemon)
            web.stand.remove("old.yaml")
    assert "changed by somebody else" not in caplog.text


def test_what_a_longer_path_gives_back_is_the_shorter_ones(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand)
    web.stand.write("long.yaml", *host_app("long", "a.example", [named("long")], path="/a/"))
    web.stand.write("short.yaml", *host_app("short", "a.example", [named("short")], path="/a"))
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "long", "/a/x")
        web.await_served("a.example", "short", "/a")
        converged(daemon)
        web.stand.write("long.yaml", *host_app("long", "b.example", [named("b")], path="/a/"))
        web.await_served("a.example", "short", "/a/x")
        web.await_served("b.example", "b", "/a/x")
        converged(daemon)
