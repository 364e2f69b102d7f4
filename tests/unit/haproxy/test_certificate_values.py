"""Certificates as values: commands, the replies that mean success, and what HAProxy shows.

Texts are those of 2.6, 3.0 and 3.2.
"""

import pytest

from sidecar.common.errors import LocalProtocolError, RemoteProtocolError
from sidecar.haproxy.certificates import (
    Abort,
    AddListEntry,
    Commit,
    Delete,
    DeleteListEntry,
    ListEntry,
    New,
    Set,
    ShownEntry,
    Stored,
    is_in_the_way,
    parse_entries,
    parse_names,
    parse_stored,
)
from sidecar.haproxy.operations import Request

N, L, C = "/run/certs/a.pem", "/run/certs/list", "/run/certs/ca.crt"
ENTRY = ListEntry(N, "alpn h2,http/1.1", ("a.test",))
KEY = b"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----"
LOCKED = "Operations on certificates are currently locked!"
ONGOING = "The ongoing transaction is about '/b.pem' but you are trying to set '/run/certs/a.pem'"

#: request, its command, replies that mean success, replies that do not
REQUESTS: list[tuple[Request, str, list[str], list[str]]] = [
    (
        New("cert", N),
        f"new ssl cert {N}",
        [f"New empty certificate store '{N}'!"],
        [f"Certificate '{N}' already exists!", "", f"New empty certificate store '{N}x'!"],
    ),
    (
        Set("cert", N, KEY),
        f"set ssl cert {N}",
        [f"Transaction created for certificate {N}!"],
        [
            f"Transaction updated for certificate {N}!",
            "Transaction created for certificate /b.pem!",
            "Transaction updated for certificate /b.pem!",
            f"{ONGOING}\nCan't update {N}!",
            (
                f"unable to load certificate from file '{N}'.\nCan't load the payload\n"
                f"Can't update {N}!"
            ),
            (
                f"Can't replace a certificate which is not referenced by the configuration!\n"
                f"Can't update {N}!"
            ),
            f"Can't update {N}!\n{LOCKED}",
        ],
    ),
    (
        Commit("cert", N),
        f"commit ssl cert {N}",
        [f"Committing {N}\nSuccess!", f"Committing {N}.....\nSuccess!"],
        [
            f"Committing {N}.\nunable to load SSL certificate into SSL Context '{N}'.\nFailed!",
            f"Committing {N}",
            f"Committing {N}x\nSuccess!",
            "Committing /b.pem\nSuccess!",
            f"Can't commit {N}!\nSuccess!",
            f"No ongoing transaction! !\nCan't commit {N}!",
            f"inconsistencies between private key and certificate loaded '{N}'.\nCan't commit {N}!",
        ],
    ),
    (
        Abort("cert", N),
        f"abort ssl cert {N}",
        [f"Transaction aborted for certificate '{N}'!", "No ongoing transaction!"],
        ["Transaction aborted for certificate '/b.pem'!", ONGOING],
    ),
    (
        Delete("cert", N),
        f"del ssl cert {N}",
        [f"Certificate '{N}' deleted!"],
        [
            f"Can't remove the certificate: certificate '{N}' in use, can't be deleted!",
            f"Can't remove the certificate: certificate '{N}' doesn't exist!",
        ],
    ),
    (
        AddListEntry(L, ENTRY),
        f"add ssl crt-list {L}",
        [
            f"Inserting certificate '{N}' in crt-list '{L}'.\nSuccess!",
            f"Inserting certificate '{N}' in crt-list '{L}'...\nSuccess!",
        ],
        [
            f"Inserting certificate '{N}' in crt-list '{L}'.\nFailed!",
            (
                f"Inserting certificate '{N}' in crt-list '{L}'.\n"
                f"unable to load SSL certificate into SSL Context '{N}'.\nFailed!"
            ),
            f"Inserting certificate '/b.pem' in crt-list '{L}'.\nSuccess!",
            f"Can't edit the crt-list: certificate '{N}' does not exist!",
        ],
    ),
    (
        DeleteListEntry(L, N, 7),
        f"del ssl crt-list {L} {N}:7",
        [f"Entry '{N}' deleted in crtlist '{L}'!"],
        [
            f"Can't delete the entry: certificate '{N}' can't be found in crt-list '{L}'",
            f"Entry '/b.pem' deleted in crtlist '{L}'!",
        ],
    ),
    (
        Set("ca-file", C, KEY),
        f"set ssl ca-file {C}",
        [f"transaction created for CA {C}!"],
        [f"transaction updated for CA {C}!", f"Invalid payload\nCan't update {C}!"],
    ),
]


@pytest.mark.parametrize(
    ("request_", "line", "good", "bad"), REQUESTS, ids=[line for _, line, _, _ in REQUESTS]
)
def test_each_reply_is_judged(
    request_: Request, line: str, good: list[str], bad: list[str]
) -> None:
    assert str(request_.command()) == line
    assert [reply for reply in good if not request_.succeeded(reply)] == []
    assert [reply for reply in bad if request_.succeeded(reply)] == []
    assert "MIIE" not in f"{request_!r} {request_} {request_.command()!r} {request_.command()}"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (f"{ONGOING}\nCan't update {N}!", True),
        ("Transaction updated for certificate /b.pem!", True),
        (f"Can't commit {N}!\n{LOCKED}", True),
        (f"unable to load certificate from file '{N}'.", False),
        (f"Transaction created for certificate {N}!", False),
    ],
)
def test_what_is_only_in_the_way(reply: str, *, expected: bool) -> None:
    assert is_in_the_way(reply) is expected


@pytest.mark.parametrize(
    "name",
    ["", "a.pem", "@system-ca", "/a b", "/a:1", "/a;b", "/a'b", "/a\\b", "/a\nb", "/a.pem.key"]
    + [f"/a.pem{end}" for end in (".ocsp", ".issuer", ".sctl")],
)
def test_names_that_cannot_be(name: str) -> None:
    requests: list[Request] = [New("cert", name), Set("cert", name, KEY), Commit("cert", name)]
    requests += [Delete("cert", name), AddListEntry(L, ENTRY._replace(certificate=name))]
    requests += [DeleteListEntry(L, name, 1), AddListEntry(name, ENTRY)]
    for request in requests:
        with pytest.raises(LocalProtocolError, match="cannot be the name"):
            request.command()


@pytest.mark.parametrize(
    ("options", "host"),
    [("", host) for host in ("", "A.test", "a*.test", "*", "*.*.a", "x.", ".x", "a b", "!a.test")]
    + [("", "a" * 64), ("", ".".join(["a" * 60] * 5)), ("", "a]"), ("", "a\nb"), ("", "#a")]
    + [(options, "a.test") for options in (" ", "alpn", "alpn ", "alpn h2 ", "alpn  h2", "alpn ,")]
    + [(options, "a.test") for options in ("alpn h2]", "ca-file /x", "verify none", "alpn h2\n")]
    + [("alpn h2ciphers X", "a.test"), ("ssl-max-ver TLSv1.3 ssl-min-ver TLSv1.2", "a.test")]
    + [(options, "a.test") for options in ("ssl-min-ver TLSv1.2", "alpn h2 alpn h2")],
)
def test_entries_that_cannot_be(options: str, host: str) -> None:
    with pytest.raises(LocalProtocolError, match=N):
        AddListEntry(L, ListEntry(N, options, (host,))).command()


def test_what_a_list_shows() -> None:
    text = (
        f"# {L}\n{N}:1 [alpn h2,http/1.1\0] a.test\n{N}:3 [alpn h2\0 ssl-min-ver TLSv1.2] *.b\n"
        f"/b.pem:12\n/b.pem:13 c.test !x.c.test\n/b.pem:14 [verify none]"
    )
    assert parse_entries(text) == (
        ShownEntry(ENTRY, 1),
        ShownEntry(ListEntry(N, "alpn h2 ssl-min-ver TLSv1.2", ("*.b",)), 3),
        ShownEntry(ListEntry("/b.pem", "", ()), 12),
        ShownEntry(ListEntry("/b.pem", "", ("c.test", "!x.c.test")), 13),
        ShownEntry(ListEntry("/b.pem", "verify none", ()), 14),
    )
    assert parse_entries(f"# {L}") == ()
    assert parse_entries("didn't find the specified filename") is None


def test_what_the_stores_show() -> None:
    found = parse_names(f"# transaction\n*{N}\n# filename\n/b.pem\n{N}")
    assert (found.open, found.names) == (N, ("/b.pem", N))
    found = parse_names("")
    assert (found.open, found.names) == (None, ())


def test_what_a_certificate_shows() -> None:
    text = (
        f"Filename: {N}\nStatus: Used\nSerial: 2B55\nnotBefore: Nov 25 08:31:49 2026 GMT\n"
        "Subject Alternative Name: DNS:a.test\nAlgorithm: EC256\nSHA1 FingerPrint: 6740CB\n"
        "Subject: /CN=a.test\nIssuer: /CN=a.test\nOCSP Response Key: "
    )
    assert parse_stored(text) == Stored("Used", "2B55", ("6740CB",), "EC256")
    assert parse_stored(f"Filename: {N}\nStatus: Empty\nOCSP Response Key: ") == Stored(
        "Empty", "", ()
    )
    absent = "Can't display the certificate: Not found or the certificate is a bundle!"
    assert parse_stored(absent) is None


@pytest.mark.parametrize("text", ["Unknown command", f"Can't show!\n{LOCKED}", "x\n# filename"])
def test_answers_that_are_none(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_names(text)
    with pytest.raises(RemoteProtocolError):
        parse_stored(text)
    with pytest.raises(RemoteProtocolError):
        parse_entries(text)
