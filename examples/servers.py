"""Small servers to stand behind the examples: web servers, and something like a database.

    python examples/servers.py [COMMAND ...]

Starts them on the loopback, runs COMMAND beside them, and stops them when it ends (without a
command: at Ctrl-C). One speaks TLS, for which certificates are made, see `demo_certificates`.
"""

import signal
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from demo_certificates import CA, write_manifest

#: What the EndpointSlices and ExternalNames in this folder name.
WEB = {
    "web-0": ("127.0.0.1", 28080),
    "web-1": ("127.0.0.2", 28080),
    "cart-0": ("127.0.0.3", 28080),
}
SECURE = {"secure-0": ("127.0.0.1", 28443)}
#: Outside of the cluster, by their names.
PARTNERS = {
    "www.partner.example": ("127.0.0.2", 28443),
    "api.partner.example": ("127.0.0.3", 28443),
}
DATABASES = {"mysql-0": ("127.0.0.1", 23306)}

#: What their Routes publish: a port each, a host over HTTP, and hosts over TLS: edge, reencrypt and
#: passthrough.
TRY = """\
    curl 127.0.0.1:18080
    nc 127.0.0.1 13306
    curl -H 'Host: shop.example' 127.0.0.1:18081
    curl --cacert run/demo-ca.pem --resolve '*:18443:127.0.0.1' https://pay.example:18443
    curl --cacert run/demo-ca.pem --resolve '*:18443:127.0.0.1' https://api.example:18443
    curl --cacert run/demo-ca.pem --resolve '*:18443:127.0.0.1' https://secure.example:18443
  and more in examples/hosts.yaml"""

#: What clients need to verify certificates, and a manifest with Routes that bring some.
CA_FILE = Path("run/demo-ca.pem")
MANIFEST = Path(__file__).with_name("made-tls.yaml")


def web_handler(name: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"hello from {name}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


def line_handler(name: str) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(f"{name}: say something, it comes back\n".encode())
            for line in self.rfile:
                self.wfile.write(f"{name}: ".encode() + line)

    return Handler


class LineServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class AddressError(Exception):
    """Nobody can listen there."""


def start() -> None:
    """Let all of them answer, from threads of their own. Raises AddressError, and OSError if the
    certificates cannot be written."""
    for name, address in WEB.items():
        serve(partial(ThreadingHTTPServer, address, web_handler(name)), address)
    ca = CA()
    for name, address in SECURE.items():
        serve(tls_server(name, address, ca.context("secure.example")), address)
    for name, address in PARTNERS.items():
        serve(tls_server(name, address, ca.context(name)), address)
    for name, address in DATABASES.items():
        serve(partial(LineServer, address, line_handler(name)), address)
    # Now that this is the only one: another's stay as they are.
    CA_FILE.parent.mkdir(parents=True, exist_ok=True)
    CA_FILE.write_text(ca.pem)
    write_manifest(MANIFEST, ca)


def tls_server(
    name: str, address: tuple[str, int], context: ssl.SSLContext
) -> Callable[[], ThreadingHTTPServer]:
    def make() -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(address, web_handler(name))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        return server

    return make


def serve(make: Callable[[], socketserver.BaseServer], address: tuple[str, int]) -> None:
    try:
        server = make()
    except OSError as exc:
        raise AddressError(f"{address[0]}:{address[1]}: {exc.strerror}") from exc
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main(command: list[str]) -> int:
    try:
        start()
    except AddressError as exc:
        say(f"the demo server cannot listen on {exc}; is the demo running in another terminal?")
        return 3
    except OSError as exc:
        say(f"the demo's certificates cannot be written to {exc.filename}: {exc.strerror}")
        return 3
    servers = {**WEB, **SECURE, **PARTNERS, **DATABASES}
    names = ", ".join(f"{n} on {a[0]}:{a[1]}" for n, a in servers.items())
    try:
        say(f"\N{CHECK MARK} demo servers: {names}")
        say(f"  once their ports are open, try\n{TRY}")
        if command:
            return run(command)
        while True:
            # A signal just before a wait without end would be noticed when that is over only.
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        say(f"{command[0]} cannot be run: {exc.strerror}")
        return 2
    finally:
        MANIFEST.unlink(missing_ok=True)
    return 0


def run(command: list[str]) -> int:
    """Run it until it ends, which a signal to us leads to."""
    children: list[subprocess.Popen[bytes]] = []
    asked = threading.Event()

    def stop(*_: object) -> None:
        asked.set()
        for child in children:
            child.terminate()

    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C reaches the command by itself: a handler is not inherited.
    signal.signal(signal.SIGINT, lambda *_: None)
    children.append(subprocess.Popen(command))
    if asked.is_set():
        stop()
    # With an end, since a signal just before a wait without one would have to wait with it.
    return children[0].wait(threading.TIMEOUT_MAX)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
