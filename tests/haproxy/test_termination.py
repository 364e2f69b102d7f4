"""TLS that HAProxy ends: edge Routes, what becomes of requests in clear, and what the log says."""

from typing import Any

import pytest
from by_host import MakeNamed, NamedServer, WebStand, ask, host_app
from stand import EchoServer, MakeServer, MakeStand, Stand, await_, converged, running

from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.web_files import WebFiles
from sidecar.model.objects import Key

FLAGS, ROUTES = "flags.map", "routes.map"


def shown(stand: Stand, name: str) -> dict[str, str]:
    file = stand.settings.haproxy.state_file.parent / "maps" / name
    lines = stand.client.ask(f"show map {file}").splitlines()
    return dict(line.split(" ")[1:] for line in lines if line)


def test_the_host_picks_the_route_once_tls_is_ended(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand, wildcards=True)
    web.stand.write(
        "web.yaml",
        *host_app("shop", "shop.example", [named("shop")], termination="edge"),
        *host_app("cart", "shop.example", [named("cart")], path="/cart", termination="edge"),
        *host_app("any", "x.apps.example", [named("any")], wildcard=True, termination="edge"),
        *host_app("plain", "plain.example", [named("plain")]),
    )
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended("shop.example") == "shop", "shop is served")
        converged(daemon)
        assert web.ended("Shop.example:443", "/cart/1") == "cart"
        assert web.ended("y.apps.example") == "any"
        assert web.ended("shop.example", sni="other.example") == "shop"
        assert web.ended("other.example", sni="shop.example") == "503"
        # One in clear is not served over TLS, nor the other way round.
        assert web.ended("plain.example") == "503"
        assert web.served("shop.example") == "503"
        assert web.served("plain.example") == "plain"


@pytest.mark.parametrize("termination", ["edge", "passthrough"])
def test_what_becomes_of_requests_in_clear_changes_live(
    make_stand: MakeStand, named: MakeNamed, make_server: MakeServer, termination: str
) -> None:
    web = WebStand.make(make_stand)
    server: NamedServer | EchoServer = named("web")
    if termination == "passthrough":
        server = make_server("web")

    def secured() -> str:
        if termination == "passthrough":
            return web.passed_to("web.example")
        return web.ended("web.example")

    def in_clear() -> tuple[int, str]:
        reply = ask(web.http, "Web.example:8081", "/a?b=%20c")
        lines = reply.head.split("\r\n")
        found = [line.partition(": ")[2] for line in lines if line.lower().startswith("location:")]
        return reply.status, found[0] if found else ""

    away, gone = (302, "https://web.example/a?b=%20c"), (503, "")
    with running(web.stand.daemon()) as daemon:
        policies = [("Redirect", away), ("None", gone), ("Redirect", away)]
        if termination == "edge":
            policies += [("Allow", (200, "")), ("Redirect", away), ("Allow", (200, ""))]
        for policy, wanted in [("", gone), *policies, ("", gone)]:
            app = host_app("web", "web.example", [server], termination=termination, insecure=policy)
            web.stand.write("web.yaml", *app)
            await_(lambda: secured() == "web", "it is served")
            await_(lambda wanted=wanted: in_clear() == wanted, f"{policy}: {wanted} in clear")
            assert secured() == "web"
            converged(daemon)
        assert set(shown(web.stand, FLAGS).values()) == {"-"}


def test_a_longer_path_in_clear_is_not_redirected(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    web.stand.write(
        "web.yaml",
        *host_app("a", "a.example", [named("a")], termination="edge", insecure="Redirect"),
        *host_app("b", "a.example", [named("b")], path="/b"),
    )
    with running(web.stand.daemon()):
        web.await_served("a.example", "b", "/b/x")
        web.await_served("a.example", "302", "/bx")


def test_what_haproxy_knows_of_a_backend_is_repaired_and_goes_with_its_route(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web, unit = WebStand.make(make_stand), web_backend_name("http", 1)
    file = web.stand.settings.haproxy.state_file.parent / "maps" / FLAGS
    app = host_app("a", "a.example", [named("a")], termination="edge", insecure="Redirect")
    web.stand.write("web.yaml", *app)
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "302")
        converged(daemon)
        for command, until in (
            (f"set map {file} {unit} -", "a"),
            (f"del map {file} {unit}", "503"),
        ):
            web.stand.client.ask(command)
            assert web.served("a.example") == until
            web.await_served("a.example", "302")
        assert shown(web.stand, ROUTES) == {unit: "demo/a"}
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert daemon.reconciler.history.total == 0
        await_(lambda: file.read_text() == f"{unit} r\n", "it is saved")
        web.stand.write("web.yaml")
        await_(lambda: shown(web.stand, ROUTES) == shown(web.stand, FLAGS) == {}, "all is gone")
        await_(lambda: file.read_text() == "", "that is saved")


def test_a_haproxy_that_knows_no_redirects_does_not_serve_in_clear_instead(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand)
    config = web.stand.settings.haproxy.config
    web.stand.stop_haproxy()
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "flags" not in line))
    web.stand.start_haproxy()
    web.stand.write(
        "web.yaml",
        *host_app("a", "a.example", [named("a")], termination="edge", insecure="Redirect"),
        *host_app("b", "b.example", [named("b")], termination="edge"),
    )
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended("b.example") == "b", "who needs none is served")
        unit = daemon._routing.owned(Key("Route", "demo", "a"))
        assert unit
        await_(lambda: unit in daemon.reconciler.known.failures, "who needs one is not")
        assert web.served("a.example") == "503"


def test_a_host_that_is_passed_through_is_not_answered_where_tls_ends(
    make_stand: MakeStand, named: MakeNamed, make_server: MakeServer
) -> None:
    """A browser sends it over the connection of another host, if their certificate has both."""
    web = WebStand.make(make_stand, wildcards=True)
    passed: dict[str, Any] = {"termination": "passthrough"}
    web.stand.write(
        "web.yaml",
        *host_app("any", "x.apps.example", [named("any")], wildcard=True, termination="edge"),
        *host_app("own", "own.apps.example", [make_server("own")], **passed),
        *host_app("edge", "edge.raw.example", [named("edge")], termination="edge"),
        *host_app("raw", "x.raw.example", [make_server("raw")], wildcard=True, **passed),
    )
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended("a.apps.example") == "any", "it is served")
        converged(daemon)
        assert web.passed_to("own.apps.example") == "own"
        assert web.ended("own.apps.example", sni="a.apps.example") == "421"
        assert web.ended("a.apps.example") == "any"
        assert web.passed_to("y.raw.example") == "raw"
        assert web.ended("y.raw.example", sni="a.apps.example") == "421"
        assert web.ended("edge.raw.example", sni="a.apps.example") == "edge"
        assert web.ended("else.example", sni="a.apps.example") == "503"


def test_a_backend_for_tls_gets_no_request_in_clear(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    """Whatever becomes of the map that says so."""
    web, unit = WebStand.make(make_stand), web_backend_name("passthrough", 1)
    server = named("raw")
    app = host_app("a", "a.example", [server], termination="passthrough", insecure="Redirect")
    web.stand.write("web.yaml", *app)
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "302")
        converged(daemon)
    web.stand.client.ask(
        f"set map {WebFiles.beside(web.stand.settings.haproxy.state_file).flags_map} {unit} -"
    )
    assert web.served("a.example") == "503"
    assert server.heads == []
