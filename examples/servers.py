"""Two small servers to stand behind the examples: a web server and something like a database.

    python examples/servers.py [COMMAND ...]

Starts them on the loopback, runs COMMAND beside them, and stops them when it ends (without a
command: at Ctrl-C). Standard library only.
"""

import signal
import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: What the EndpointSlices in this folder name.
WEB = {"web-0": ("127.0.0.1", 28080), "web-1": ("127.0.0.2", 28080)}
DATABASES = {"mysql-0": ("127.0.0.1", 23306)}


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


def main(command: list[str]) -> int:
    servers: list[socketserver.BaseServer] = []
    for address, make in [
        *(
            (address, lambda n=name, a=address: ThreadingHTTPServer(a, web_handler(n)))
            for name, address in WEB.items()
        ),
        *(
            (address, lambda n=name, a=address: LineServer(a, line_handler(n)))
            for name, address in DATABASES.items()
        ),
    ]:
        try:
            servers.append(make())
        except OSError as exc:
            where = f"{address[0]}:{address[1]}"
            print(
                f"the demo server cannot listen on {where}: {exc.strerror};"
                " is the demo running in another terminal?",
                file=sys.stderr,
            )
            return 3
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    names = ", ".join(f"{n} on {a[0]}:{a[1]}" for n, a in {**WEB, **DATABASES}.items())
    print(f"\N{CHECK MARK} demo servers: {names}", file=sys.stderr)
    # Ctrl-C reaches the command by itself; we end when it has.
    signal.signal(signal.SIGINT, signal.SIG_IGN if command else signal.default_int_handler)
    try:
        if command:
            process = subprocess.Popen(command, preexec_fn=restore_sigint)
            signal.signal(signal.SIGTERM, lambda *_: process.terminate())
            return process.wait()
        signal.pause()
    except KeyboardInterrupt:
        pass
    return 0


def restore_sigint() -> None:
    """For the child: an ignored SIGINT would be inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
