"""HAProxy's access log of Routes by host: real lines of the real one, with the Route's name."""

import re
from collections.abc import Mapping

from by_host import MakeNamed, WebStand, ask, host_app
from stand import MakeServer, MakeStand, await_, converged, running

from sidecar.haproxy.web_files import WebFiles

#: As docs/reference.md has them, in this order.
HTTP = re.compile(
    r"(?P<client>\S+):\d+ \[(?P<time>[^]]+)\] (?P<frontend>\S+) (?P<backend>[^/ ]+)/(?P<server>\S+)"
    r" (?P<TR>-?\d+)/(?P<Tw>-?\d+)/(?P<Tc>-?\d+)/(?P<Tr>-?\d+)/(?P<Ta>\+?\d+) (?P<status>-?\d+)"
    r" (?P<sent>\+?\d+) - - (?P<end>\S{4}) (?P<connections>\d+/\d+/\d+/\d+/\+?\d+)"
    r' (?P<queues>\d+/\d+) "(?P<request>.*)" (?P<received>\d+) "(?P<host>.*)" (?P<route>\S+)'
)
TLS = re.compile(
    r"(?P<client>\S+):\d+ \[(?P<time>[^]]+)\] (?P<frontend>\S+) (?P<backend>[^/ ]+)/(?P<server>\S+)"
    r" (?P<Tw>-?\d+)/(?P<Tc>-?\d+)/(?P<Tt>\+?\d+) (?P<sent>\+?\d+) (?P<end>\S{2})"
    r" (?P<connections>\d+/\d+/\d+/\d+/\+?\d+) (?P<queues>\d+/\d+) (?P<received>\d+)"
    r' "(?P<sni>.*)" (?P<route>\S+)'
)


def lines(web: WebStand, form: re.Pattern[str] = HTTP) -> list[Mapping[str, str]]:
    log = (web.stand.folder / "haproxy.log").read_text(errors="replace")
    return [found.groupdict() for line in log.splitlines() if (found := form.fullmatch(line))]


def of(web: WebStand, path: str) -> Mapping[str, str]:
    """The line of the request for ``path``."""
    found: list[Mapping[str, str]] = await_(
        lambda: [it for it in lines(web) if f" {path} " in it["request"]], f"{path} is logged"
    )
    (line,) = found
    return line


def names(web: WebStand) -> Mapping[str, str]:
    """Backend -> Route, as HAProxy shows it."""
    table = web.stand.client.ask(f"show map {routes_map(web)}")
    return dict(line.split(" ")[1:] for line in table.splitlines() if line)


def routes_map(web: WebStand) -> str:
    return str(WebFiles.beside(web.stand.settings.haproxy.state_file).routes_map)


def test_a_request_is_logged_with_its_route(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    dead = named("dead")
    dead.close()
    web.stand.write(
        "web.yaml",
        *host_app("shop", "shop.example", [named("shop")]),
        *host_app("dead", "dead.example", [dead], namespace="team"),
    )
    with running(web.stand.daemon()) as daemon:
        web.await_served("shop.example", "shop")
        converged(daemon)
        assert ask(web.http, "shop.example", "/good").status == 200
        assert ask(web.http, "dead.example", "/bad").status == 503
        assert ask(web.http, "nobody.example", "/none").status == 503
        assert ask(web.http, 'a"b.example', "/odd").status == 400
    good, bad, none, odd = (of(web, path) for path in ("/good", "/bad", "/none", "/odd"))
    assert (good["route"], good["status"], good["server"]) == ("demo/shop", "200", "s1")
    assert (good["frontend"], good["client"]) == ("web-http", "127.0.0.1")
    assert (good["host"], none["host"]) == ("shop.example", "nobody.example")
    assert good["request"] == "GET /good HTTP/1.1"
    assert int(good["sent"]) > 0 < int(good["received"])
    assert all(0 <= int(good[timer]) < 10_000 for timer in ("TR", "Tw", "Tc", "Tr", "Ta"))
    assert (bad["route"], bad["status"], bad["Tr"]) == ("team/dead", "503", "-1")
    assert bad["end"].startswith("SC")
    assert (none["route"], none["status"], none["backend"]) == ("-", "503", "web-http")
    assert odd["route"] == "-"


def test_passthrough_is_logged_with_its_route(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    web = WebStand.make(make_stand)
    one = make_server("one")
    web.stand.write("web.yaml", *host_app("one", "one.example", [one], termination="passthrough"))
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.passed_to("one.example") == "one", "one is served")
        converged(daemon)

        def passed() -> list[Mapping[str, str]]:
            return [line for line in lines(web, TLS) if line["route"] == "demo/one"]

        line = await_(passed, "it is logged")[0]
        assert (line["frontend"], line["backend"]) == ("web-tls", "be_pass_1")
        assert line["sni"] == "one.example"
        assert int(line["sent"]) > 0 < int(line["received"])
        assert all(0 <= int(line[timer]) < 10_000 for timer in ("Tw", "Tc", "Tt"))
        # What is not passed through is logged where its TLS ends.
        assert web.ended("two.example", "/two") == "503"
        two = of(web, "/two")
        assert (two["frontend"], two["host"], two["route"]) == ("tls-end~", "two.example", "-")
        assert len(passed()) == len(lines(web, TLS))


def test_a_backend_that_changes_hands_is_logged_by_its_new_name(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand, backends={"http": 1})
    servers = {name: named(name) for name in "ab"}
    with running(web.stand.daemon()) as daemon:
        for number in range(3):
            for name, server in servers.items():
                web.stand.write("web.yaml", *host_app(name, f"{name}.example", [server]))
                web.await_served(f"{name}.example", name, f"/{name}{number}")
        converged(daemon)
        assert names(web) == {"be_http_1": "demo/b"}
        await_(lambda: "/b2 " in str(lines(web)), "all is logged")
        for line in lines(web):
            name = line["request"].split("/")[1][0]
            # Before it was programmed there was no backend either.
            assert line["route"] == (f"demo/{name}" if line["backend"] == "be_http_1" else "-")
        web.stand.remove("web.yaml")
        await_(lambda: names(web) == {}, "the name goes at the next full compare")


def test_names_are_repaired_kept_and_saved(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    web.stand.write("web.yaml", *host_app("a", "a.example", [named("a")]))
    right = {"be_http_1": "demo/a"}
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "a")
        converged(daemon)
        assert names(web) == right
        file = routes_map(web)
        web.stand.client.ask_all(
            [f"set map {file} be_http_1 demo/wrong", f"add map {file} be_http_2 demo/stray"]
        )
        await_(lambda: names(web) == right, "it is repaired")
        web.stand.client.ask(f"del map {file} be_http_1")
        await_(lambda: names(web) == right, "it is repaired")
        saved = WebFiles.beside(web.stand.settings.haproxy.state_file).routes_map
        await_(lambda: saved.read_text() == "be_http_1 demo/a\n", "it is saved")
    # A sidecar that comes later changes nothing.
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert daemon.reconciler.changes == 0
    web.stand.stop_haproxy()
    web.stand.start_haproxy()
    assert ask(web.http, "a.example", "/again").status == 200
    assert of(web, "/again")["route"] == "demo/a"


def test_a_haproxy_that_has_no_such_map_serves_all_the_same(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand)
    config = web.stand.settings.haproxy.config
    web.stand.stop_haproxy()
    kept = [line for line in config.read_text().splitlines() if "log-format" not in line]
    config.write_text("\n".join([*kept, ""]))
    web.stand.start_haproxy()
    web.stand.write("web.yaml", *host_app("a", "a.example", [named("a")]))
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "a")
        converged(daemon)


def test_many_names_at_once(make_stand: MakeStand) -> None:
    web = WebStand.make(make_stand, backends={"http": 80}, slots=1)
    apps = [host_app(f"r{number}", f"h{number}.example", []) for number in range(80)]
    web.stand.write("web.yaml", *(item for app in apps for item in app))
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        await_(lambda: len(names(web)) == 80, "all have their names")
        assert set(names(web).values()) == {f"demo/r{number}" for number in range(80)}
        web.stand.write("web.yaml", *apps[0])
        await_(lambda: list(names(web).values()) == ["demo/r0"], "the others' go")
