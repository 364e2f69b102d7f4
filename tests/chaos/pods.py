"""The pods of a chaos run of Routes by host. Each has a certificate of its own."""

import contextlib
import functools
import re
import socket
import socketserver
import ssl
import tempfile
import threading
import time

from by_host import NamedServer
from pki import CA, Issued

from sidecar.model.pool import Address

#: What a client offers by ALPN who wants TLS of a pod, and not to be greeted in clear.
TLS_WANTED = "chaos"

_TLS_HANDSHAKE = b"\x16"
_HEADER_BYTES = 5
_PIECE_SECONDS = 0.05
_WHOLE = socket.MSG_PEEK | socket.MSG_WAITALL


class Pod:
    """Answers HTTP with its name, in so many pieces as ``?pieces=`` asks for, with pauses; a TLS
    client is told its name, then gets an echo: in clear, unless it wants TLS."""

    def __init__(self, name: str, ip: str) -> None:
        context = _context(_issued(name))

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    if self.request.recv(1, socket.MSG_PEEK) == _TLS_HANDSHAKE:
                        if _wants_tls(self.request):
                            with context.wrap_socket(self.request, server_side=True) as secured:
                                _greet(secured)
                            return
                        self.request.recv(65536)
                        _greet(self.request)
                    while head := NamedServer.read_head(self.rfile.readline):
                        found = re.search(r"\?pieces=(\d+)", head)
                        pieces, piece = int(found[1]) if found else 1, f"{name}\n".encode()
                        length = pieces * len(piece)
                        self.wfile.write(
                            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (length, piece)
                        )
                        for _ in range(pieces - 1):
                            time.sleep(_PIECE_SECONDS)
                            self.wfile.write(piece)

        def _greet(connection: socket.socket) -> None:
            connection.sendall(f"{name}\n".encode())
            while data := connection.recv(4096):
                connection.sendall(data)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 1024

        self._server = Server((ip, 9000), Handler)
        self.address = Address(ip, 9000)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def pod_with(der: bytes) -> str:
    """Whose certificate it is; "" if no pod's."""
    return _pods.get(der, "")


#: Certificate, in DER -> pod.
_pods: dict[bytes, str] = {}


@functools.cache
def _root() -> CA:
    return CA.root()


@functools.cache
def _issued(pod: str) -> Issued:
    issued = _root().leaf(f"{pod}.pods.test")
    _pods[ssl.PEM_cert_to_DER_cert(issued.pem)] = pod
    return issued


def _context(issued: Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols([TLS_WANTED])
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(issued.pem + issued.key_pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _wants_tls(connection: socket.socket) -> bool:
    """By its ClientHello, which is left there."""
    header = connection.recv(_HEADER_BYTES, _WHOLE)
    hello = connection.recv(_HEADER_BYTES + int.from_bytes(header[3:]), _WHOLE)
    return TLS_WANTED.encode() in hello
