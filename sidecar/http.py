"""The sidecar's own HTTP port. Read-only, no state of its own: what is answered, others say.

Probes and metrics are open; the page and /api only to whom `sidecar.access` lets in.
"""

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from sidecar.access import Access
from sidecar.addresses import split_host_port
from sidecar.errors import BusyError, SettingsError, UsageError

log = logging.getLogger(__name__)

#: Nothing from elsewhere, nothing inline, in nobody's frame.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    content_type: str
    body: bytes


#: Makes the answer to a request; gets its query's keys and values.
Page = Callable[[Mapping[str, str]], Answer]

#: What a probe says: "" means yes, else what is wrong.
Probe = Callable[[], str]


def text(status: int, message: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", f"{message}\n".encode())


def as_json(data: object) -> Answer:
    return Answer(200, "application/json", json.dumps(data).encode())


def probe(problem: Probe) -> Page:
    def page(_: Mapping[str, str]) -> Answer:
        found = problem()
        return text(503 if found else 200, found or "ok")

    return page


@dataclass(frozen=True, slots=True)
class Site:
    """All that there is. ``open``, ``guarded``: path -> page; ``access``: to the latter."""

    open: Mapping[str, Page]
    guarded: Mapping[str, Page]
    access: Access


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        self.site = site
        super().__init__(address, _Handler)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10  # seconds that a client may take to send its request

    def do_GET(self) -> None:
        site = self.server.site
        path, _, query = self.path.partition("?")
        page = site.open.get(path)
        if page is None and (page := site.guarded.get(path)):
            headers = self.headers
            denied = site.access.check(headers.get("Host"), headers.get("Authorization"))
            if denied:
                self._send(text(denied.status, denied.message), challenge=denied.challenge)
                return
        if page is None:
            there_are = ", ".join([*site.open, *site.guarded])
            self._send(text(404, f"there are {there_are}"))
            return
        self._send(_answer(page, query))

    def _send(self, answer: Answer, *, challenge: bool = False) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if challenge:
            self.send_header("WWW-Authenticate", 'Basic realm="haproxy-sidecar", charset="UTF-8"')
        self.end_headers()
        self.wfile.write(answer.body)

    def version_string(self) -> str:
        """Python's version is nobody's business."""
        return "haproxy-sidecar"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        log.debug("HTTP: " + format, *args)  # noqa: G003


def _answer(page: Page, query: str) -> Answer:
    try:
        asked = dict(parse_qsl(query, max_num_fields=16))
    except ValueError as exc:
        return text(400, str(exc))
    try:
        return page(asked)
    except UsageError as exc:
        return text(400, str(exc))
    except BusyError as exc:
        return text(503, str(exc))
    except Exception:
        log.exception("a request could not be answered")
        return text(500, "the sidecar made a mistake; its log has more")


@contextlib.contextmanager
def serving(listen: str, site: Site) -> Iterator[None]:
    """Answer on ``listen`` from a thread of its own for as long as the context lasts.

    Raises SettingsError if the address cannot be bound.
    """
    host, port = split_host_port(listen)
    kind = _Server6 if ":" in host else _Server
    try:
        server = kind((host, port), site)
    except OSError as exc:
        problem = f"{listen!r} cannot be used ({exc.strerror}); choose another, or null for none"
        raise SettingsError("http.listen", [problem]) from exc
    with server:
        threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
