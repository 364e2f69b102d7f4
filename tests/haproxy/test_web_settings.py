"""What the settings say of all Routes by host: headers, pages, compression, the PROXY protocol."""

import contextlib
import gzip
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from by_host import (
    MakeNamed,
    Reply,
    WebStand,
    ask,
    ask_over,
    ask_raw,
    client_hello,
    fields,
    host_app,
)
from handshake import shake_hands
from stand import MakeServer, MakeStand, await_, converged, running

from sidecar.cli.render import write_files
from sidecar.common.errors import SettingsError
from sidecar.haproxy.error_pages import PAGE_MAX_BYTES

HOST = "a.example"

#: Each as it is written in the settings, and as it arrives.
TEXTS = {
    "X-1": ("a  b", "a  b"),
    "X-2": ("\"x\"; '\\y' $HOME ${HOME} # {}", "\"x\"; '\\y' $HOME ${HOME} # {}"),
    "X-3": ("100%% (a, b) [c]", "100% (a, b) [c]"),
    "X-4": ("gr\u00fcn + = ?", "gr\u00fcn + = ?"),
    "X-5": ("-", "-"),
}


def over_tls(web: WebStand, head: str) -> Reply:
    with shake_hands(web.tls, HOST) as connection:
        return ask_over(connection, head)


def setting(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "action": {"type": "Set", "set": {"value": value}}}


def test_headers_of_all_routes(make_stand: MakeStand, named: MakeNamed) -> None:
    texts = {name: written for name, (written, _) in TEXTS.items()}
    headers = {
        "request": {
            "set": {**texts, "X-Agent": "is %[req.hdr(User-Agent),lower];", "X-Both": "router"},
            "delete": ["X-Away"],
        },
        "response": {
            "set": {
                **texts,
                "X-Was": "%[res.hdr(X-Server)] %[res.hdr(X-Server),base64]",
                "X-Both": "router",
            },
            "delete": ["X-Server"],
        },
    }
    names = {"request": ["X-Both"], "response": ["X-Both"]}
    web = WebStand.make(make_stand, headers=headers, route_headers=names)
    server = named("web", status="200 OK\r\nX-Server: me")
    actions = {of: [setting("X-Both", "route")] for of in ("request", "response")}
    further = {"httpHeaders": {"actions": actions}}
    objects = host_app("web", HOST, [server], termination="edge", insecure="Allow", further=further)
    web.stand.write("web.yaml", *objects)
    head = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: ME\r\nX-Away: 1\r\nX-Both: client"
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "web", "it is served")
        converged(daemon)
        for reply in (ask_raw(web.http, head), over_tls(web, head)):
            asked, answered = fields(server.heads[-1]), fields(reply.head)
            for name, (_, value) in TEXTS.items():
                assert asked[name.lower()] == answered[name.lower()] == [value]
            assert asked["x-agent"] == ["is me;"]
            assert "x-away" not in asked
            assert answered["x-was"] == ["me bWU="]
            assert "x-server" not in answered
            # Requests: first the router's, then the Route's; answers: the other way round.
            assert asked["x-both"] == ["route"]
            assert answered["x-both"] == ["router"]


def page(status: int, text: str, *further: str) -> str:
    lines = (f"HTTP/1.1 {status} No", "Content-Type: text/plain", *further, "", text)
    return "\r\n".join(lines)


def test_pages_of_the_users_own(make_stand: MakeStand, tmp_path: Path) -> None:
    gone, unknown = tmp_path / "503.http", tmp_path / "404.http"
    gone.write_text(page(503, "gr\u00fcn: " + "x" * (PAGE_MAX_BYTES - 60)))
    unknown.write_text(page(404, "unknown", "X-Page: mine").replace("\r\n", "\n"))
    pages = {503: str(gone), 404: str(unknown)}
    # Without them HAProxy has no more room than by default.
    names: dict[str, list[str]] = {"request": [], "response": []}
    web = WebStand.make(make_stand, error_pages=pages, route_headers=names)
    web.stand.write("web.yaml", *host_app("web", HOST, [], termination="edge", insecure="Allow"))
    with running(web.stand.daemon()) as daemon:
        head = f"GET / HTTP/1.1\r\nHost: {HOST}"
        await_(lambda: ask(web.http, HOST).status == 503, "it has no server")
        converged(daemon)
        for reply in (ask_raw(web.http, head), over_tls(web, head)):
            assert reply.status == 503
            assert reply.body.endswith("x" * 1000)
        for reply in (ask(web.http, "b.example"), over_tls(web, "GET / HTTP/1.1\r\nHost: b")):
            assert (reply.status, reply.body) == (404, "unknown")
            assert fields(reply.head)["x-page"] == ["mine"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<html>", "does not begin with the line of an answer; write a whole answer: HTTP/1.1 503"),
        ("", "does not begin with the line"),
        (page(404, "x"), "is an answer 404; write a whole answer: HTTP/1.1 503"),
        ("HTTP/1.1 503 No\r\nA: b\r\n", "has no empty line behind its headers"),
        ("HTTP/1.1 503 No\r\nA b\r\n\r\n", "has no empty line behind its headers"),
        (page(503, "xy", "Content-Length: 3"), "says Content-Length: 3, and has 2 bytes; leave it"),
        (page(503, "0\r\n\r\n", "Transfer-Encoding: chunked"), "has Transfer-Encoding; leave it"),
        (page(503, "x" * PAGE_MAX_BYTES), "has more than 15000 bytes"),
        (page(503, "\0"), "has a NUL"),
        (page(503, "\udce9"), "not UTF-8 text"),
        (None, "not a file; write the path of one with a whole HTTP answer"),
    ],
)
def test_a_page_that_haproxy_would_not_take(
    make_stand: MakeStand, tmp_path: Path, text: str | None, problem: str
) -> None:
    file = tmp_path / "page"
    file.write_text(page(503, "good"))
    web = WebStand.make(make_stand, error_pages={"503": str(file)})
    file.unlink()
    if text is not None:
        file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SettingsError) as caught:
        write_files(web.stand.settings, web.stand.settings.haproxy.config)
    assert f"web.error_pages.503: {file}: {problem}" in str(caught.value)


def test_answers_are_compressed(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand, compression={"types": ["text/html", "text/plain"]})
    body = "web" * 1000
    kinds = {"html": "text/html; charset=utf-8", "png": "image/png"}
    for name, kind in kinds.items():
        server = named(body, status=f"200 OK\r\nContent-Type: {kind}")
        web.stand.write(f"{name}.yaml", *host_app(name, f"{name}.example", [server]))
    with running(web.stand.daemon()) as daemon:
        for name in kinds:
            web.await_served(f"{name}.example", body)
        converged(daemon)
        for name, accepts, compressed in (
            ("html", "gzip, br", True),
            ("html", "br", False),
            ("png", "gzip", False),
        ):
            head = f"GET / HTTP/1.1\r\nHost: {name}.example\r\nAccept-Encoding: {accepts}"
            reply = ask_raw(web.http, head)
            coded = fields(reply.head).get("content-encoding") == ["gzip"]
            assert coded is compressed
            got = reply.body.encode("latin-1")
            assert (gzip.decompress(got) if compressed else got) == body.encode()


#: What is in front says of its client.
FRONT = b"PROXY TCP4 192.0.2.7 198.51.100.9 1111 443\r\n"


def test_a_load_balancer_in_front_tells_who_the_client_is(
    make_stand: MakeStand, named: MakeNamed, make_server: MakeServer
) -> None:
    web, server = WebStand.make(make_stand, listener={"accept_proxy": True}), named("web")
    objects = host_app("web", HOST, [server], termination="edge", insecure="Allow")
    web.stand.write("web.yaml", *objects)
    passed = make_server("passed")
    web.stand.write("p.yaml", *host_app("p", "p.example", [passed], termination="passthrough"))
    head = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()

    def status_in_clear() -> bytes:
        with socket.create_connection(web.http, 5) as connection:
            connection.sendall(FRONT + head)
            return connection.makefile("rb").read()[9:12]

    with running(web.stand.daemon()) as daemon:
        await_(lambda: status_in_clear() == b"200", "it is served")
        converged(daemon)
        assert fields(server.heads[-1])["x-forwarded-for"] == ["192.0.2.7"]
        with socket.create_connection(web.tls, 5) as connection:
            connection.sendall(FRONT)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(connection, server_hostname=HOST) as secured:
                secured.sendall(head)
                assert secured.makefile("rb").read()[9:12] == b"200"
        got = fields(server.heads[-1])
        assert (got["x-forwarded-for"], got["x-forwarded-port"]) == (["192.0.2.7"], ["443"])
        with socket.create_connection(web.tls, 5) as connection:
            connection.sendall(FRONT + client_hello("p.example"))
            assert connection.makefile("rb").readline().strip() == b"passed"
        # Who does not speak it is not served.
        with socket.create_connection(web.http, 5) as connection:
            connection.sendall(head)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) == b""


def test_ports_alone_need_no_room_for_headers(make_stand: MakeStand) -> None:
    pools = [{"ports": ["31000"], "slots": 1, "shared_by_sni": True}]
    stand = make_stand(pools=pools, web={"headers": {"request": {"set": {"X-One": "1"}}}})
    assert "tune.bufsize" not in stand.settings.haproxy.config.read_text()
