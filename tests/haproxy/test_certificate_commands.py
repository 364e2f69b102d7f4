"""Certificates of a real HAProxy: what each command does, says and shows."""

import socket

import pytest
from pki import issue, rsa_key
from terminating import Terminating

from sidecar.common.errors import LocalProtocolError
from sidecar.haproxy.certificates import (
    SHOW_NAMES,
    Abort,
    AddListEntry,
    Commit,
    Delete,
    DeleteListEntry,
    ListEntry,
    New,
    Set,
    Stored,
    is_in_the_way,
    parse_entries,
    parse_names,
    parse_stored,
    show,
    show_entries,
)
from sidecar.haproxy.operations import Request
from sidecar.haproxy.pem import Pem
from sidecar.haproxy.protocol import WITH_PAYLOAD_MAX_BYTES


def stored(tls: Terminating, name: str) -> Stored | None:
    return parse_stored(tls.client.ask(show("cert", name)))


def entries(tls: Terminating) -> list[tuple[int, ListEntry]]:
    found = parse_entries(tls.client.ask(show_entries(str(tls.list))))
    assert found is not None
    return [(item.number or 0, item.entry) for item in found]


def loaded(tls: Terminating, host: str) -> str:
    made = issue(host)
    name = tls.name(made)
    replies = tls.apply(
        New("cert", name), Set("cert", name, made.pem), Commit("cert", name), Abort("cert", name)
    )
    assert not any(reply.startswith("!") for reply in replies), replies
    return name


def test_a_certificate_comes_serves_and_goes(tls: Terminating) -> None:
    made = issue("a.test")
    name, entry = tls.name(made), ListEntry(tls.name(made), "alpn h2,http/1.1", ("a.test",))
    assert stored(tls, name) is None
    assert not tls.apply(New("cert", name))[0].startswith("!")
    assert stored(tls, name) == Stored("Empty", "", ())
    assert not tls.apply(Set("cert", name, made.pem))[0].startswith("!")
    assert parse_names(tls.client.ask(SHOW_NAMES)).open == name
    assert stored(tls, name) == Stored("Empty", "", ())
    assert not tls.apply(Commit("cert", name))[0].startswith("!")
    seen = stored(tls, name)
    assert seen
    assert (seen.status, seen.fingerprints) == ("Unused", (made.fingerprint,))
    found = parse_names(tls.client.ask(SHOW_NAMES))
    assert (found.open, sorted(found.names)) == (None, sorted([name, str(tls.default)]))

    assert not tls.apply(AddListEntry(str(tls.list), entry))[0].startswith("!")
    assert entries(tls) == [(1, entry)]
    assert stored(tls, name) == seen._replace(status="Used")
    assert tls.served("a.test") == made.fingerprint
    assert tls.served("b.test") == tls.first.fingerprint
    with tls.handshake("a.test", ["h2"]) as connection:
        assert connection.selected_alpn_protocol() == "h2"

    assert tls.apply(Delete("cert", name))[0].startswith("! Can't remove the certificate")
    assert not tls.apply(DeleteListEntry(str(tls.list), name, 1))[0].startswith("!")
    assert not tls.apply(Delete("cert", name))[0].startswith("!")
    assert entries(tls) == []
    assert stored(tls, name) is None
    assert tls.served("a.test") == tls.first.fingerprint


def test_a_commit_that_changes_many_entries_says_so_with_dots(tls: Terminating) -> None:
    name = loaded(tls, "a.test")
    for number in range(30):
        tls.apply(AddListEntry(str(tls.list), ListEntry(name, "", (f"h{number}.test",))))
    new = issue("a.test")
    replies = tls.apply(Set("cert", name, new.pem), Commit("cert", name))
    assert replies[1] == f"Committing {name}{'.' * 30}\nSuccess!"
    assert tls.served("h7.test") == new.fingerprint


def test_lines_do_not_move_and_are_not_given_twice(tls: Terminating) -> None:
    name = loaded(tls, "a.test")
    tls.apply(*(AddListEntry(str(tls.list), ListEntry(name, "", (f"{x}.test",))) for x in "abcd"))
    replies = tls.apply(*(DeleteListEntry(str(tls.list), name, number) for number in (2, 4, 4)))
    assert [reply.startswith("!") for reply in replies] == [False, False, True]
    tls.apply(AddListEntry(str(tls.list), ListEntry(name, "", ("e.test",))))
    assert [(number, *entry.filters) for number, entry in entries(tls)] == [
        (1, "a.test"),
        (3, "c.test"),
        (5, "e.test"),
    ]


@pytest.mark.parametrize("options", ["", "alpn h2", "alpn h2,http/1.1"])
@pytest.mark.parametrize("host", ["a.test", "*.a.test", "localhost", "a_b.test", "xn--a.b-c.d.e"])
def test_an_entry_is_shown_as_it_was_added(tls: Terminating, options: str, host: str) -> None:
    entry = ListEntry(loaded(tls, "a.test"), options, (host,))
    tls.apply(AddListEntry(str(tls.list), entry))
    assert entries(tls) == [(1, entry)]


def test_refusals_are_not_taken_for_success(tls: Terminating) -> None:
    name, empty = loaded(tls, "a.test"), str(tls.folder / "empty.pem")
    key_of_another = issue("a.test").certificate + issue("a.test").key
    only_certificate = issue("a.test").certificate
    tls.apply(New("cert", empty))
    lists = str(tls.list), f"{tls.list}x"
    refused: list[Request] = [
        New("cert", name),
        Set("cert", f"{name}x", issue("b.test").pem),
        Set("cert", name, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
        Commit("cert", name),
        Delete("cert", f"{name}x"),
        Delete("cert", str(tls.default)),
        AddListEntry(lists[0], ListEntry(f"{name}x", "", ("a.test",))),
        AddListEntry(lists[0], ListEntry(empty, "", ("a.test",))),
        AddListEntry(lists[0], ListEntry(name, f"alpn {'x' * 256}", ("a.test",))),
        AddListEntry(lists[1], ListEntry(name, "", ("a.test",))),
        DeleteListEntry(lists[0], name, 1),
        DeleteListEntry(lists[1], name, 1),
        DeleteListEntry(lists[0], str(tls.default), 1),
    ]
    for request in refused:
        assert tls.apply(request)[0].startswith("! "), request
    for pem in (key_of_another, only_certificate):
        replies = tls.apply(Set("cert", name, pem), Commit("cert", name), Abort("cert", name))
        assert [reply.startswith("!") for reply in replies] == [False, True, False], replies
    assert entries(tls) == []
    assert parse_names(tls.client.ask(SHOW_NAMES)).open is None
    assert parse_entries(tls.client.ask(show_entries(f"{tls.list}x"))) is None


def test_a_key_that_is_too_short_is_refused_by_the_list(tls: Terminating) -> None:
    made = issue("a.test", key=rsa_key(1024))
    name = tls.name(made)
    tls.apply(New("cert", name), Set("cert", name, made.pem), Commit("cert", name))
    reply = tls.apply(AddListEntry(str(tls.list), ListEntry(name, "", ("a.test",))))[0]
    assert reply.startswith("! Inserting")
    assert entries(tls) == []


def test_a_transaction_of_another_name_is_in_the_way(tls: Terminating) -> None:
    a, b = loaded(tls, "a.test"), loaded(tls, "b.test")
    before = stored(tls, a), stored(tls, b)
    new = issue("b.test").pem
    replies = tls.apply(
        Set("cert", a, new), Set("cert", b, new), Commit("cert", b), Abort("cert", b)
    )
    assert [reply.startswith("!") for reply in replies] == [False, True, True, True]
    assert all(is_in_the_way(reply.removeprefix("! ")) for reply in replies[1:])
    assert parse_names(tls.client.ask(SHOW_NAMES)).open == a
    assert not tls.apply(Abort("cert", a))[0].startswith("!")
    assert (stored(tls, a), stored(tls, b)) == before


def test_the_largest_payload(tls: Terminating) -> None:
    made = issue("a.test")
    name = tls.name(made)
    room = WITH_PAYLOAD_MAX_BYTES - len(f"set ssl cert {name} <<\n\n\n") - len(made.pem)
    fits = made.pem + b"#" * room
    tls.apply(New("cert", name))
    replies = tls.apply(Set("cert", name, fits), Commit("cert", name))
    assert not any(reply.startswith("!") for reply in replies)
    (outcome,) = tls.client.apply([Set("cert", name, fits + b"#")])
    assert isinstance(outcome, LocalProtocolError)
    assert stored(tls, name)


# -- CA files ----------------------------------------------------------------------------------


def test_a_ca_file_changes(tls: Terminating) -> None:
    name = str(tls.folder / "ca.crt")
    one, two = issue("one.test"), issue("two.test")
    both = Pem.of(name, one.certificate + two.certificate)
    assert parse_stored(tls.client.ask(show("ca-file", name))) is None
    assert "created" in plainly(tls.stand.settings.haproxy.socket, f"new ssl ca-file {name}")
    assert not tls.apply(Set("ca-file", name, both.payload))[0].startswith("!")
    shown = tls.client.ask("show ssl ca-file").split("\n")
    assert {f"*{name}", name} <= {line.partition(" - ")[0] for line in shown}
    assert not tls.apply(Commit("ca-file", name))[0].startswith("!")
    seen = parse_stored(tls.client.ask(show("ca-file", name)))
    assert seen
    assert sorted(seen.fingerprints) == sorted(item.fingerprint for item in both.certificates)
    replies = tls.apply(Set("ca-file", name, one.certificate), Abort("ca-file", name))
    assert not any(reply.startswith("!") for reply in replies)
    assert parse_stored(tls.client.ask(show("ca-file", name))) == seen
    replies = tls.apply(Commit("ca-file", name), Set("ca-file", f"{name}x", b"x"))
    assert all(reply.startswith("!") for reply in replies)


# -- what a certificate's author cannot do -----------------------------------------------------


@pytest.mark.parametrize(
    ("host", "common_name"), [("x\n> y", "test"), ("x.test", "x\n> y"), ("x\nStatus: Used", "x")]
)
def test_names_that_would_end_a_reply_are_never_sent(
    tls: Terminating, host: str, common_name: str
) -> None:
    made = issue(host, common_name)
    with pytest.raises(LocalProtocolError, match="control character"):
        Pem.of("/x.pem", made.pem)
    # What HAProxy would make of it:
    tls.apply(New("cert", "/x.pem"), Set("cert", "/x.pem", made.pem), Commit("cert", "/x.pem"))
    found = plainly(tls.stand.settings.haproxy.socket, show("cert", "/x.pem"))
    assert (host if "\n" in host else common_name) in found


def plainly(socket_path: str, line: str) -> str:
    """HAProxy's answer on a connection of its own, which ends with it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(socket_path)
        connection.sendall(f"{line}\n".encode())
        return connection.makefile("rb").read().decode()
