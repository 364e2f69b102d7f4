"""What HAProxy is to know of a backend: told before anything leads there, forgotten after."""

from sidecar.haproxy.maps import AddEntry, DeleteEntry, SetEntry
from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.operations import Operation
from sidecar.haproxy.state import ObservedUnit
from sidecar.listeners.attributes import AttributeMap, PartsMap
from sidecar.listeners.mapped import EntryMap, MappedBackends
from sidecar.model.desired import ClaimKey
from sidecar.model.pool import WebClass
from sidecar.planning.diff import after, difference
from sidecar.planning.planner import DesiredUnit, plan

UNIT = web_backend_name("http", 1)
ENTRY = ClaimKey("hosts", "0a.test/")
LED, NOT_LED = frozenset({ENTRY}), frozenset[ClaimKey]()
FLAGS, HOSTS = "/run/maps/flags.map", "/run/maps/hosts.map"
SOURCES = "/run/maps/allowed_sources.map"


def kind(told: dict[str, str], *, exists: bool = True, needed: bool = True) -> MappedBackends:
    """Of a HAProxy that shows ``told``, if it has such a map."""
    flags = AttributeMap("flags", FLAGS, needed=needed, otherwise="-")
    flags.exists = exists
    flags.values = dict.fromkeys([UNIT] if told else [], told.get("flags", ""))
    classes = {UNIT: WebClass("http", 1, 2, 1.0, 1.0, "roundrobin")}
    return MappedBackends([EntryMap("hosts", HOSTS, str)], classes, [flags])


def operations(
    has: dict[str, str], wants: dict[str, str], *, led: bool, leads: bool, **of: bool
) -> list[Operation]:
    seen = ObservedUnit(UNIT, LED if led else NOT_LED, {}, has)
    desired = DesiredUnit(UNIT, LED if leads else NOT_LED, (), attributes=wants)
    item = plan(desired, seen, kind(has, **of), can_add=False)
    assert not plan(desired, after(seen, item), kind(has, **of), can_add=False) or not of.get(
        "exists", True
    )
    return list(item.operations)


def files(done: list[Operation]) -> list[tuple[type, str]]:
    return [(type(part), part.file) for part in done if hasattr(part, "file")]


def test_it_is_told_before_an_entry_leads_there() -> None:
    done = operations({}, {"flags": "r"}, led=False, leads=True)
    assert files(done) == [(AddEntry, FLAGS), (AddEntry, HOSTS)]


def test_it_is_forgotten_after_the_last_entry() -> None:
    done = operations({"flags": "r"}, {}, led=True, leads=False)
    assert files(done) == [(DeleteEntry, HOSTS), (DeleteEntry, FLAGS)]


def test_another_value_is_set_in_place() -> None:
    done = operations({"flags": "r"}, {"flags": "x"}, led=True, leads=True)
    assert files(done) == [(SetEntry, FLAGS)]


def test_what_a_haproxy_has_no_map_for_is_told_only_where_it_is_needed() -> None:
    # Nobody gets there until it can be told.
    needed = operations({}, {"flags": "r"}, led=False, leads=True, exists=False)
    assert files(needed) == [(AddEntry, FLAGS)]
    needed = operations({}, {"flags": "r"}, led=True, leads=True, exists=False)
    assert files(needed) == [(DeleteEntry, HOSTS), (AddEntry, FLAGS)]
    nothing = operations({}, {"flags": "-"}, led=False, leads=True, exists=False)
    assert files(nothing) == [(AddEntry, HOSTS)]
    spared = operations({}, {"flags": "r"}, led=False, leads=True, exists=False, needed=False)
    assert files(spared) == [(AddEntry, HOSTS)]


def test_it_is_part_of_a_difference() -> None:
    before = ObservedUnit(UNIT, LED, {}, {"flags": "r"})
    now = ObservedUnit(UNIT, LED, {}, {"flags": "x"})
    assert list(difference(before, now)) == ["- flags r", "+ flags x"]


def test_what_a_letter_asks_for_is_there_as_long_as_the_letter() -> None:
    """Else a list would let nobody in while it comes or goes."""
    flags = AttributeMap("flags", FLAGS, needed=True)
    sources = PartsMap("allowed_sources", SOURCES, [UNIT], needed=True)
    classes = {UNIT: WebClass("http", 1, 2, 1.0, 1.0, "roundrobin")}
    both = MappedBackends([EntryMap("hosts", HOSTS, str)], classes, [flags, sources])
    told = {"flags": "w", "allowed_sources": "4/0A"}

    def planned(has: dict[str, str], wants: dict[str, str]) -> list[tuple[type, str]]:
        for item in (flags, sources):
            item.values = {UNIT: has[item.name]} if item.name in has else {}
        seen, desired = (
            ObservedUnit(UNIT, LED, {}, has),
            DesiredUnit(UNIT, LED, (), attributes=wants),
        )
        return files(list(plan(desired, seen, both, can_add=False).operations))

    assert planned({}, told) == [(AddEntry, SOURCES), (AddEntry, FLAGS)]
    assert planned(told, {}) == [(DeleteEntry, FLAGS), (DeleteEntry, SOURCES)]
    other = {**told, "allowed_sources": "4/0B"}
    assert planned(told, other) == [(AddEntry, SOURCES), (DeleteEntry, SOURCES)]
