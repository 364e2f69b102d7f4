"""The session cookie by annotations and paths: as they change on one HAProxy."""

import re
from typing import Any

import pytest
from by_host import MakeNamed, NamedServer, WebStand, ask_raw, host_app
from stand import MakeStand, await_, converged, running

from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.web_files import WebFiles
from sidecar.policies.cookies import COOKIE_NAME, DISABLE_COOKIES

HOST = "a.example"


def write(web: WebStand, servers: Any, path: str = "", **wishes: str) -> None:
    keys = {"off": DISABLE_COOKIES.annotation, "name": COOKIE_NAME.annotation}
    annotations = {keys[key]: value for key, value in wishes.items()}
    name = f"web{path.replace('/', '-')}"
    app = host_app(name, HOST, servers, path=path, annotations=annotations)
    web.stand.write(f"{name}.yaml", *app)


class Browser:
    """It keeps cookies as RFC 6265 has it, those of one host. ``given``: how often it got one."""

    def __init__(self, web: WebStand, **cookies: str) -> None:
        self.cookies = dict(cookies)
        self.given = 0
        self._web = web

    def ask(self, path: str = "/") -> str:
        line = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        head = f"GET {path} HTTP/1.1\r\nHost: {HOST}" + (f"\r\nCookie: {line}" if line else "")
        reply = ask_raw(self._web.http, head)
        found = re.findall(
            r"^set-cookie: ([^=]*)=([^;\r]*)", reply.head, re.IGNORECASE | re.MULTILINE
        )
        self.cookies.update(found)
        self.given += len(found)
        return reply.body if reply.status == 200 else str(reply.status)


def cookie_lines(server: NamedServer) -> list[str]:
    """What the server was last sent."""
    lines = server.heads[-1].split("\r\n")
    return [line.partition(": ")[2] for line in lines if line.lower().startswith("cookie:")]


def test_routes_of_one_host_keep_their_clients(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    paths = {path: [named(f"{path}-{n}") for n in range(3)] for path in ("", "/a", "/a/b")}
    with running(web.stand.daemon()) as daemon:
        for path, servers in paths.items():
            write(web, servers, path)
        for path in paths:
            await_(lambda p=path: Browser(web).ask(p or "/").startswith(f"{p}-"), "it is served")
        converged(daemon)
        browser = Browser(web, other="x y", last="1")
        first = {path: browser.ask(path or "/") for path in paths}
        for _ in range(6):
            assert {path: browser.ask(path or "/") for path in paths} == first
        assert browser.given == 3
        assert {name.rpartition("-")[0] for name in browser.cookies} == {
            *("", "haproxy", "haproxy-sidecar")
        }
        # No server sees any of those that are HAProxy's for it.
        (server,) = (one for one in paths["/a"] if one.name == first["/a"])
        browser.ask("/a")
        (line,) = cookie_lines(server)
        assert "other=x y" in line
        assert "last=1" in line
        assert browser.cookies["haproxy-sidecar"] not in line
        for other in {item for item in browser.cookies if item.startswith("haproxy-sidecar-")}:
            assert (browser.cookies[other] in line) is (line.count(other) == 1)
        total = daemon.reconciler.history.total
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert daemon.reconciler.history.total == 0 < total
        web.stand.stop_haproxy()
        web.stand.start_haproxy()
        assert {path: browser.ask(path or "/") for path in paths} == first


def test_a_name_of_its_own(make_stand: MakeStand, named: MakeNamed) -> None:
    web, servers = WebStand.make(make_stand), [named("one"), named("two"), named("three")]
    write(web, servers, name="mine")
    with running(web.stand.daemon()) as daemon:
        await_(lambda: Browser(web).ask() == "one", "it is served")
        converged(daemon)
        browser = Browser(web)
        who = browser.ask()
        assert set(browser.cookies) == {"mine"}
        for own in (
            {"mine": browser.cookies["mine"]},
            {"a": "1", **browser.cookies},
            {**browser.cookies, "b": "2"},
            {"a": "1", "xmine": "0" * 16, **browser.cookies, "b": "2; c=3"},
            {"haproxy-sidecar": "0" * 16, **browser.cookies},
        ):
            again = Browser(web, **own)
            assert {again.ask() for _ in range(4)} == {who}, own
            assert again.given == 0
        (server,) = (one for one in servers if one.name == who)
        assert cookie_lines(server) == []
        Browser(web, a="1", xmine="0", **browser.cookies, b="2").ask()
        assert cookie_lines(server) == ["a=1; xmine=0; b=2"]
        # One that is none of HAProxy's gets there, and a new one comes back.
        for value in ("0" * 32, "x", "", "0" * 16):
            stale = Browser(web, mine=value)
            who = stale.ask()
            assert stale.given == 1
            (server,) = (one for one in servers if one.name == who)
            assert cookie_lines(server) == ([] if value == "0" * 16 else [f"mine={value}"])
            assert re.fullmatch("[0-9a-f]{16}", stale.cookies["mine"])
        # While it changes, a client is served, and keeps its server from then on.
        write(web, servers, name="other")
        await_(lambda: browser.ask() and "other" in browser.cookies, "it has another name")
        converged(daemon)
        kept = browser.ask()
        assert {browser.ask() for _ in range(4)} == {kept}
        write(web, servers)
        await_(lambda: browser.ask() and "haproxy-sidecar" in browser.cookies, "the default one")


def test_none_at_all(make_stand: MakeStand, named: MakeNamed) -> None:
    web, servers = WebStand.make(make_stand), [named("one"), named("two")]
    write(web, servers)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: Browser(web).ask() == "one", "it is served")
        browser = Browser(web)
        browser.ask()
        assert len({browser.ask() for _ in range(4)}) == 1
        write(web, servers, off="true")

        def is_off() -> bool:
            fresh = Browser(web)
            return fresh.ask() in ("one", "two") and fresh.given == 0

        await_(is_off, "it sets none")
        converged(daemon)
        # Those that are still there are of no use.
        assert {browser.ask() for _ in range(4)} == {"one", "two"}
        write(web, servers, off="false")
        await_(lambda: not is_off(), "it sets one again")
        assert len({browser.ask() for _ in range(4)}) == 1


def test_a_client_keeps_its_server_in_another_backend(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    """As at another replica of the router, where the Route has leased another one."""
    web = WebStand.make(make_stand)
    servers = [named("one"), named("two"), named("three")]
    write(web, servers, "/first", name="mine")
    with running(web.stand.daemon()) as daemon:
        await_(lambda: Browser(web).ask("/first") == "one", "it is served")
        browser = Browser(web)
        who = browser.ask("/first")
        write(web, servers, "/second", name="mine")
        await_(lambda: Browser(web).ask("/second") == "one", "the other is served")
        converged(daemon)
        assert len(daemon._routing.by_host) == 2
        assert {browser.ask("/second") for _ in range(4)} == {who}
        assert browser.given == 1


@pytest.mark.parametrize("entry", ["x", "", "0123 456"])
def test_a_changed_entry_is_repaired(make_stand: MakeStand, named: MakeNamed, entry: str) -> None:
    web, servers = WebStand.make(make_stand), [named("one")]
    file = WebFiles.beside(web.stand.settings.haproxy.state_file).cookies_map
    write(web, servers, name="mine")
    unit = web_backend_name("http", 1)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: Browser(web).ask() == "one", "it is served")
        converged(daemon)
        command = f"set map {file} {unit} {entry}" if entry else f"del map {file} {unit}"
        web.stand.client.ask(command)

        def is_mine() -> bool:
            browser = Browser(web)
            browser.ask()
            return set(browser.cookies) == {"mine"}

        await_(is_mine, "it is repaired")
        converged(daemon)
