"""The connections of the HTTP port: what clients send and leave out, and what that may cost."""

import contextlib
import http.client
import logging
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from cli import Start
from hypothesis import given
from hypothesis import strategies as st
from stand import EchoServer, MakeServer, MakeStand, app, await_, await_leads_to, fresh_ip, leads_to

from sidecar.admin.answers import Answer, Health, Request, Site, text
from sidecar.admin.auth import Access, host_name
from sidecar.admin.server import Limits, serving
from sidecar.admin.workers import WORKERS

pytestmark = pytest.mark.serial

PORT = 8405
CROWD = Path(__file__).parents[1] / "support/crowd.py"


class Got(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str]


class Open(NamedTuple):
    """A server of a site of the test's own. ``release``: lets /slow answer."""

    ip: str
    release: threading.Event

    def connect(self, sent: bytes = b"", *, receive_bytes: int = 0) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.ip else socket.AF_INET
        client = socket.socket(family)
        client.settimeout(10)
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            client.connect((self.ip, PORT))
            client.sendall(sent)
        except OSError:
            client.close()
            raise
        return client

    def get(self, path: str = "/healthz", method: str = "GET", **headers: str) -> Got:
        with contextlib.closing(http.client.HTTPConnection(self.ip, PORT, timeout=10)) as client:
            return ask(client, path, method, **headers)

    def raw(self, sent: bytes, *, last: bool = False) -> bytes:
        """All that is answered until the server closes. ``last``: say that no more will come."""
        with self.connect(sent) as client:
            if last:
                client.shutdown(socket.SHUT_WR)
            return read_all(client)


def ask(
    client: http.client.HTTPConnection, path: str = "/healthz", method: str = "GET", **headers: str
) -> Got:
    client.request(method, path, headers=headers)
    answer = client.getresponse()
    return Got(answer.status, answer.read(), dict(answer.headers))


def read_all(client: socket.socket) -> bytes:
    found = b""
    while data := client.recv(65536):
        found += data
    return found


def is_closed(client: socket.socket) -> bool:
    """Whether the server closed it, with or without an answer before."""
    client.setblocking(False)
    try:
        while client.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


MEGABYTE = b"x" * 1024 * 1024
LARGE_MEGABYTES = 4


@contextlib.contextmanager
def site_on(ip: str, limits: Limits | None = None) -> Iterator[Open]:
    release = threading.Event()

    def slow(_: Mapping[str, str]) -> Answer:
        return text(200 if release.wait(20) else 500, "at last")

    def wrong(_: Mapping[str, str]) -> Answer:
        raise RuntimeError("mine")

    def large(_: Mapping[str, str]) -> Answer:
        return Answer(200, "text/plain", MEGABYTE * LARGE_MEGABYTES)

    def echo(query: Mapping[str, str]) -> Answer:
        return text(200, query.get("say", ""))

    listen = f"[{ip}]:{PORT}" if ":" in ip else f"{ip}:{PORT}"
    site = Site(
        probes={"/healthz": lambda: Health(ok=True, text="")},
        open={"/slow": slow, "/large": large, "/echo": echo, "/wrong": wrong},
        guarded={"/": lambda _: text(200, "page")},
        access=Access(listen, None),
    )
    with serving(listen, site, limits):
        try:
            yield Open(ip, release)
        finally:
            release.set()


@pytest.fixture
def site() -> Iterator[Open]:
    with site_on(fresh_ip()) as found:
        yield found


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:8405", "127.0.0.1"),
        ("LocalHost:80", "localhost"),
        ("localhost:", "localhost"),
        ("", ""),
        (":8405", ""),
        ("my_pod-0.ns.svc:1", "my_pod-0.ns.svc"),
        ("a%20b", "a%20b"),
        ("[::1]", "::1"),
        ("[::1]:8405", "::1"),
        ("[0:0:0:0:0:0:0:1]:8405", "::1"),
        ("[2001:DB8::0:1]:1", "2001:db8::1"),
        ("127.0.0.1:80:evil", None),
        ("127.0.0.1:80:90", None),
        ("127.0.0.1:evil", None),
        ("127.0.0.1:99999", None),
        ("127.0.0.1:123456", None),
        ("127.0.0.1:-1", None),
        ("127.0.0.1 :80", None),
        ("127.0.0.1,evil.example", "127.0.0.1,evil.example"),
        ("user@127.0.0.1", None),
        ("127.0.0.1/evil", None),
        ("127.0.0.1?", None),
        ("127.0.0.1#", None),
        ("127.0.0.1\\evil", None),
        ("a%2", None),
        ("é.example", None),
        ("::1", None),
        ("[::1", None),
        ("[", None),
        ("[]", None),
        ("[::1]evil", None),
        ("[::1]:80:evil", None),
        ("[::1].evil.example", None),
        ("[127.0.0.1]", None),
        ("[fe80::1%25lo]", None),
        ("[v1.x]", None),
        ("[1::2::3]", None),
        ("localhost\n", None),
        ("٣.example", None),
        ("localhost:٣", None),
    ],
)
def test_the_host_header(header: str, name: str | None) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize("path", ["/", "/healthz", "/echo", "/nothing"])
def test_a_malformed_host_is_refused_everywhere(site: Open, path: str) -> None:
    refused = site.get(path, Host="127.0.0.1:80:evil")
    assert (refused.status, refused.body) == (400, b"the Host header is not a host, or host:port\n")


def test_who_may_read_by_host(site: Open) -> None:
    assert site.get("/", Host="localhost:1").status == 200
    assert site.get("/", Host="127.0.0.1,evil.example").status == 403
    assert site.raw(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 403 ")
    assert site.raw(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    two = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert site.raw(two).startswith(b"HTTP/1.1 400 ")
    # The host of a whole URL counts, not the header.
    url = b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert site.raw(url).startswith(b"HTTP/1.1 403 ")
    url = b"GET http://localhost HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert site.raw(url).endswith(b"page\n")


def test_methods(site: Open) -> None:
    shown, head = site.get("/echo?say=hello"), site.get("/echo?say=hello", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == shown.headers["Content-Length"] == "6"
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        refused = site.get("/healthz", method)
        assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD"), method
    connect = b"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n"
    assert site.raw(connect + b"\r\n" * 4).startswith(b"HTTP/1.1 405 ")


def test_keep_alive(site: Open) -> None:
    with contextlib.closing(http.client.HTTPConnection(site.ip, PORT, timeout=10)) as client:
        client.connect()
        connection = client.sock
        for _ in range(3):
            assert ask(client, "/healthz").body == b"ok\n"
            assert ask(client, "/echo?say=a").body == b"a\n"
            assert ask(client, "/healthz", "HEAD").body == b""
        assert client.sock is connection, "it was kept"
        assert ask(client, "/healthz", Connection="close").headers["Connection"] == "close"
    assert site.raw(b"GET /healthz HTTP/1.0\r\n\r\n").endswith(b"ok\n")


def test_requests_sent_ahead_are_answered_in_order(site: Open) -> None:
    paths = [f"/echo?say={n}" if n % 2 else "/healthz" for n in range(200)]
    sent = "".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in paths)
    found = site.raw(sent.encode(), last=True)
    bodies = [part.rpartition(b"\r\n\r\n")[2] for part in found.split(b"HTTP/1.1 200 ")[1:]]
    assert b"".join(bodies).split() == [
        str(n).encode() if n % 2 else b"ok" for n in range(len(paths))
    ]


def test_a_client_may_send_no_more_and_still_read(site: Open) -> None:
    with site.connect(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n") as client:
        client.shutdown(socket.SHUT_WR)
        site.release.set()
        assert read_all(client).endswith(b"at last\n")


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Content-Length: 1000000000\r\n\r\nhello",
        b"Content-Length: 100000\r\nExpect: 100-continue\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Content-Length: 200000\r\n\r\n" + b"x" * 200000,
    ],
)
def test_a_body_is_not_read(site: Open, body: bytes) -> None:
    with site.connect(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + body) as client:
        found = client.recv(65536)
        assert found.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in found
        assert found.endswith(b"ok\n")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    posted = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n" + body
    with site.connect(posted) as client:
        assert client.recv(65536).startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"x" * 7000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /" + b"x" * 200000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 9000 + b"\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 17000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"A: x\r\n" * 60000 + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"A: " * 60000, 431),
        (b"GET healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET https://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /echo?" + b"a=1&" * 20 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00 a TLS hello\r\n\r\n", 400),
        (b"\x00\xff nonsense\r\n\r\n", 400),
        (b"GET /wrong HTTP/1.1\r\nHost: localhost\r\n\r\n", 500),
    ],
)
def test_what_is_too_long_or_wrong(site: Open, sent: bytes, status: int) -> None:
    with site.connect() as client:
        threading.Thread(target=_send_all, args=(client, sent), daemon=True).start()
        answer = client.recv(65536)
        assert answer.split()[1] == str(status).encode(), answer
        assert b"\r\nServer: haproxy-sidecar\r\n" in answer
    assert site.get().status == 200


def _send_all(client: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        client.sendall(data)


def test_the_rules_need_no_connection() -> None:
    site = Site({}, {}, {}, Access("127.0.0.1:1", None))
    answer = site.answer(Request("GET", "/x"))
    assert isinstance(answer, Answer)
    assert answer.status == 404


def test_no_body_after_head(site: Open) -> None:
    head = b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n"
    # What is wrong after it has an answer with a body again.
    found = site.raw(head + b"\r\nnonsense\r\n\r\n")
    first, _, second = found.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 400 ")
    assert second.endswith(b"\r\n\r\nnot a valid HTTP/1.1 request\n")
    # What is wrong with it has not.
    found = site.raw(head + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 400 ")
    assert found.endswith(b"\r\n\r\n")


FRAGMENTS = st.sampled_from(
    [
        *(
            b"GET",
            b"HEAD",
            b"POST",
            b"CONNECT",
            b" ",
            b"/healthz",
            b"/echo?say=x",
            b"*",
            b"http://",
        ),
        *(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00\xff"),
        *(b"Host: localhost\r\n", b"Host: [\r\n", b"Connection: close\r\n", b"Upgrade: x\r\n"),
        *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n"),
        *(b"Expect: 100-continue\r\n", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", b"abc"),
    ]
)


def test_whatever_is_sent_is_answered_or_ended(
    site: Open, caplog: pytest.LogCaptureFixture
) -> None:
    @given(parts=st.lists(FRAGMENTS, max_size=12))
    def check(parts: list[bytes]) -> None:
        found = site.raw(b"".join(parts), last=True)
        assert not found or found.startswith(b"HTTP/1.1 ")

    check()
    assert site.get().status == 200
    assert not caplog.records, "nothing of it is worth a line"


def test_ipv6() -> None:
    with site_on("::1") as site:
        assert site.get("/").body == b"page\n"
        assert site.get("/", Host="[::1]:8405").status == 200
        assert site.get("/", Host="[::2]:8405").status == 403


def test_probes_do_not_wait_for_pages(site: Open) -> None:
    slow = b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with contextlib.ExitStack() as files:
        many = [files.enter_context(site.connect(slow)) for _ in range(WORKERS * 4)]
        for _ in range(20):
            assert site.get("/healthz").status == 200
        assert not any(is_closed(client) for client in many), "no page was answered meanwhile"
        site.release.set()
        for client in many:
            client.settimeout(10)
            assert read_all(client).endswith(b"at last\n")


def test_pages_do_not_queue_without_end(site: Open) -> None:
    slow = b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with contextlib.ExitStack() as files:
        many = [files.enter_context(site.connect(slow)) for _ in range(100)]
        await_(lambda: site.get("/echo").status == 503, "the queue is full")
        site.release.set()
        answers = [read_all(client) for client in many]
    assert {answer.split()[1] for answer in answers} == {b"200", b"503"}
    assert site.get("/echo").status == 200


def test_who_comes_gets_in(site: Open) -> None:
    with contextlib.ExitStack() as files:
        silent = [files.enter_context(site.connect()) for _ in range(Limits().connections)]
        assert site.get().status == 200
        await_(lambda: is_closed(silent[0]), "the oldest has gone")
        assert not any(is_closed(client) for client in silent[2:])
        half = [files.enter_context(site.connect(b"GET /hea")) for _ in range(2000)]
        assert site.get().status == 200
        await_(lambda: all(map(is_closed, silent)), "they are the oldest")
        recent = half[-Limits().connections // 2 :]
        assert not any(is_closed(client) for client in recent)


def test_who_is_being_answered_stays(site: Open) -> None:
    slow = b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with contextlib.ExitStack() as files:
        asked = [files.enter_context(site.connect(slow)) for _ in range(WORKERS)]
        assert site.get().status == 200
        for _ in range(Limits().connections * 2):
            files.enter_context(site.connect(b"GET /"))
        assert site.get().status == 200
        site.release.set()
        for client in asked:
            assert read_all(client).endswith(b"at last\n")


def test_slow_readers_keep_little_of_us(site: Open) -> None:
    large = b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    fits = Limits().unsent_bytes // (LARGE_MEGABYTES * len(MEGABYTE))
    with contextlib.ExitStack() as files:
        slow = []
        for _ in range(fits * 3):
            client = files.enter_context(site.connect(large, receive_bytes=4096))
            assert client.recv(9) == b"HTTP/1.1 ", "its answer is under way"
            slow.append(client)
        whole = [len(_what_comes(client)) > len(MEGABYTE) * LARGE_MEGABYTES for client in slow]
    assert not any(whole[:fits]), "the oldest had to go"
    assert whole[-1], "who reads gets all"
    assert site.get().status == 200


def _what_comes(client: socket.socket) -> bytes:
    found = bytearray(b"HTTP/1.1 ")
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(1024 * 1024):
            found += data
    return bytes(found)


@pytest.mark.parametrize("dribbles", [False, True])
def test_a_request_has_a_deadline(dribbles: bool) -> None:
    with (
        site_on(fresh_ip(), Limits(receive_seconds=0.3)) as site,
        site.connect(b"GET /healthz?") as client,
    ):

        def ended() -> bool:
            with contextlib.suppress(OSError):
                client.sendall(b"x" * dribbles)
            return is_closed(client)

        assert not ended()
        await_(ended, "it was closed", every_seconds=0.02)
        assert site.get().status == 200


def test_an_answer_has_a_deadline() -> None:
    large = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        site_on(fresh_ip(), Limits(answer_seconds=0.3)) as site,
        site.connect(large, receive_bytes=4096) as client,
    ):
        assert client.recv(9) == b"HTTP/1.1 "
        await_(lambda: _is_reset(client), "it was closed while it did not read")
        assert site.get().status == 200


def _is_reset(client: socket.socket) -> bool:
    """Whether the other side is gone, by what it says when we send."""
    try:
        client.sendall(b"x")
    except OSError:
        return True
    return False


def test_clients_that_hang_up_are_not_news(site: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reset = struct.pack("ii", 1, 0)
    for sent in (b"", b"GET /", b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3):
        for _ in range(30):
            client = site.connect(sent)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            client.close()
    assert site.get("/echo").status == 200
    assert not caplog.records


def test_the_end_is_quick() -> None:
    seconds = []
    for _ in range(5):
        with contextlib.ExitStack() as clients:
            with site_on(fresh_ip()) as site:
                assert site.get("/echo").status == 200
                client = clients.enter_context(site.connect(b"GET /"))
                began = time.monotonic()
            seconds.append(time.monotonic() - began)
            assert is_closed(client)
        with pytest.raises(ConnectionRefusedError):
            site.connect()
    assert min(seconds) < 0.1


def run_with_files_open(count: int, soft_max: int) -> list[str]:
    """The command `haproxy-sidecar`, in a process that has ``count`` files open already."""
    script = (
        "import os, resource, sys; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        f" resource.setrlimit(resource.RLIMIT_NOFILE, ({soft_max}, hard));"
        f" kept = [os.dup(0) for _ in range({count})];"
        " from sidecar.cli import main; main()"
    )
    return [sys.executable, "-c", script]


def test_more_files_than_select_can_have(
    make_stand: MakeStand, make_server: MakeServer, start: Start
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    stand.write("web.yaml", *app("web", 30000, [a]))
    sidecar = start([*run_with_files_open(1100, 4096), "run", "-c", str(stand.settings_file)])
    await_leads_to(stand, 30000, a)
    stand.stop_haproxy()
    stand.start_haproxy()
    await_leads_to(stand, 30000, a)
    stand.write("web.yaml", *app("web", 30000, [b]))
    await_leads_to(stand, 30000, b)
    assert not sidecar.ended


def test_a_crowd_where_files_are_few(
    make_stand: MakeStand, make_server: MakeServer, start: Start
) -> None:
    stand, a = make_stand(), make_server("a")
    stand.write("web.yaml", *app("web", 30000, [a]))
    # A dozen are left, which are fewer than a quarter of what the process seems to have.
    sidecar = start([*run_with_files_open(42, 64), "run", "-c", str(stand.settings_file)])
    await_leads_to(stand, 30000, a)
    start([sys.executable, str(CROWD), stand.ip, str(PORT), "100"]).await_said("turn")
    await_(lambda: "Too many open files" in sidecar.said, "none was left")
    stand.stop_haproxy()
    stand.start_haproxy()
    await_leads_to(stand, 30000, a)
    site = Open(stand.ip, threading.Event())
    await_(lambda: site.get("/readyz").status == 200, "it is ready again")
    assert not sidecar.ended
    assert sidecar.said.count("Too many open files") < 10


def test_a_crowd_of_slow_clients(
    make_stand: MakeStand, make_server: MakeServer, start: Start
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    stand.write("web.yaml", *app("web", 30000, [a]))
    sidecar = start([*run_with_files_open(0, 1024), "run", "-c", str(stand.settings_file)])
    await_leads_to(stand, 30000, a)
    site = Open(stand.ip, threading.Event())
    await_(lambda: site.get("/readyz").status == 200, "it is ready")
    proc = Path(f"/proc/{sidecar.pid}")
    before = _status(proc)
    crowd = start([sys.executable, str(CROWD), stand.ip, str(PORT), "2000"])
    crowd.await_said("all there", 60)

    seconds: list[float] = []

    def probe(server: EchoServer) -> None:
        """Look at all of it again and again while the crowd has some turns."""
        turns = crowd.said.count("turn")
        while crowd.said.count("turn") < turns + 3:
            for path in ("/healthz", "/readyz"):
                began = time.monotonic()
                assert site.get(path).status == 200
                seconds.append(time.monotonic() - began)
            assert leads_to(stand, 30000, server)

    probe(a)
    stand.stop_haproxy()
    stand.start_haproxy()
    await_leads_to(stand, 30000, a)
    await_(lambda: site.get("/readyz").status == 200, "it is ready again")
    stand.write("web.yaml", *app("web", 30000, [b]))
    await_leads_to(stand, 30000, b)
    probe(b)
    then, files = _status(proc), len(list((proc / "fd").iterdir()))
    # What a probe takes shows with -s. Of a busy machine only most are in time.
    sys.stdout.write(f"{before}, then {then}, {files} files; {max(seconds):.3f} s at most\n")
    assert sorted(seconds)[len(seconds) * 9 // 10] < 1
    assert then["Threads"] <= before["Threads"]
    assert then["VmHWM"] < before["VmHWM"] + 40_000, "kB"
    assert files < 512
    assert not sidecar.ended
    assert "Traceback" not in sidecar.said
    assert sidecar.said.count("\n") < 20, "of a crowd there is nothing to say"


def _status(proc: Path) -> dict[str, int]:
    """Threads, and kB of memory, of a process."""
    lines = (line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    found = {name: value.split() for name, value in lines}
    return {name: int(found[name][0]) for name in ("Threads", "VmRSS", "VmHWM")}
