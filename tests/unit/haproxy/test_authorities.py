"""What HAProxy is told of CAs, in which order, and what it shows of them."""

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from pki import CA, Issued

from sidecar.common.errors import LocalProtocolError, RemoteProtocolError
from sidecar.haproxy.authorities import SetAuthority, change_authority, parse_mark
from sidecar.haproxy.certificates import ask_begun, show
from sidecar.listeners.trust import TrustFiles
from sidecar.model.certificates import CertificateAuthority
from sidecar.model.desired import BackendName, ClaimKey

ONE, TWO = CA.root("one"), CA.root("two")
UNIT, OTHER = BackendName("be_re_1"), BackendName("be_re_2")
FILE = "/run/authorities/be_re_1.pem"
KEY = ClaimKey("authority", UNIT)


def authority(*cas: CA) -> CertificateAuthority:
    return CertificateAuthority.of(ca.own.certificate for ca in cas)


def shown(*issued: Issued) -> str:
    """As HAProxy 2.6 to 3.2 do."""
    text = f"Filename: {FILE}\nStatus: Used\n"
    for number, item in enumerate(issued, 1):
        serial = f"{item.certificate.serial_number:X}"
        serial = serial.zfill(len(serial) + len(serial) % 2)
        text += f" \nCertificate #{number}:\nSerial: {serial}\nAlgorithm: "
        fingerprint = item.certificate.fingerprint(SHA1()).hex().upper()
        text += f"EC256\nSHA1 FingerPrint: {fingerprint}\nSubject: /CN=Serial: x\n"
    return text


@pytest.mark.parametrize("cas", [(ONE,), (ONE, TWO), (TWO, ONE)])
def test_what_is_shown_is_what_was_set(cas: tuple[CA, ...]) -> None:
    assert parse_mark(shown(*(ca.own for ca in cas))) == authority(*cas).mark
    assert authority(*cas).mark == authority(*reversed(cas)).mark


def test_other_cas_are_others() -> None:
    marks = [authority(*cas).mark for cas in ((ONE,), (TWO,), (ONE, TWO))]
    assert len(set(marks)) == len(marks)
    # A renewed certificate of the same key and name is another one.
    assert authority(CA.root("one", key=ONE.own.key)).mark != authority(ONE).mark


def test_one_without_a_fingerprint_is_none_that_was_set() -> None:
    """HAProxy stops there at one with an Ed25519 key."""
    text = shown(ONE.own, TWO.own).partition("Algorithm: ")[0]
    assert parse_mark(text) not in {authority(ONE).mark, authority(ONE, TWO).mark}


def test_what_says_nothing_is_nothing() -> None:
    assert parse_mark("Can't display the CA file : Not found!\n") is None
    assert parse_mark("x\nOperations on certificates are currently locked!") is None
    with pytest.raises(RemoteProtocolError):
        parse_mark("No such command")


def test_a_change_is_begun_ended_and_left_clean() -> None:
    lines = [
        str(item.command()) for item in change_authority(UNIT, KEY, FILE, authority(ONE), "/x")
    ]
    assert lines == [
        "abort ssl ca-file /x",
        f"set ssl ca-file {FILE}",
        f"commit ssl ca-file {FILE}",
        f"abort ssl ca-file {FILE}",
    ]
    begin, commit, abort = change_authority(UNIT, KEY, FILE, authority(ONE), None)
    assert begin.succeeded(f"transaction created for CA {FILE}!")
    assert not begin.succeeded(f"transaction updated for CA {FILE}!")
    assert commit.succeeded(f"Committing {FILE}........\nSuccess!")
    assert not commit.succeeded("No ongoing transaction! !")
    assert abort.succeeded("No ongoing transaction!")


def test_a_backend_trusts_nobody_or_whom_its_route_wants() -> None:
    nobody = authority(TWO)
    trust = TrustFiles("authority", {UNIT: FILE, OTHER: "/run/authorities/be_re_2.pem"}, nobody)
    ask = show("ca-file", FILE)
    assert trust.questions([KEY]) == [ask_begun("ca-file"), ask]
    assert trust.questions([]) == []
    trust.parse({ask_begun("ca-file"): "No ongoing transaction!", ask: shown(TWO.own)})
    assert trust.values == {}
    assert trust.shown == {FILE: nobody}
    trust.wanted = {UNIT: authority(ONE)}.get
    begin = trust.change(UNIT, authority(ONE).mark)[0]
    assert isinstance(begin, SetAuthority)
    trust.parse({ask: shown(ONE.own)})
    assert trust.values == {UNIT: authority(ONE).mark}
    assert trust.shown == {FILE: authority(ONE)}
    # Of one that HAProxy does not show nothing is known.
    trust.parse({ask: "Can't display the CA file : Not found!\n"})
    assert (trust.values, trust.shown) == ({}, {})
    trust.parse({ask: shown(ONE.own)})
    # Of one that nobody of ours wants there is nothing to be saved.
    trust.wanted = lambda _: None
    assert trust.shown == {}
    (first, *_) = trust.remove(UNIT)
    assert isinstance(first, SetAuthority)
    assert first.authority == nobody


def test_a_transaction_that_is_in_the_way_is_aborted_unless_it_must_not_be_touched() -> None:
    trust = TrustFiles("authority", {UNIT: FILE}, authority(TWO))
    met: list[str | None] = []
    problem = ""

    def meet(begun: str | None) -> str:
        met.append(begun)
        return problem

    trust.meets = meet
    ask, none = ask_begun("ca-file"), "No ongoing transaction!"
    begun = (
        "The ongoing transaction is about '/x' but you are trying to abort a transaction for"
        f" '{ask.rpartition(' ')[2]}'"
    )
    locked = "x\nOperations on certificates are currently locked!"
    # Nobody knows what there is while HAProxy carries out another connection's, so nobody is told.
    for reply in (none, begun, locked):
        trust.parse({ask: reply})
        first = str(trust.remove(UNIT)[0].command())
        assert first.startswith("abort ssl ca-file /x" if reply == begun else "set ssl ca-file")
    assert met == [None, "/x"]
    problem = "it would end HAProxy"
    trust.parse({ask: begun})
    (refused,) = trust.remove(UNIT)
    with pytest.raises(LocalProtocolError, match=r"^CA file /x: it would end HAProxy$"):
        refused.command()
