"""Routes by host, for tests: servers that answer HTTP with their names, raw requests, ClientHellos,
and OpenShift's router in a few lines of Python to compare with.
"""

import base64
import contextlib
import re
import socket
import socketserver
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

from handshake import shake_hands
from pki import Issued
from stand import Stand, await_, fresh_ip, service_manifest, slice_manifest

from sidecar.haproxy.operations import SetAddress, SetState
from sidecar.haproxy.web_files import WebFiles
from sidecar.model.desired import BackendName
from sidecar.model.pool import Address
from sidecar.routing.web_places import NO_FLAGS


class NamedServer:
    """An HTTP server that answers every request with ``name``, in HTTP/1.1 or in HTTP/2 without
    TLS, as it is asked; or over TLS with the certificate ``issued``, in one of ``alpn``. ``heads``:
    what was asked in
    HTTP/1.1; ``protos``: ``h1`` or ``h2``, of each request in order. ``names``: the SNI of each
    handshake that was completed. ``status``: of its answers in HTTP/1.1, with further lines."""

    def __init__(
        self,
        name: str,
        ip: str | None = None,
        port: int = 9000,
        issued: Issued | None = None,
        status: str = "200 OK",
        alpn: Sequence[str] = (),
    ) -> None:
        self.names: list[str | None] = []
        self._context = None if issued is None else self._secured(issued, alpn)
        self.name = name
        self.heads: list[str] = []
        self.protos: list[str] = []
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    while head := outer.read_head(self.rfile.readline):
                        if head == "PRI * HTTP/2.0\r\n":
                            outer.speak_h2(self.rfile.read, self.wfile.write)
                            return
                        outer.heads.append(head)
                        outer.protos.append("h1")
                        body = outer.name.encode()
                        top = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
                        self.wfile.write(top.encode() + body)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

            def finish_request(self, request: Any, client_address: Any) -> None:
                if outer._context is None:
                    super().finish_request(request, client_address)
                    return
                with (
                    contextlib.suppress(OSError),
                    outer._context.wrap_socket(request, server_side=True) as secured,
                ):
                    super().finish_request(secured, client_address)

        self._server = Server((ip or fresh_ip(), port), Handler)
        self.address = Address(*self._server.server_address)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    def _secured(self, issued: Issued, alpn: Sequence[str]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(alpn)
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(issued.pem + issued.key_pem)
            file.flush()
            context.load_cert_chain(file.name)

        def hear(_: object, name: str | None, __: object) -> None:
            self.names.append(name)

        context.sni_callback = hear
        return context

    def speak_h2(self, read: Callable[[int], bytes], write: Callable[[bytes], object]) -> None:
        """What comes behind the first lines of RFC 9113, 3.4, for requests without a body."""
        assert read(6) == b"SM\r\n\r\n"
        write(b"\0\0\0" + b"\4" + b"\0" + bytes(4))  # SETTINGS: all defaults
        while len(frame := read(9)) == 9:
            size, kind, flags, stream = int.from_bytes(frame[:3]), frame[3], frame[4], frame[5:]
            read(size)
            if kind == 4 and not flags & 1:
                write(b"\0\0\0" + b"\4" + b"\1" + bytes(4))  # SETTINGS acknowledged
            elif kind == 1:
                self.protos.append("h2")
                body = self.name.encode()
                # HEADERS with :status 200, DATA that ends the stream
                write(b"\0\0\1" + b"\1" + b"\4" + stream + b"\x88")
                write(len(body).to_bytes(3) + b"\0" + b"\1" + stream + body)

    @staticmethod
    def read_head(readline: Callable[[], bytes]) -> str:
        """Of a request without a body; "" at the end of the connection."""
        lines = []
        while (line := readline()) not in (b"", b"\r\n"):
            lines.append(line.decode("latin-1"))
        return "".join(lines)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def is_tls(reply: bytes) -> bool:
    """Whether it begins as a ServerHello, or an alert, does."""
    return reply[:1] in (b"\x16", b"\x15")


#: Makes one that is closed when the test ends: the fixture `named`.
MakeNamed = Callable[..., NamedServer]


class Reply(NamedTuple):
    status: int
    head: str
    body: str


def ask_raw(address: tuple[str, int], head: str) -> Reply:
    """The reply to one request with these lines, joined by CRLF, and no body."""
    with socket.create_connection(address, 5) as connection:
        return ask_over(connection, head)


def ask_over(connection: socket.socket, head: str) -> Reply:
    """The same, as the last one of ``connection``."""
    connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode("latin-1"))
    with connection.makefile("rb") as stream:
        text = stream.read().decode("latin-1")
    if not text:
        raise ConnectionResetError("closed instead of an answer")
    top, _, body = text.partition("\r\n\r\n")
    if "\r\ntransfer-encoding: chunked" in top.lower():
        body = _unchunked(body)
    return Reply(int(top.split(" ", 2)[1]), top, body)


def fields(head: str) -> dict[str, list[str]]:
    """Name in lower case -> the values of its lines, of a request or an answer."""
    found: dict[str, list[str]] = {}
    for line in head.split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.lower(), []).append(value.strip().encode("latin-1").decode())
    return found


def _unchunked(text: str) -> str:
    """``text`` out of its chunks (RFC 9112, 7.1)."""
    body = ""
    while size := int((rest := text.partition("\r\n"))[0], 16):
        body, text = body + rest[2][:size], rest[2][size + 2 :]
    return body


def ask(address: tuple[str, int], host: str, target: str = "/") -> Reply:
    return ask_raw(address, f"GET {target} HTTP/1.1\r\nHost: {host}")


def client_hello(sni: str | None, protocols: Sequence[str] = ()) -> bytes:
    """What a TLS client sends first, by Python's ssl. ``protocols``: of ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=sni)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def use(stand: Stand, backend: BackendName, address: Address) -> None:
    """Let ``backend`` have just this server, and wait until HAProxy says so."""
    where = SetAddress(backend, "s1", address)
    ready = SetState(backend, "s1", "ready")
    outcomes = stand.client.apply([where, ready])
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)], outcomes
    await_(
        lambda: f"s1 {address.ip} 2" in stand.client.ask(f"show servers state {backend}"),
        f"{backend} has {address}",
    )


def fill(stand: Stand, map_name: str, entries: Iterable[tuple[str, str]]) -> None:
    """Let a map have just these entries, and nothing be heeded of their backends."""
    entries = list(entries)
    files = WebFiles.beside(stand.settings.haproxy.state_file)
    file = {"hosts": files.hosts_map, "sni": files.sni_map}[map_name]
    lines = [f"clear map {file}", *(f"add map {file} {key} {value}" for key, value in entries)]
    units = dict.fromkeys(value for _, value in entries)
    lines += [f"add map {files.flags_map} {unit} {NO_FLAGS}" for unit in units]
    assert set(stand.client.ask_all(lines)) <= {""}


class OriginalRoute(NamedTuple):
    """A Route as OpenShift's router sees it."""

    host: str
    path: str
    wildcard: bool
    backend: str

    @property
    def hosts(self) -> str:
        """The host, with ``*`` for any label."""
        return f"*.{self.host.partition('.')[2]}" if self.wildcard else self.host

    @property
    def pattern(self) -> str:
        """The regular expression that it writes for it (its GenerateRouteRegexp)."""
        host = _quoted(self.host)
        if self.wildcard:
            host = rf"[^\.]*{_quoted('.' + self.host.partition('.')[2])}"
        path, rest = _quoted(self.path), "(/.*)?"
        if not self.path.strip("/"):
            path = ""
        elif self.path.endswith("/"):
            rest = "(.*)?"
        return rf"^{host}\.?(:[0-9]+)?{path}{rest}$"


def originals_choice(
    routes: Iterable[OriginalRoute], host: str, target: str
) -> OriginalRoute | None:
    """The Route that OpenShift's router sends this request to: the first pattern that matches of
    the plain ones, else of the wildcards, in descending order of their lines."""
    asked = host.lower() + target.partition("?")[0]

    def order(route: OriginalRoute) -> tuple[bool, bytes]:
        return (not route.wildcard, f"{route.pattern} {route.backend}".encode())

    ordered = sorted(routes, key=order, reverse=True)
    return next((route for route in ordered if re.search(route.pattern, asked)), None)


def _quoted(text: str) -> str:
    """Go's regexp.QuoteMeta."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)


@contextlib.contextmanager
def named_servers(names: Iterable[str]) -> Iterator[list[NamedServer]]:
    servers: list[NamedServer] = []
    try:
        servers.extend(NamedServer(name) for name in names)
        yield servers
    finally:
        for server in servers:
            server.close()


def host_app(
    name: str,
    host: str,
    servers: Sequence[Any],
    *,
    path: str = "",
    namespace: str = "demo",
    termination: str | None = None,
    insecure: str = "",
    tls: Mapping[str, str] = {},
    wildcard: bool = False,
    created: str | None = None,
    annotations: Mapping[str, str] = {},
    further: Mapping[str, Any] = {},
) -> tuple[dict[str, Any], ...]:
    """A Route by host with its Service and EndpointSlice. ``further``: fields of its spec."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    metadata |= {"annotations": dict(annotations)} if annotations else {}
    if created:
        metadata["creationTimestamp"] = created
    spec: dict[str, Any] = {"host": host, "to": {"kind": "Service", "name": name}, **further}
    spec |= {"path": path} if path else {}
    if termination:
        policy = {"insecureEdgeTerminationPolicy": insecure} if insecure else {}
        spec["tls"] = {"termination": termination, **policy, **tls}
    spec |= {"wildcardPolicy": "Subdomain"} if wildcard else {}
    kind = {"apiVersion": "route.openshift.io/v1", "kind": "Route"}
    ips = [server.address.ip for server in servers]
    return (
        {**kind, "metadata": metadata, "spec": spec},
        service_manifest(name, namespace=namespace),
        slice_manifest(name, ips, namespace=namespace),
    )


def secret_manifest(
    name: str, issued: Issued, *, namespace: str = "demo", kind: str = "kubernetes.io/tls"
) -> dict[str, Any]:
    """A Secret with a certificate and its key, as the API server has it."""
    data = {"tls.crt": issued.pem, "tls.key": issued.key_pem}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": kind,
        "data": {entry: base64.b64encode(text.encode()).decode() for entry, text in data.items()},
    }


#: No backends for Routes that want another balance: most tests have none.
NO_FURTHER = {
    kind: dict.fromkeys(("roundrobin", "leastconn", "random", "source"), 0)
    for kind in ("http", "reencrypt", "passthrough")
}


class WebStand(NamedTuple):
    """A stand with both kinds of listeners, and where these are."""

    stand: Stand
    http: tuple[str, int]
    tls: tuple[str, int]

    @classmethod
    def make(
        cls,
        make_stand: Callable[..., Stand],
        settings: Mapping[str, Any] = {},
        *,
        listener: Mapping[str, Any] = {},
        **web: Any,
    ) -> "WebStand":
        """``web``: of that section of the settings; ``settings``: further ones; ``listener``: of
        both listeners."""
        ip = fresh_ip()
        listeners = [
            {"name": "http", "kind": "http", "bind": [f"{ip}:8081"], **listener},
            {"name": "tls", "kind": "tls", "bind": [f"{ip}:8443"], **listener},
        ]
        backends = {"http": 6, "reencrypt": 3, "passthrough": 3}
        section = {"backends": backends, "further_backends": NO_FURTHER, "slots": 3, **web}
        settings = {"timing": {"resync": "1s"}, **settings}
        stand = make_stand(listeners=listeners, web=section, **settings)
        return cls(stand, (ip, 8081), (ip, 8443))

    def served(self, host: str, target: str = "/", cookie: str = "") -> str:
        """Who answers; the status where nobody does. ``cookie``: that the client has."""
        return self.kept(host, cookie, target)[0]

    def kept(self, host: str, cookie: str = "", target: str = "/") -> tuple[str, str]:
        """Who answers, and the cookie that the client has then."""
        line = f"\r\nCookie: {cookie}" if cookie else ""
        reply = ask_raw(self.http, f"GET {target} HTTP/1.1\r\nHost: {host}{line}")
        given = re.search(r"^set-cookie: ([^;\r]*)", reply.head, re.IGNORECASE | re.MULTILINE)
        who = reply.body if reply.status == 200 else str(reply.status)
        return who, given[1] if given else cookie

    def await_served(self, host: str, by: str, target: str = "/") -> None:
        await_(lambda: self.served(host, target) == by, f"{host}{target} is served by {by}")

    def ended(self, host: str, target: str = "/", sni: str | None = None) -> str:
        """Who answers over TLS that HAProxy ends; the status where nobody does."""
        with shake_hands(self.tls, sni or host) as secured:
            reply = ask_over(secured, f"GET {target} HTTP/1.1\r\nHost: {host}")
        return reply.body if reply.status == 200 else str(reply.status)

    def passed_to(self, sni: str) -> str:
        """Which server greets who asks for ``sni``; "" where none does, and HAProxy answers."""
        with socket.create_connection(self.tls, 5) as connection:
            connection.sendall(client_hello(sni))
            with contextlib.suppress(OSError), connection.makefile("rb") as stream:
                if not is_tls(stream.peek(1)):
                    return stream.readline().strip().decode("latin-1")
        return ""


def answer(web: WebStand, host: str) -> str:
    """Who answers, or what went wrong; a request that is ended may get no answer at all."""
    try:
        return web.ended(host)
    except (OSError, ValueError, IndexError) as exc:
        return repr(exc)


class Asking:
    """A client that asks over and over; ``answers``: who answered, and what went wrong."""

    def __init__(self, web: WebStand, host: str) -> None:
        self.answers: list[str] = []
        self._web, self._host = web, host
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.answers.append(answer(self._web, self._host))

    def __enter__(self) -> Self:
        self._thread.start()
        await_(lambda: self.answers, "the first answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
