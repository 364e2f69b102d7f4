"""The certificates that CAs have taken back, as HAProxy is told of them.

Owns which revocation lists are good, the words for what is not, and what HAProxy shows of good
ones. An expired list is good here, since that is a matter of the clock; HAProxy refuses all
certificates of its CA. Pure.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.common.errors import CertificateError
from sidecar.common.secret_text import SecretText
from sidecar.common.text import one_line
from sidecar.model.certificate_rules import PEM_MAX_BYTES
from sidecar.model.certificates import serial_hex
from sidecar.model.pem import read_revocation_lists
from sidecar.model.verdicts import Reason, Refusal

_WANTED = "write the PEM of each CA's revocation list"

_SHOWN_MAX = 256

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class ShownList(NamedTuple):
    """What ``show ssl crl-file`` has of a list: its times as OpenSSL prints them, ``next_update``
    empty where it names none, and the serial numbers, in any order."""

    last_update: str
    next_update: str
    serials: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RevocationLists:
    """``pem``: as HAProxy gets it. ``issuers``: the DER of their names. ``mark``: by what HAProxy
    shows of them, see `mark_of`. ``title``: for a person."""

    pem: bytes = field(repr=False)
    issuers: tuple[bytes, ...] = field(repr=False)
    mark: str
    title: str

    @property
    def text(self) -> str:
        return self.pem.decode("ascii")

    @classmethod
    def of(cls, lists: Iterable[x509.CertificateRevocationList]) -> Self:
        """The same list twice counts once."""
        distinct = tuple({item.pem: item for item in map(_Known, lists)}.values())
        issuers = "; ".join(one_line(item.issuer, _SHOWN_MAX) for item in distinct)
        count = sum(len(item.shown.serials) for item in distinct)
        return cls(
            b"".join(item.pem for item in distinct),
            tuple(item.issuer_der for item in distinct),
            mark_of(item.shown for item in distinct),
            f"{count} revoked, by {issuers}",
        )


class _Known:
    def __init__(self, item: x509.CertificateRevocationList) -> None:
        self.pem = item.public_bytes(Encoding.PEM)
        self.issuer, self.issuer_der = item.issuer.rfc4514_string(), item.issuer.public_bytes()
        end = item.next_update_utc
        serials = tuple(_signed_hex(revoked.serial_number) for revoked in item)
        self.shown = ShownList(_time(item.last_update_utc), _time(end) if end else "", serials)


def mark_of(lists: Iterable[ShownList]) -> str:
    """By what HAProxy shows of revocation lists, in any order."""
    parts = sorted(
        f"{item.last_update}|{item.next_update}|{' '.join(sorted(item.serials))}" for item in lists
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def judge_revocations(field_: str, text: str) -> RevocationLists | Refusal:
    """The revocation lists in ``text``, which is at ``field_``, or what is wrong with it."""
    try:
        lists = read_revocation_lists(SecretText(text))
    except CertificateError as exc:
        return _refusal(f"{field_}: {exc}")
    if not lists:
        return _refusal(
            f"{field_}: no revocation list in it; {_WANTED}, as `openssl crl -inform DER` makes it"
            " of another form"
        )
    made = RevocationLists.of(lists)
    if len(made.pem) > PEM_MAX_BYTES:
        return _refusal(
            f"{field_}: {len(made.pem)} bytes, and HAProxy takes {PEM_MAX_BYTES} while it runs;"
            " leave out lists of CAs that are not trusted, and certificates that have expired"
        )
    return made


def _refusal(problem: str) -> Refusal:
    return Refusal(Reason.EXTENDED_VALIDATION_FAILED, problem)


def _time(when: datetime) -> str:
    month = _MONTHS[when.month - 1]
    return f"{month} {when.day:2d} {when:%H:%M:%S} {when.year} GMT"


def _signed_hex(serial: int) -> str:
    """As OpenSSL writes it."""
    return f"{'-' if serial < 0 else ''}{serial_hex(serial)}"
