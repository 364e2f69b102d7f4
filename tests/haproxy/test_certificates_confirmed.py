"""Whether HAProxy has all certificates as they were left, and which changes need a look at all."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pki import Given, issue
from terminating import Terminating

from sidecar.control.certificate_writer import CertificateWriter
from sidecar.haproxy.certificates import (
    AddListEntry,
    Commit,
    DeleteListEntry,
    ListEntry,
    New,
    Set,
)
from sidecar.haproxy.client import RuntimeClient
from sidecar.planning.certificates import WantedEntry

#: What a crt-list has for a host.
HOSTS = ("a.test", "b.test")


def load(client: RuntimeClient, name: str, *, new: bool = True) -> None:
    begin = [New("cert", name)] if new else []
    client.apply([*begin, Set("cert", name, issue("x.test").pem), Commit("cert", name)])


def add(tls: Terminating, client: RuntimeClient, certificate: str, host: str) -> None:
    client.apply([AddListEntry(str(tls.list), ListEntry(certificate, "", (host,)))])


def foreign_certificate(_: Terminating, other: RuntimeClient, _name: str) -> None:
    load(other, "/t.pem")


def own_certificate_twice(tls: Terminating, other: RuntimeClient, name: str) -> None:
    add(tls, other, name, "stray.test")


def entry_gone(tls: Terminating, other: RuntimeClient, name: str) -> None:
    other.apply([DeleteListEntry(str(tls.list), name, 1)])


def transaction(_: Terminating, other: RuntimeClient, name: str) -> None:
    other.apply([Set("cert", name, issue("x.test").pem)])


def other_content(_: Terminating, other: RuntimeClient, name: str) -> None:
    load(other, name, new=False)


@pytest.mark.parametrize(
    "meddle",
    [foreign_certificate, own_certificate_twice, entry_gone, transaction, other_content],
)
def test_what_others_did_is_noticed(
    tls: Terminating,
    other: RuntimeClient,
    meddle: Callable[[Terminating, RuntimeClient, str], None],
) -> None:
    hosts, writer = {host: issue(host) for host in HOSTS}, tls.writer()
    assert not writer.confirm(), "nothing was left yet"
    tls.write(writer, hosts, options="alpn h2")
    assert writer.confirm()
    assert writer.confirm()
    meddle(tls, other, tls.name(hosts["a.test"]))
    assert not writer.confirm()


def test_each_certificate_has_its_turn(tls: Terminating, other: RuntimeClient) -> None:
    hosts = {host: issue(host) for host in HOSTS}
    writer = CertificateWriter(tls.client, tls.list, tls.folder, tls.default, in_turn=1)
    tls.write(writer, hosts)
    names = [*(tls.name(item) for item in hosts.values()), str(tls.default)]
    assert all(writer.confirm() for _ in names)
    for name in names:
        load(other, name, new=False)
    assert not any(writer.confirm() for _ in names)


# -- what was left unfinished ------------------------------------------------------------------


def refused(tls: Terminating, writer: CertificateWriter, hosts: dict[str, Given]) -> None:
    bad = str(tls.folder / "bad.pem")
    entries = {host: WantedEntry(tls.name(item), "") for host, item in hosts.items()}
    pems = {tls.name(item): item.pem for item in hosts.values()} | {bad: b"none"}
    written = writer.write(
        {**entries, "c.test": WantedEntry(bad, "")}, {**pems, str(tls.default): tls.first.pem}
    )
    assert written.saved
    assert written.failures


def in_the_way(tls: Terminating, writer: CertificateWriter, hosts: dict[str, Given]) -> None:
    with RuntimeClient(tls.client.address) as other:
        load(other, "/t.pem")
        add(tls, other, "/t.pem", "a.test")
    written = tls.write(writer, hosts)
    assert written.saved
    assert written.foreign
    assert not written.failures


def unsaved(tls: Terminating, writer: CertificateWriter, hosts: dict[str, Given]) -> None:
    made = issue("c.test")
    (Path(tls.name(made)) / "x").mkdir(parents=True)
    written = tls.write(writer, {**hosts, "c.test": made})
    assert not written.saved
    assert not written.failures
    assert not written.foreign


def reconnected(tls: Terminating, writer: CertificateWriter, hosts: dict[str, Given]) -> None:
    tls.write(writer, hosts)
    tls.client.close()
    tls.client.ask("show info")


@pytest.mark.parametrize("leave", [refused, in_the_way, unsaved, reconnected])
def test_what_was_left_unfinished_is_looked_at_again(
    tls: Terminating,
    leave: Callable[[Terminating, CertificateWriter, dict[str, Given]], None],
) -> None:
    hosts, writer = {host: issue(host) for host in HOSTS}, tls.writer()
    tls.write(writer, hosts)
    new = issue("b.test")
    change = {"b.test": WantedEntry(tls.name(new), "")}, {tls.name(new): new.pem}
    leave(tls, writer, hosts)
    assert not writer.confirm()
    assert writer.change(*change) is None


def test_a_host_that_somebody_else_has_is_not_changed_without_a_look(
    tls: Terminating, other: RuntimeClient
) -> None:
    hosts, writer = {host: issue(host) for host in HOSTS}, tls.writer()
    load(other, "/t.pem")
    add(tls, other, "/t.pem", "t.test")
    written = tls.write(writer, hosts)
    assert written.foreign == {}, "nobody wants that one"
    made = issue("t.test")
    assert (
        writer.change({"t.test": WantedEntry(tls.name(made), "")}, {tls.name(made): made.pem})
        is None
    )
    assert tls.write(writer, {**hosts, "t.test": made}).foreign.keys() == {"t.test"}
