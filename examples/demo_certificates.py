"""Certificates for the examples, made anew by each `make run`.

A CA, of which clients need ``demo-ca.pem``, and what it signs: for a demo server that speaks TLS,
and in a manifest, as a Route brings it. Private keys are in that alone, which git ignores.
"""

import datetime as dt
import ssl
import tempfile
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_HEAD = """\
# Written by examples/servers.py, which removes it when it ends: an edge Route that brings its own
# certificate, and a reencrypt Route, whose servers are verified.
"""


class CA:
    """One that is made now."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._signed("demo CA", self._key, None)

    @property
    def pem(self) -> str:
        return self._certificate.public_bytes(Encoding.PEM).decode()

    def issue(self, host: str) -> tuple[str, str]:
        """A certificate for ``host``, and its key, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(host, key, host)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return certificate.public_bytes(Encoding.PEM).decode(), secret.decode()

    def context(self, host: str) -> ssl.SSLContext:
        """What a server has that is ``host``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("".join(self.issue(host)))
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def _signed(
        self, title: str, key: ec.EllipticCurvePrivateKey, host: str | None
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
        issuer = self._certificate.subject if host else name
        own = x509.SubjectKeyIdentifier.from_public_key
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key
        made = (
            x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
            .add_extension(own(key.public_key()), critical=False)
            .add_extension(by(self._key.public_key()), critical=False)
        )
        if host:
            made = made.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
            )
        return made.sign(self._key, hashes.SHA256())


def write_manifest(path: Path, ca: CA) -> None:
    """``path``: of the manifest. Raises OSError."""
    certificate, key = ca.issue("pay.example")
    pay = _route("pay", "web", {"termination": "edge", "certificate": certificate, "key": key})
    certificate, key = ca.issue("api.example")
    tls = {"termination": "reencrypt", "certificate": certificate, "key": key}
    api = _route("api", "secure", {**tls, "destinationCACertificate": ca.pem})
    text = _HEAD + yaml.dump_all([pay, api], Dumper=_Blocks, sort_keys=False)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)


def _route(name: str, service: str, tls: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": {
            "name": name,
            "namespace": "demo",
            "creationTimestamp": "2024-01-01T10:00:00Z",
        },
        "spec": {
            "host": f"{name}.example",
            "tls": tls,
            "to": {"kind": "Service", "name": service},
        },
    }


class _Blocks(yaml.SafeDumper):
    """Writes PEM with a line for each of its own."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar(
            "tag:yaml.org,2002:str", data, style="|" if "\n" in data else None
        )


_Blocks.add_representer(str, _Blocks.represent_str)
