"""Which Route a request gets: HAProxy with our maps chooses as OpenShift's router does, whose
regular expressions `by_host` has; and where not, in which cases (`sidecar.listeners.web_keys`).
"""

import contextlib
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from by_host import (
    NamedServer,
    OriginalRoute,
    ask,
    ask_raw,
    client_hello,
    fill,
    is_tls,
    named_servers,
    originals_choice,
    use,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from stand import EchoServer, Stand, fresh_ip
from whole_map import holders

from sidecar.haproxy.naming import web_backend_name
from sidecar.listeners.web_keys import (
    WebKey,
    request_entries,
    request_names,
    sni_entry,
    web_key,
)

#: Backends of each class; a world has no more Routes.
COUNT = 10


class Web(NamedTuple):
    """A HAProxy whose backends each have a server that answers with the backend's name."""

    stand: Stand
    http: tuple[str, int]
    tls: tuple[str, int]
    servers: list[NamedServer]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    ip = fresh_ip()
    stand = Stand(
        tmp_path_factory.mktemp("web"),
        listeners=[
            {"name": "http", "kind": "http", "bind": [f"{ip}:8080"]},
            {"name": "https", "kind": "tls", "bind": [f"{ip}:8443"]},
        ],
        web={"backends": {"http": COUNT, "passthrough": COUNT}, "slots": 1},
    )
    names = [web_backend_name("http", number) for number in range(1, COUNT + 1)]
    with named_servers(names) as servers:
        try:
            stand.start()
            for name, server in zip(names, servers, strict=True):
                use(stand, name, server.address)
            yield Web(stand, (ip, 8080), (ip, 8443), servers)
        finally:
            stand.close()


def serve(web: Web, *routes: tuple[str, str] | tuple[str, str, bool]) -> list[OriginalRoute]:
    """Let HAProxy have just these Routes (host, path, whether wildcard), each its backend."""
    whose: dict[WebKey, str] = {}
    originals = []
    for number, (host, path, *more) in enumerate(routes, 1):
        backend = web_backend_name("http", number)
        wildcard = bool(more and more[0])
        whose[web_key(host, path, wildcard=wildcard)] = backend
        originals.append(OriginalRoute(host, path, wildcard, backend))
    fill(web.stand, "hosts", ((entry, whose[key]) for entry, key in holders(whose).items()))
    return originals


def chosen(web: Web, host: str, target: str) -> str | None:
    """The backend that HAProxy chooses."""
    reply = ask(web.http, host, target)
    assert reply.status in (200, 503), reply
    return reply.body if reply.status == 200 else None


# -- any world ---------------------------------------------------------------------------------

# Few, so that Routes meet.
_HOSTS = st.sampled_from(["a.test", "www.test", "a.d.test"])
_PIECES = st.sampled_from(["/", "/a", "/a/", "/ab", "//", "%2f", "/%2F", ".", "b", "/!x", "/A"])
_PATHS = st.one_of(
    st.sampled_from(["", "/", "/a", "/a/", "/ab", "//", "/a%2f", "/a/%2f", "/a/b"]),
    st.lists(_PIECES, max_size=3).map(lambda parts: "/" + "".join(parts)),
)
_ROUTES = st.lists(
    st.tuples(_HOSTS, _PATHS, st.booleans()),
    min_size=4,
    max_size=COUNT,
    # Those that match the same requests are one claim, and who wins it is not a matter of maps.
    unique_by=lambda route: web_key(route[0], route[1], wildcard=route[2]),
)


@st.composite
def _requests(draw: st.DrawFn, routes: list[tuple[str, str, bool]]) -> tuple[str, str]:
    """A Host header and a request's target, near one of ``routes``."""
    host, path, _ = draw(st.sampled_from(routes))
    host = draw(st.sampled_from([host, host.upper(), host.title()]))
    host = draw(st.sampled_from([host, host, f"www.{host}", host.partition(".")[2], f".{host}"]))
    host += draw(st.sampled_from(["", "", ".", ":80", ".:8080"]))
    path += draw(st.sampled_from(["", "", "/", "/x", "x", "//", "%2f", "/!x"]))
    target = path if path.startswith("/") else f"/{path}"
    return host, target + draw(st.sampled_from(["", "?q=/a/b?c"]))


def hidden(found: OriginalRoute | None, other: OriginalRoute | None) -> bool:
    """Whether ``found`` is longer than the original's choice ``other``, which hides it since it is
    sorted behind it: its path goes on below ``/dir/`` with a byte less than that of "("."""
    if found is None or other is None:
        return False
    longer = found.path.removeprefix(other.path)
    return (
        found.hosts == other.hosts
        and other.path.endswith("/")
        and found.path.startswith(other.path)
        and longer[:1] in tuple("!\"#%&'")
    )


@settings(max_examples=200)
@given(st.data())
def test_as_the_original_chooses(web: Web, data: st.DataObject) -> None:
    routes = data.draw(_ROUTES)
    originals = serve(web, *routes)
    by_backend = {route.backend: route for route in originals}
    for host, target in data.draw(st.lists(_requests(routes), min_size=1, max_size=8)):
        wanted = originals_choice(originals, host, target)
        found = by_backend.get(chosen(web, host, target) or "")
        assert found == wanted or hidden(found, wanted), (host, target)


@settings(max_examples=50)
@given(st.data())
def test_by_which_entry_a_request_is_found(web: Web, data: st.DataObject) -> None:
    """What `why` says of a URL is what HAProxy does."""
    routes = data.draw(_ROUTES)
    serve(web, *routes)
    keys = [web_key(host, path, wildcard=wildcard) for host, path, wildcard in routes]
    entries = holders(keys)
    for host, target in data.draw(st.lists(_requests(routes), min_size=1, max_size=8)):
        asked = host.partition(":")[0].rstrip("."), target.partition("?")[0]
        found = (
            web_backend_name("http", keys.index(entries[entry]) + 1)
            for name in request_names(asked[0])
            for entry in request_entries(name, asked[1])
            if entry in entries
        )
        assert chosen(web, host, target) == next(found, None), (host, target)


# -- cases by name -----------------------------------------------------------------------------

#: Routes, and below what a request asks for and which of them it should get.
WORLD = (
    ("plain.test", ""),
    ("plain.test", "/a"),
    ("plain.test", "/dir/"),
    ("plain.test", "/dir/sub"),
    ("any.w.test", "", True),
    ("any.w.test", "/a", True),
    ("own.w.test", "/only"),
    ("paths.test", "/a"),
    ("paths.test", "/a/"),
    ("[::1]", ""),
)
CASES = {
    "the host": ("plain.test", "/", "plain.test"),
    "case": ("PLAIN.Test", "/", "plain.test"),
    "final dot": ("plain.test.", "/", "plain.test"),
    "port": ("plain.test:8080", "/", "plain.test"),
    "dot and port": ("plain.test.:80", "/x", "plain.test"),
    "IPv6": ("[::1]:80", "/", "[::1]"),
    "another host": ("plain.test2", "/", None),
    "a longer one": ("x.plain.test", "/", None),
    "a shorter one": ("test", "/", None),
    "path": ("plain.test", "/a", "plain.test/a"),
    "path, slash": ("plain.test", "/a/", "plain.test/a"),
    "path, below": ("plain.test", "/a/x", "plain.test/a"),
    "path, query": ("plain.test", "/a?q=1", "plain.test/a"),
    "path, query with a path": ("plain.test", "/?/a", "plain.test"),
    "/ab against /a": ("plain.test", "/ab", "plain.test"),
    "case of a path": ("plain.test", "/A", "plain.test"),
    "two slashes": ("plain.test", "//a", "plain.test"),
    "nothing is decoded": ("plain.test", "/%61", "plain.test"),
    "%2f is no slash": ("plain.test", "/a%2fx", "plain.test"),
    "nothing is resolved": ("plain.test", "/a/../x", "plain.test/a"),
    "/dir/ is not /dir": ("plain.test", "/dir", "plain.test"),
    "/dir/": ("plain.test", "/dir/x", "plain.test/dir/"),
    "the longest": ("plain.test", "/dir/sub/x", "plain.test/dir/sub"),
    "/a and /a/: itself": ("paths.test", "/a", "paths.test/a"),
    "/a and /a/: below": ("paths.test", "/a/x", "paths.test/a/"),
    "a path only": ("paths.test", "/", None),
    "wildcard": ("foo.w.test", "/", "*.w.test"),
    "wildcard, case, port": ("FOO.W.test:80", "/", "*.w.test"),
    "wildcard, path": ("foo.w.test", "/a/b", "*.w.test/a"),
    "wildcard, its own host": ("any.w.test", "/", "*.w.test"),
    "wildcard, no label": (".w.test", "/", "*.w.test"),
    "wildcard, two labels": ("a.b.w.test", "/", None),
    "wildcard, the domain": ("w.test", "/", None),
    "host before wildcard": ("own.w.test", "/only/x", "own.w.test/only"),
    "wildcard where the host has no such path": ("own.w.test", "/a", "*.w.test/a"),
}


@pytest.fixture
def originals(web: Web) -> list[OriginalRoute]:
    return serve(web, *WORLD)


def title(route: OriginalRoute | None) -> str | None:
    return route and route.hosts + route.path


@pytest.mark.parametrize(("host", "target", "wanted"), CASES.values(), ids=CASES.keys())
def test_a_case(
    web: Web, originals: list[OriginalRoute], host: str, target: str, wanted: str | None
) -> None:
    by_backend = {route.backend: route for route in originals}
    assert title(by_backend.get(chosen(web, host, target) or "")) == wanted
    assert title(originals_choice(originals, host, target)) == wanted


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        ("GET http://plain.test/a HTTP/1.1\r\nHost: plain.test", "plain.test/a"),
        ("OPTIONS * HTTP/1.1\r\nHost: plain.test", "plain.test"),
        ("GET / HTTP/1.0\r\nHost: plain.test", "plain.test"),
        ("GET / HTTP/1.0", 503),
        ("GET / HTTP/1.1\r\nHost:", 503),
        ("GET / HTTP/1.1\r\nHost: plain.test\r\nHost: paths.test", 400),
    ],
)
def test_requests_of_another_kind(
    web: Web, originals: list[OriginalRoute], head: str, wanted: str | int
) -> None:
    reply = ask_raw(web.http, head)
    by_backend = {route.backend: route for route in originals}
    found = title(by_backend[reply.body]) if reply.status == 200 else reply.status
    assert found == wanted


def test_each_request_of_a_connection_is_found_by_itself(
    web: Web, originals: list[OriginalRoute]
) -> None:
    by_backend = {route.backend: route for route in originals}
    found = []
    with contextlib.closing(http.client.HTTPConnection(*web.http, timeout=5)) as connection:
        connection.connect()
        kept = connection.sock
        for host in ("plain.test", "none.test", "own.w.test", "plain.test"):
            connection.request("GET", "/only", headers={"Host": host})
            found.append(title(by_backend.get(connection.getresponse().read().decode())))
            assert connection.sock is kept
    assert found == ["plain.test", None, "own.w.test/only", "plain.test"]


def test_where_we_differ(web: Web) -> None:
    """As the docstring of web_keys says: never another application, but one where there was none,
    or the one that was meant."""
    routes = serve(web, ("h.test", "/dir/"), ("h.test", "/dir/%41"), ("h.test", "/dir/!x"))
    for target, number in (("/dir/%41", 2), ("/dir/!x/y", 3), ("/dir/x", 1)):
        assert chosen(web, "h.test", target) == web_backend_name("http", number)
        assert originals_choice(routes, "h.test", target) == routes[0]
    routes = serve(web, ("h.test", ""))
    for host in ("h.test..", "h.test:"):
        assert chosen(web, host, "/") == web_backend_name("http", 1)
        assert originals_choice(routes, host, "/") is None


def test_it_deletes_the_header_that_cgi_takes_for_its_proxy(web: Web) -> None:
    serve(web, ("h.test", ""))
    ask_raw(web.http, "GET / HTTP/1.1\r\nHost: h.test\r\nProxy: evil:1\r\nX-Mine: 1")
    head = web.servers[0].heads[-1].lower()
    assert "x-mine: 1" in head
    assert "proxy:" not in head


# -- no Route, no server -----------------------------------------------------------------------


def test_the_page_without_a_route_and_without_a_server(web: Web) -> None:
    serve(web)
    page = Path(__file__).parents[2].joinpath("haproxy/503.http").read_bytes().decode()
    body = page.partition("\r\n\r\n")[2]
    no_route = ask(web.http, "h.test")
    assert (no_route.status, no_route.body) == (503, body)
    assert "cache-control: no-store" in no_route.head.lower()
    serve(web, ("h.test", ""))
    backend = web_backend_name("http", 1)
    assert web.stand.client.ask(f"set server {backend}/s1 state maint") == ""
    try:
        without_server = ask(web.http, "h.test")
    finally:
        web.stand.client.ask(f"set server {backend}/s1 state ready")
    assert without_server == no_route
    assert ask(web.http, "h.test").status == 200


# -- TLS passthrough ---------------------------------------------------------------------------


def passed_to(web: Web, first: bytes) -> str | None:
    """The server that gets these first bytes, whole; None if none does: HAProxy answers itself, or
    the connection is closed."""
    with socket.create_connection(web.tls, 10) as connection:
        connection.sendall(first)
        with connection.makefile("rb") as stream:
            try:
                if is_tls(stream.peek(1)):
                    return None
                name = stream.readline().decode().strip()
            except ConnectionResetError:
                return None
            if name:
                assert stream.read(len(first)) == first
            return name or None


@pytest.fixture
def passed(web: Web) -> Iterator[None]:
    routes = {
        "plain": web_key("plain.test"),
        "wildcard": web_key("any.w.test", wildcard=True),
        "own": web_key("own.w.test"),
        "two": web_key("any.b.w.test", wildcard=True),
    }
    servers = [EchoServer(name) for name in routes]
    backends = [web_backend_name("passthrough", n) for n in range(1, len(routes) + 1)]
    keys = [sni_entry(key) for key in (*routes.values(), web_key("empty.test"))]
    values = [*backends, web_backend_name("passthrough", COUNT)]
    fill(web.stand, "sni", zip(keys, values, strict=True))
    for backend, server in zip(backends, servers, strict=True):
        use(web.stand, backend, server.address)
    yield
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("sni", "wanted"),
    [
        ("plain.test", "plain"),
        ("PLAIN.Test", "plain"),
        ("plain.test.", "plain"),
        ("foo.w.test", "wildcard"),
        ("FOO.w.test", "wildcard"),
        ("own.w.test", "own"),
        ("a.b.w.test", "two"),
        ("a.c.w.test", None),
        ("w.test", None),
        ("x.plain.test", None),
        ("other.test", None),
        ("empty.test", None),
        (None, None),
    ],
)
@pytest.mark.usefixtures("passed")
def test_tls_goes_where_the_sni_says(web: Web, sni: str | None, wanted: str | None) -> None:
    assert passed_to(web, client_hello(sni)) == wanted


@pytest.mark.usefixtures("passed")
def test_a_client_hello_may_come_in_pieces_and_be_large(web: Web) -> None:
    hello = client_hello("plain.test", [f"{number:0200}" for number in range(60)])
    assert len(hello) > 12_000
    with socket.create_connection(web.tls, 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(hello), 700):
            connection.sendall(hello[start : start + 700])
        with connection.makefile("rb") as stream:
            assert stream.readline() == b"plain\n"
            assert stream.read(len(hello)) == hello


@pytest.mark.usefixtures("passed")
@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n", b"\x16\x03\x01"])
def test_what_is_no_client_hello_is_closed(web: Web, first: bytes) -> None:
    with socket.create_connection(web.tls, 10) as connection:
        connection.sendall(first)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
