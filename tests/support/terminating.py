"""A HAProxy that ends TLS, with a crt-list, to be asked by handshakes what it serves."""

import contextlib
import hashlib
import ssl
from collections.abc import Mapping, Sequence

from handshake import shake_hands
from pki import Given, issue
from stand import Stand

from sidecar.common.errors import CommandRefusedError
from sidecar.control.certificate_writer import CertificateWriter, Written
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.operations import Request
from sidecar.planning.certificates import WantedEntry

#: Of the bind with the list, and of the server with a CA file.
PORT, PROXY_PORT = 39443, 39080


class Terminating:
    """A stand whose HAProxy answers 200 over TLS. ``folder``: of certificates, beside ``list``."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.client = stand.client
        self.folder = stand.folder / "certs"
        self.list = self.folder / "certs.list"
        self.default = self.folder / "default.pem"
        self.first = issue("default.test")
        stand.stop_haproxy()
        self.folder.mkdir()
        self.default.write_bytes(self.first.pem)
        self.list.write_text("")
        config = stand.settings.haproxy.config
        config.write_text(
            f"{config.read_text()}\n"
            "frontend terminating\n"
            "  mode http\n"
            "  timeout client 30s\n"
            f"  bind {stand.ip}:{PORT} ssl crt {self.default} crt-list {self.list}"
            " alpn http/1.1\n"
            "  http-request return status 200 content-type text/plain string ok\n"
        )
        stand.start_haproxy()

    def writer(self, client: RuntimeClient | None = None) -> CertificateWriter:
        return CertificateWriter(client or self.client, self.list, self.folder, self.default)

    def name(self, issued: Given) -> str:
        return str(self.folder / issued.file)

    def write(
        self,
        writer: CertificateWriter,
        hosts: Mapping[str, Given],
        *,
        options: str = "",
        default: Given | None = None,
    ) -> Written:
        """Have ``hosts`` (filter -> certificate) served."""
        pems = {self.name(item): item.pem for item in hosts.values()}
        pems[str(self.default)] = (default or self.first).pem
        entries = {host: WantedEntry(self.name(item), options) for host, item in hosts.items()}
        return writer.write(entries, pems)

    def handshake(self, sni: str, alpn: Sequence[str] = ()) -> ssl.SSLSocket:
        return shake_hands((self.stand.ip, PORT), sni, alpn)

    def served(self, sni: str) -> str:
        """The SHA-1 fingerprint of what a client gets."""
        with contextlib.closing(self.handshake(sni)) as connection:
            der = connection.getpeercert(binary_form=True)
            assert der is not None
            return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()

    def apply(self, *requests: Request) -> list[str]:
        """What HAProxy answered, to what succeeded and to what it refused (with "! " before)."""
        return [
            f"! {item.reply}" if isinstance(item, CommandRefusedError) else str(item)
            for item in self.client.apply(requests)
        ]

    def restarted(self) -> None:
        """HAProxy alone, on the files as they are."""
        self.stand.stop_haproxy()
        self.stand.start_haproxy()

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


def ask(connection: ssl.SSLSocket) -> bytes:
    """A request over a connection that stays."""
    connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"ok"):
        data = connection.recv(4096)
        assert data, "closed instead of an answer"
        answer += data
    return answer
