"""Changes of a few certificates, made without a look at all, and what they may not miss."""

import random
from pathlib import Path

import pytest
from pki import CA
from terminating import Terminating

from sidecar.common.secret_text import SecretText
from sidecar.control.certificate_keeper import CertificateKeeper
from sidecar.haproxy.certificates import (
    SHOW_NAMES,
    AddListEntry,
    Commit,
    ListEntry,
    Set,
    parse_entries,
    parse_names,
    show_entries,
)
from sidecar.haproxy.pem import Pem
from sidecar.model.certificate_rules import GoodTLS, judge_tls
from sidecar.model.certificates import ServerCertificate
from sidecar.model.objects import Key, RouteTLS
from sidecar.routing.claims import Claim
from sidecar.routing.host_certificates import HostCertificates, Shown

ROOT = CA.root()
HOSTS = ("a.test", "b.test", "c.test", "d.w.test", "*.w.test")
RESYNC_SECONDS = 30.0


def certificate(*names: str) -> ServerCertificate:
    issued = ROOT.leaf(*names)
    tls = RouteTLS("edge", certificate=SecretText(issued.pem), key=SecretText(issued.key_pem))
    good = judge_tls(tls)
    assert isinstance(good, GoodTLS)
    assert good.certificate
    return good.certificate


class World:
    """A keeper whose clock stands still until somebody winds it."""

    def __init__(self, tls: Terminating) -> None:
        self.tls = tls
        self.now = 0.0
        self.hosts = HostCertificates()
        self.keeper = CertificateKeeper(
            tls.writer(),
            self.hosts,
            tls.folder,
            lambda _: frozenset(),
            RESYNC_SECONDS,
            clock=lambda: self.now,
        )

    def put(self, host: str, item: ServerCertificate | None) -> Claim:
        claim = Claim(0.0, host, Key("Route", "demo", host))
        self.hosts.put(claim, host, item)
        return claim

    def step(self) -> Shown | None:
        if shown := self.keeper.step():
            self.hosts.show(shown)
        return shown

    def look(self) -> None:
        self.now += RESYNC_SECONDS
        self.step()

    @property
    def listed(self) -> list[ListEntry]:
        """What HAProxy has."""
        entries = parse_entries(self.tls.client.ask(show_entries(str(self.tls.list))))
        assert entries is not None
        return [item.entry for item in entries]

    def check(self) -> None:
        """HAProxy, its files and what is said have what is wanted, and nothing else."""
        wanted = self.hosts.wanted
        listed = self.listed
        served = {entry.filters[0]: Path(entry.certificate).stem for entry in listed}
        assert served == {host: item.certificate.name for host, item in wanted.items()}
        assert len(listed) == len(served)
        for entry in listed:
            assert bool(entry.options) == wanted[entry.filters[0]].own
        assert self.tls.list.read_text() == "".join(f"{entry.line}\n" for entry in listed)
        names = {str(self.tls.default), *(entry.certificate for entry in listed)}
        assert set(parse_names(self.tls.client.ask(SHOW_NAMES)).names) == names
        assert {str(path) for path in self.tls.folder.glob("*.pem")} == names
        # No key of a certificate that is gone is kept in memory.
        kept = self.keeper._pems.keys() | self.keeper._checked.keys()
        assert kept == names - {str(self.tls.default)}
        assert self.keeper._writer._pems.keys() <= names
        assert not self.hosts.missing
        facts = self.hosts.facts
        assert facts.keys() == self.hosts.hosts
        assert all(item.served for item in facts.values())
        assert self.keeper.times.since.keys() == served.keys()


@pytest.fixture
def world(tls: Terminating) -> World:
    return World(tls)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_changes_come_to_what_is_wanted(world: World, seed: int) -> None:
    dice = random.Random(seed)
    made = [certificate(*HOSTS) for _ in range(4)]
    for _ in range(40):
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            host = dice.choice(HOSTS)
            if dice.random() < 0.25:
                world.hosts.remove(Key("Route", "demo", host))
            else:
                world.put(host, dice.choice([*made, None]))
        world.step()
        world.check()
        if dice.random() < 0.2:
            world.look()
            world.check()


def test_a_change_asks_for_nothing_but_what_it_is_about(world: World) -> None:
    world.put("b.test", certificate("b.test"))
    world.step()
    world.put("a.test", certificate("a.test"))
    world.step()
    # What somebody else adds is for the next look, since it is not in the way.
    other = certificate("c.test")
    foreign = ListEntry(f"{world.tls.folder}/{other.name}.pem", "", ("c.test",))
    _load(world, foreign.certificate, other.pem)
    world.tls.apply(AddListEntry(str(world.tls.list), foreign))
    world.put("a.test", certificate("a.test"))
    world.step()
    assert foreign in world.listed
    world.look()
    world.check()


def test_a_change_that_meets_something_else_looks_at_all(world: World) -> None:
    """Somebody took away the entry that goes."""
    world.put("a.test", certificate("a.test"))
    world.step()
    (entry,) = world.listed
    world.tls.client.ask(f"del ssl crt-list {world.tls.list} {entry.certificate}")
    world.put("a.test", certificate("a.test"))
    world.step()
    world.check()


def test_a_transaction_of_somebody_else_is_no_hindrance(world: World) -> None:
    world.put("a.test", certificate("a.test"))
    world.step()
    begun = Pem.of("x", certificate("x.test").pem)
    world.tls.apply(Set("cert", str(world.tls.default), begun.payload))
    world.put("a.test", certificate("a.test"))
    world.step()
    world.check()


def test_another_content_under_our_name_is_found_and_replaced(world: World) -> None:
    world.put("a.test", mine := certificate("a.test"))
    world.step()
    name = f"{world.tls.folder}/{mine.name}.pem"
    other = Pem.of(name, certificate("a.test").pem)
    world.tls.apply(Set("cert", name, other.payload), Commit("cert", name))
    assert world.tls.served("a.test") == other.identity.fingerprint
    world.look()
    assert world.tls.served("a.test") == mine.sha1_fingerprint


def test_a_file_that_cannot_be_written_is_written_later(world: World) -> None:
    world.put("a.test", certificate("a.test"))
    world.step()
    # A folder that is not empty, where the new file is to be.
    world.put("a.test", made := certificate("a.test"))
    path = world.tls.folder / f"{made.name}.pem"
    (path / "x").mkdir(parents=True)
    world.step()
    assert world.tls.served("a.test") == made.sha1_fingerprint
    assert made.name not in world.tls.list.read_text()
    (path / "x").rmdir()
    path.rmdir()
    assert world.keeper.seconds < RESYNC_SECONDS
    world.look()
    world.check()


def _load(world: World, name: str, pem: bytes) -> None:
    world.tls.client.ask(f"new ssl cert {name}")
    world.tls.apply(Set("cert", name, Pem.of(name, pem).payload), Commit("cert", name))
