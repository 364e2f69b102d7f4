"""A Kubernetes API server that is told to misbehave: real HTTP on loopback, a thread a connection.

`FakeAPI` answers lists, watches and writes of any resource, as `kube_objects` keeps them, and
does to chosen requests what a bad day does (`Fault`). What it does not have: validation,
admission, versions of one kind, any user but one.
"""

import contextlib
import json
import select
import socket
import ssl
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import attrgetter
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from authority import Authority
from kube_objects import Object, Objects, Place, RefusedError, Selection, parse_path, place_of
from stand import fresh_ip

#: How often a watch that has nothing to say looks whether its client is still there.
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") in {"1", "true"}

    @property
    def verb(self) -> str:
        """RBAC's word for it."""
        place = parse_path(self.path)
        if self.method == "GET":
            if self.is_watch:
                return "watch"
            return "get" if place and place.name else "list"
        return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[
            self.method
        ]


@dataclass(frozen=True)
class Fault:
    """What happens to a request instead of its answer. The fields apply in their order.

    ``hang``: nothing is answered until the server stops or the client leaves.
    ``status``: this answer, with ``headers``, and ``body`` or a Status with ``message``.
    ``drop``: the connection is closed without an answer.
    ``lines``: raw bytes that a watch sends first. ``then``: it goes on as if nothing had been
    (``go on``), ends (``eof``), breaks off (``break``), or says nothing more (``silence``).
    ``slow_seconds``: that long between any two bytes of the answer's first hundred.
    """

    hang: bool = False
    status: int = 0
    message: str = "made to fail"
    reason: str = "InternalError"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    drop: bool = False
    lines: bytes = b""
    then: str = "go on"
    slow_seconds: float = 0.0


GONE = Fault(status=410, reason="Expired", message="too old resource version: 1 (2)")
GONE_EVENT = Fault(
    lines=json.dumps(
        {
            "type": "ERROR",
            "object": {
                "kind": "Status",
                "status": "Failure",
                "reason": "Expired",
                "code": 410,
                "message": "too old resource version: 1 (2)",
            },
        }
    ).encode()
    + b"\n",
    then="eof",
)


@dataclass(eq=False)
class _Watch:
    """An open watch: what it was sent beside the log, and how it is to end."""

    plural: str
    raw: list[bytes] = field(default_factory=list)
    ending: str = ""


class FakeAPI:
    """Use as a context manager, or `start` and `stop`; a server that is started again has its
    port and its objects still.

    ``host``: its URL. ``requests``: all that it was asked, in order.
    ``missing``: groups that it does not have, ``/apis/route.openshift.io/v1``.
    ``forbidden``: pairs of RBAC verb and plural. ``token``: what a request must bear, if set;
    ``user``: whose certificate, if set. ``authority``: it speaks TLS, with a certificate of that.
    ``repeats``: how often a watch is told each event. ``mute``: watches are told nothing.
    ``gone_in_stream``: a watch from before `compact` gets its 410 as an ERROR event, as newer
    servers do it, instead of as the HTTP status.
    """

    def __init__(self, authority: Authority | None = None) -> None:
        self.requests: list[Request] = []
        self.missing: set[str] = set()
        self.forbidden: set[tuple[str, str]] = set()
        self.token: str | None = None
        self.user: str | None = None
        self.repeats = 1
        self.mute = False
        self.gone_in_stream = False
        self._changed = threading.Condition()
        self._objects = Objects()
        self._faults: list[tuple[Fault, Callable[[Request], bool]]] = []
        self._watches: list[_Watch] = []
        self._connections: set[socket.socket] = set()
        self._stopping = threading.Event()
        self._server: _Server | None = None
        self._thread = threading.Thread()
        # An address of its own keeps the port free while the server is down.
        self._address = fresh_ip(), 6443
        self.tls = authority.server(self._address[0]) if authority else None
        self.host = f"http{'s' if self.tls else ''}://{self._address[0]}:{self._address[1]}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        self._stopping.clear()
        self._server = _Server(self._address, self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port and break every connection."""
        if self._server is None:
            return
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server = None
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    # What is in the cluster

    def apply(self, *objects: Object, silently: bool = False) -> None:
        """Create or replace objects. ``silently``: watches miss it."""
        with self._changed:
            for data in objects:
                self._objects.apply(data, silently=silently)
            self._changed.notify_all()

    def delete(self, data: Object, *, silently: bool = False) -> None:
        with self._changed:
            self._objects.delete(place_of(data), silently=silently)
            self._changed.notify_all()

    def get(self, data: Object) -> Object:
        """The object of the same kind, namespace and name, as it is now."""
        with self._changed:
            found: Object = json.loads(json.dumps(self._objects.find(place_of(data))))
            return found

    def all(self, group: str, plural: str) -> list[Object]:
        """``all("/apis/coordination.k8s.io/v1", "leases")``"""
        with self._changed:
            found: list[Object] = json.loads(
                json.dumps(self._objects.all((group, plural), Selection()))
            )
            return found

    # Bad days

    def fault(
        self,
        fault: Fault,
        *,
        verb: str = "",
        plural: str = "",
        times: int = 1,
        when: Callable[[Request], bool] = lambda _: True,
    ) -> None:
        """``fault`` befalls the next ``times`` requests that match."""

        def matches(request: Request) -> bool:
            place = parse_path(request.path)
            return (
                (not verb or request.verb == verb)
                and (not plural or (place is not None and place.plural == plural))
                and when(request)
            )

        with self._changed:
            self._faults += [(fault, matches)] * times

    def mend(self) -> None:
        """No fault from now on."""
        with self._changed:
            self._faults.clear()

    def compact(self) -> None:
        """Watches and pages of versions until now get 410 from now on."""
        with self._changed:
            self._objects.compact()

    def expire_pages(self) -> None:
        with self._changed:
            self._objects.expire_pages()

    def end_watches(self, plural: str = "", how: str = "eof") -> None:
        """``eof``: as at the end of their time. ``break``: in the middle of the response."""
        for watch in self._open(plural):
            watch.ending = how
        with self._changed:
            self._changed.notify_all()

    def send(self, raw: bytes, plural: str = "") -> None:
        """Raw bytes into the open watches."""
        for watch in self._open(plural):
            watch.raw.append(raw)
        with self._changed:
            self._changed.notify_all()

    def bookmark(self, plural: str) -> None:
        """The present version, to the open watches of ``plural``."""
        with self._changed:
            group = next(g for g, p in self._collections() if p == plural)
            line = self._bookmark((group, plural))
        self.send(line, plural)

    # What clients did

    def watching(self, plural: str = "") -> int:
        """How many watches are open."""
        return len(self._open(plural))

    def asked(self, verb: str = "", plural: str = "") -> list[Request]:
        """Requests so far, by RBAC verb and resource."""
        return [
            request
            for request in list(self.requests)
            if (not verb or request.verb == verb)
            and (not plural or ((p := parse_path(request.path)) and p.plural == plural))
        ]

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig of this server to ``path``."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": self.host}}],
            "users": [{"name": "fake", "user": {"token": self.token or "fake"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "current-context": "fake",
        }
        path.write_text(json.dumps(config))
        return path

    # For the handler

    def answer(self, handler: "_Handler", request: Request) -> None:
        with self._changed:
            self.requests.append(request)
            fault = self._take_fault(request)
        if fault.hang:
            self._wait_for_end(handler)
            return
        if fault.drop:
            handler.close_connection = True
            return
        try:
            place = self._admitted(request, fault, handler.user)
            if request.is_watch:
                self._watch(handler, place, request, fault)
                return
            with self._changed:
                data = self._act(place, request)
                raw = json.dumps(data).encode()
                self._changed.notify_all()
        except RefusedError as exc:
            raw = fault.body if fault.body is not None else _status(exc)
            handler.reply(exc.status, raw, fault.headers, fault.slow_seconds)
        else:
            created = 201 if request.method == "POST" else 200
            handler.reply(created, raw, {}, fault.slow_seconds)

    def _take_fault(self, request: Request) -> Fault:
        for index, (fault, matches) in enumerate(self._faults):
            if matches(request):
                del self._faults[index]
                return fault
        return Fault()

    def _admitted(self, request: Request, fault: Fault, user: str) -> Place:
        place = parse_path(request.path)
        if fault.status:
            raise RefusedError(fault.status, fault.reason, fault.message)
        if self.token and request.headers.get("authorization", "").split()[-1:] != [self.token]:
            raise RefusedError(401, "Unauthorized", "Unauthorized")
        if self.user and user != self.user:
            raise RefusedError(401, "Unauthorized", "Unauthorized")
        if place is None or place.group in self.missing:
            raise RefusedError(404, "NotFound", "the server could not find the requested resource")
        if (request.verb, place.plural) in self.forbidden:
            parts = place.group.split("/")
            group = parts[2] if parts[1] == "apis" else ""
            name = f"{place.plural}.{group}" if group else place.plural
            scope = (
                f'in the namespace "{place.namespace}"'
                if place.namespace
                else "at the cluster scope"
            )
            raise RefusedError(
                403,
                "Forbidden",
                f'{name} is forbidden: User "system:serviceaccount:router:sidecar" cannot'
                f' {request.verb} resource "{place.plural}" in API group "{group}" {scope}',
            )
        return place

    def _act(self, place: Place, request: Request) -> Object:
        match request.verb:
            case "get":
                return self._objects.find(place)
            case "list":
                query = request.query
                items, version, token = self._objects.page(
                    place.collection,
                    _selection(place, query),
                    int(query.get("limit", 0)),
                    query.get("continue", ""),
                )
                api_version, kind = self._objects.kind(place.collection)
                metadata = {"resourceVersion": version} | ({"continue": token} if token else {})
                return {
                    "apiVersion": api_version,
                    "kind": f"{kind}List",
                    "metadata": metadata,
                    # What goes without saying is not said, by the API server.
                    "items": [
                        {k: v for k, v in item.items() if k not in {"apiVersion", "kind"}}
                        for item in items
                    ],
                }
            case "create":
                return self._objects.create(place, request.body)
            case "update":
                return self._objects.update(place, request.body)
            case "patch":
                if "merge-patch" not in request.headers.get("content-type", ""):
                    raise RefusedError(415, "UnsupportedMediaType", "only merge patches")
                return self._objects.patch(place, request.body)
            case _:
                return self._objects.delete(place)

    def _watch(self, handler: "_Handler", place: Place, request: Request, fault: Fault) -> None:
        query = request.query
        selection = _selection(place, query)
        ends_at = time.monotonic() + float(query.get("timeoutSeconds", 1800))
        bookmarks = query.get("allowWatchBookmarks") in {"1", "true"}
        seen = int(query.get("resourceVersion") or 0)
        if seen < self._objects.oldest and self.gone_in_stream:
            fault = GONE_EVENT
        elif seen < self._objects.oldest:
            raise RefusedError(410, "Expired", f"too old resource version: {seen}")
        handler.begin_chunks()
        watch = _Watch(place.plural)
        if fault.lines:
            watch.raw.append(fault.lines)
        if fault.then in {"eof", "break"}:
            watch.ending = fault.then
        silent = fault.then == "silence"
        with self._changed:
            self._watches.append(watch)
        try:
            while True:
                with self._changed:
                    raw, watch.raw = b"".join(watch.raw), []
                    if not (self.mute or silent or watch.ending):
                        raw += b"".join(self._told(place, selection, seen))
                        seen = self._objects.version
                    ended = watch.ending or ("break" if self._stopping.is_set() else "")
                    if time.monotonic() > ends_at:
                        ended = "eof"
                        raw += self._bookmark(place.collection) if bookmarks else b""
                    if not raw and not ended:
                        self._changed.wait(_LOOK_SECONDS)
                if raw:
                    handler.chunk(raw, fault.slow_seconds)
                if ended:
                    break
                if not raw and handler.is_left():
                    return
            if ended == "eof":
                handler.chunk(b"")
            else:
                handler.close_connection = True
        finally:
            with self._changed:
                self._watches.remove(watch)

    def _told(self, place: Place, selection: Selection, seen: int) -> Iterator[bytes]:
        log = self._objects.log
        for logged in log[bisect_right(log, seen, key=attrgetter("version")) :]:
            if logged.collection == place.collection:
                event = self._objects.event(logged, selection)
                if event is not None:
                    yield (json.dumps(event).encode() + b"\n") * self.repeats

    def _bookmark(self, collection: tuple[str, str]) -> bytes:
        api_version, kind = self._objects.kind(collection)
        metadata = {"resourceVersion": str(self._objects.version), "creationTimestamp": None}
        data = {"apiVersion": api_version, "kind": kind, "metadata": metadata}
        return json.dumps({"type": "BOOKMARK", "object": data}).encode() + b"\n"

    def _collections(self) -> list[tuple[str, str]]:
        return [
            place.collection for request in self.requests if (place := parse_path(request.path))
        ]

    def _open(self, plural: str) -> list[_Watch]:
        with self._changed:
            return [watch for watch in self._watches if not plural or watch.plural == plural]

    def _wait_for_end(self, handler: "_Handler") -> None:
        while not self._stopping.wait(_LOOK_SECONDS) and not handler.is_left():
            pass
        handler.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: FakeAPI) -> None:
        self.api = api
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.api.tls is not None:
            # The handshake is the handler's, with its first read.
            connection = self.api.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left in the middle is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.api._connections.add(self.connection)

    def finish(self) -> None:
        self.server.api._connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *arguments: object) -> None:
        """The tests have `FakeAPI.requests`."""

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):
            super().handle_one_request()
            return
        self.close_connection = True

    def _any(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            self.command,
            parts.path,
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            {key.lower(): value for key, value in self.headers.items()},
            json.loads(self.rfile.read(length)) if length else None,
        )
        self.server.api.answer(self, request)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

    def reply(
        self, status: int, raw: bytes, headers: Mapping[str, str], slow_seconds: float
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self._trickle(raw, slow_seconds)

    def begin_chunks(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, raw: bytes, slow_seconds: float = 0.0) -> None:
        """Empty for the end."""
        self._trickle(b"%x\r\n%s\r\n" % (len(raw), raw), slow_seconds)

    def is_left(self) -> bool:
        """Whether the client closed its side."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        if isinstance(self.connection, ssl.SSLSocket):
            # It says nothing before it closes.
            return bool(readable)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    @property
    def user(self) -> str:
        """Whose certificate the client showed."""
        if not isinstance(self.connection, ssl.SSLSocket):
            return ""
        shown: Any = self.connection.getpeercert() or {}
        return str(dict(pair[0] for pair in shown.get("subject", ())).get("commonName", ""))

    def _trickle(self, raw: bytes, slow_seconds: float) -> None:
        head = raw[:100] if slow_seconds else b""
        for index in range(len(head)):
            self.wfile.write(head[index : index + 1])
            time.sleep(slow_seconds)
        self.wfile.write(raw[len(head) :])


def _selection(place: Place, query: Mapping[str, str]) -> Selection:
    namespace = "" if place.plural == "namespaces" else place.namespace
    return Selection(namespace, query.get("labelSelector", ""), query.get("fieldSelector", ""))


def _status(error: RefusedError) -> bytes:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Status",
            "status": "Failure",
            "code": error.status,
            "reason": error.reason,
            "message": error.message,
        }
    ).encode()
