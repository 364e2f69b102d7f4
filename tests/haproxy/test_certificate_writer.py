"""The certificates that are wanted, on a real HAProxy: what clients get, and what files keep."""

import contextlib
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pki import Given, ed25519_key, issue, rsa_key
from terminating import Terminating, ask

from sidecar.common.errors import CommandRefusedError, DisconnectedError, LocalProtocolError
from sidecar.control.certificate_writer import CertificateWriter
from sidecar.haproxy.certificates import (
    SHOW_NAMES,
    AddListEntry,
    Commit,
    DeleteListEntry,
    ListEntry,
    New,
    Set,
    parse_entries,
    parse_names,
    show_entries,
)
from sidecar.haproxy.client import RuntimeClient
from sidecar.planning.certificates import WantedEntry

H2 = "alpn h2,http/1.1"


def entries(tls: Terminating) -> list[tuple[str, str]]:
    """(filter, name of the certificate), in their order."""
    shown = parse_entries(tls.client.ask(show_entries(str(tls.list))))
    assert shown is not None
    return [(" ".join(item.entry.filters), item.entry.certificate) for item in shown]


def stored(tls: Terminating) -> list[str]:
    return sorted(parse_names(tls.client.ask(SHOW_NAMES)).names)


def names(tls: Terminating, hosts: Mapping[str, Given]) -> dict[str, str]:
    return {host: tls.name(item) for host, item in hosts.items()}


# -- what is served ----------------------------------------------------------------------------


def test_each_sni_gets_its_certificate(tls: Terminating) -> None:
    exact, wild, star = issue("a.test"), issue("*.test"), issue("*.b.test")
    hosts = {"a.test": exact, "*.test": wild, "b.test": wild, "*.b.test": star}
    written = tls.write(tls.writer(), hosts)
    assert written.served == names(tls, hosts)
    assert (written.failures, written.foreign, written.saved) == ({}, {}, True)
    expected = {
        "a.test": exact,
        "b.test": wild,
        "c.test": wild,
        "x.b.test": star,
        "x.y.b.test": tls.first,
        "test": tls.first,
    }
    assert {sni: tls.served(sni) for sni in expected} == {
        sni: item.fingerprint for sni, item in expected.items()
    }


def test_options_are_those_of_the_entry(tls: Terminating) -> None:
    made = issue("a.test")
    writer = tls.writer()
    for options, chosen in ((H2, "h2"), ("alpn http/1.1", "http/1.1"), (H2, "h2")):
        tls.write(writer, {"a.test": made}, options=options)
        with tls.handshake("a.test", ["h2", "http/1.1"]) as connection:
            assert connection.selected_alpn_protocol() == chosen
    assert len(entries(tls)) == 1


@pytest.mark.parametrize("serial", [1, 0x7F, 0x80, 0xFFF, 2**159 - 2])
@pytest.mark.parametrize("is_ed25519", [False, True])
def test_a_certificate_is_known_again(tls: Terminating, serial: int, *, is_ed25519: bool) -> None:
    """HAProxy shows no fingerprint of one with a key of Ed25519."""
    hosts = {"a.test": issue("a.test", serial=serial, key=ed25519_key() if is_ed25519 else None)}
    written = tls.write(tls.writer(), hosts)
    assert (written.served, written.failures, written.saved) == (names(tls, hosts), {}, True)
    new = {"a.test": issue("a.test", serial=serial + 1, key=ed25519_key() if is_ed25519 else None)}
    assert tls.write(tls.writer(), new).served == names(tls, new)
    assert tls.served("a.test") == new["a.test"].fingerprint
    tls.restarted()
    assert tls.served("a.test") == new["a.test"].fingerprint


def test_what_is_as_wanted_is_left_alone(tls: Terminating) -> None:
    hosts = {"a.test": issue("a.test"), "b.test": issue("b.test")}
    tls.write(tls.writer(), hosts)
    before = tls.client.ask(show_entries(str(tls.list)))
    times = {path.name: path.stat().st_mtime_ns for path in tls.folder.iterdir()}
    assert tls.write(tls.writer(), hosts).served == names(tls, hosts)
    assert tls.client.ask(show_entries(str(tls.list))) == before
    # Of the list, a new process does not know what is in it.
    after = {path.name: path.stat().st_mtime_ns for path in tls.folder.iterdir()}
    assert {**after, tls.list.name: 0} == {**times, tls.list.name: 0}


def test_one_leaves_and_the_others_stay(tls: Terminating) -> None:
    hosts = {"a.test": issue("a.test"), "b.test": issue("b.test")}
    writer = tls.writer()
    tls.write(writer, hosts)
    del hosts["a.test"]
    assert tls.write(writer, hosts).served == names(tls, hosts)
    assert tls.served("a.test") == tls.first.fingerprint
    assert stored(tls) == sorted([str(tls.default), tls.name(hosts["b.test"])])
    assert tls.files() == sorted(["certs.list", "default.pem", hosts["b.test"].file])


def test_the_default_certificate_is_replaced_in_place(tls: Terminating) -> None:
    new = issue("new.test")
    written = tls.write(tls.writer(), {}, default=new)
    assert (written.failures, written.saved) == ({}, True)
    assert tls.served("x.test") == new.fingerprint
    tls.restarted()
    assert tls.served("x.test") == new.fingerprint


def test_renewal_under_handshakes(tls: Terminating) -> None:
    """Not one fails or gets another host's certificate; connections live on."""
    hosts = {"a.test": issue("a.test"), "b.test": issue("b.test")}
    writer = tls.writer()
    tls.write(writer, hosts)
    valid = {host: {item.fingerprint} for host, item in hosts.items()}
    problems: list[str] = []
    count = 0
    over = threading.Event()

    def shake() -> None:
        nonlocal count
        while not over.is_set():
            for host, fingerprints in valid.items():
                try:
                    got = tls.served(host)
                except OSError as exc:
                    problems.append(f"{host}: {exc}")
                else:
                    count += 1
                    if got not in fingerprints:
                        problems.append(f"{host} got {got}")

    with contextlib.ExitStack() as stack:
        live = [stack.enter_context(tls.handshake(host)) for host in hosts]
        thread = threading.Thread(target=shake)
        thread.start()
        try:
            for _ in range(30):
                hosts["a.test"] = issue("a.test")
                valid["a.test"].add(hosts["a.test"].fingerprint)
                assert tls.write(writer, hosts).served == names(tls, hosts)
                assert tls.served("a.test") == hosts["a.test"].fingerprint
        finally:
            over.set()
            thread.join(30)
        for connection in live:
            ask(connection)
    assert not problems
    assert count > 30
    assert len(entries(tls)) == 2
    assert len(stored(tls)) == 3


def test_a_connection_outlives_its_certificate(tls: Terminating) -> None:
    writer = tls.writer()
    tls.write(writer, {"a.test": issue("a.test")})
    with tls.handshake("a.test") as connection:
        ask(connection)
        tls.write(writer, {})
        assert entries(tls) == []
        ask(connection)


# -- what is refused ---------------------------------------------------------------------------


def short() -> bytes:
    return issue("a.test", key=rsa_key(1024)).pem


def mismatched() -> bytes:
    return issue("a.test").certificate + issue("a.test").key


def encrypted() -> bytes:
    begin = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"
    return issue("a.test").certificate + begin


def chain_of(junk: bytes) -> bytes:
    return issue("a.test").pem + b"-----BEGIN CERTIFICATE-----\n" + junk


BAD: dict[str, Callable[[], bytes]] = {
    "short": short,
    "mismatched": mismatched,
    "encrypted": encrypted,
    "empty": lambda: b"",
    "text": lambda: b"not a certificate",
    "no key": lambda: issue("a.test").certificate,
    "no certificate": lambda: issue("a.test").key,
    "no end": lambda: issue("a.test").pem[:-40],
    "chain cut": lambda: chain_of(issue("b.test").certificate[28:200]),
    "chain no base64": lambda: chain_of(b"@@\n-----END CERTIFICATE-----\n"),
    "chain no DER": lambda: chain_of(b"AAAA\n-----END CERTIFICATE-----\n"),
    "other kind": lambda: issue("a.test").pem.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
    "other order": lambda: issue("b.test").certificate + issue("a.test").pem,
    "too long": lambda: issue("a.test").pem + issue("b.test").certificate * 40,
    "forged": lambda: issue("a.test\n> ").pem,
}


@pytest.mark.parametrize("kind", BAD)
def test_a_filter_keeps_its_certificate_when_the_new_one_is_bad(
    tls: Terminating, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    good, beside = issue("a.test"), issue("b.test")
    writer = tls.writer()
    tls.write(writer, {"a.test": good, "b.test": issue("b.test")})
    bad, pem = str(tls.folder / "bad.pem"), BAD[kind]()
    wanted = {"a.test": WantedEntry(bad, H2), "b.test": WantedEntry(tls.name(beside), H2)}
    pems = {bad: pem, tls.name(beside): beside.pem, str(tls.default): tls.first.pem}
    for _ in range(2):
        written = writer.write(wanted, pems)
        assert written.failures.keys() == {bad}
        assert bad in str(written.failures[bad])
        assert written.refused == {bad}
        assert bad not in written.loaded
        assert written.served == {"a.test": tls.name(good), "b.test": tls.name(beside)}
    assert tls.served("a.test") == good.fingerprint
    assert tls.served("b.test") == beside.fingerprint
    assert not Path(bad).exists()
    assert parse_names(tls.client.ask(SHOW_NAMES)).open is None
    for line in {line for line in pem.split(b"\n") if len(line) > 20 and b"--" not in line}:
        assert line.decode() not in f"{written!r} {caplog.text}"

    tls.restarted()
    assert tls.served("a.test") == good.fingerprint
    assert tls.served("b.test") == beside.fingerprint
    # Without it, what it left behind goes.
    tls.write(tls.writer(), {"b.test": beside})
    assert stored(tls) == sorted([str(tls.default), tls.name(beside)])


@pytest.mark.parametrize("kind", BAD)
def test_the_default_certificate_stays_when_the_new_one_is_bad(tls: Terminating, kind: str) -> None:
    written = tls.writer().write({}, {str(tls.default): BAD[kind]()})
    assert written.failures.keys() == {str(tls.default)}
    assert tls.served("x.test") == tls.first.fingerprint
    tls.restarted()
    assert tls.served("x.test") == tls.first.fingerprint


def test_many_bad_ones_do_not_hinder_a_good_one(tls: Terminating) -> None:
    bad = {f"bad{number}.test": mismatched() for number in range(12)}
    pems = {str(tls.folder / f"{host}.pem"): pem for host, pem in bad.items()}
    good = issue("a.test")
    pems[tls.name(good)] = good.pem
    entries_ = {f"h{number}.test": WantedEntry(name, "") for number, name in enumerate(pems)}
    written = tls.writer().write(entries_, pems)
    assert written.failures.keys() == pems.keys() - {tls.name(good)}
    assert written.served == {"h12.test": tls.name(good)}


@pytest.mark.parametrize(
    ("host", "options"),
    [("a*.test", ""), ("A.test", ""), ("x.", ""), ("a b", ""), ("x" * 300, "")]
    + [("a.test", value) for value in ("nonesuch 1", "alpn", "alpn h2]", "ca-file /x", "alpn ,")]
    + [("a.test", f"alpn {'x' * 256}"), ("a.test", "curves nonesuch")],
)
def test_an_entry_that_cannot_be(tls: Terminating, host: str, options: str) -> None:
    made = issue("a.test")
    entries_ = {
        host: WantedEntry(tls.name(made), options),
        "b.test": WantedEntry(tls.name(made), H2),
    }
    written = tls.writer().write(entries_, {tls.name(made): made.pem})
    assert written.failures.keys() == {tls.name(made)}
    assert written.served == {"b.test": tls.name(made)}
    tls.restarted()
    assert tls.served("b.test") == made.fingerprint


def test_names_that_cannot_be(tls: Terminating) -> None:
    made = issue("a.test")
    for name in ("/elsewhere/a.pem", str(tls.folder / "a.pem.key"), str(tls.folder / "a b.pem")):
        written = tls.writer().write({"a.test": WantedEntry(name, "")}, {name: made.pem})
        assert isinstance(written.failures[name], LocalProtocolError)
    missing = str(tls.folder / "missing.pem")
    written = tls.writer().write({"a.test": WantedEntry(missing, "")}, {})
    assert "is not given" in str(written.failures[missing])
    assert stored(tls) == [str(tls.default)]


def test_an_haproxy_without_the_list(tls: Terminating) -> None:
    writer = CertificateWriter(tls.client, tls.folder / "another.list", tls.folder)
    with pytest.raises(CommandRefusedError, match=r"another\.list"):
        writer.write({}, {})
    tls.stand.stop_haproxy()
    before = tls.files()
    with pytest.raises(DisconnectedError):
        tls.write(tls.writer(), {"a.test": issue("a.test")})
    assert tls.files() == before


# -- what others do ----------------------------------------------------------------------------


def test_a_transaction_left_open_is_aborted(
    tls: Terminating, other: RuntimeClient, caplog: pytest.LogCaptureFixture
) -> None:
    evil, hosts = issue("evil.test"), {"a.test": issue("a.test")}
    other.apply([Set("cert", str(tls.default), evil.pem)])
    other.close()
    written = tls.write(tls.writer(), hosts)
    assert (written.served, written.failures) == (names(tls, hosts), {})
    assert f"for certificate {tls.default}, left open" in caplog.text
    assert tls.served("x.test") == tls.first.fingerprint


def test_it_is_aborted_also_where_nothing_else_is_to_do(
    tls: Terminating, other: RuntimeClient
) -> None:
    other.apply([Set("cert", str(tls.default), issue("evil.test").pem)])
    tls.write(tls.writer(), {})
    assert parse_names(tls.client.ask(SHOW_NAMES)).open is None


def test_another_client_in_the_middle_of_all(tls: Terminating, other: RuntimeClient) -> None:
    """It begins and commits transactions of its own, without a pause."""
    hosts = {f"h{number}.test": issue(f"h{number}.test") for number in range(20)}
    valid = {host: {tls.name(item)} for host, item in hosts.items()}
    theirs, name = issue("theirs.test"), "/theirs.pem"
    over = threading.Event()

    def meddle() -> None:
        other.apply([New("cert", name)])
        while not over.is_set():
            other.apply([Set("cert", name, theirs.pem)])
            other.apply([Commit("cert", name)])

    thread = threading.Thread(target=meddle)
    thread.start()
    writer = tls.writer()
    try:
        for _ in range(10):
            host = next(iter(hosts))
            hosts[host] = issue(host)
            valid[host].add(tls.name(hosts[host]))
            written = tls.write(writer, hosts)
            assert all(name in valid[host] for host, name in written.served.items())
            late = {host for host in hosts if written.served.get(host) != tls.name(hosts[host])}
            # A former one that could not be deleted counts, too.
            current = set(names(tls, hosts).values()) & written.failures.keys()
            assert {tls.name(hosts[host]) for host in late} == current
    finally:
        over.set()
        thread.join(30)
    written = tls.write(writer, hosts)
    assert (written.served, written.failures) == (names(tls, hosts), {})
    assert {host: tls.served(host) for host in hosts} == {
        host: item.fingerprint for host, item in hosts.items()
    }
    assert tls.served("x.test") == tls.first.fingerprint


def test_a_certificate_that_others_changed_is_mended(
    tls: Terminating, other: RuntimeClient
) -> None:
    hosts, evil = {"a.test": issue("a.test")}, issue("evil.test")
    writer = tls.writer()
    tls.write(writer, hosts)
    for name in (tls.name(hosts["a.test"]), str(tls.default)):
        other.apply([Set("cert", name, evil.pem), Commit("cert", name)])
    assert tls.served("a.test") == evil.fingerprint
    assert tls.write(writer, hosts).served == names(tls, hosts)
    assert tls.served("a.test") == hosts["a.test"].fingerprint
    assert tls.served("x.test") == tls.first.fingerprint


def test_entries_that_others_made(tls: Terminating, other: RuntimeClient) -> None:
    hosts, theirs = {"a.test": issue("a.test"), "b.test": issue("b.test")}, issue("theirs.test")
    writer = tls.writer()
    tls.write(writer, hosts)
    other.apply(
        [New("cert", "/t.pem"), Set("cert", "/t.pem", theirs.pem), Commit("cert", "/t.pem")]
    )
    for name, host in (
        (tls.name(hosts["a.test"]), "a.test"),  # twice
        (tls.name(hosts["b.test"]), "stray.test"),
        ("/t.pem", "t.test"),
        ("/t.pem", "b.test"),
    ):
        other.apply([AddListEntry(str(tls.list), ListEntry(name, "", (host,)))])
    written = tls.write(writer, hosts)
    assert written.foreign.keys() == {"b.test"}
    told = written.foreign["b.test"]
    assert f"{tls.list} somebody else has the entry /t.pem b.test; " in told
    assert written.served == {"a.test": tls.name(hosts["a.test"])}
    assert sorted(entries(tls)) == sorted(
        [*names(tls, hosts).items(), ("t.test", "/t.pem"), ("b.test", "/t.pem")]
    )
    # What it says to do helps.
    tls.client.ask(told.partition("; remove it: ")[2])
    assert ("b.test", "/t.pem") not in entries(tls)
    written = tls.write(writer, hosts)
    assert (written.served, written.foreign) == (names(tls, hosts), {})
    tls.restarted()
    assert sorted(entries(tls)) == sorted(names(tls, hosts).items())


def test_entries_that_others_removed_come_back(tls: Terminating, other: RuntimeClient) -> None:
    hosts = {"a.test": issue("a.test")}
    writer = tls.writer()
    tls.write(writer, hosts)
    other.apply([DeleteListEntry(str(tls.list), tls.name(hosts["a.test"]), 1)])
    assert tls.served("a.test") == tls.first.fingerprint
    assert tls.write(writer, hosts).served == names(tls, hosts)
    assert tls.served("a.test") == hosts["a.test"].fingerprint


# -- restarts ----------------------------------------------------------------------------------


def test_a_restarted_haproxy_serves_the_same(tls: Terminating) -> None:
    hosts = {"a.test": issue("a.test"), "*.b.test": issue("*.b.test", key=rsa_key(2048))}
    writer = tls.writer()
    tls.write(writer, hosts, options=H2)
    before = tls.client.ask(show_entries(str(tls.list)))
    tls.restarted()
    assert tls.client.ask(show_entries(str(tls.list))) == before
    assert tls.served("x.b.test") == hosts["*.b.test"].fingerprint
    assert tls.write(writer, hosts, options=H2).served == names(tls, hosts)
    assert tls.client.ask(show_entries(str(tls.list))) == before


def test_files_are_for_the_group_and_nobody_else(tls: Terminating) -> None:
    made = issue("a.test")
    tls.folder.chmod(0o2755)
    tls.write(tls.writer(), {"a.test": made})
    assert tls.folder.stat().st_mode & 0o7777 == 0o2750
    assert {path.stat().st_mode & 0o777 for path in (Path(tls.name(made)), tls.list)} == {0o640}


def test_what_a_dying_process_left_goes(tls: Terminating) -> None:
    for name in ("0123.pem", ".0123.pem.x1y2"):
        (tls.folder / name).write_text("key")
    tls.write(tls.writer(), {})
    assert tls.files() == ["certs.list", "default.pem"]


def test_a_file_that_somebody_broke_is_written_again(tls: Terminating) -> None:
    hosts = {"a.test": issue("a.test")}
    tls.write(tls.writer(), hosts)
    Path(tls.name(hosts["a.test"])).write_text("broken")
    assert tls.write(tls.writer(), hosts).saved
    tls.restarted()
    assert tls.served("a.test") == hosts["a.test"].fingerprint


def test_an_entry_without_its_file_is_not_in_the_list(tls: Terminating) -> None:
    hosts = {"a.test": issue("a.test"), "b.test": issue("b.test")}
    tls.write(tls.writer(), hosts)
    in_the_way = Path(tls.name(hosts["a.test"]))
    in_the_way.unlink()
    in_the_way.mkdir()
    written = tls.write(tls.writer(), hosts)
    assert (written.served, written.saved) == (names(tls, hosts), False)
    tls.restarted()
    assert tls.served("a.test") == tls.first.fingerprint
    assert tls.served("b.test") == hosts["b.test"].fingerprint


#: A sidecar that writes what it reads, and is gone, without any cleaning up, at one of its changes
#: of files; it ends with 0 if it makes fewer.
DYING = """
import json, os, sys
from pathlib import Path
from sidecar.control.certificate_writer import CertificateWriter
from sidecar.haproxy.client import RuntimeClient
from sidecar.planning.certificates import WantedEntry

given = json.load(sys.stdin)
left = given["changes"]

def count(event, arguments):
    global left
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
    if writes or event in {"os.rename", "os.remove", "os.chmod", "os.mkdir"}:
        left -= 1
        if left < 0:
            os._exit(9)

paths = [Path(given[key]) for key in ("list", "folder", "default")]
entries = {host: WantedEntry(name, "") for host, name in given["entries"].items()}
pems = {name: pem.encode() for name, pem in given["pems"].items()}
sys.addaudithook(count)
CertificateWriter(RuntimeClient(given["address"]), *paths).write(entries, pems)
"""


def test_whenever_the_sidecar_dies_haproxy_starts(tls: Terminating) -> None:
    former = {host: issue(host) for host in ("a.test", "b.test", "c.test")}
    new = {host: issue(host) for host in ("a.test", "d.test", "e.test")}
    default = issue("default.test")
    seen: list[set[str]] = []
    for changes in range(100):
        tls.write(tls.writer(), former)
        pems = {tls.name(item): item.pem.decode() for item in new.values()}
        given = {
            "address": tls.client.address,
            "list": str(tls.list),
            "folder": str(tls.folder),
            "default": str(tls.default),
            "entries": names(tls, new),
            "pems": {**pems, str(tls.default): default.pem.decode()},
            "changes": changes,
        }
        command = [sys.executable, "-c", DYING]
        result = subprocess.run(command, input=json.dumps(given), text=True, check=False)
        tls.restarted()
        served = {host: tls.served(host) for host in former | new}
        for host, got in served.items():
            of_host = [item.fingerprint for item in (former.get(host), new.get(host)) if item]
            assert got in [*of_host, tls.first.fingerprint, default.fingerprint], (changes, host)
        # Of what is in both, some certificate is always there.
        assert served["a.test"] in {item["a.test"].fingerprint for item in (former, new)}
        seen.append(set(served.values()))
        if result.returncode == 0:
            break
        assert result.returncode == 9
    assert len(seen) > 10
    assert seen[0] == {item.fingerprint for item in [*former.values(), tls.first]}
    assert seen[-1] == {item.fingerprint for item in [*new.values(), default]}
    assert tls.write(tls.writer(), new, default=default).served == names(tls, new)
    assert tls.files() == sorted(["certs.list", "default.pem", *(i.file for i in new.values())])


def test_many_at_once(tls: Terminating) -> None:
    hosts = {f"h{number}.test": issue(f"h{number}.test") for number in range(200)}
    written = tls.write(tls.writer(), hosts)
    assert (written.served, written.failures, written.saved) == (names(tls, hosts), {}, True)
    tls.restarted()
    for host in ("h0.test", "h99.test", "h199.test"):
        assert tls.served(host) == hosts[host].fingerprint
