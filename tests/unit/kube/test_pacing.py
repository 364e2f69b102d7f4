"""How often is written: due keys, token buckets, contention, the ports of a Service, the Lease."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.kube.lease import (
    LEASE_SECONDS,
    RENEW_DEADLINE_SECONDS,
    Election,
    LeaseRecord,
    lease_body,
    read_record,
)
from sidecar.kube.pacing import (
    CONTENTION_FIRST_SECONDS,
    CONTENTION_LONGEST_SECONDS,
    Contention,
    DueKeys,
    TokenBucket,
)
from sidecar.reporting.cluster.service_ports import our_port, published

KEYS = st.sampled_from("abcd")
TIMES = st.integers(0, 20).map(float)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), KEYS, TIMES),
            st.tuples(st.just("take"), KEYS, TIMES),
        )
    )
)
def test_a_key_is_due_once_at_its_earliest_time(steps: list[tuple[str, str, float]]) -> None:
    queue: DueKeys[str] = DueKeys()
    due: dict[str, float] = {}
    for step, key, at in steps:
        if step == "add":
            queue.add(key, at)
            due[key] = min(at, due.get(key, at))
        else:
            taken = queue.take(at)
            ready = [name for name, when in due.items() if when <= at]
            assert (taken is None) == (not ready)
            if taken is not None:
                assert due[taken] == min(due.values())
                del due[taken]
        assert len(queue) == len(due)
        assert queue.next_at() == min(due.values(), default=float("inf"))


@given(st.lists(st.floats(0, 5), max_size=50), st.floats(0.1, 20), st.integers(1, 10))
def test_a_bucket_never_gives_more_than_burst_and_rate(
    pauses: list[float], per_second: float, burst: int
) -> None:
    bucket, now, given_ = TokenBucket(per_second, burst), 0.0, 0
    for pause in pauses:
        now += pause
        if bucket.wait_seconds(now) == 0.0:
            assert bucket.take(now)
            given_ += 1
        else:
            assert not bucket.take(now)
        assert given_ <= burst + now * per_second + 1e-6


def test_a_bucket_says_when_to_come_again() -> None:
    bucket = TokenBucket(10.0, 1)
    assert bucket.take(0.0)
    assert bucket.wait_seconds(0.05) == pytest.approx(0.05)
    assert bucket.wait_seconds(0.11) == 0.0


def test_whoever_is_rewritten_gives_way_for_longer_and_longer() -> None:
    contention, now, pauses = Contention(), 0.0, []
    assert contention.wait_seconds("u", "theirs", now) == 0.0
    for _ in range(9):
        contention.wrote("u", "ours", now)
        assert contention.wait_seconds("u", "ours", now) == 0.0
        wait = contention.wait_seconds("u", "theirs", now)
        # Looking again is no further strike.
        assert contention.wait_seconds("u", "theirs", now + wait / 2) == pytest.approx(wait / 2)
        pauses.append(wait)
        now += wait
        assert contention.wait_seconds("u", "theirs", now) == 0.0
    doubled = [CONTENTION_FIRST_SECONDS * 2.0**n for n in range(9)]
    assert pauses == [min(item, CONTENTION_LONGEST_SECONDS) for item in doubled]


def test_what_we_wrote_before_is_nobody_elses_hand() -> None:
    contention = Contention()
    contention.wrote("u", "first", 0.0)
    contention.wrote("u", "second", 0.0)
    # The watch is behind: it brings our own first, and the second in a moment.
    assert contention.wait_seconds("u", "first", 10.0) == 0.0
    assert contention.strikes("u") == 0
    assert contention.wait_seconds("u", "theirs", 10.0) == CONTENTION_FIRST_SECONDS


def test_peace_is_forgiven() -> None:
    contention = Contention()
    for now in (0.0, 100.0, 10_000.0):
        contention.wrote("u", "ours", now)
        wait = contention.wait_seconds("u", "theirs", now)
    assert wait == CONTENTION_FIRST_SECONDS
    assert contention.strikes("u") == 1


def test_contention_of_some_says_nothing_of_others() -> None:
    contention = Contention()
    for number in range(1000):
        contention.wrote(str(number), "ours", 0.0)
        # Whoever restores a backup does so to all Routes, once.
        assert contention.wait_seconds(str(number), None, 1.0) == CONTENTION_FIRST_SECONDS
    assert contention.wait_seconds("fresh", None, 1.0) == 0.0


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.floats(0, 500)), max_size=200))
def test_no_more_is_remembered_than_what_happened_lately(
    steps: list[tuple[int, bool, float]],
) -> None:
    contention, now, happened = Contention(), 0.0, dict[str, float]()
    for number, writes, pause in steps:
        now += pause
        if writes:
            contention.wrote(str(number), "ours", now)
            happened[str(number)] = now
        else:
            contention.wait_seconds(str(number), "theirs", now)
    lately = [at for at in happened.values() if now - at <= 4 * CONTENTION_LONGEST_SECONDS]
    assert len(contention) <= len(lately)


# The Service


def entry(port: int, **also: Any) -> dict[str, Any]:
    return {"name": f"tcp-{port}", "port": port, "targetPort": port, "protocol": "TCP", **also}


HTTP = {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}


@pytest.mark.parametrize(
    ("before", "opened", "owned", "after"),
    [
        ([HTTP], {30000}, {30000}, [HTTP, entry(30000)]),
        ([HTTP, entry(30000, nodePort=31234)], {30000, 30001}, {30000, 30001},
         [HTTP, entry(30000, nodePort=31234), entry(30001)]),
        ([HTTP, entry(30000, nodePort=31234)], set(), {30000}, None),
        ([HTTP, entry(30000)], set(), set(), [HTTP]),
        ([HTTP], set(), {30000}, None),
        ([entry(30001), entry(30000)], set(), set(), [entry(30000)]),
        ([entry(30000)], set(), set(), None),
        ([], set(), set(), None),
        ([{**HTTP, "port": 30000}], {30000}, {30000}, None),
        ([entry(30001), entry(30000)], {30000, 30001}, {30000, 30001}, None),
        ([{**entry(30000), "protocol": "UDP"}], {30000}, {30000},
         [{**entry(30000), "protocol": "UDP"}, entry(30000)]),
    ],
)  # fmt: skip
def test_a_service_follows(before: Any, opened: Any, owned: Any, after: Any) -> None:
    assert published(before, opened, owned) == after


PORTS = st.sets(st.integers(30000, 30005))


@given(st.lists(st.sampled_from([HTTP, *map(entry, range(30000, 30006))]), unique_by=str),
       PORTS, PORTS)  # fmt: skip
def test_a_service_settles(before: list[dict[str, Any]], opened: set[int], owned: set[int]) -> None:
    after = published(before, opened, owned | opened)
    settled = before if after is None else after
    assert published(settled, opened, owned | opened) is None
    assert bool(settled) == bool(before or opened)
    ours = {our_port(item) for item in settled} - {None}
    assert opened <= ours
    assert len(ours - owned - opened) <= (0 if HTTP in settled else 1)
    assert (HTTP in settled) == (HTTP in before)


# The Lease


class Api:
    """A Lease that any number of candidates write as the API server lets them."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self.version = 0


class Candidate:
    """Does what the thread does, with a clock of its own."""

    def __init__(self, api: Api, name: str, skew: float) -> None:
        self.api, self.skew = api, skew
        self.election = Election(name)
        self.version = -1

    def look(self, now: float) -> None:
        self.version = self.api.version
        self.election.observe(self.api.record, now + self.skew)

    def write(self, now: float) -> None:
        if self.election.wait_seconds(now + self.skew) > 0 or self.version != self.api.version:
            return
        record = self.election.claim(f"t{now}")
        self.api.record = record
        self.api.version += 1
        self.version = self.api.version
        self.election.written(record, now + self.skew)

    def leads(self, now: float) -> bool:
        return self.election.leads(now + self.skew)


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from(["look", "write"]), st.floats(0, 9)),
        max_size=80,
    )
)
def test_never_two_lead_whatever_their_clocks_say(steps: list[tuple[int, str, float]]) -> None:
    api, now = Api(), 0.0
    candidates = [
        Candidate(api, name, skew) for name, skew in zip("abc", (0, 1e6, -1e6), strict=True)
    ]
    for index, step, pause in steps:
        now += pause
        getattr(candidates[index], step)(now)
        assert sum(candidate.leads(now) for candidate in candidates) <= 1


def test_a_holder_that_is_gone_is_followed_after_its_time() -> None:
    api = Api()
    first, second = Candidate(api, "first", 0.0), Candidate(api, "second", 50.0)
    first.look(0.0)
    first.write(0.0)
    second.look(1.0)
    second.write(1.0)
    assert first.leads(RENEW_DEADLINE_SECONDS - 0.1)
    assert not first.leads(RENEW_DEADLINE_SECONDS)
    second.write(LEASE_SECONDS + 0.9)
    assert not second.leads(LEASE_SECONDS + 0.9)
    second.write(LEASE_SECONDS + 1.0)
    assert second.leads(LEASE_SECONDS + 1.0)
    assert api.record == LeaseRecord("second", LEASE_SECONDS, "t16.0", "t16.0", 1)


def test_a_lease_that_was_let_go_is_free_at_once() -> None:
    api = Api()
    first, second = Candidate(api, "first", 0.0), Candidate(api, "second", 0.0)
    first.look(0.0)
    first.write(0.0)
    api.record = first.election.release("t1")
    assert api.record is not None
    first.election.written(api.record, 1.0)
    assert not first.leads(1.0)
    second.look(1.0)
    second.write(1.0)
    assert second.leads(1.0)
    assert second.election.release("t") is not None
    assert Election("third").release("t") is None


def test_a_lease_is_written_as_it_was_read() -> None:
    lease = {
        "metadata": {"name": "l", "resourceVersion": "7", "labels": {"a": "b"}},
        "spec": {"holderIdentity": "x", "strategy": "kept"},
    }
    record = LeaseRecord("me", 15, "2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:01.000000Z", 3)
    body = lease_body("ns", "l", record, lease)
    assert body["metadata"] == lease["metadata"]
    assert body["spec"]["strategy"] == "kept"
    assert read_record(body) == record
    assert lease_body("ns", "l", record, None)["metadata"] == {"name": "l", "namespace": "ns"}


@pytest.mark.parametrize("spec", [None, {}, {"leaseDurationSeconds": -1, "leaseTransitions": "x"}])
def test_an_odd_lease_is_nobodys(spec: Any) -> None:
    assert read_record({"spec": spec}) == LeaseRecord("", LEASE_SECONDS, "", "", 0)
