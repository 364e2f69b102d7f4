"""`rewrite-target`: with which path servers are asked, as it changes on one HAProxy."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from by_host import MakeNamed, NamedServer, WebStand, ask, ask_over, ask_raw, host_app
from handshake import shake_hands
from pki import CA
from stand import MakeStand, await_, converged, running

from sidecar.haproxy.web_files import WebFiles

TARGET = "haproxy.router.openshift.io/rewrite-target"
HOST = "a.example"

#: The Route's path, its target, the path that a client asks for, and the one that the server gets;
#: None: 503. Those of OpenShift's router, where nothing else is said.
CASES = [
    ("/app", "/", "/app", "/"),
    ("/app", "/", "/app/", "/"),
    ("/app", "/", "/app/x", "/x"),
    ("/app", "/", "/app//x", "//x"),
    ("/app", "/", "/app/x?q=1?/app", "/x?q=1?/app"),
    ("/app", "/", "/app/%2f%|\\1\\2%41/app", "/%2f%|\\1\\2%41/app"),
    ("/app", "/", "/app/app/app", "/app/app"),
    ("/app", "/", f"/app/{'x' * 8000}", f"/{'x' * 8000}"),
    ("/app", "/", f"/app/{'%|/' * 2700}", f"/{'%|/' * 2700}"),
    ("/app", "/", f"http://{HOST}/app/x", f"http://{HOST}/x"),
    ("/api/v1", "/v2", "/api/v1", "/v2"),
    ("/api/v1", "/v2", "/api/v1/", "/v2/"),
    ("/api/v1", "/v2", "/api/v1/x?q=1", "/v2/x?q=1"),
    ("/app/", "/", "/app/x", "/x"),
    ("/app/", "/v2", "/app/x", "/v2x"),
    ("/app/", "/v2/", "/app/x", "/v2/x"),
    ("", "/v2", "/", "/v2/"),
    ("", "/v2", "/x", "/v2/x"),
    ("", "/v2", "*", "*"),
    ("", "/", "/x", "/x"),
    ("", "/", "//x", "//x"),
    ("/", "/v2", "/x", "/v2x"),
    ("/", "/v2/", "/x", "/v2/x"),
    ("/", "/", "//x", "/x"),
    ("/", "/v2", "*", "*"),
    # There it is a regular expression, which no HAProxy starts with.
    ("/a(b", "/v2", "/a(b/x", "/v2/x"),
    ("/a.*|[b]", "/", "/a.*|[b]/x", "/x"),
    # There these are HAProxy's or the template's.
    ("/app", "/%foo%%", "/app/x", "/%foo%%/x"),
    ("/app", "/'q'\\", "/app/x", "/'q'\\/x"),
    ("/app", '/";<<', "/app/x", '/";<</x'),
    ("/app", "/$1\\1&", "/app/x", "/$1\\1&/x"),
    # The longest of each.
    (f"/{'r' * 1699}", f"/{'t' * 299}", f"/{'r' * 1699}/x", f"/{'t' * 299}/x"),
    (
        f"/{'r' * 1699}",
        f"/{'t' * 299}",
        f"/{'r' * 1699}/{'x' * 13400}",
        f"/{'t' * 299}/{'x' * 13400}",
    ),
    ("/r", f"/{'t' * 299}", f"/r/{'x' * 15100}", f"/{'t' * 299}/{'x' * 15100}"),
]


def write(web: WebStand, server: Any, path: str, target: str | None, **rest: Any) -> None:
    wish = {} if target is None else {TARGET: target}
    app = host_app("web", HOST, [server], path=path, annotations=wish, **rest)
    web.stand.write("web.yaml", *app)


def told(web: WebStand) -> str:
    """What HAProxy has of the one Route; "" for nothing."""
    file = WebFiles.beside(web.stand.settings.haproxy.state_file).changed_paths_map
    shown = web.stand.client.ask(f"show map {file}").strip()
    return shown.partition(" ")[2].partition(" ")[2]


def got(web: WebStand, server: NamedServer, asked: str) -> str | None:
    """The path, with its query, that the server gets; None where it gets nothing."""
    before = len(server.heads)
    method = "OPTIONS" if asked == "*" else "GET"
    status = ask_raw(web.http, f"{method} {asked} HTTP/1.1\r\nHost: {HOST}").status
    if len(server.heads) == before:
        assert status == 503
        return None
    assert status == 200
    return server.heads[-1].split(" ")[1]


def test_without_a_path(make_stand: MakeStand, named: MakeNamed) -> None:
    """A URL that ends with its host has "/"; a tunnel has none."""
    web, server = WebStand.make(make_stand), named("web")
    write(web, server, "", "/v2")
    with running(web.stand.daemon()):
        await_(lambda: got(web, server, "/") == "/v2/", "it is told")
        # HAProxy 2.6 leaves the host out.
        assert got(web, server, f"http://{HOST}") in ("/v2/", f"http://{HOST}/v2/")
        with socket.create_connection(web.http, 5) as client:
            client.sendall(f"CONNECT {HOST}:80 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert client.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
        assert server.heads[-1].startswith(f"CONNECT {HOST}:80 HTTP/1.1\r\n")


def test_what_servers_are_asked(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand), named("web")
    with running(web.stand.daemon()) as daemon:
        for path, target, asked, wanted in CASES:
            write(web, server, path, target)
            await_(lambda path=path: told(web).startswith(f"{path}?"), "it is told of the path")
            await_(
                lambda asked=asked, wanted=wanted: got(web, server, asked) == wanted,
                f"{path[:20]} {target[:20]}: {asked[:20]} is {(wanted or '')[:20]}",
            )
            converged(daemon)
        write(web, server, "/app", "v2")
        await_(lambda: told(web) == "", "one that cannot be used is not told")
        await_(lambda: got(web, server, "/app/x") == "/app/x", "the path is left")
        (verdict,) = daemon._routing.verdicts()
        assert "rewrite target 'v2': write a path" in verdict.message


def test_what_haproxy_cannot_take_up_whole_is_not_cut_off(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    """As with no more room than HAProxy has by default."""
    names: dict[str, list[str]] = {"request": [], "response": []}
    web, server = WebStand.make(make_stand, route_headers=names), named("web")
    path, target = f"/{'r' * 1699}", f"/{'t' * 299}"
    write(web, server, path, target)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: got(web, server, f"{path}/x") == f"{target}/x", "it is told")
        converged(daemon)
        assert got(web, server, f"{path}/{'x' * 13400}") is None


@pytest.mark.parametrize("termination", ["edge", "reencrypt"])
def test_where_tls_ends(make_stand: MakeStand, named: MakeNamed, termination: str) -> None:
    web, ca = WebStand.make(make_stand), CA.root("one")
    verified = termination == "reencrypt"
    server = named("web", issued=ca.leaf("x.test") if verified else None)
    tls = {"destinationCACertificate": ca.pem} if verified else {}
    write(web, server, "/app", "/v2", termination=termination, insecure="Redirect", tls=tls)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST, "/app") == "web", "it is served")
        converged(daemon)
        with shake_hands(web.tls, HOST) as secured:
            assert ask_over(secured, f"GET /app/x?q HTTP/1.1\r\nHost: {HOST}").status == 200
        assert server.heads[-1].startswith("GET /v2/x?q HTTP/1.1")
        # Clients go on asking for the Route's path.
        redirect = ask(web.http, HOST, "/app/x?q")
        assert redirect.status == 302
        assert f"\r\nlocation: https://{HOST}/app/x?q\r\n" in f"{redirect.head}\r\n"


class Load:
    """Clients that ask for ``asked`` over and over; ``statuses``: of the answers."""

    def __init__(self, web: WebStand, asked: str) -> None:
        self.statuses: list[int] = []
        self._web, self._asked, self._stop = web, asked, threading.Event()

    def run(self) -> None:
        with contextlib.suppress(ConnectionError):
            while not self._stop.is_set():
                self.statuses.append(ask(self._web.http, HOST, self._asked).status)
            return
        self.statuses.append(0)

    def end(self) -> None:
        self._stop.set()


@contextlib.contextmanager
def load(web: WebStand, asked: str) -> Iterator[list[int]]:
    found = Load(web, asked)
    threads = [threading.Thread(target=found.run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        await_(lambda: len(found.statuses) > 10, "they are answered")
        yield found.statuses
    finally:
        found.end()
        for thread in threads:
            thread.join(20)


def test_it_changes_live(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand), named("web")
    targets = {"/v2": "/v2/x", "/": "/x", '/"': '/"/x', None: "/app/x"}
    with running(web.stand.daemon()) as daemon:
        write(web, server, "/app", None)
        web.await_served(HOST, "web", "/app/x")
        converged(daemon)
        with load(web, "/app/x") as statuses:
            for _ in range(3):
                for target, path in targets.items():
                    write(web, server, "/app", target)
                    await_(
                        lambda path=path: server.heads[-1].split(" ")[1] == path,
                        f"{target}: {path}",
                    )
                    converged(daemon)
        assert set(statuses) == {200}
        assert {head.split(" ")[1] for head in server.heads} == set(targets.values())


def test_path_and_target_change_together(make_stand: MakeStand, named: MakeNamed) -> None:
    """No request is changed by the path of one moment and the target of another."""
    web, server = WebStand.make(make_stand), named("web")
    with running(web.stand.daemon()) as daemon:
        write(web, server, "/a/b", "/one")
        web.await_served(HOST, "web", "/a/b/x")
        converged(daemon)
        with load(web, "/a/b/x") as statuses:
            for _ in range(5):
                for path, target, wanted in (
                    ("/a", "/two", "/two/b/x"),
                    ("/a/b", "/one", "/one/x"),
                ):
                    write(web, server, path, target)
                    await_(
                        lambda wanted=wanted: server.heads[-1].split(" ")[1] == wanted,
                        f"{path} {target}",
                    )
                    converged(daemon)
        assert set(statuses) <= {200, 503}
        asked = {head.split(" ")[1] for head in server.heads}
        assert asked == {"/two/b/x", "/one/x"}


def test_it_outlives_a_restart_and_is_repaired(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand), named("web")
    files = WebFiles.beside(web.stand.settings.haproxy.state_file)
    write(web, server, "/app", "/v2")
    with running(web.stand.daemon()) as daemon:
        await_(lambda: got(web, server, "/app/x") == "/v2/x", "it is told")
        converged(daemon)
        await_(lambda: files.changed_paths_map.read_text().endswith(" /app?/v2\n"), "it is saved")
        await_(lambda: " p\n" in files.flags_map.read_text(), "and the letter")
        unit = files.changed_paths_map.read_text().split(" ")[0]
        for command in (
            f"del map {files.changed_paths_map} {unit}",
            f"set map {files.changed_paths_map} {unit} /app?/v3",
            f"set map {files.flags_map} {unit} -",
        ):
            total = daemon.reconciler.history.total
            web.stand.client.ask(command)
            await_(lambda total=total: daemon.reconciler.history.total > total, command)
            await_(lambda: got(web, server, "/app/x") == "/v2/x", "it is repaired")
            converged(daemon)
    web.stand.stop_haproxy()
    web.stand.start_haproxy()
    assert got(web, server, "/app/x") == "/v2/x"
    web.stand.client.ask(f"clear map {files.changed_paths_map}")
    assert got(web, server, "/app/x") is None
    with running(web.stand.daemon()) as daemon:
        await_(lambda: got(web, server, "/app/x") == "/v2/x", "it is told again")
        web.stand.write("web.yaml")
        await_(lambda: told(web) == "", "it goes with its Route")
