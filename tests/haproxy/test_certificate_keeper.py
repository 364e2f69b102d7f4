"""`sidecar.control.certificate_keeper` on a real HAProxy: what comes and goes in which order."""

from dataclasses import replace
from typing import Any

import pytest
from pki import CA, rsa_key
from stand import await_
from terminating import Terminating

from sidecar.common.secret_text import SecretText
from sidecar.control.certificate_keeper import CertificateKeeper
from sidecar.model.certificate_rules import GoodTLS, judge_tls
from sidecar.model.certificates import ServerCertificate
from sidecar.model.objects import Key, RouteTLS
from sidecar.routing.claims import Claim
from sidecar.routing.host_certificates import HostCertificates, Shown

HOST = "a.test"
ROOT = CA.root()


def certificate(*names: str, key: Any = None) -> ServerCertificate:
    issued = ROOT.leaf(*names, key=key)
    tls = RouteTLS("edge", certificate=SecretText(issued.pem), key=SecretText(issued.key_pem))
    good = judge_tls(tls)
    assert isinstance(good, GoodTLS)
    assert good.certificate
    return good.certificate


def claim(name: str) -> Claim:
    return Claim(0.0, name, Key("Route", "demo", name))


class Kept:
    """A keeper, of hosts of which ``strays`` have an entry that leads to none of their Routes."""

    def __init__(self, tls: Terminating) -> None:
        self.tls = tls
        self.hosts = HostCertificates()
        self.strays: set[str] = set()
        self.keeper = CertificateKeeper(
            tls.writer(), self.hosts, tls.folder, self.strays.intersection, 3600.0
        )

    def step(self) -> Shown | None:
        if shown := self.keeper.step():
            self.hosts.show(shown)
        return shown

    def alpn(self, host: str) -> str | None:
        with self.tls.handshake(host, ["h2", "http/1.1"]) as connection:
            return connection.selected_alpn_protocol()


@pytest.fixture
def kept(tls: Terminating) -> Kept:
    return Kept(tls)


def test_a_certificate_stays_until_no_entry_of_its_host_leads_anywhere(kept: Kept) -> None:
    made, one = certificate(HOST), claim("one")
    kept.hosts.put(one, HOST, made)
    kept.step()
    await_(lambda: kept.tls.served(HOST) == made.sha1_fingerprint, "it is served")
    kept.strays.add(HOST)
    kept.hosts.remove(one.route)
    for _ in range(2):
        kept.step()
        assert kept.tls.served(HOST) == made.sha1_fingerprint
    kept.strays.clear()
    kept.step()
    await_(lambda: kept.tls.served(HOST) == kept.tls.first.fingerprint, "it is gone")


@pytest.mark.parametrize("had", [True, False])
def test_a_host_that_changes_hands_has_another_one_once_no_entry_leads_to_the_former(
    kept: Kept, *, had: bool
) -> None:
    former, latter, one = certificate(HOST), certificate(HOST), claim("one")
    kept.hosts.put(one, HOST, former if had else None)
    kept.step()
    before = kept.tls.served(HOST)
    assert (before == former.sha1_fingerprint) == had
    kept.hosts.remove(one.route)
    kept.hosts.put(claim("two"), HOST, latter)
    kept.strays.add(HOST)
    kept.hosts.put(claim("three"), "c.test", other := certificate("c.test"))
    for _ in range(2):
        kept.step()
        assert kept.tls.served(HOST) == before
    assert kept.tls.served("c.test") == other.sha1_fingerprint
    kept.strays.clear()
    kept.step()
    await_(lambda: kept.tls.served(HOST) == latter.sha1_fingerprint, "it is the new one's")


def test_of_a_host_whose_route_stays_it_goes_at_once(kept: Kept) -> None:
    made, one = certificate(HOST), claim("one")
    kept.hosts.put(one, HOST, made)
    kept.step()
    kept.hosts.put(one, HOST, None)
    kept.step()
    assert kept.hosts.is_served(one.route)
    assert kept.tls.served(HOST) == kept.tls.first.fingerprint


def test_http_2_is_for_a_certificate_of_one_route_alone(kept: Kept) -> None:
    made = certificate(HOST, "b.test")
    kept.hosts.put(claim("one"), HOST, made)
    kept.step()
    assert kept.alpn(HOST) == "h2"
    kept.hosts.put(claim("two"), "b.test", made)
    kept.step()
    assert {kept.alpn(host) for host in (HOST, "b.test")} <= {"http/1.1", None}
    kept.hosts.remove(claim("one").route)
    kept.step()
    assert kept.alpn("b.test") == "h2"


def test_nothing_is_done_while_nothing_is_due(kept: Kept) -> None:
    kept.hosts.put(claim("one"), HOST, certificate(HOST))
    assert kept.step() is not None
    assert kept.step() is None
    assert 3000 < kept.keeper.seconds <= 3600


def test_another_haproxy_is_looked_at_at_once(kept: Kept) -> None:
    made, one = certificate(HOST), claim("one")
    kept.hosts.put(one, HOST, made)
    kept.step()
    kept.tls.stand.stop_haproxy()
    kept.tls.list.write_text("")
    kept.tls.stand.start_haproxy()
    kept.hosts.forget()
    assert kept.step() is not None
    assert kept.hosts.is_served(one.route)
    assert kept.tls.served(HOST) == made.sha1_fingerprint
    assert kept.step() is None


def test_a_certificate_that_stays_is_not_hidden_by_its_wildcards(kept: Kept) -> None:
    """HAProxy prefers ECDSA, and so would the host's next one have been shown beside it."""
    host, one = "a.w.test", claim("one")
    former, latter = certificate(host, key=rsa_key()), certificate(host)
    kept.hosts.put(one, host, former)
    kept.hosts.put(claim("any"), "*.w.test", certificate("*.w.test"))
    kept.step()
    await_(lambda: kept.tls.served(host) == former.sha1_fingerprint, "it is served")
    kept.hosts.remove(one.route)
    kept.hosts.put(claim("two"), host, latter)
    kept.strays.add(host)
    kept.step()
    assert kept.tls.served(host) == former.sha1_fingerprint
    kept.strays.clear()
    kept.step()
    await_(lambda: kept.tls.served(host) == latter.sha1_fingerprint, "it is the new one's")


@pytest.mark.parametrize("had", [True, False])
def test_a_wildcard_that_waits_to_go_is_not_shown_for_hosts_of_others(
    kept: Kept, *, had: bool
) -> None:
    former, host = certificate("*.b.test"), "a.b.test"
    kept.hosts.put(claim("wide"), "*.b.test", former)
    if had:
        kept.hosts.put(claim("one"), host, certificate(host))
    kept.step()
    await_(lambda: kept.tls.served("x.b.test") == former.sha1_fingerprint, "it is served")
    kept.strays.add("*.b.test")
    kept.hosts.remove(claim("wide").route)
    kept.hosts.remove(claim("one").route)
    kept.hosts.put(claim("two"), host, None)
    # Nobody is led there before.
    assert not kept.hosts.is_served(claim("two").route)
    for _ in range(2):
        kept.step()
        assert kept.hosts.is_served(claim("two").route)
        assert kept.tls.served(host) == kept.tls.first.fingerprint
        assert kept.tls.served("x.b.test") == former.sha1_fingerprint
    kept.strays.clear()
    kept.step()
    await_(lambda: kept.tls.served("x.b.test") == kept.tls.first.fingerprint, "it is gone")
    assert kept.tls.served(host) == kept.tls.first.fingerprint


def test_a_host_that_goes_with_its_wildcard_keeps_its_own_as_long(kept: Kept) -> None:
    wide, own, host = certificate("*.b.test"), certificate("a.b.test"), "a.b.test"
    kept.hosts.put(claim("wide"), "*.b.test", wide)
    kept.hosts.put(claim("one"), host, own)
    kept.step()
    await_(lambda: kept.tls.served(host) == own.sha1_fingerprint, "it is served")
    kept.strays.add("*.b.test")
    kept.hosts.remove(claim("wide").route)
    kept.hosts.remove(claim("one").route)
    for _ in range(2):
        kept.step()
        assert kept.tls.served(host) == own.sha1_fingerprint
        assert kept.tls.served("x.b.test") == wide.sha1_fingerprint
    kept.strays.clear()
    kept.step()
    await_(lambda: kept.tls.served(host) == kept.tls.first.fingerprint, "it is gone")
    assert kept.tls.served("x.b.test") == kept.tls.first.fingerprint


def test_what_failed_of_one_host_is_not_forgotten_for_another(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = certificate(HOST), certificate("bad.test")
    broken = replace(bad, pem=bad.pem.replace(b"-----BEGIN PRIVATE", b"-----BROKEN PRIVATE"))
    kept.hosts.put(claim("bad"), "bad.test", broken)
    kept.step()
    failure = kept.hosts.failure(claim("bad").route)
    assert failure
    caplog.clear()
    kept.hosts.put(claim("one"), HOST, good)
    kept.step()
    assert kept.hosts.is_served(claim("one").route)
    assert kept.hosts.failure(claim("bad").route) == failure
    assert "bad.test" not in caplog.text, "it was said before"
