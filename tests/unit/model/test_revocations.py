"""Revocation lists: which are good, what HAProxy gets, and by what they are known there."""

import pytest
from pki import CA, block

from sidecar.common.errors import RemoteProtocolError
from sidecar.haproxy.pem import prints_control
from sidecar.haproxy.revocations import parse_mark
from sidecar.model.revocations import RevocationLists, judge_revocations
from sidecar.model.verdicts import Refusal

ONE, TWO = CA.root("one"), CA.root("two")
LEAVES = [ONE.leaf(f"{number}.test") for number in range(300)]


def good(text: str) -> RevocationLists:
    found = judge_revocations("crl.pem", text)
    assert isinstance(found, RevocationLists), found
    return found


def test_they_are_encoded_anew_and_told() -> None:
    text = ONE.revocations(*LEAVES[:2]) + TWO.revocations()
    found = good(f"some words\n{text}\n{ONE.revocations()}".replace("\n", "\r\n"))
    assert found.text.startswith(text.partition("-----END")[0])
    assert found.title == "2 revoked, by CN=one; CN=two; CN=one"
    assert good(text + text).text == text


def test_other_lists_have_another_mark() -> None:
    of_one, of_two, both = (good(ONE.revocations(*LEAVES[:n])).mark for n in (0, 1, 2))
    assert len({of_one, of_two, both}) == 3
    later = good(ONE.revocations(days=(-1, 31)))
    assert later.mark != of_one
    lists = [ONE.revocations(LEAVES[0]), TWO.revocations()]
    assert good("".join(lists)).mark == good("".join(reversed(lists))).mark


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no revocation list in it"),
        (ONE.pem, "PEM block 1 is no revocation list"),
        (ONE.revocations() + LEAVES[0].key_pem, "PEM block 2 is no revocation list"),
        (block("X509 CRL"), "PEM block 1 is not a valid revocation list"),
        (ONE.revocations()[:-20], "has no END line"),
        (ONE.revocations(*LEAVES), "and HAProxy takes 15500 while it runs"),
    ],
)
def test_what_is_not_good_is_told(text: str, problem: str) -> None:
    found = judge_revocations("crl.pem", text)
    assert isinstance(found, Refusal)
    assert found.message.startswith("crl.pem: ")
    assert problem in found.message
    assert LEAVES[0].key_pem.splitlines()[1] not in found.message


def test_what_is_shown_is_what_was_set() -> None:
    """As HAProxy 2.6 to 3.2 show it."""
    shown = (
        "Filename: /x/crl.pem\nStatus: Used\n \nCertificate Revocation List #1:\nVersion 2\n"
        "Signature Algorithm: ecdsa-with-SHA256\nIssuer: /CN=ca\n"
        "Last Update: Nov 25 12:46:17 2026 GMT\nNext Update: Dec  6 12:46:17 2026 GMT\n"
        "Revoked Certificates:\n    Serial Number: 0A\n"
        "        Revocation Date: Nov 26 12:46:17 2026 GMT\n"
    )
    again = shown.replace("0A", "0B")
    marks = [parse_mark(shown), parse_mark(again), parse_mark(shown.partition("Rev")[0])]
    assert len(set(marks)) == 3
    for nothing in ("Can't display the CRL file : Not found!", _LOCKED):
        assert parse_mark(nothing) is None
    with pytest.raises(RemoteProtocolError):
        parse_mark("No such command")


_LOCKED = "x\nOperations on certificates are currently locked!"


def test_an_issuer_that_would_end_haproxys_reply_is_found() -> None:
    assert not prints_control(ONE.own.certificate.subject.public_bytes())
    bad = CA.root("a\n> b").own.certificate.subject.public_bytes()
    assert prints_control(bad)
    assert prints_control(b"\x30\x05x")
