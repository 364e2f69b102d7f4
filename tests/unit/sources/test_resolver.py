"""`sidecar.sources.dns.resolver`, on a real DNS server of its own."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from nameserver import SERVFAIL, SILENCE, NameServer
from stand import await_

from sidecar.model.change import Change, Problem
from sidecar.model.objects import DNSAnswer, answer_key
from sidecar.sources.dns.resolver import Resolver, read_answers


class Sink:
    """What was published, newest last."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def publish(self, origin: str, changes: Sequence[Change], problems: Sequence[Problem]) -> None:
        assert origin == "dns"
        assert not problems
        self.changes += changes

    def answer(self, name: str) -> DNSAnswer | None:
        """What holds of ``name`` now."""
        last = [change.object for change in self.changes if change.key == answer_key(name)][-1:]
        return next((item for item in last if isinstance(item, DNSAnswer)), None)

    def await_answer(self, name: str, *addresses: str, problem: str = "") -> None:
        def holds() -> bool:
            answer = self.answer(name)
            return (
                answer is not None
                and answer.addresses == addresses
                and (problem in answer.problem if problem else not answer.problem)
            )

        await_(holds, f"{name} is at {addresses} {problem}, not: {self.changes[-3:]}", 20)


@pytest.fixture
def server() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.close()


@pytest.fixture
def sink() -> Sink:
    return Sink()


Make = Callable[..., Resolver]


@pytest.fixture
def make(server: NameServer, sink: Sink, tmp_path: Path) -> Iterator[Make]:
    """Makes resolvers, each on the file that the former left behind."""
    made: list[Resolver] = []

    def make(*servers: str, timeout_seconds: float = 5.0, keep_seconds: float = 60.0) -> Resolver:
        servers = servers or (server.address,)
        file = tmp_path / "dns-answers.json"
        made.append(Resolver(file, sink, servers, timeout_seconds, keep_seconds))
        return made[-1]

    yield make
    for resolver in made:
        resolver.close()


def test_both_families_are_asked_and_followed(server: NameServer, sink: Sink, make: Make) -> None:
    server.zone["db.example"] = ["A 10.0.0.2", "A 10.0.0.1", "AAAA fd00::1"]
    make().want(frozenset({"db.example"}))
    sink.await_answer("db.example", "10.0.0.1", "10.0.0.2", "fd00::1")
    server.zone["db.example"] = ["A 10.0.0.3"]
    sink.await_answer("db.example", "10.0.0.3")


def test_no_look_before_its_ttl_is_over(server: NameServer, sink: Sink, make: Make) -> None:
    server.zone |= {"short.example": ["A 10.0.0.1"], "long.example": ["A 10.0.0.2"]}
    server.ttl = 60
    resolver = make()
    resolver.want(frozenset({"long.example"}))
    sink.await_answer("long.example", "10.0.0.2")
    server.ttl = 1
    resolver.want(frozenset({"long.example", "short.example"}))
    await_(lambda: server.looks("short.example") >= 6, "its TTL was over twice", 20)
    assert server.looks("long.example") == 2


def test_a_cname_is_followed_to_its_end(server: NameServer, sink: Sink, make: Make) -> None:
    server.zone |= {
        "db.example": ["CNAME blue.example."],
        "blue.example": ["CNAME rack-7.example."],
        "rack-7.example": ["A 10.0.0.7"],
        "green.example": ["A 10.0.0.8"],
    }
    make().want(frozenset({"db.example"}))
    sink.await_answer("db.example", "10.0.0.7")
    server.zone["db.example"] = ["CNAME green.example."]
    sink.await_answer("db.example", "10.0.0.8")


def test_what_does_not_fit_into_a_datagram_comes_by_tcp(
    server: NameServer, sink: Sink, make: Make
) -> None:
    many = [f"10.0.{number // 250}.{number % 250}" for number in range(1000)]
    server.zone["big.example"] = [f"A {address}" for address in many]
    server.truncates = True
    make().want(frozenset({"big.example"}))
    sink.await_answer("big.example", *sorted(many))
    assert server.asked["big.example", "A", "tcp"] >= 1


def test_while_dns_fails_the_last_answer_stays(server: NameServer, sink: Sink, make: Make) -> None:
    server.zone["db.example"] = ["A 10.0.0.1"]
    make(timeout_seconds=0.5).want(frozenset({"db.example"}))
    sink.await_answer("db.example", "10.0.0.1")
    server.zone["db.example"] = SERVFAIL
    sink.await_answer("db.example", "10.0.0.1", problem="DNS failed (SERVFAIL)")
    server.zone["db.example"] = SILENCE
    sink.await_answer("db.example", "10.0.0.1", problem="DNS did not answer within 0.5 s")
    server.zone["db.example"] = ["A 10.0.0.2"]
    sink.await_answer("db.example", "10.0.0.2")


def test_a_name_that_is_gone_is_gone_after_a_while(
    server: NameServer, sink: Sink, make: Make
) -> None:
    server.zone["db.example"] = ["A 10.0.0.1"]
    make(keep_seconds=0.5).want(frozenset({"db.example"}))
    sink.await_answer("db.example", "10.0.0.1")
    del server.zone["db.example"]
    sink.await_answer("db.example", "10.0.0.1", problem="NXDOMAIN")
    sink.await_answer("db.example", problem="NXDOMAIN")
    server.zone["db.example"] = ["TXT x"]
    sink.await_answer("db.example", problem="no address")
    server.zone["db.example"] = ["A 10.0.0.2"]
    sink.await_answer("db.example", "10.0.0.2")


def test_the_next_server_is_asked(server: NameServer, sink: Sink, make: Make) -> None:
    bad = NameServer()
    try:
        bad.zone["db.example"] = SERVFAIL
        server.zone["db.example"] = ["A 10.0.0.1"]
        make(bad.address, server.address).want(frozenset({"db.example"}))
        sink.await_answer("db.example", "10.0.0.1")
        assert bad.looks("db.example")
    finally:
        bad.close()


def test_many_that_time_out_hold_up_nobody_else(server: NameServer, sink: Sink, make: Make) -> None:
    dead = frozenset(f"dead-{number}.example" for number in range(300))
    server.zone |= dict.fromkeys(dead, SILENCE)
    server.zone["db.example"] = ["A 10.0.0.1"]
    resolver = make(timeout_seconds=1.0)
    resolver.want(dead)
    await_(lambda: server.looks("dead-0.example"), "they are asked for")
    resolver.want(dead | {"db.example"})
    sink.await_answer("db.example", "10.0.0.1")
    server.zone["db.example"] = ["A 10.0.0.2"]
    sink.await_answer("db.example", "10.0.0.2")


def test_nobody_asks_for_what_is_not_wanted_any_more(
    server: NameServer, sink: Sink, make: Make
) -> None:
    server.zone |= {"a.example": ["A 10.0.0.1"], "b.example": ["A 10.0.0.2"]}
    resolver = make()
    resolver.want(frozenset({"a.example", "b.example"}))
    sink.await_answer("a.example", "10.0.0.1")
    resolver.want(frozenset({"b.example"}))
    await_(lambda: sink.answer("a.example") is None, "it is taken back")
    asked, others = server.looks("a.example"), server.looks("b.example")
    await_(lambda: server.looks("b.example") >= others + 6, "the other one is followed", 20)
    assert server.looks("a.example") == asked


def test_the_last_answers_outlive_the_sidecar(
    server: NameServer, sink: Sink, make: Make, tmp_path: Path
) -> None:
    server.zone |= {"a.example": ["A 10.0.0.1", "AAAA fd00::1"], "b.example": ["A 10.0.0.2"]}
    former = make()
    former.want(frozenset({"a.example", "b.example"}))
    sink.await_answer("a.example", "10.0.0.1", "fd00::1")
    sink.await_answer("b.example", "10.0.0.2")
    former.close()
    server.zone |= dict.fromkeys(server.zone, SERVFAIL)
    sink.changes.clear()

    resolver = make()
    sink.await_answer("a.example", "10.0.0.1", "fd00::1")
    resolver.want(frozenset({"a.example"}))
    sink.await_answer("a.example", "10.0.0.1", "fd00::1", problem="SERVFAIL")
    assert sink.answer("b.example") is None
    file = tmp_path / "dns-answers.json"
    await_(lambda: [item.name for item in read_answers(file)] == ["a.example"], "saved")


def test_what_was_kept_and_is_not_wanted_is_taken_back(
    server: NameServer, sink: Sink, make: Make, tmp_path: Path
) -> None:
    (tmp_path / "dns-answers.json").write_text('{"a.example": ["10.0.0.1"]}')
    resolver = make()
    sink.await_answer("a.example", "10.0.0.1")
    resolver.want(frozenset())
    await_(lambda: sink.answer("a.example") is None, "it is taken back")
    await_(lambda: read_answers(tmp_path / "dns-answers.json") == [], "and forgotten")
    assert not server.asked


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "{"])
def test_a_broken_file_of_answers_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "dns-answers.json"
    file.write_text(text)
    assert read_answers(file) == []
    file.write_text(json.dumps({"a": ["10.0.0.1"]}))
    assert read_answers(file) == [DNSAnswer("a", ("10.0.0.1",), "")]
