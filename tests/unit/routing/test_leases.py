"""`sidecar.routing.leases`: who has which backend, for how long, and who has none."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.haproxy.naming import web_backend_name
from sidecar.model.desired import ClaimKey, Unit
from sidecar.model.objects import Key
from sidecar.routing.claims import Claim
from sidecar.routing.leases import Leases

UNITS = [web_backend_name("http", number) for number in (1, 2, 3)]
ONE, TWO, THREE = UNITS


def claim(name: str, age: int = 0) -> Claim:
    """The lower ``age``, the older."""
    return Claim(float(age), name, Key("Route", "demo", name))


def key(name: str) -> ClaimKey:
    return ClaimKey("hosts", name)


def entries(name: str) -> list[ClaimKey]:
    return [key(f"0{name}?"), key(f"0{name}/")]


class Backends:
    """Leases of ``units``, told of Routes by their names. ``dirty``: those that are not clean."""

    def __init__(self, units: Iterable[Unit] = UNITS) -> None:
        self.dirty: set[Unit] = set()
        self.leases = Leases(list(units), lambda unit: unit not in self.dirty)
        self.claims: dict[str, Claim] = {}

    def enter(self, name: str, age: int = 0) -> None:
        self.claims[name] = claim(name, age)
        self.leases.enter(self.claims[name], entries(name))

    def leave(self, name: str) -> None:
        self.leases.leave(self.claims.pop(name).route)

    def renew(self, name: str, age: int) -> None:
        self.claims[name] = claim(name, age)
        self.leases.renew(self.claims[name], entries(name))

    def adopt(self, leads: Mapping[ClaimKey, Unit]) -> None:
        self.leases.adopt(leads)
        self.leases.settle()

    @property
    def having(self) -> dict[str, Unit]:
        units = {name: self.leases.unit(item.route) for name, item in self.claims.items()}
        return {name: unit for name, unit in units.items() if unit}


def test_nobody_has_any_before_it_is_known_what_haproxy_has() -> None:
    backends = Backends()
    backends.enter("a")
    backends.leases.settle()
    assert backends.having == {}
    backends.adopt({})
    assert backends.having == {"a": ONE}


def test_a_route_keeps_its_backend() -> None:
    backends = Backends()
    backends.adopt({})
    for name in "abc":
        backends.enter(name)
    backends.leases.settle()
    assert backends.having == {"a": ONE, "b": TWO, "c": THREE}
    backends.leave("a")
    backends.renew("b", 9)
    backends.leases.settle()
    assert backends.having == {"b": TWO, "c": THREE}


def test_a_backend_that_is_not_clean_is_nobodys() -> None:
    backends = Backends([ONE, TWO])
    backends.dirty = {ONE}
    backends.adopt({})
    backends.enter("a")
    backends.enter("b")
    backends.leases.settle()
    assert backends.having == {"a": TWO}
    backends.dirty = set()
    backends.leases.settle()
    assert backends.having == {"a": TWO, "b": ONE}


@pytest.mark.parametrize(
    ("leads", "having"),
    [
        (
            {key("0b?"): ONE, key("0b/"): ONE, key("0a?"): THREE, key("0a/"): THREE},
            {"a": THREE, "b": ONE},
        ),
        # Of one that has lost an entry.
        ({key("0b/"): ONE}, {"a": TWO, "b": ONE}),
        # Of one that is gone: who comes does not get what is not clean.
        ({key("0x?"): ONE}, {"a": TWO, "b": THREE}),
        # Two Routes cannot have one; who finds no other has it.
        ({key("0a?"): TWO, key("0b?"): TWO}, {"a": THREE, "b": TWO}),
        # One that the settings have no more is nobody's.
        ({key("0a?"): web_backend_name("http", 4)}, {"a": TWO, "b": THREE}),
    ],
)
def test_haproxy_says_whose_a_backend_is(
    leads: Mapping[ClaimKey, Unit], having: Mapping[str, Unit]
) -> None:
    backends = Backends()
    backends.dirty = {ONE, *leads.values()}
    backends.enter("a")
    backends.enter("b")
    backends.adopt(leads)
    assert backends.having == having


def test_where_entries_led_once_is_of_no_matter_later() -> None:
    backends = Backends()
    backends.enter("a")
    backends.adopt({key("0a?"): TWO, key("0b?"): ONE})
    assert backends.having == {"a": TWO}
    backends.leave("a")
    backends.dirty = {ONE, TWO}
    for name in "ba":
        backends.enter(name)
    backends.leases.settle()
    assert backends.having == {"a": THREE}


def test_an_older_route_waits_for_what_the_youngest_had() -> None:
    backends = Backends([ONE, TWO])
    backends.adopt({})
    backends.enter("young", 2)
    backends.enter("middle", 1)
    backends.leases.settle()
    backends.dirty = {ONE, TWO}
    backends.enter("old", 0)
    backends.leases.settle()
    assert backends.having == {"middle": ONE}
    backends.leases.settle()
    assert backends.having == {"middle": ONE}
    backends.dirty = {ONE}
    backends.leases.settle()
    assert backends.having == {"middle": ONE, "old": TWO}


def test_several_older_routes_do_not_wait_for_each_other() -> None:
    backends = Backends([ONE, TWO])
    backends.adopt({})
    backends.enter("c", 2)
    backends.enter("d", 3)
    backends.leases.settle()
    backends.dirty = {ONE, TWO}
    backends.enter("a", 0)
    backends.enter("b", 1)
    backends.leases.settle()
    assert backends.having == {}
    backends.dirty = set()
    backends.leases.settle()
    assert backends.having.keys() == {"a", "b"}


def test_after_a_restart_a_route_gets_what_only_its_entries_lead_to() -> None:
    leases = Backends([ONE, TWO]).leases
    leases.enter(claim("slash", 1), [key("a/")])
    leases.enter(claim("plain", 2), [key("a?"), key("a/")])
    leases.adopt({key("a?"): ONE, key("a/"): ONE})
    leases.settle()
    assert leases.holder(ONE) == claim("plain").route
    assert leases.holder(TWO) == claim("slash").route


@pytest.mark.parametrize(
    ("now", "free", "has"),
    [
        ([key("a/")], True, TWO),
        ([key("b?"), key("b/")], True, TWO),
        ([key("a?"), key("a/"), key("b/")], True, ONE),
        ([key("b?"), key("b/")], False, ONE),
    ],
)
def test_a_route_that_gives_entries_up_gets_another_backend_if_one_is_free(
    now: list[ClaimKey], free: bool, has: Unit
) -> None:
    backends = Backends([ONE, TWO])
    backends.adopt({})
    web = claim("web")
    backends.leases.enter(web, [key("a?"), key("a/")])
    backends.leases.settle()
    backends.dirty = set() if free else {TWO}
    changed = backends.leases.renew(web, now)
    assert backends.leases.unit(web.route) == has
    assert changed == (set() if has is ONE else {ONE, TWO})
    assert backends.leases.holder(ONE) == (web.route if has is ONE else None)


def test_an_older_route_does_not_wait_for_what_haproxy_lacks() -> None:
    leases = Leases([ONE, TWO], {ONE: True, TWO: None}.__getitem__)
    young, old = claim("young", 2), claim("old", 1)
    leases.adopt({})
    leases.enter(young, entries("young"))
    leases.settle()
    leases.enter(old, entries("old"))
    leases.settle()
    leases.settle()
    assert leases.holder(ONE) == old.route


class Step(NamedTuple):
    name: str
    age: int
    what: str


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from("abcdef"),
        st.integers(0, 5),
        st.sampled_from(["enter", "enter", "leave", "renew", "clean", "settle"]),
    ),
    max_size=40,
)


@given(STEPS)
def test_any_history(steps: list[Step]) -> None:
    backends = Backends()
    backends.adopt({})
    for step in steps:
        before = backends.having
        match step.what:
            case "enter" if step.name not in backends.claims:
                backends.enter(step.name, step.age)
            case "leave" if step.name in backends.claims:
                backends.leave(step.name)
            case "renew" if step.name in backends.claims:
                backends.renew(step.name, step.age)
            case "clean":
                backends.dirty = set()
        backends.dirty |= set(before.values()) - set(backends.having.values())
        backends.leases.settle()
        now = backends.having
        assert len(set(now.values())) == len(now)
        waiting = [item for name, item in backends.claims.items() if name not in now]
        for name, unit in before.items():
            assert now.get(name, unit) == unit
            if name in backends.claims and name not in now:
                assert min(waiting) < backends.claims[name]
        for name in now.keys() - before.keys():
            assert now[name] not in backends.dirty
        for name, unit in now.items():
            assert backends.leases.holder(unit) == backends.claims[name].route
        backends.dirty |= set(before.values()) - set(now.values())
    backends.dirty = set()
    backends.leases.settle()
    backends.leases.settle()
    oldest = sorted(backends.claims, key=backends.claims.__getitem__)[: len(UNITS)]
    assert backends.having.keys() == set(oldest)


@given(STEPS)
def test_what_haproxy_shows_is_everybodys_again(steps: list[Step]) -> None:
    former = Backends()
    former.adopt({})
    for step in steps:
        if step.name not in former.claims:
            former.enter(step.name, step.age)
        elif step.what == "leave":
            former.leave(step.name)
        former.leases.settle()
        former.leases.settle()
    now = Backends()
    now.dirty = set(former.having.values())
    for name, item in reversed(former.claims.items()):
        now.enter(name, int(item.created_seconds))
    now.adopt({entry: unit for name, unit in former.having.items() for entry in entries(name)})
    assert now.having == former.having
