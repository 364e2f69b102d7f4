"""Servers that speak TLS themselves, and what a client of a port finds there."""

import contextlib
import socketserver
import ssl
import threading
from typing import NamedTuple

from authority import Authority
from handshake import shake_hands
from stand import fresh_ip

from sidecar.model.pool import Address


class TLSServer:
    """Says ``name`` to each client, over TLS with a certificate of its own. ``der``: that."""

    def __init__(self, name: str, authority: Authority) -> None:
        self.name = name
        issued = authority.issue(name)
        self.der = ssl.PEM_cert_to_DER_cert(issued.certificate.read_text())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*issued)

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with (
                    contextlib.suppress(OSError),
                    context.wrap_socket(self.request, server_side=True) as tls,
                ):
                    tls.sendall(f"{name}\n".encode())
                    while tls.recv(4096):
                        pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server((fresh_ip(), 9000), Handler)
        self.address = Address(*self._server.server_address)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Greeted(NamedTuple):
    """Who answered: the name that it said, and its certificate."""

    name: str
    der: bytes


def greeted(address: tuple[str, int], sni: str | None) -> Greeted | None:
    """Who answers a TLS client that names ``sni``; None where nobody does."""
    with contextlib.suppress(OSError), shake_hands(address, sni) as tls:
        der = tls.getpeercert(binary_form=True)
        return Greeted(tls.makefile("rb").readline().decode().strip(), der or b"")
    return None
