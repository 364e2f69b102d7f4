"""A certificate that HAProxy gets, and the authorities that it trusts, as values.

Owns what HAProxy is given for them (PEM: leaf, chain, key, encoded anew, nothing else), their names
by content, and their facts as HAProxy and people are shown them. Must not judge: what they are made
of belongs together already (`sidecar.model.certificate_rules`). Pure.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sidecar.common.text import one_line
from sidecar.model.certificate_title import title

#: The keys with which HAProxy serves.
ServerKey = EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey

#: Of a sha256, in hex: no two contents ever have the same, and it is short in a list of thousands.
_NAME_CHARACTERS = 32

#: Beginnings of ``Algorithm`` in ``show ssl cert``, by HAProxy's preference; it names no others.
_RANKED = ("EC", "RSA")

#: Most of a subject, an issuer or a name that is shown, in characters.
_SHOWN_MAX = 256


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """What HAProxy serves: a certificate with its chain and private key.

    ``name``: by content, in the letters of hex. ``pem``: what HAProxy gets; never shown, and left
    out of comparisons, which show what differs: the name stands for it.
    ``not_after_seconds``: Unix time, and ``not_after`` the same as text. ``serial``,
    ``sha1_fingerprint``: as ``show ssl cert`` has them, upper-case hex; of an Ed25519 certificate
    it has no fingerprint. ``algorithm``: how that begins there.
    """

    name: str
    pem: bytes = field(repr=False, compare=False)
    subject: str
    issuer: str
    not_after_seconds: float
    not_after: str
    serial: str
    sha1_fingerprint: str
    algorithm: str

    @property
    def title(self) -> str:
        """For a person: whose it is, by whom, and until when."""
        return title(self.subject, self.issuer, self.not_after)

    @classmethod
    def of(cls, chain: Sequence[x509.Certificate], key: ServerKey) -> Self:
        """``chain``: the leaf, for which ``key`` is, then the others."""
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem = _encoded(chain) + private
        leaf = chain[0]
        return cls(
            name=_name(pem),
            pem=pem,
            subject=_shown(leaf.subject),
            issuer=_shown(leaf.issuer),
            not_after_seconds=leaf.not_valid_after_utc.timestamp(),
            not_after=_instant(leaf.not_valid_after_utc),
            serial=serial_hex(leaf.serial_number),
            sha1_fingerprint=_fingerprint(leaf),
            algorithm=_algorithm(key),
        )


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """The certificates that HAProxy trusts on its way to a Route's servers.

    ``mark``: by what ``show ssl ca-file`` has of them, see `mark_of`.
    """

    pem: bytes = field(repr=False)
    subjects: tuple[str, ...]
    mark: str

    @classmethod
    def of(cls, certificates: Iterable[x509.Certificate]) -> Self:
        """The same certificate twice counts once."""
        distinct = tuple(dict.fromkeys(certificates))
        pem = _encoded(distinct)
        subjects = tuple(_shown(certificate.subject) for certificate in distinct)
        mark = mark_of(map(_fingerprint, distinct))
        return cls(pem, subjects, mark)

    @property
    def title(self) -> str:
        """For a person."""
        return "; ".join(self.subjects)

    @property
    def text(self) -> str:
        """The PEM, as a file has it."""
        return self.pem.decode("ascii")


def wildcard_over(host: str) -> str:
    """The ``*.domain`` that TLS takes for ``host``, too; a wildcard's is itself."""
    return f"*.{host.partition('.')[2]}"


def outranks(algorithm: str, other: str) -> bool:
    """Whether HAProxy shows a certificate of the former rather than one of the latter, if both are
    for an SNI, though the former were for a wildcard and the latter for just that host."""
    return _rank(algorithm) < _rank(other)


def _rank(algorithm: str) -> int:
    return next((n for n, start in enumerate(_RANKED) if algorithm.startswith(start)), len(_RANKED))


def _algorithm(key: ServerKey) -> str:
    match key:
        case EllipticCurvePrivateKey():
            return "EC"
        case RSAPrivateKey():
            return "RSA"
        case Ed25519PrivateKey():
            return ""


def mark_of(shown: Iterable[str]) -> str:
    """By what HAProxy shows of authorities, in any order: the SHA-1 fingerprint of each, in
    upper-case hex."""
    return _name(" ".join(sorted(shown)).encode())


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(SHA1()).hex().upper()  # noqa: S303  # HAProxy's


def title_of(der: bytes) -> str:
    """`ServerCertificate.title` of one that a server shows. Raises ValueError if it is none."""
    shown = x509.load_der_x509_certificate(der)
    end = _instant(shown.not_valid_after_utc)
    return title(_shown(shown.subject), _shown(shown.issuer), end)


def _instant(at: datetime) -> str:
    """``2027-02-24T12:00:00Z``."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_for(host_name: str, pem: bytes) -> bool:
    """Whether the first certificate in ``pem`` is for this host alone."""
    try:
        return _alternative_names(x509.load_pem_x509_certificate(pem)) == (host_name,)
    except ValueError:
        return False


def _encoded(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _name(pem: bytes) -> str:
    return hashlib.sha256(pem).hexdigest()[:_NAME_CHARACTERS]


def _shown(name: x509.Name) -> str:
    """As in RFC 4514; whoever made the certificate may have put anything there."""
    return one_line(name.rfc4514_string(), _SHOWN_MAX)


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    found = [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]
    return tuple(one_line(name, _SHOWN_MAX) for name in found)


def serial_hex(serial: int) -> str:
    """Of its magnitude, in whole bytes, as HAProxy writes it."""
    digits = f"{abs(serial):X}"
    return digits.zfill(len(digits) + len(digits) % 2)
