"""Certificates and keys for tests, made when they are needed, good and bad ones alike.

`CA` issues; `Issued` is what it gives, in PEM; `Given`, by `issue`, the same
in bytes. Keys that take long to make are made once.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

#: Whichever key; what the library demands of each use is a matter of the test's.
AnyKey = Any

DAY = timedelta(days=1)

#: DER of sha256WithRSAEncryption and of its weak siblings, which have the same length.
_RSA_WITH = bytes.fromhex("2a864886f70d0101")
_WEAK: dict[str, tuple[bytes, hashes.HashAlgorithm | None]] = {
    "SHA1": (b"\x05", hashes.SHA1()),
    "MD5": (b"\x04", hashes.MD5()),
    "MD2": (b"\x02", None),
}


def ecdsa_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


@functools.cache
def rsa_key(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    """``number``: another one for each."""
    del number
    return rsa.generate_private_key(65537, bits)


def damaged(key: rsa.RSAPrivateKey) -> rsa.RSAPrivateKey:
    """The same key, but for a number that only whoever signs with it needs."""
    numbers = key.private_numbers()
    wrong = rsa.RSAPrivateNumbers(
        p=numbers.p,
        q=numbers.q,
        d=numbers.d,
        dmp1=numbers.dmp1 + 2,
        dmq1=numbers.dmq1,
        iqmp=numbers.iqmp,
        public_numbers=numbers.public_numbers,
    )
    return wrong.private_key(unsafe_skip_rsa_key_validation=True)


@functools.cache
def dsa_key() -> dsa.DSAPrivateKey:
    return dsa.generate_private_key(1024)


def key_pem(
    key: AnyKey, form: PrivateFormat = PrivateFormat.PKCS8, password: str | None = None
) -> str:
    locked = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return str(key.private_bytes(Encoding.PEM, form, locked).decode())


def public_pem(key: AnyKey) -> str:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return str(public.decode())


def request_pem(key: AnyKey) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name("www.test"))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def block(label: str, body: str = "MAA=") -> str:
    """A block of PEM with any name and body."""
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"


@dataclass(frozen=True)
class Issued:
    """A certificate and its key. ``issuers``: from the one who signed it to the root."""

    certificate: x509.Certificate
    key: AnyKey
    issuers: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> str:
        return pem(self.certificate)

    @property
    def key_pem(self) -> str:
        return key_pem(self.key)

    @property
    def issuers_pem(self) -> str:
        return pem(*self.issuers)


class CA:
    """An authority: a root, or below another (`authority`)."""

    def __init__(self, own: Issued) -> None:
        self.own = own

    @classmethod
    def root(cls, name: str = "root", key: AnyKey = None, **wishes: Any) -> "CA":
        key = key or ecdsa_key()
        return cls(_issue(name, key, None, ca=True, **wishes))

    def authority(self, name: str = "intermediate", key: AnyKey = None, **wishes: Any) -> "CA":
        return CA(_issue(name, key or ecdsa_key(), self.own, ca=True, **wishes))

    def leaf(self, *names: str, key: AnyKey = None, **wishes: Any) -> Issued:
        """``wishes``: see `_issue`."""
        names = names or ("www.test",)
        return _issue(names[0], key or ecdsa_key(), self.own, names=names, **wishes)

    def revocations(self, *revoked: Issued, days: tuple[int, int] = (-1, 30)) -> str:
        """The PEM of its list of what it has taken back. ``days``: as of a certificate."""
        now = datetime.now(UTC).replace(microsecond=0)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.own.certificate.subject)
            .last_update(now + days[0] * DAY)
            .next_update(now + days[1] * DAY)
        )
        for item in revoked:
            entry = x509.RevokedCertificateBuilder().revocation_date(now)
            entry = entry.serial_number(item.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.build())
        edwards = isinstance(self.own.key, ed25519.Ed25519PrivateKey)
        made = builder.sign(self.own.key, None if edwards else hashes.SHA256())
        return made.public_bytes(Encoding.PEM).decode()

    @property
    def pem(self) -> str:
        return self.own.pem


def self_signed(*names: str, key: AnyKey = None, **wishes: Any) -> Issued:
    names = names or ("www.test",)
    return _issue(names[0], key or ecdsa_key(), None, names=names, **wishes)


class Given(NamedTuple):
    """A certificate with its key, as HAProxy is given them. ``der``: as a client gets it."""

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


def issue(host: str, common_name: str = "test", key: AnyKey = None, **wishes: Any) -> Given:
    """Self-signed, for ``host``; another one each time. ``wishes``: see `_issue`."""
    made = self_signed(host, key=key, subject=_name(common_name), **wishes)
    der = made.certificate.public_bytes(Encoding.DER)
    return Given(made.pem.encode(), made.key_pem.encode(), der)


def pem(*certificates: x509.Certificate) -> str:
    return "".join(item.public_bytes(Encoding.PEM).decode() for item in certificates)


def with_headers(text: str, *headers: str) -> str:
    """``text``, one block, with these lines before its body, as of RFC 1421."""
    first, rest = text.split("\n", 1)
    return "\n".join([first, *headers, "", rest])


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _issue(
    name: str,
    key: AnyKey,
    issuer: Issued | None,
    *,
    names: Sequence[str] = (),
    ca: bool = False,
    days: tuple[int, int] = (-1, 30),
    serial: int | None = None,
    subject: x509.Name | None = None,
    weak: str = "",
    padding_bytes: int = 0,
    extend: Callable[[x509.CertificateBuilder], x509.CertificateBuilder] = lambda builder: builder,
) -> Issued:
    """``days``: from and to which one, counted from today. ``weak``: MD2, MD5 or SHA1, by an RSA
    key. ``padding_bytes``: makes it that much longer."""
    now = datetime.now(UTC).replace(microsecond=0)
    subject = subject or _name(name)
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now + days[0] * DAY)
        .not_valid_after(now + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        dns = [x509.DNSName(item) for item in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(dns), critical=False)
    if padding_bytes:
        extra = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(padding_bytes))
        builder = builder.add_extension(extra, critical=False)
    edwards = isinstance(signer, ed25519.Ed25519PrivateKey)
    made = extend(builder).sign(signer, None if edwards else hashes.SHA256())
    chain = (issuer.certificate, *issuer.issuers) if issuer else ()
    return Issued(_weakened(made, signer, weak) if weak else made, key, chain)


def _weakened(made: x509.Certificate, signer: rsa.RSAPrivateKey, weak: str) -> x509.Certificate:
    """The same certificate, signed as the library does not sign any more."""
    last, algorithm = _WEAK[weak]
    strong, weaker = _RSA_WITH + b"\x0b", _RSA_WITH + last
    body = made.tbs_certificate_bytes.replace(strong, weaker)
    signature = made.signature
    if algorithm:
        signature = signer.sign(body, padding.PKCS1v15(), algorithm)
    der = made.public_bytes(Encoding.DER)
    der = der.replace(made.tbs_certificate_bytes, body).replace(made.signature, signature)
    return x509.load_der_x509_certificate(der.replace(strong, weaker))
