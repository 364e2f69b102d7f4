"""`sidecar.routing.auto_ports`: how many `auto` ports a namespace may have, and who waits for its
next."""

from dataclasses import replace

import pytest
from core import PortLedger, fed, refusal, take
from hypothesis import given
from hypothesis import strategies as st
from parts import routing_for
from stand import ROUTER, changes, pool_of, route

from sidecar.listeners.tcp import TCPPorts
from sidecar.model.objects import Key
from sidecar.model.pool import PortPool
from sidecar.model.verdicts import Reason
from sidecar.reporting.explain import explain
from sidecar.reporting.explain_parts import World
from sidecar.routing.auto_ports import AutoQueue
from sidecar.routing.claims import Claim, claim_of
from sidecar.settings.pools import PoolSettings

POOL = pool_of({"ports": ["30000-30005"], "auto_ports_per_namespace": 2})
A, B, C, D = (route(name, "auto", created_seconds=n) for n, name in enumerate("abcd"))
OTHER = route("other", "auto", namespace="team-a", created_seconds=9)


@pytest.mark.parametrize(
    ("ports", "given", "expected"),
    [
        ("30000", None, 1),
        ("30000-30002", None, 1),
        ("30000-30007", None, 2),
        ("30000-30099", None, 25),
        ("30000-30099", 1, 1),
        ("30000-30099", 100, 100),
    ],
)
def test_how_many_unless_told_otherwise(ports: str, given: int | None, expected: int) -> None:
    pool = PoolSettings(ports=[ports], auto_ports_per_namespace=given).port_pool()
    assert pool.auto_ports_per_namespace == expected


def test_the_oldest_of_a_namespace_get_them_and_others_the_rest() -> None:
    ledger = fed(D, C, OTHER, B, A, pool=POOL)
    assert ledger.auto_ports == {"demo/a": 30000, "demo/b": 30001, "team-a/other": 30002}
    verdict = refusal(ledger, C)
    assert (verdict.reason, verdict.port) == (Reason.QUOTA_EXCEEDED, None)
    assert verdict.message == (
        "namespace 'demo' has used up its 2 \"auto\" ports of pool 'p0' (auto_ports_per_namespace):"
        " other Routes have them, or are next to get them; delete one of those Routes, or set a"
        " port number"
    )
    # A port that is named is no business of this limit.
    take(ledger, replace(D, port="30005"))
    assert ledger.owned(D.key) == 30005


def test_the_next_oldest_gets_what_becomes_free() -> None:
    ledger = fed(A, B, D, C, pool=POOL)
    assert take(ledger, gone=[A]) == {30000}
    assert ledger.owned(C.key) == 30000
    assert refusal(ledger, D).reason == Reason.QUOTA_EXCEEDED
    take(ledger, replace(B, port="30004"))
    assert ledger.owned(D.key) == 30001


def test_an_older_sibling_takes_no_port_away() -> None:
    ledger = fed(C, D, pool=POOL)
    take(ledger, A, B)
    assert ledger.auto_ports == {"demo/c": 30000, "demo/d": 30001}
    assert refusal(ledger, A).reason == Reason.QUOTA_EXCEEDED
    take(ledger, gone=[D])
    assert ledger.owned(A.key) == 30001


def test_a_limit_that_was_lowered_takes_no_port_away() -> None:
    tighter = pool_of({"ports": ["30000-30005"], "auto_ports_per_namespace": 1})
    kept = fed(A, B, pool=POOL).auto_ports
    ledger = fed(A, B, C, pool=tighter, kept=kept)
    assert ledger.auto_ports == kept
    take(ledger, replace(A, target_port="http"))
    assert ledger.auto_ports == kept
    take(ledger, gone=[A])
    assert refusal(ledger, C).reason == Reason.QUOTA_EXCEEDED
    take(ledger, gone=[B])
    assert ledger.owned(C.key) == 30000


def test_a_pool_that_is_full_is_told_apart() -> None:
    full = [route(f"n{port}", port, created_seconds=0) for port in range(30000, 30005)]
    ledger = fed(*full, A, B, C, pool=POOL)
    assert ledger.owned(A.key) == 30005
    assert refusal(ledger, B).reason == Reason.POOL_EXHAUSTED
    assert refusal(ledger, C).reason == Reason.QUOTA_EXCEEDED


def test_in_a_cluster_no_more_are_proposed() -> None:
    ledger = PortLedger(POOL, None)
    take(ledger, A, B, C, OTHER)
    assert ledger.proposed_ports == {A.key: 30000, B.key: 30001, OTHER.key: 30002}
    assert refusal(ledger, C).reason == Reason.QUOTA_EXCEEDED
    take(ledger, replace(A, kept_port="30000"), replace(B, kept_port="30001"))
    assert ledger.proposed_ports == {OTHER.key: 30002}
    take(ledger, gone=[A])
    assert ledger.proposed_ports == {OTHER.key: 30002, C.key: 30000}
    # What stands on a Route is its own, whoever put it there: all replicas go by it.
    take(ledger, replace(C, kept_port="30003"), replace(D, kept_port="30004"))
    assert [ledger.owned(item.key) for item in (B, C, D)] == [30001, 30003, 30004]


def test_who_is_put_off_or_is_next_is_told_anew_and_nobody_else() -> None:
    routing = routing_for(TCPPorts(POOL))
    routing.apply(changes(*(route(f"n{n}", 30000 + n, created_seconds=0) for n in range(6))))
    many = [route(f"m{n}", "auto", created_seconds=50 + n) for n in range(100)]
    routing.apply(changes(*many))

    def reasons() -> dict[Key, Reason]:
        return {item.key: verdict.reason for item in many if (verdict := routing.verdict(item.key))}

    before = reasons()
    assert sum(reason == Reason.POOL_EXHAUSTED for reason in before.values()) == 2
    changed = routing.apply(changes(A))
    differ = {key for key, reason in reasons().items() if reason != before[key]}
    assert differ == {many[1].key}
    assert differ <= changed.routes
    assert len(changed.routes) == 2


def test_why_says_how_many_the_namespace_has() -> None:
    routing = routing_for(TCPPorts(POOL))
    routing.apply(changes(A, B, C))
    why = explain("demo/c", World(ROUTER, POOL, routing, {}))
    link = next(link for link in why.links if link.mark == "bad")
    assert link.name == "port"
    assert [line.text for line in link.lines] == [
        "namespace demo has 2 \"auto\" ports of pool 'p0'; its limit is 2"
    ]
    assert link.remedy.endswith("delete one of those Routes, or set a port number")


# Any sequence of events

NAMESPACES = ["x", "y"]
CLAIMS = st.builds(
    lambda age, name, namespace: claim_of(
        route(name, "auto", namespace=namespace, created_seconds=age)
    ),
    st.sampled_from([1.0, 2.0]),
    st.sampled_from("abcdef"),
    st.sampled_from(NAMESPACES),
)


@given(
    st.integers(1, 4),
    st.lists(st.one_of(CLAIMS, st.tuples(st.sampled_from(NAMESPACES), st.booleans())), max_size=40),
)
def test_who_is_next_by_its_definition(limit: int, steps: list[Claim | tuple[str, bool]]) -> None:
    queue = AutoQueue(limit, 100)
    waiting: set[Claim] = set()
    ports = dict.fromkeys(NAMESPACES, 0)
    for step in steps:
        before = set(queue.next)
        queue.moved.clear()
        if isinstance(step, Claim):
            (queue.leave if step in waiting else queue.join)(step)
            waiting ^= {step}
        elif step[1] or ports[step[0]]:
            more = 1 if step[1] else -1
            queue.count(step[0], more)
            ports[step[0]] += more
        expected = set[Claim]()
        for namespace in NAMESPACES:
            its = sorted(claim for claim in waiting if claim.route.namespace == namespace)
            expected |= set(its[: max(0, limit - ports[namespace])])
            assert queue.ports(namespace) == ports[namespace]
        assert queue.next == sorted(expected)
        assert {claim for claim in waiting if claim in queue} == expected
        assert queue.moved == {claim.route for claim in before ^ expected}


def test_a_pool_that_one_namespace_may_have_is_limited_by_itself_alone() -> None:
    pool = pool_of({"ports": ["30000"]})
    (only,) = pool.classes
    assert isinstance(only, PortPool)
    assert refusal(fed(A, B, pool=pool), B).reason == Reason.POOL_EXHAUSTED
