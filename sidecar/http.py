"""The sidecar's own HTTP port: /healthz, /readyz and /metrics. Read-only, no state of its own."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from sidecar.addresses import split_host_port
from sidecar.errors import SettingsError

log = logging.getLogger(__name__)

#: What a probe says: "" means yes, else what is wrong.
Probe = Callable[[], str]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], healthy: Probe, ready: Probe, registry: CollectorRegistry
    ) -> None:
        self.healthy, self.ready, self.registry = healthy, ready, registry
        super().__init__(address, _Handler)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10  # seconds that a client may take to send its request

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, generate_latest(self.server.registry))
        elif path in ("/healthz", "/readyz"):
            problem = (self.server.healthy if path == "/healthz" else self.server.ready)()
            self._answer(503 if problem else 200, "text/plain", f"{problem or 'ok'}\n".encode())
        else:
            text = b"there are /healthz, /readyz and /metrics\n"
            self._answer(404, "text/plain", text)

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        log.debug("HTTP: " + format, *args)  # noqa: G003


@contextlib.contextmanager
def serving(
    listen: str, healthy: Probe, ready: Probe, registry: CollectorRegistry
) -> Iterator[None]:
    """Answer on ``listen`` from a thread of its own for as long as the context lasts.

    Raises SettingsError if the address cannot be bound.
    """
    host, port = split_host_port(listen)
    kind = _Server6 if ":" in host else _Server
    try:
        server = kind((host, port), healthy, ready, registry)
    except OSError as exc:
        problem = f"{listen!r} cannot be used ({exc.strerror}); choose another, or null for none"
        raise SettingsError("http.listen", [problem]) from exc
    with server:
        threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
