"""`sidecar.routing.balanced_leases`: who has the balance that it wants, and who is served with
that of its class instead.
"""

from collections.abc import Iterable, Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.haproxy.naming import web_backend_names
from sidecar.model.desired import ClaimKey, Unit
from sidecar.model.objects import Key
from sidecar.model.pool import WebBalance
from sidecar.routing.balanced_leases import Backends, BalancedLeases
from sidecar.routing.claims import Claim

COMMON = web_backend_names("http", 3)
SOURCE = web_backend_names("http", 1, "source")
LEAST = web_backend_names("http", 2, "leastconn")
(ONE_SOURCE,) = SOURCE
POOL = Backends(COMMON, "roundrobin", {"source": SOURCE, "leastconn": LEAST})


def entries(name: str) -> list[ClaimKey]:
    return [ClaimKey("hosts", f"0{name}?"), ClaimKey("hosts", f"0{name}/")]


class Having:
    """Leases, told of Routes by their names. ``dirty``: the backends that are not clean."""

    def __init__(self, pool: Backends = POOL, lead: Mapping[ClaimKey, Unit] | None = {}) -> None:
        self.dirty: set[Unit] = set()
        self.leases = BalancedLeases("http", pool, lambda unit: unit not in self.dirty)
        self.claims: dict[str, Claim] = {}
        if lead is not None:
            self.leases.adopt(lead)

    def enter(self, name: str, balance: WebBalance | None = None, age: int = 0) -> None:
        self.claims[name] = Claim(float(age), name, Key("Route", "demo", name))
        self.leases.enter(self.claims[name], entries(name), balance)

    def wish(self, name: str, balance: WebBalance | None) -> None:
        self.leases.renew(self.claims[name], entries(name), balance)

    def leave(self, name: str) -> None:
        self.leases.leave(self.claims.pop(name).route)

    def unmet(self, name: str) -> str:
        return self.leases.unmet(self.claims[name].route)

    @property
    def having(self) -> dict[str, Unit | None]:
        return {name: self.leases.unit(item.route) for name, item in self.claims.items()}

    @property
    def leads(self) -> dict[ClaimKey, Unit]:
        having = self.having.items()
        return {key: unit for name, unit in having if unit for key in entries(name)}


def settled(*wishes: tuple[str, WebBalance | None]) -> Having:
    found = Having()
    for age, (name, balance) in enumerate(wishes):
        found.enter(name, balance, age)
    found.leases.settle()
    return found


def test_who_wants_another_balance_has_a_backend_of_it() -> None:
    found = settled(("a", None), ("b", "source"), ("c", "leastconn"), ("d", "roundrobin"))
    assert found.having == {"a": COMMON[0], "b": ONE_SOURCE, "c": LEAST[0], "d": COMMON[1]}
    assert not any(map(found.unmet, "abcd"))
    assert found.leases.holder(ONE_SOURCE) == found.claims["b"].route


def test_without_a_free_one_a_route_is_served_with_that_of_its_class() -> None:
    found = settled(("a", "source"), ("b", "source"), ("c", "random"))
    assert found.having == {"a": ONE_SOURCE, "b": COMMON[0], "c": COMMON[1]}
    assert found.unmet("b") == (
        "balance source: none of the 1 backends for it is free (web.further_backends.http.source);"
        " using roundrobin until one is, or raise web.further_backends.http.source and restart"
        " HAProxy"
    )
    assert found.unmet("c").startswith("balance random: no backend is for it (")
    # Who is older gets it as soon as it is clean; until then both are served.
    found.leave("a")
    found.dirty.add(ONE_SOURCE)
    found.leases.settle()
    assert found.having == {"b": COMMON[0], "c": COMMON[1]}
    found.dirty.clear()
    changed = found.leases.settle()
    assert found.having == {"b": ONE_SOURCE, "c": COMMON[1]}
    assert changed == dict.fromkeys((ONE_SOURCE, COMMON[0]), found.claims["b"].route)


def test_an_older_one_takes_it_and_the_younger_is_served_on() -> None:
    found = settled(("b", "source"))
    found.enter("a", "source", -1)
    found.leases.settle()
    assert found.having == {"a": COMMON[0], "b": COMMON[1]}
    found.leases.settle()
    assert found.having == {"a": ONE_SOURCE, "b": COMMON[1]}


def test_a_wish_that_changes() -> None:
    found = settled(("a", None))
    for balance, unit in (
        ("source", ONE_SOURCE),
        ("leastconn", LEAST[0]),
        ("random", COMMON[1]),
        ("roundrobin", COMMON[1]),
        (None, COMMON[1]),
    ):
        found.wish("a", balance)  # type: ignore[arg-type]
        found.leases.settle()
        assert found.having == {"a": unit}, balance
    # Who has none of its own keeps what it has.
    found.enter("b", "source", -1)
    found.leases.settle()
    found.wish("a", "source")
    found.leases.settle()
    assert found.having == {"a": COMMON[1], "b": ONE_SOURCE}


def test_who_changes_to_a_balance_that_is_taken_is_served_and_leaves_the_former() -> None:
    found = settled(("b", "source"), ("a", "leastconn"))
    found.wish("a", "source")
    found.leases.settle()
    assert found.having == {"a": COMMON[0], "b": ONE_SOURCE}
    for name in "cd":
        found.enter(name, "leastconn", 9)
    found.leases.settle()
    assert {found.having[name] for name in "cd"} == {*LEAST}


def test_who_waits_for_a_balance_and_has_other_entries_has_another_backend() -> None:
    found = settled(("b", "source"), ("a", "source"))
    assert found.having["a"] == COMMON[0]
    touched = found.leases.renew(found.claims["a"], entries("other"), "source")
    assert touched == {COMMON[0], COMMON[1]}
    assert found.having == {"a": COMMON[1], "b": ONE_SOURCE}


def test_nobody_has_anything_before_haproxy_was_met() -> None:
    found = Having(lead=None)
    found.enter("a", "source")
    assert found.leases.settle() == {}
    assert found.having == {"a": None}
    assert found.unmet("a") == ""


NAMES = st.sampled_from("abcdefg")
WISHES = st.sampled_from([None, "roundrobin", "source", "leastconn", "random"])
STEPS = st.lists(st.tuples(st.sampled_from(["wish", "leave", "dirty", "clean"]), NAMES, WISHES))


@settings(max_examples=200)
@given(STEPS)
def test_whatever_happens_each_backend_has_one_route_and_a_restart_changes_nothing(
    steps: Iterable[tuple[str, str, WebBalance | None]],
) -> None:
    found, wishes = Having(), dict[str, WebBalance | None]()
    units = [*COMMON, *SOURCE, *LEAST]
    for what, name, balance in steps:
        if what == "leave" and name in found.claims:
            found.leave(name)
            wishes.pop(name)
        elif what == "wish":
            (found.wish if name in found.claims else found.enter)(name, balance)
            wishes[name] = balance
        elif what == "dirty":
            found.dirty.add(units["abcdef".find(name)])
        else:
            found.dirty.clear()
        before = found.having
        changed = found.leases.settle()
        after = found.having
        # Whoever asks hears of each backend that changed hands.
        moved = {name for name in before if before[name] != after[name]}
        assert {before[name] for name in moved} | {after[name] for name in moved} <= {
            *changed,
            None,
        }
    found.dirty.clear()
    # One that is taken away is given the next time.
    while found.leases.settle():
        pass
    having = [unit for unit in found.having.values() if unit]
    assert len(having) == len(set(having))
    for name, unit in found.having.items():
        assert unit is None or found.leases.holder(unit) == found.claims[name].route
    assert len(having) >= min(len(found.claims), len(COMMON))
    again = Having(lead=None)
    for name in found.claims:
        again.enter(name, wishes[name])
    again.leases.adopt(found.leads)
    again.leases.settle()
    assert again.having == found.having
