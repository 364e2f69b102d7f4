"""PEM: what HAProxy may be given, and what never."""

import base64

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from pki import issue

from sidecar.common.errors import LocalProtocolError
from sidecar.haproxy.pem import Pem
from sidecar.haproxy.protocol import Command, encode

ONE, TWO = issue("a.test"), issue("b.test", "Zoë, Inc.")
NAME = "/run/certs/a.pem"


def block(label: bytes, content: bytes) -> bytes:
    return b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label, content, label)


def test_a_certificate_with_key_and_chain() -> None:
    pem = Pem.of(NAME, ONE.pem + TWO.certificate)
    assert pem.payload == (ONE.pem + TWO.certificate).rstrip(b"\n")
    assert [item.fingerprint for item in pem.certificates] == [ONE.fingerprint, TWO.fingerprint]
    assert pem.identity == pem.certificates[0]


@pytest.mark.parametrize(
    "data",
    [
        ONE.pem.replace(b"\n", b"\r\n"),
        ONE.pem.replace(b"-----END CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n\n \n\t\n"),
        b"\n\n" + ONE.pem + b"\n\n",
        ONE.key + ONE.certificate,
        b"subject=CN = test\n# a comment\n" + ONE.pem,
        "friendlyName: é\0\n".encode() + ONE.pem,
        block(b"EC PARAMETERS", b"BggqhkjOPQMBBw==") + ONE.pem,
    ],
)
def test_it_arrives_as_one_payload(data: bytes) -> None:
    pem = Pem.of(NAME, data)
    assert encode(Command("set ssl cert x", pem.payload)).count(b"\n\n") == 1
    assert [item.fingerprint for item in pem.certificates] == [ONE.fingerprint]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no certificate"),
        (ONE.key, "no certificate"),
        (ONE.pem[:-30], "has no end"),
        (ONE.certificate[:-30] + ONE.key, "has no end"),
        (ONE.certificate + ONE.key.replace(b"M", b"\0", 1), "not ASCII"),
        (ONE.certificate + ONE.key.replace(b"M", "é".encode(), 1), "not ASCII"),
        (ONE.certificate + block(b"ENCRYPTED PRIVATE KEY", b"AAAA"), "has a password"),
        (
            ONE.certificate
            + block(b"RSA PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED\nDEK-Info: X,0\nAAAA"),
            "has a password",
        ),
        (ONE.pem + block(b"CERTIFICATE", b"@@@@"), "base64"),
        (ONE.pem + block(b"CERTIFICATE", b"AAA"), "base64"),
        (ONE.pem + block(b"CERTIFICATE", b"MIIB"), "DER"),
        (ONE.pem + block(b"CERTIFICATE", base64.b64encode(b"\x30\x80" * 5000)), "DER"),
        (ONE.pem + block(b"CERTIFICATE", base64.b64encode(ONE.der[:-1])), "DER"),
        (ONE.pem + block(b"TRUSTED CERTIFICATE", b"AAAA"), "must be 'CERTIFICATE'"),
        (ONE.pem + block(b"X509 CERTIFICATE", b"AAAA"), "must be 'CERTIFICATE'"),
        (issue("a\nb").pem, "control character"),
        (issue("a.test", "x\n> y").pem, "control character"),
        (issue("a.test", "x\x1b[0m").pem, "control character"),
        (ONE.pem + issue("a\n> ").certificate, "control character"),
    ],
)
def test_what_is_refused_by_name_and_without_its_data(data: bytes, problem: str) -> None:
    with pytest.raises(LocalProtocolError, match=problem) as refused:
        Pem.of(NAME, data)
    assert NAME in str(refused.value)
    seen: BaseException | None = refused.value
    while seen:
        assert not any(line in repr(seen).encode() for line in ONE.key.split(b"\n")[1:-2])
        seen = seen.__cause__ or seen.__context__


def element(tag: int, *content: bytes) -> bytes:
    """In DER."""
    whole = b"".join(content)
    return bytes([tag, 0x82]) + len(whole).to_bytes(2, "big") + whole


def certificate(subject: bytes, alternative: bytes = b"", issuer: bytes = b"") -> bytes:
    """What `_shown_names` needs of one, with any values."""

    def name(value: bytes) -> bytes:
        attribute = element(0x30, element(0x06, b"\x55\x04\x03"), value)
        return element(0x30, element(0x31, attribute))

    nothing = element(0x30)
    extension = element(0x30, element(0x06, b"\x55\x1d\x11"), element(0x04, alternative))
    fields = [element(0x02, b"\n"), nothing, name(issuer), nothing, name(subject), nothing]
    signed = element(0x30, *fields, element(0xA3, element(0x30, extension)))
    return block(b"CERTIFICATE", base64.b64encode(element(0x30, signed, nothing, nothing)))


FINE, BREAK = b"fine", b"x\n> y"
NAMES = [0x81, 0x82, 0x86]


@pytest.mark.parametrize(
    ("pem", "is_bad"),
    [(certificate(element(tag, FINE)), False) for tag in (0x0C, 0x13, 0x14, 0x16, 0x1A, 0x03)]
    + [(certificate(element(tag, BREAK)), True) for tag in (0x0C, 0x13, 0x14, 0x16, 0x1A, 0x03)]
    + [(certificate(b"", issuer=element(tag, BREAK)), True) for tag in (0x04, 0x07, 0x0C)]
    + [(certificate(b"", element(0x30, element(tag, FINE))), False) for tag in NAMES]
    + [(certificate(b"", element(0x30, element(tag, BREAK))), True) for tag in NAMES]
    # In pieces, as BER has it.
    + [(certificate(element(0x2C, element(0x0C, b"x\n"), element(0x0C, b"> y"))), True)]
    # An address of 10.0.0.0/8, and an identifier.
    + [(certificate(b"", element(0x30, element(tag, b"\n\0\0\1"))), False) for tag in (0x87, 0x88)]
    # Wide letters, also those whose bytes are a line break.
    + [(certificate(element(0x1E, "fine".encode("utf-16-be"))), False)]
    + [(certificate(element(0x1C, "fine".encode("utf-32-be"))), False)]
    + [(certificate(element(0x1E, "x\n".encode("utf-16-be"))), True)]
    + [(certificate(element(0x1E, "\u0a3e\u2079".encode("utf-16-be"))), True)],
)
def test_whatever_haproxy_shows_is_looked_at(pem: bytes, *, is_bad: bool) -> None:
    if is_bad:
        with pytest.raises(LocalProtocolError, match="control character"):
            Pem.of(NAME, pem)
    else:
        assert Pem.of(NAME, pem).certificates


def test_nothing_shows_a_payload() -> None:
    pem = Pem.of(NAME, ONE.pem)
    assert "PRIVATE" not in f"{pem} {pem!r}"


@given(st.binary(max_size=300))
def test_any_bytes_are_judged(data: bytes) -> None:
    for given_ in (data, ONE.pem + data, block(b"CERTIFICATE", base64.b64encode(data))):
        try:
            pem = Pem.of(NAME, given_)
        except LocalProtocolError:
            continue
        assert pem.certificates
        assert encode(Command("set ssl cert x", pem.payload))


@given(st.text(min_size=1, max_size=20))
def test_any_name_in_a_certificate_is_shown_as_a_line_or_refused(text: str) -> None:
    try:
        made = issue("a.test", text)
    except (ValueError, UnicodeEncodeError):
        return  # X.509 does not have it
    is_bad = any(ord(char) < 32 or ord(char) == 127 for char in text)
    try:
        Pem.of(NAME, made.pem)
    except LocalProtocolError:
        assert is_bad
    else:
        assert not is_bad
    assert x509.load_pem_x509_certificate(made.certificate)
