"""Which part of a crt-list a change is about."""

import pytest

from sidecar.haproxy.certificates import ListEntry, ShownEntry
from sidecar.planning.certificate_part import KnownList
from sidecar.planning.certificates import WantedEntry


def entry(certificate: str, *filters: str, options: str = "") -> ListEntry:
    return ListEntry(certificate, options, filters)


def known(*entries: ListEntry) -> KnownList:
    return KnownList(ShownEntry(item, number) for number, item in enumerate(entries))


LISTED = (
    entry("/own", "own.test"),
    entry("/shared", "one.test", options="alpn h2"),
    entry("/shared", "two.test"),
    entry("/wild", "*.w.test", "!a.w.test"),
    entry("/nameless"),
    entry("/nameless", "named.test"),
    entry("/odd", "odd.test", "!other.test"),
)


@pytest.mark.parametrize(
    ("asked", "wanted", "filters", "numbers"),
    [
        ("own.test", "/own", {"own.test"}, [0]),
        ("own.test", "/new", {"own.test"}, [0]),
        ("own.test", None, {"own.test"}, [0]),
        ("new.test", "/new", {"new.test"}, []),
        ("new.test", None, {"new.test"}, []),
        ("one.test", "/new", {"one.test", "two.test"}, [1, 2]),
        # What it gets has others, and those are not to lose it.
        ("own.test", "/shared", {"own.test", "one.test", "two.test"}, [0, 1, 2]),
    ],
)
def test_it_has_all_of_each_filter_and_certificate(
    asked: str, wanted: str | None, filters: set[str], numbers: list[int]
) -> None:
    part = known(*LISTED).part([asked], {asked: WantedEntry(wanted, "")} if wanted else {})
    assert part is not None
    assert part.filters == filters
    assert sorted(item.number or 0 for item in part.entries) == numbers


@pytest.mark.parametrize(
    ("asked", "certificate"),
    [
        ("*.w.test", "/wild"),
        ("a.w.test", "/new"),
        ("new.test", "/wild"),
        ("named.test", "/new"),
        ("odd.test", "/new"),
        ("below.wanted.test", "/new"),
    ],
)
def test_it_has_nothing_that_depends_on_others(asked: str, certificate: str) -> None:
    wanted = {asked: WantedEntry(certificate, ""), "*.wanted.test": WantedEntry("/wild", "")}
    assert known(*LISTED).part([asked], wanted) is None


def test_it_knows_what_was_changed_since() -> None:
    listed = known(*LISTED[:3])
    added = entry("/new", "own.test")
    listed.change([added], [ShownEntry(LISTED[0], 0)])
    part = listed.part(["own.test"], {})
    assert part
    assert part.entries == (ShownEntry(added, None),)
    assert list(listed.lines) == ["/shared [alpn h2] one.test", "/shared two.test", "/new own.test"]


def test_a_wildcard_that_has_gone_is_in_nobodys_way() -> None:
    listed = known(*LISTED)
    assert listed.part(["b.w.test"], {}) is None
    listed.change([], [ShownEntry(LISTED[3], 3)])
    part = listed.part(["b.w.test"], {})
    assert part
    assert part.filters == {"b.w.test"}
