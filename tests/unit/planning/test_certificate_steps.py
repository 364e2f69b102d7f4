"""Steps between any certificates that HAProxy shows and any that are wanted."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.haproxy.certificates import ListEntry, ShownEntry, Stored
from sidecar.haproxy.pem import Identity
from sidecar.planning.certificates import (
    Observed,
    Steps,
    Wanted,
    WantedEntry,
    foreign,
    is_loaded,
    plan,
    replacements,
    served,
    with_exclusions,
)

FOLDER = "/run/certs"
DEFAULT = f"{FOLDER}/default.pem"
HOSTS = ("a.test", "b.test", "*.b.test")
OURS = tuple(f"{FOLDER}/{letter}.pem" for letter in "uvwxyz")
OTHERS = ("/etc/other.pem", f"{FOLDER}/deep/er.pem")
OPTIONS = ("", "alpn h2,http/1.1")


def identity(name: str) -> Identity:
    return Identity(f"S-{name}", f"F-{name}")


def wanted(entries: Mapping[str, WantedEntry]) -> Wanted:
    names = {*(item.certificate for item in entries.values()), DEFAULT}
    return Wanted(FOLDER, entries, {name: identity(name) for name in names}, DEFAULT)


def stored(name: str, status: str = "Used") -> Stored:
    if status == "Empty":
        return Stored(status, "", ())
    serial, fingerprint = identity(name)
    return Stored(status, serial, (fingerprint,))


def shown(*entries: ListEntry) -> Observed:
    """A HAProxy that has just these, and their certificates."""
    names = {DEFAULT, *(entry.certificate for entry in entries)}
    rows = (ShownEntry(entry, number + 1) for number, entry in enumerate(entries))
    return Observed(tuple(rows), {name: stored(name) for name in names})


def serves(observed: Observed, host: str) -> str | None:
    """Of two entries the older one."""
    found = (item.entry.certificate for item in observed.entries if host in item.entry.filters)
    return next(found, None)


def after(observed: Observed, steps: Steps) -> Observed:
    return [observed, *done_one_by_one(observed, steps)][-1]


def done_one_by_one(observed: Observed, steps: Steps) -> Iterator[Observed]:
    """As HAProxy is after each step: it refuses to delete what is in use."""
    number = max((item.number or 0 for item in observed.entries), default=0)
    for name in steps.load:
        observed = replace(observed, stored={**observed.stored, name: stored(name, "Unused")})
        yield settled(observed)
    for entry in steps.add:
        assert entry.certificate in observed.stored
        number += 1
        observed = replace(observed, entries=(*observed.entries, ShownEntry(entry, number)))
        yield settled(observed)
    for item in steps.remove:
        assert item in observed.entries
        left = tuple(other for other in observed.entries if other != item)
        observed = replace(observed, entries=left)
        yield settled(observed)
    for name in steps.delete:
        assert name not in {item.entry.certificate for item in observed.entries}
        left_stored = {key: value for key, value in observed.stored.items() if key != name}
        observed = replace(observed, stored=left_stored)
        yield settled(observed)


def settled(observed: Observed) -> Observed:
    """With each certificate's status as HAProxy has it."""
    used = {item.entry.certificate for item in observed.entries} | {DEFAULT}
    return replace(
        observed,
        stored={
            name: item
            if item.status == "Empty"
            else item._replace(status="Used" if name in used else "Unused")
            for name, item in observed.stored.items()
        },
    )


ENTRIES = st.builds(
    ListEntry,
    st.sampled_from(OURS + OTHERS),
    st.sampled_from(OPTIONS),
    st.lists(st.sampled_from([*HOSTS, "c.test", "!x.b.test"]), max_size=2).map(tuple),
)


@st.composite
def observations(draw: st.DrawFn) -> Observed:
    entries = draw(st.lists(ENTRIES, max_size=8))
    seen = shown(*entries)
    further = draw(st.lists(st.sampled_from(OURS), max_size=3))
    states: dict[str, Stored] = {name: stored(name, "Unused") for name in further}
    for name in further:
        if draw(st.booleans()):
            states[name] = stored(name, "Empty")
    states |= seen.stored
    for name in draw(st.lists(st.sampled_from(sorted(states)), max_size=2)):
        if states[name].status != "Empty":
            kind = draw(st.sampled_from(["serial", "fingerprint"]))
            other = {"serial": "S-another"} if kind == "serial" else {"fingerprints": ("F-other",)}
            states[name] = states[name]._replace(**other)
    return settled(replace(seen, stored=states))


WANTED = st.dictionaries(
    st.sampled_from(HOSTS),
    st.builds(WantedEntry, st.sampled_from(OURS), st.sampled_from(OPTIONS)),
).map(wanted)


@given(WANTED, observations())
def test_from_anything_to_anything_without_a_gap(want: Wanted, seen: Observed) -> None:
    served_all_along = {host for host in want.entries if serves(seen, host)}
    others = [item for item in seen.entries if not want.is_ours(item.entry.certificate)]
    for _ in range(4):
        steps = plan(want, seen)
        for between in done_one_by_one(seen, steps):
            assert all(serves(between, host) for host in served_all_along)
        seen = after(seen, steps)
    assert not plan(want, seen)
    ours = [item.entry for item in seen.entries if want.is_ours(item.entry.certificate)]
    assert sorted(ours) == sorted(want.entry(host) for host in want.entries)
    assert [item for item in seen.entries if item not in others] == [
        item for item in seen.entries if item.entry in ours
    ]
    assert all(is_loaded(name, want, seen) for name in want.names)
    assert {name for name in seen.stored if want.is_ours(name)} == {
        item.certificate for item in want.entries.values()
    }
    assert set(others) <= set(seen.entries)


@given(WANTED, observations())
def test_what_is_told_beforehand_is_what_comes(want: Wanted, seen: Observed) -> None:
    told = list(replacements(want, seen))
    assert bool(told) == bool(plan(want, seen))
    by_filter = {item.filter: item for item in told if item.filter}
    for host in HOSTS:
        now, then = serves(seen, host), want.entries.get(host)
        if host not in by_filter and now and want.is_ours(now):
            assert now == (then and then.certificate)
    for _ in range(4):
        seen = after(seen, plan(want, seen))
    for host, item in by_filter.items():
        if host in HOSTS and item.after:
            assert serves(seen, host) in (item.after, *OTHERS)
    assert not list(replacements(want, seen))


@given(WANTED, observations(), st.sets(st.sampled_from(OURS)))
def test_a_filter_whose_new_certificate_is_refused_keeps_the_former(
    want: Wanted, seen: Observed, refused: set[str]
) -> None:
    before = {host: serves(seen, host) for host in want.entries}
    for _ in range(4):
        steps = plan(want, seen, refused)
        assert not refused.intersection(steps.load)
        seen = after(seen, steps)
    assert not plan(want, seen, refused)
    for host, item in want.entries.items():
        if before[host] and not is_loaded(item.certificate, want, seen):
            assert serves(seen, host) == before[host]


def test_a_renewal_comes_in_two_steps() -> None:
    former, new = ListEntry(OURS[0], "", ("a.test",)), ListEntry(OURS[1], "", ("a.test",))
    want = wanted({"a.test": WantedEntry(OURS[1], "")})
    seen = shown(former)
    found = []
    while steps := plan(want, seen):
        found.append(steps)
        seen = after(seen, steps)
    assert found == [
        Steps(load=(OURS[1],), add=(new,)),
        Steps(remove=(ShownEntry(former, 1),), delete=(OURS[0],)),
    ]


def test_what_is_as_wanted_needs_nothing() -> None:
    want = wanted({"a.test": WantedEntry(OURS[0], OPTIONS[1])})
    seen = shown(ListEntry(OURS[0], OPTIONS[1], ("a.test",)))
    assert not plan(want, seen)
    assert served(want, seen) == {"a.test": OURS[0]}


def test_the_default_certificate_and_a_changed_one_are_replaced_under_their_names() -> None:
    want = wanted({"a.test": WantedEntry(OURS[0], "")})
    seen = shown(ListEntry(OURS[0], "", ("a.test",)))
    other = Stored("Used", "1", ("F-another",))
    seen = replace(seen, stored={DEFAULT: other, OURS[0]: other})
    assert plan(want, seen) == Steps(load=(OURS[0], DEFAULT))
    assert served(want, seen) == {}


def test_of_equal_entries_the_older_stays() -> None:
    want = wanted({"a.test": WantedEntry(OURS[0], "")})
    entry = ListEntry(OURS[0], "", ("a.test",))
    seen = shown(entry, entry, entry)
    assert plan(want, seen) == Steps(remove=seen.entries[1:])


def test_an_entry_without_filters_stays_until_all_is_there() -> None:
    """It serves the names in its certificate."""
    want = wanted({host: WantedEntry(OURS[0], "") for host in ("a.test", "b.test")})
    former, one, two = (ListEntry(OURS[1], "", ()), *map(want.entry, ("a.test", "b.test")))
    assert not plan(want, shown(former, one), {two})
    seen = shown(former, one, two)
    assert plan(want, seen) == Steps(remove=seen.entries[:1], delete=(OURS[1],))


def test_an_entry_of_others_stays_and_is_told() -> None:
    want = wanted({"a.test": WantedEntry(OURS[0], "")})
    theirs = ListEntry(OTHERS[0], "", ("a.test",))
    seen = shown(theirs, ListEntry(OURS[0], "", ("a.test",)))
    assert not plan(want, seen)
    assert foreign(want, seen) == {"a.test": seen.entries[0]}
    assert served(want, seen) == {}
    assert foreign(wanted({}), seen) == {}
    assert foreign(want, shown(want.entry("a.test"))) == {}


def test_what_something_else_uses_is_not_deleted() -> None:
    seen = shown()
    seen = replace(seen, stored={**seen.stored, OURS[0]: stored(OURS[0], "Used")})
    assert not plan(wanted({}), seen)


@pytest.mark.parametrize(
    "name", ["/etc/a.pem", f"{FOLDER}/x/a.pem", f"{FOLDER}/a.txt", f"{FOLDER}/a;b.pem", DEFAULT]
)
def test_what_is_not_ours(name: str) -> None:
    assert not wanted({}).is_ours(name)


@pytest.mark.parametrize(
    ("own", "wildcards", "excluded", "gets"),
    [
        ("RSA2048", "EC256", (), False),
        ("RSA2048", "EC256", ("x.b.test",), False),
        ("RSA2048", "EC256", ("w.b.test", "a.b.test"), True),
        ("RSA2048", "RSA4096", (), True),
        ("EC384", "RSA2048", (), True),
        ("", "RSA2048", (), False),
        ("", "EC256", ("a.b.test",), True),
    ],
)
def test_of_a_host_and_its_wildcard_the_kind_of_key_counts_first(
    own: str, wildcards: str, excluded: tuple[str, ...], *, gets: bool
) -> None:
    wildcard = WantedEntry(OURS[1], "", excluded=excluded)
    want = wanted({"a.b.test": WantedEntry(OURS[0], ""), "*.b.test": wildcard})
    seen = shown(*map(want.entry, want.entries))
    algorithms = {OURS[0]: own, OURS[1]: wildcards}
    kinds = {
        name: item._replace(algorithm=algorithms.get(name, ""))
        for name, item in seen.stored.items()
    }
    seen = replace(seen, stored=kinds)
    assert ("a.b.test" in served(want, seen)) is gets
    assert "*.b.test" in served(want, seen)
    assert not plan(want, seen)


def test_a_wildcard_is_not_for_a_host_any_more_before_that_has_another_one() -> None:
    want = wanted(
        {
            "a.b.test": WantedEntry(OURS[0], ""),
            "*.b.test": WantedEntry(OURS[1], "", excluded=("a.b.test",)),
        }
    )
    former = ListEntry(OURS[2], "", ("a.b.test",)), ListEntry(OURS[1], "", ("*.b.test",))
    seen = shown(*former)
    seen = after(seen, plan(want, seen))
    assert [item.entry for item in plan(want, seen).remove] == [former[1], former[0]]


def test_only_who_is_outranked_is_excluded() -> None:
    entries = {
        "a.b.test": WantedEntry(OURS[0], "", "RSA"),
        "c.b.test": WantedEntry(OURS[1], "", "EC"),
        "x.a.b.test": WantedEntry(OURS[2], "", "RSA"),
        "*.b.test": WantedEntry(OURS[3], "", "EC", ("former.b.test",)),
        "*.d.test": WantedEntry(OURS[4], "", "EC", ("a.d.test",)),
    }
    found = {name: entry.excluded for name, entry in with_exclusions(entries).items()}
    assert found == {**dict.fromkeys(entries, ()), "*.b.test": ("a.b.test",)}
    apart = with_exclusions(entries, {"*.b.test": {"z.b.test", "a.b.test"}, "*.no.test": {"x"}})
    assert apart["*.b.test"].excluded == ("a.b.test", "z.b.test")
    assert apart.keys() == entries.keys()


WIDE = WantedEntry(OURS[0], "", "EC")


def test_a_host_gets_its_own_before_its_wildcard_does() -> None:
    entries = {"*.b.test": WIDE, "a.b.test": WantedEntry(OURS[1], "", "EC")}
    first = [entry.filters[0] for entry in plan(wanted(entries), shown()).add]
    assert first == ["a.b.test", "*.b.test"]
