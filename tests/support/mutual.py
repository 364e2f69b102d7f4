"""Clients that show certificates of their own, in HTTP/1.1 and HTTP/2, and what they are told."""

import contextlib
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple, Self

from by_host import ask_over
from pki import Issued

#: What a client is told whose certificate is refused, and what it gets if it reads before that.
REFUSED = "refused"


class MutualClient:
    """One with the certificate ``issued``, or none, which remembers its TLS sessions."""

    def __init__(
        self,
        address: tuple[str, int],
        issued: Issued | None = None,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        self.session: ssl.SSLSession | None = None
        self.resumed = False
        self._address = address
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE
        self._context.maximum_version = version
        if issued:
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(issued.pem + issued.issuers_pem + issued.key_pem)
                file.flush()
                self._context.load_cert_chain(file.name)

    def ask(self, host: str, sni: str | None = None, lines: str = "") -> str:
        """Who answers, the status where that is not 200, or `REFUSED`, if it says so in TLS, or
        closes: what it says in TLS is lost where our request meets a connection that is closed.
        ``lines``: further ones of the request, each after a CRLF."""
        secured = self._context.wrap_socket(
            socket.socket(), server_hostname=sni or host, session=self.session
        )
        with contextlib.closing(secured):
            try:
                secured.settimeout(10)
                secured.connect(self._address)
                reply = ask_over(secured, f"GET / HTTP/1.1\r\nHost: {host}{lines}")
            except ssl.SSLError as exc:
                if "ALERT" not in str(exc.reason):
                    raise
                return REFUSED
            except ConnectionResetError:
                return REFUSED
            self.session, self.resumed = secured.session, secured.session_reused or False
        return reply.body if reply.status == 200 else str(reply.status)


class Curl(NamedTuple):
    """One that asks in HTTP/2, with curl."""

    address: tuple[str, int]
    file: Path | None = None

    @classmethod
    def with_certificate(cls, address: tuple[str, int], folder: Path, issued: Issued) -> Self:
        file = folder / f"{issued.certificate.serial_number}.pem"
        file.write_text(issued.pem + issued.key_pem)
        return cls(address, file)

    def ask(self, host: str, *headers: str) -> str:
        """As `MutualClient.ask`."""
        ip, port = self.address
        command = [
            "curl",
            "--silent",
            "--insecure",
            "--http2",
            "--noproxy",
            "*",
            "--max-time",
            "10",
        ]
        command += ["--connect-to", f"{host}:443:{ip}:{port}"]
        command += ["--write-out", "\n%{http_version} %{http_code}"]
        command += ["--cert", str(self.file)] if self.file else []
        command += [word for header in headers for word in ("--header", header)]
        done = subprocess.run(
            [*command, f"https://{host}/"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            # 35: in the handshake; 56, or 18 if HTTP/2 has begun: behind it, as TLS 1.3 tells the
            # client
            assert done.returncode in (35, 56, 18), done
            assert done.stdout.endswith("\n0 000") or done.returncode != 18, done
            return REFUSED
        body, _, last = done.stdout.rpartition("\n")
        version, status = last.split()
        assert version == "2", done
        return body if status == "200" else status
