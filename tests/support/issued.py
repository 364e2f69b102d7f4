"""Certificates for tests, with their keys, as an HAProxy is given them."""

import datetime as dt
import hashlib
import itertools
import ssl
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

_serials = itertools.count(1)
_NOW = dt.datetime.now(dt.UTC)


class Issued(NamedTuple):
    """``der``: as a client gets it."""

    certificate: bytes
    key: bytes
    der: bytes

    @property
    def pem(self) -> bytes:
        return self.certificate + self.key

    @property
    def fingerprint(self) -> str:
        return hashlib.sha1(self.der, usedforsecurity=False).hexdigest().upper()

    @property
    def file(self) -> str:
        """A name by content."""
        return f"{hashlib.sha256(self.pem).hexdigest()[:40]}.pem"


def issue(
    host: str,
    common_name: str = "test",
    *,
    rsa_bits: int = 0,
    is_ed25519: bool = False,
    serial: int | None = None,
) -> Issued:
    """Self-signed, for ``host``; another one each time, with a key of ECDSA unless told
    otherwise."""
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    if rsa_bits:
        key = rsa.generate_private_key(65537, rsa_bits)
    elif is_ed25519:
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial or next(_serials))
        .not_valid_before(_NOW - dt.timedelta(days=1))
        .not_valid_after(_NOW + dt.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, None if is_ed25519 else hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    certificate = made.public_bytes(serialization.Encoding.PEM)
    return Issued(certificate, private, ssl.PEM_cert_to_DER_cert(certificate.decode()))
