"""PEM (RFC 7468): the certificates and private keys in a text, or its revocation lists.

Owns which blocks a text has, and the words for one that cannot be used. Whoever wrote the text may
have put a private key anywhere in it, so no message shows any of it, not even a block's name, and
no exception has the one of the library as its cause. Must not know which fields the text came from,
nor which certificates belong together (`sidecar.model.certificate_rules`). Pure.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_private_key

from sidecar.common.errors import CertificateError
from sidecar.common.secret_text import SecretText

_CERTIFICATE, _REVOCATION_LIST = "CERTIFICATE", "X509 CRL"

#: What they hold may be of any format: OpenSSL minds these names, OpenShift's router does not.
_PRIVATE_KEYS = frozenset(
    {"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ECDSA PRIVATE KEY", "DSA PRIVATE KEY"}
)

#: What other tools write beside a key, and nobody needs.
_DROPPED = frozenset(
    {"EC PARAMETERS", "PUBLIC KEY", "RSA PUBLIC KEY", "DSA PUBLIC KEY", "ECDSA PUBLIC KEY"}
)

_ENCRYPTED = (
    "is an encrypted private key, and HAProxy cannot ask for a pass phrase; use it as `openssl"
    " pkey -in FILE` writes it"
)
_REQUEST = "is a certificate request; use the certificate that a CA made of it"
_DH_PARAMETERS = "is DH parameters, which a Route cannot have; remove them"

_REFUSED = {
    "ENCRYPTED PRIVATE KEY": _ENCRYPTED,
    "CERTIFICATE REQUEST": _REQUEST,
    "NEW CERTIFICATE REQUEST": _REQUEST,
    "DH PARAMETERS": _DH_PARAMETERS,
    "X9.42 DH PARAMETERS": _DH_PARAMETERS,
    "TRUSTED CERTIFICATE": "is a certificate of OpenSSL's own form; use it as `openssl x509 -in"
    " FILE` writes it",
    "OPENSSH PRIVATE KEY": "is a key of SSH; use the private key of the certificate",
    _REVOCATION_LIST: "is a revocation list; remove it",
    "PKCS7": "is PKCS #7; use what `openssl pkcs7 -in FILE -print_certs` writes",
}
_UNKNOWN = "has a name that is not supported; use CERTIFICATE and PRIVATE KEY"

_BEGIN, _END, _DASHES = "-----BEGIN ", "-----END ", "-----"


@dataclass(frozen=True, slots=True)
class Contents:
    """The certificates and private keys of a text, in their order."""

    certificates: tuple[x509.Certificate, ...]
    keys: tuple[PrivateKeyTypes, ...]


def read(text: SecretText) -> Contents:
    """What ``text`` holds; what stands around the blocks, as OpenSSL's own output does, does not
    count. Raises CertificateError for the first block that cannot be used."""
    certificates: list[x509.Certificate] = []
    keys: list[PrivateKeyTypes] = []
    for number, block in enumerate(_blocks(text.text), 1):
        try:
            part = block.part()
        except CertificateError as exc:
            raise CertificateError(f"PEM block {number} {exc}") from None
        if isinstance(part, x509.Certificate):
            certificates.append(part)
        elif part is not None:
            keys.append(part)
    return Contents(tuple(certificates), tuple(keys))


def read_revocation_lists(text: SecretText) -> tuple[x509.CertificateRevocationList, ...]:
    """Those in ``text``, and it may hold nothing else. Raises CertificateError for the first block
    that cannot be used."""
    found: list[x509.CertificateRevocationList] = []
    for number, block in enumerate(_blocks(text.text), 1):
        try:
            found.append(block.revocation_list())
        except CertificateError as exc:
            raise CertificateError(f"PEM block {number} {exc}") from None
    return tuple(found)


class _Block(NamedTuple):
    label: str
    lines: list[str]

    def revocation_list(self) -> x509.CertificateRevocationList:
        if self.label != _REVOCATION_LIST:
            raise CertificateError("is no revocation list; remove it")
        return _revocation_list(self._der())

    def part(self) -> x509.Certificate | PrivateKeyTypes | None:
        """What it holds; None for what is dropped."""
        if self.label == _CERTIFICATE:
            return _certificate(self._der())
        if self.label in _PRIVATE_KEYS:
            return _private_key(self._der())
        if self.label in _DROPPED:
            return None
        raise CertificateError(_REFUSED.get(self.label, _UNKNOWN))

    def _der(self) -> bytes:
        headers = list(takewhile(lambda line: ":" in line, self.lines))
        if any("ENCRYPTED" in line for line in headers):  # RFC 1421: Proc-Type: 4,ENCRYPTED
            raise CertificateError(_ENCRYPTED)
        try:
            return base64.b64decode("".join(self.lines[len(headers) :]), validate=True)
        except ValueError:
            raise CertificateError("is not valid Base64; copy it anew, as a whole") from None


def _blocks(text: str) -> Iterator[_Block]:
    count, block = 0, None
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if block is None:
            if line.startswith(_BEGIN) and line.endswith(_DASHES):
                count, block = count + 1, _Block(line[len(_BEGIN) : -len(_DASHES)], [])
            elif line.startswith((_BEGIN.rstrip(), _END.rstrip())):
                raise CertificateError(
                    f"line {number} does not begin a PEM block, though it looks as if; write"
                    " -----BEGIN CERTIFICATE-----, as a line of its own"
                )
        elif line == f"{_END}{block.label}{_DASHES}":
            yield block
            block = None
        elif line.startswith(_DASHES):
            break
        else:
            block.lines.append(line)
    if block is not None:
        raise CertificateError(f"PEM block {count} has no END line of its own; copy it as a whole")


def _certificate(der: bytes) -> x509.Certificate:
    # Whatever a foreign parser raises for what anybody may have written, it means the same. Parts
    # are parsed when they are asked for: here, so that nobody else needs to expect errors.
    try:
        found = x509.load_der_x509_certificate(der)
        found.public_key()
        _ = found.subject, found.issuer, found.extensions
        _ = found.not_valid_before_utc, found.not_valid_after_utc
    except Exception:  # noqa: BLE001
        raise CertificateError(
            "is not a valid certificate; copy it anew, as a whole, from the one who issued it"
        ) from None
    return found


def _revocation_list(der: bytes) -> x509.CertificateRevocationList:
    try:
        found = x509.load_der_x509_crl(der)
        _ = found.issuer, found.last_update_utc, found.next_update_utc
        _ = [item.serial_number for item in found]
    except Exception:  # noqa: BLE001  # see _certificate
        raise CertificateError(
            "is not a valid revocation list; copy it anew, as a whole, from the CA that issued it"
        ) from None
    return found


def _private_key(der: bytes) -> PrivateKeyTypes:
    try:
        # What is left out takes 30 ms for 2048 bits and seconds for 8192; `certificate_rules`
        # compares the numbers instead.
        return load_der_private_key(der, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        problem = _ENCRYPTED
    except Exception:  # noqa: BLE001  # see _certificate
        problem = "is not a valid private key; copy it anew, as a whole"
    raise CertificateError(problem)
