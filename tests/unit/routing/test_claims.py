"""`sidecar.routing.claims`: which Route gets which port, whatever the order in which they come."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import pytest
from core import POOL, PortLedger, fed, refusal, take
from hypothesis import given
from hypothesis import strategies as st
from stand import ROUTER, pool_of, route

from sidecar.listeners.tcp import AUTO, judge
from sidecar.model.objects import AGE_UNKNOWN, Key, Route, RouteTLS
from sidecar.model.pool import Pool, PortPool
from sidecar.model.verdicts import Reason, Verdict

TEAMS_ONLY = pool_of({"ports": ["31000"], "namespaces": ["team-a"]})


# One Route alone


@pytest.mark.parametrize(
    "port",
    [
        *("abc", "0", "70000", "-1", "+30000", "30 000", "30000.0", "0x7530", "1e4", "Auto"),
        *("30000\x00", "30000,30001", "30000-30001"),
        *("\uff11\uff13", "\u0663", "9" * 5000, "00013" + "0" * 5000),
    ],
    ids=lambda port: repr(port[:12]),
)
def test_what_is_no_port_is_refused_with_the_value_and_a_way_out(port: str) -> None:
    verdict = judge(route(port=port), POOL)
    assert isinstance(verdict, Verdict)
    assert (verdict.reason, verdict.port) == (Reason.INVALID_PORT, None)
    assert repr(port[:20])[:-1] in verdict.message
    assert "1 to 65535" in verdict.message
    assert "auto" in verdict.message
    assert len(verdict.message) < 300


@pytest.mark.parametrize("port", [None, "", "  "])
def test_a_missing_port_is_called_missing(port: str | None) -> None:
    verdict = judge(route(port=port), POOL)
    assert isinstance(verdict, Verdict)
    assert verdict.reason == Reason.INVALID_PORT
    assert "missing" in verdict.message


@pytest.mark.parametrize(
    ("port", "expected"),
    [("30000", 30000), (" 30000 ", 30000), ("30002\n", 30002), ("auto", POOL.classes[0])],
)
def test_a_port_of_the_pool_is_taken_as_people_write_it(port: str, expected: object) -> None:
    assert judge(route(port=port), POOL) == expected


@pytest.mark.parametrize(
    ("pool", "namespace", "port", "reason", "asked", "words"),
    [
        (POOL, "demo", "443", Reason.PORT_NOT_IN_POOL, 443, "'demo' may use 30000-30002"),
        (POOL, "team-a", "443", Reason.PORT_NOT_IN_POOL, 443, "30000-30002, 31000-31001"),
        (TEAMS_ONLY, "demo", "443", Reason.PORT_NOT_IN_POOL, 443, "may use none"),
        (POOL, "demo", "31000", Reason.NAMESPACE_NOT_ALLOWED, 31000, "may use 30000-30002"),
        (TEAMS_ONLY, "demo", "31000", Reason.NAMESPACE_NOT_ALLOWED, 31000, "may use none"),
        (TEAMS_ONLY, "demo", "auto", Reason.NAMESPACE_NOT_ALLOWED, None, "no pool"),
    ],
)
def test_a_port_that_is_not_for_it_is_refused_with_those_that_are(
    *, pool: Pool, namespace: str, port: str, reason: Reason, asked: int | None, words: str
) -> None:
    verdict = judge(route(port=port, namespace=namespace), pool)
    assert isinstance(verdict, Verdict)
    assert (verdict.reason, verdict.port) == (reason, asked)
    assert words in verdict.message


@pytest.mark.parametrize("termination", ["edge", "reencrypt", "Passthrough"])
def test_tls_that_we_would_have_to_speak_is_refused(termination: str) -> None:
    ledger = fed(web := route(termination=termination))
    verdict = refusal(ledger, web)
    assert verdict.reason == Reason.UNSUPPORTED_TERMINATION
    assert repr(termination) in verdict.message
    assert "passthrough" in verdict.message
    assert ledger.queue(30000) == []


@pytest.mark.parametrize("termination", [None, "", "passthrough"])
def test_tls_that_passes_through_is_taken(termination: str | None) -> None:
    assert fed(web := route(termination=termination)).owner(30000) == web


@pytest.mark.parametrize("router_name", [None, "", "wzh-router-2", ROUTER.upper()])
def test_a_route_of_another_router_is_nothing_to_us(router_name: str | None) -> None:
    ledger = fed(web := route(router_name=router_name))
    assert ledger.verdict(web.key) is None
    assert list(ledger.routes) == []
    assert take(ledger, replace(web, router_name=ROUTER)) == {30000}
    assert ledger.owned(web.key) == 30000
    assert take(ledger, web) == {30000}
    assert ledger.verdict(web.key) is None


# Several Routes, one port


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        (route("b", created_seconds=1), route("a", created_seconds=2)),
        (route("b", created_seconds=1, uid="1"), route("a", created_seconds=1, uid="2")),
        (route("b", created_seconds=9e9), route("a", created_seconds=AGE_UNKNOWN)),
        (route("b", uid="1"), route("a", uid="2")),
        (route("a", uid="same"), route("b", uid="same")),
    ],
    ids=["older", "smaller UID", "unknown age is youngest", "unknown ages: UID", "by name"],
)
def test_the_oldest_wins_in_whatever_order_they_come(winner: Route, loser: Route) -> None:
    for first, second in ((winner, loser), (loser, winner)):
        ledger = fed(first)
        take(ledger, second)
        assert ledger.queue(30000) == [winner.key, loser.key]
        assert ledger.owner(30000) == winner
        assert ledger.owned(winner.key) == 30000
        verdict = refusal(ledger, loser)
        assert (verdict.reason, verdict.port) == (Reason.PORT_ALREADY_CLAIMED, 30000)


def test_the_loser_waits_and_gets_the_port_when_it_is_left() -> None:
    first, second, third = (route(name, created_seconds=n) for n, name in enumerate("zyx"))
    ledger = fed(third, first, second)
    assert take(ledger, gone=[first]) == {30000}
    assert ledger.owner(30000) == second
    assert take(ledger, replace(second, port="30001")) == {30000, 30001}
    assert (ledger.owner(30000), ledger.owned(second.key)) == (third, 30001)
    assert take(ledger, replace(third, tls=RouteTLS("edge"))) == {30000}
    assert ledger.owner(30000) is None


def test_two_routes_may_swap_their_ports_in_one_update() -> None:
    one, two = route("one", 30000), route("two", 30001)
    ledger = fed(one, two)
    assert take(ledger, replace(one, port="30001"), replace(two, port="30000")) == {30000, 30001}
    assert (ledger.owned(one.key), ledger.owned(two.key)) == (30001, 30000)


def test_a_bad_route_touches_no_other() -> None:
    ledger = fed(good := route("good", 30000), *(route(f"bad{n}", p) for n, p in enumerate("xyz")))
    assert ledger.owner(30000) == good
    assert take(ledger, route("bad0", "70000"), route("bad1", 443)) == set()


@pytest.mark.parametrize("namespace", ["demo", "elsewhere"])
def test_a_message_does_not_name_the_winner(namespace: str) -> None:
    """It is the same whoever wins, so that a change of the owner changes nothing for the others."""
    winner = route("secret", namespace=namespace, created_seconds=1)
    message = refusal(fed(winner, loser := route("mine")), loser).message
    assert message.startswith("port 30000 is claimed by an older Route; wait until it is released")
    assert "secret" not in message
    assert "elsewhere" not in message


# Any sequence of events


def routes(*ports: str) -> st.SearchStrategy[Route]:
    return st.builds(
        lambda name, life, **rest: route(name, uid=f"{life}/{rest['namespace']}/{name}", **rest),
        name=st.sampled_from("abcde"),
        life=st.sampled_from("12"),
        namespace=st.sampled_from(["demo", "team-a"]),
        port=st.sampled_from(ports),
        created_seconds=st.sampled_from([1.0, 2.0, AGE_UNKNOWN]),
        router_name=st.sampled_from([ROUTER, ROUTER, ROUTER, "other"]),
        termination=st.sampled_from([None, None, None, "edge"]),
    )


def histories(*ports: str) -> st.SearchStrategy[list[dict[Key, Route | None]]]:
    """Updates as a ledger takes them: some Routes as they are now, some gone."""
    event = st.tuples(routes(*ports), st.sampled_from([True, True, True, False]))
    update = st.lists(event, max_size=5).map(
        lambda events: {item.key: item if alive else None for item, alive in events}
    )
    return st.lists(update, max_size=8)


def final(history: Iterable[Mapping[Key, Route | None]]) -> list[Route]:
    now: dict[Key, Route | None] = {}
    for update in history:
        now |= update
    return [item for item in now.values() if item]


def seen(ledger: PortLedger) -> dict[int, list[Key]]:
    return {port: queue for port in POOL.ports if (queue := ledger.queue(port))}


def age(item: Route) -> tuple[float, str]:
    return item.created_seconds, item.uid


@given(histories("30000", "30001", "31000", "443", "x"))
def test_explicit_claims_end_the_same_in_any_order(
    history: list[dict[Key, Route | None]],
) -> None:
    ledger = fed()
    for update in history:
        before = seen(ledger)
        changed = ledger.update(update)
        after = seen(ledger)
        assert changed >= {p for p in POOL.ports if before.get(p) != after.get(p)}
    routes_now = final(history)
    fresh = fed(*reversed(routes_now))
    assert seen(ledger) == seen(fresh)
    for item in routes_now:
        assert ledger.verdict(item.key) == fresh.verdict(item.key)
    for port, queue in seen(ledger).items():
        claimants = [
            item for item in routes_now if item.router_name == ROUTER and judge(item, POOL) == port
        ]
        assert queue == [item.key for item in sorted(claimants, key=age)]


@given(histories("auto", "auto", "30000", "30001", "31000"))
def test_auto_ports_are_kept_shared_by_none_and_outlive_a_restart(
    history: list[dict[Key, Route | None]],
) -> None:
    ledger = fed()
    for update in history:
        before = ledger.auto_ports
        ledger.update(update)
        now = {item.uid: item for item in ledger.routes if isinstance(judge(item, POOL), PortPool)}
        for uid in before.keys() & now.keys():
            owner = ledger.owner(before[uid])
            assert owner is not None
            if owner.uid != uid:
                assert owner.port != AUTO
                assert age(owner) < age(now[uid])
        if now.keys() - ledger.auto_ports.keys():
            assert all(ledger.owner(port) for port in POOL.classes[0].ports)
        assert len(set(ledger.auto_ports.values())) == len(ledger.auto_ports)
    fresh = fed(*final(history), kept=ledger.auto_ports)
    assert seen(fresh) == seen(ledger)


def autos_from_scratch(
    pool: Pool, before: Mapping[Key, tuple[str, int]], now: Iterable[Route]
) -> dict[Key, int]:
    """Route -> port, of all `auto` Routes that get one, by looking at everything: each claims the
    port that it had (``before``: with its UID), and who has none or lost it takes what is free,
    while its namespace has fewer than it may have."""
    claims: dict[int, list[Route]] = {}
    autos: dict[Key, PortPool] = {}
    for item in now:
        judged = judge(item, pool)
        if isinstance(judged, int):
            claims.setdefault(judged, []).append(item)
        elif isinstance(judged, PortPool):
            autos[item.key] = judged
            uid, port = before.get(item.key, ("", 0))
            if uid == item.uid and pool.by_port[port].allows(item.namespace):
                claims.setdefault(port, []).append(item)
    owners = {port: min(items, key=age).key for port, items in claims.items()}
    given = {key: port for port, key in owners.items() if key in autos}
    free = {item: [port for port in item.ports if port not in owners] for item in pool.classes}
    for item in sorted(now, key=age):
        if item.key in autos and item.key not in given:
            of = autos[item.key]
            if free[of] and given_to(item.namespace, of, given) < of.auto_ports_per_namespace:
                given[item.key] = free[of].pop(0)
    return given


def given_to(namespace: str, pool: PortPool, given: Mapping[Key, int]) -> int:
    """How many ports of ``pool`` a namespace has."""
    return sum(key.namespace == namespace and port in pool.ports for key, port in given.items())


#: Of which a namespace may have some only.
TIGHT = pool_of(
    {"ports": ["30000-30002"], "auto_ports_per_namespace": 2},
    {"ports": ["31000-31001"], "auto_ports_per_namespace": 1, "namespaces": ["team-a"]},
)


@given(st.sampled_from([POOL, TIGHT]), histories("auto", "auto", "auto", "30000", "30001", "31000"))
def test_auto_ports_kept_up_to_date_are_those_from_scratch(
    pool: Pool, history: list[dict[Key, Route | None]]
) -> None:
    ledger = fed(pool=pool)
    had: dict[Key, tuple[str, int]] = {}
    for update in history:
        ledger.update(update)
        ours = list(ledger.routes)
        now = {
            item.key: port
            for item in ours
            if isinstance(judge(item, pool), PortPool)
            and (port := ledger.owned(item.key)) is not None
        }
        assert now == autos_from_scratch(pool, had, ours)
        assert all(
            given_to(namespace, item, now) <= item.auto_ports_per_namespace
            for item in pool.classes
            for namespace in ("demo", "team-a")
        )
        had = {item.key: (item.uid, now[item.key]) for item in ours if item.key in now}


# What an update costs


class Watched(str):
    """A UID that counts how often anybody compares one."""

    __slots__ = ()
    looks = 0

    def __eq__(self, other: object) -> bool:
        Watched.looks += 1
        return super().__eq__(other)

    def __lt__(self, other: str) -> bool:
        Watched.looks += 1
        return super().__lt__(other)

    __hash__ = str.__hash__


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger, port: take(ledger, route("new", port, uid=Watched("new"))),
        lambda ledger, port: take(ledger, route("r7", port, uid=Watched("7b"))),
        lambda ledger, port: take(ledger, gone=[route("r7", port)]),
        lambda ledger, port: take(ledger, gone=[route("r0", port)]),
        lambda ledger, _: take(ledger, route("old", 30000, created_seconds=1, uid=Watched("old"))),
        lambda ledger, _: take(ledger, route("other", 30001, uid=Watched("other"))),
        lambda ledger, port: ledger.verdict(route("r9", port).key),
    ],
    ids=["one comes", "one is made anew", "one goes", "the owner goes", "an older one comes",
         "somewhere else", "a verdict"],
)  # fmt: skip
@pytest.mark.parametrize("pool", [POOL, TIGHT], ids=["all may have all", "a limit"])
@pytest.mark.parametrize("port", ["auto", "30000"])
def test_a_change_among_thousands_looks_at_few_of_them(
    port: str, pool: Pool, change: Callable[[PortLedger, str], object]
) -> None:
    """As many as it takes to find a place among them in order."""
    looks = []
    for count in (100, 10_000):
        routes = [route(f"r{number}", port, uid=Watched(number)) for number in range(count)]
        ledger = fed(*routes, pool=pool)
        Watched.looks = 0
        change(ledger, port)
        looks.append(Watched.looks)
    few, many = looks
    assert many <= 2 * few + 20
    assert many < 200
