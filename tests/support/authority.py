"""A certificate authority of a test's own, for an API server and for those who come to it."""

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """Two files of PEM."""

    certificate: Path
    key: Path


class Authority:
    """Its files are in ``folder``. ``certificate``: its own, which others trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = self._make("ca", "/CN=test", "-x509")
        self.certificate = self._own.certificate

    def issue(self, name: str, ip: str = "") -> Certificate:
        """For somebody called ``name``, or for a server at ``ip``."""
        issuer = "-CA", str(self._own.certificate), "-CAkey", str(self._own.key), "-x509"
        usage = ("-addext", f"subjectAltName=IP:{ip}") if ip else ()
        leaf = "-addext", "basicConstraints=critical,CA:FALSE"
        return self._make(name, f"/CN={name}", *issuer, *usage, *leaf)

    def server(self, ip: str) -> ssl.SSLContext:
        """TLS of a server at ``ip``, which takes the certificates of clients."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue("server", ip))
        context.load_verify_locations(self.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _make(self, name: str, subject: str, *options: str) -> Certificate:
        made = Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        files = "-out", str(made.certificate), "-keyout", str(made.key)
        kind = "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"
        subprocess.run(
            ["openssl", "req", *kind, "-subj", subject, *files, *options],
            check=True,
            capture_output=True,
        )
        return made
