"""PEM as HAProxy may be given it: a certificate with its key and chain, or the CAs to trust.

Owns what must be refused because of how HAProxy reads a payload or shows what it has, and nothing
else: whether a certificate is any good is decided elsewhere. It reads DER itself, because HAProxy
prints the bytes of names as they are, and libraries give letters. Measured on 2.6, 3.0 and 3.2:

* The payload of a command ends at its first empty line; what follows runs as commands.
* ``show ssl cert`` prints names of a certificate as they are. With a line break and ``> `` in one,
  its author would end HAProxy's reply there, and forge those to other commands.
* An encrypted key makes HAProxy ask on its terminal, and a thread waits for ever.
* 2.6 drops what it cannot read of a chain without a word; 3.0 does not start with such a file.

Errors never show data, which may be a key. Pure.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from sidecar.common.errors import LocalProtocolError
from sidecar.model.certificates import serial_hex

_BLOCK = re.compile(
    rb"^-----BEGIN ([^\n]*)-----\n(.*?)^-----END \1-----$", re.MULTILINE | re.DOTALL
)
_BEGIN = re.compile(rb"^-----BEGIN ", re.MULTILINE)
_ENCRYPTED = re.compile(rb"^(?:-----BEGIN ENCRYPTED |Proc-Type:.*ENCRYPTED)", re.MULTILINE)
_TEXT = re.compile(rb"[ -~\n]*")

_CERTIFICATE = b"CERTIFICATE"

#: DER's tags: those of `_shown_names`, and of what is shown otherwise than as it is.
_SEQUENCE, _OCTET_STRING, _VERSION, _EXTENSIONS, _CONSTRUCTED = 0x30, 0x04, 0xA0, 0xA3, 0x20
_OBJECT_IDENTIFIER, _IP_ADDRESS, _REGISTERED_ID = 0x06, 0x87, 0x88

_SUBJECT_ALTERNATIVE_NAME = b"\x55\x1d\x11"

#: Of texts whose letters have more than one byte.
_WIDE = {0x1C: "utf-32-be", 0x1E: "utf-16-be"}

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Identity(NamedTuple):
    """By which a certificate is known among those that HAProxy shows, as it shows them: its serial
    number, and its SHA-1 fingerprint."""

    serial: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Pem:
    """``payload``: what HAProxy is sent, and may have in a file. ``certificates``: all; the first
    is that which is served."""

    payload: bytes = field(repr=False)
    certificates: tuple[Identity, ...]

    @property
    def identity(self) -> Identity:
        return self.certificates[0]

    @classmethod
    def of(cls, name: str, pem: bytes) -> Self:
        """``name``: for errors. Raises LocalProtocolError."""
        lines = (line.rstrip() for line in pem.split(b"\n"))
        data = b"\n".join(line for line in lines if line)
        blocks = list(_BLOCK.finditer(data))
        if len(blocks) != len(_BEGIN.findall(data)):
            raise LocalProtocolError(f"certificate {name}: a block of PEM has no end")
        payload = b"\n".join(block[0] for block in blocks)  # without text between them
        if not _TEXT.fullmatch(payload):
            raise LocalProtocolError(f"certificate {name}: a block of PEM is not ASCII text")
        if _ENCRYPTED.search(payload):
            raise LocalProtocolError(f"certificate {name}: its key has a password; remove that")
        certificates: list[Identity] = []
        for label, content in (block.groups() for block in blocks):
            if label == _CERTIFICATE:
                certificates.append(_identity(name, _decoded(name, content)))
            elif _CERTIFICATE in label:  # which OpenSSL would read, too
                kind = label.decode("ascii")
                raise LocalProtocolError(f"certificate {name}: {kind!r} must be 'CERTIFICATE'")
        if not certificates:
            raise LocalProtocolError(f"certificate {name}: it has no certificate in PEM")
        return cls(payload, tuple(certificates))


def fault(name: str, pem: bytes) -> str:
    """Why HAProxy cannot be given ``pem``, which is at ``name``; "" if it can."""
    try:
        Pem.of(name, pem)
    except LocalProtocolError as exc:
        return str(exc)
    return ""


def prints_control(name: bytes) -> bool:
    """Whether HAProxy would print a control character of ``name``, the DER of an issuer."""
    try:
        return any(map(_is_bad, _texts(name)))
    except (IndexError, ValueError, RecursionError):
        return True


def _decoded(name: str, content: bytes) -> bytes:
    try:
        return base64.b64decode(content.replace(b"\n", b""), validate=True)
    except binascii.Error:
        problem = "a block of PEM is not in base64"
    raise LocalProtocolError(f"certificate {name}: {problem}")


class _Element(NamedTuple):
    tag: int
    content: bytes


def _identity(name: str, der: bytes) -> Identity:
    """Raises LocalProtocolError if HAProxy would print a control character of this certificate."""
    try:
        fields = _fields(der)
        is_bad = any(map(_is_bad, _shown_names(fields)))
    except (IndexError, ValueError, RecursionError):
        problem = "it is not an X.509 certificate in DER"
    else:
        if not is_bad:
            fingerprint = hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()
            serial = int.from_bytes(fields[0].content, "big", signed=True)
            return Identity(serial_hex(serial), fingerprint)
        problem = "a subject, issuer or alternative name has a control character"
    raise LocalProtocolError(f"certificate {name}: {problem}")


def _is_bad(text: _Element) -> bool:
    # HAProxy prints the bytes, OpenSSL the letters.
    encoding = _WIDE.get(text.tag)
    letters = text.content.decode(encoding or "latin-1")
    return b"\n" in text.content or _CONTROL.search(letters) is not None


def _fields(der: bytes) -> list[_Element]:
    """Those of a certificate that are signed, but the version (RFC 5280, 4.1). Raises IndexError or
    ValueError if it is something else."""
    (certificate,) = _elements(der)
    signed, *_ = _elements(_content(certificate, _SEQUENCE))
    fields = list(_elements(_content(signed, _SEQUENCE)))
    return fields[1:] if fields[0].tag == _VERSION else fields


def _shown_names(fields: Iterable[_Element]) -> Iterator[_Element]:
    """What is printed of a certificate as its author wrote it. Raises as `_fields`."""
    _serial, _algorithm, issuer, _validity, subject, _key, *further = fields
    yield from _texts(_content(issuer, _SEQUENCE))
    yield from _texts(_content(subject, _SEQUENCE))
    for field_ in further:
        if field_.tag == _EXTENSIONS:
            (extensions,) = _elements(field_.content)
            for extension in _elements(_content(extensions, _SEQUENCE)):
                identifier, *_, value = _elements(_content(extension, _SEQUENCE))
                if identifier.content == _SUBJECT_ALTERNATIVE_NAME:
                    yield from _texts(_content(value, _OCTET_STRING))


def _texts(der: bytes) -> Iterator[_Element]:
    for element in _elements(der):
        if element.tag & _CONSTRUCTED:
            yield from _texts(element.content)
        elif element.tag not in {_OBJECT_IDENTIFIER, _IP_ADDRESS, _REGISTERED_ID}:
            yield element


def _content(element: _Element, tag: int) -> bytes:
    if element.tag != tag:
        raise ValueError("it is something else")
    return element.content


def _elements(der: bytes) -> Iterator[_Element]:
    """Those side by side in ``der``. Raises IndexError or ValueError if they are not; OpenSSL also
    takes lengths that are not told, which DER does not have."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if tag & 0x1F == 0x1F or length == 0x80:
            raise ValueError("it is not DER")
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        content = der[at : at + length]
        if len(content) != length:
            raise ValueError("it ends early")
        yield _Element(tag, content)
        at += length
