"""`sidecar.listeners.mapped`: what is known of a map's entries, and what follows from it."""

from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from sidecar.common.errors import RemoteProtocolError
from sidecar.daemon.persistence import MapFile
from sidecar.haproxy.dialect import MAP_UNKNOWN
from sidecar.haproxy.maps import AddEntry, DeleteEntry, SetEntry
from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.operations import KeyOperation
from sidecar.haproxy.state import ObservedUnit
from sidecar.listeners.mapped import EntryMap, MappedBackends
from sidecar.model.desired import ClaimKey, Unit
from sidecar.model.pool import WebClass

FILE = "/run/maps/hosts.map"
ONE, TWO, THREE = (web_backend_name("http", number) for number in (1, 2, 3))
CLASS = WebClass("http", 2, 4, 30.0, 3600.0)

SHOW = f"show map {FILE}"
NOT_FOUND = "type=beg, case=sensitive, found=no"


def new() -> MappedBackends:
    return MappedBackends([EntryMap("hosts", FILE, "host {}".format)], {ONE: CLASS, TWO: CLASS})


def leads(kind: MappedBackends) -> dict[str, Unit]:
    assert all(item.listener == "hosts" for item in kind.leads)
    return {item.name: unit for item, unit in kind.leads.items()}


def key(name: str) -> ClaimKey:
    return ClaimKey("hosts", name)


def get(name: str) -> str:
    return f"get map {FILE} {name}"


def table(*entries: tuple[str, str]) -> str:
    """As HAProxy shows a map."""
    return "\n".join(f"0x55d3c8f1e2{n:02x} {name} {to}" for n, (name, to) in enumerate(entries))


def found(name: str, to: str) -> str:
    """As HAProxy answers `get map`, of the longest entry that what was asked begins with."""
    return f'type=beg, case=sensitive, found=yes, idx=tree, key="{name}", value="{to}", type="str"'


def leading(
    kind: MappedBackends, answers: Mapping[str, str], units: Collection[Unit] = (ONE, TWO)
) -> dict[Unit, set[str]]:
    """unit -> the entries that lead to it."""
    parsed = kind.parse(answers, units)
    assert all(item.listener == "hosts" for keys in parsed.values() for item in keys)
    return {unit: {item.name for item in keys} for unit, keys in parsed.items()}


def test_a_whole_map_is_all_that_is_known() -> None:
    kind = new()
    whole = {SHOW: table(("0a?", ONE), ("0a/", ONE), ("0b?", TWO))}
    assert leading(kind, whole) == {ONE: {"0a?", "0a/"}, TWO: {"0b?"}}
    assert leads(kind) == {"0a?": ONE, "0a/": ONE, "0b?": TWO}
    # Nothing is forgotten between looks, and all by the next one.
    assert leading(kind, {}, [TWO]) == {TWO: {"0b?"}}
    assert leading(kind, {SHOW: table(("0b?", ONE))}) == {ONE: {"0b?"}, TWO: set()}
    assert leading(kind, {SHOW: ""}) == {ONE: set(), TWO: set()}
    assert leads(kind) == {}


def test_what_is_asked_for() -> None:
    kind = new()
    assert kind.questions(None, [key("0a?")]) == [SHOW]
    assert kind.questions([ONE], []) == []
    assert kind.questions([ONE], [key("0a?"), key("0a/")]) == [get("0a?"), get("0a/")]


@pytest.mark.parametrize(
    ("reply", "one", "two"),
    [
        (found("0a/", ONE), {"0a/", "0x?"}, set()),
        (found("0a/", TWO), {"0x?"}, {"0a/"}),
        (NOT_FOUND, {"0x?"}, set()),
        # A shorter entry, with which the key begins, is another one.
        (found("0", TWO), {"0x?"}, set()),
        # Somebody else's.
        (found("0a/", "be_other"), {"0x?"}, set()),
        (found("0a/", THREE), {"0x?"}, set()),
        (found("0a/", ""), {"0x?"}, set()),
    ],
)
def test_one_entry(*, reply: str, one: set[str], two: set[str]) -> None:
    kind = new()
    leading(kind, {SHOW: table(("0a/", ONE), ("0x?", ONE))})
    assert leading(kind, {get("0a/"): reply}) == {ONE: one, TWO: two}


def test_one_that_led_to_somebody_else_and_has_gone_is_known_no_more() -> None:
    kind = new()
    (stray,) = leading(kind, {SHOW: table(("0a/", "be_other"))})[ONE]
    assert stray.startswith("0a/")
    assert leading(kind, {get("0a/"): NOT_FOUND}) == {ONE: set(), TWO: set()}


ADD, SET = (made(ONE, key("0a/"), FILE, "0a/", ONE) for made in (AddEntry, SetEntry))


@pytest.mark.parametrize(
    ("answers", "operation"),
    [
        ([{}], ADD),
        ([{SHOW: ""}], ADD),
        ([{SHOW: table(("0a", TWO), ("0a/b?", ONE))}], ADD),
        ([{SHOW: table(("0a/", TWO))}], SET),
        # What leads to none of ours goes before any entry is added.
        ([{SHOW: table(("0a/", "be_other"))}], ADD),
        ([{SHOW: table(("0a/", THREE))}], ADD),
        ([{SHOW: ""}, {get("0a/"): found("0a/", TWO)}], SET),
        ([{SHOW: ""}, {get("0a/"): found("0a/", "be_other")}], SET),
        ([{SHOW: ""}, {get("0a/"): found("0", TWO)}], ADD),
        ([{SHOW: table(("0a/", TWO))}, {get("0a/"): NOT_FOUND}], ADD),
        ([{SHOW: table(("0a/", TWO))}, {SHOW: ""}], ADD),
        # The first one is what HAProxy finds; `set map` changes both.
        ([{SHOW: table(("0a/", TWO), ("0a/", ONE))}], SET),
    ],
)
def test_an_entry_is_added_only_where_there_is_none(
    answers: list[dict[str, str]], operation: KeyOperation
) -> None:
    kind = new()
    for item in answers:
        kind.parse(item, [ONE, TWO])
    assert kind.expose(key("0a/"), ONE) == operation


def test_concealing() -> None:
    assert new().conceal(key("0a/"), ONE) == DeleteEntry(ONE, key("0a/"), FILE, "0a/")


def test_entries_that_no_command_can_carry_are_nobodys_and_never_saved(tmp_path: Path) -> None:
    kind = new()
    odd = [("#a", ONE), ("0a;", ONE), ('0"', ONE), ("0" + "x" * 3000, ONE)]
    assert leading(kind, {SHOW: table(*odd, ("0a?", ONE))}) == {ONE: {"0a?"}, TWO: set()}
    assert leads(kind) == {"0a?": ONE}
    file = tmp_path / "hosts.map"
    assert MapFile(file).write(kind.maps[0].leads)
    assert file.read_text() == f"0a? {ONE}\n"


@pytest.mark.parametrize("reply", MAP_UNKNOWN)
def test_a_haproxy_without_the_map_has_none_of_the_backends(reply: str) -> None:
    kind = new()
    assert leading(kind, {SHOW: reply}) == {}
    assert leading(kind, {}, [ONE]) == {}
    assert list(kind.problems({})) == [
        f"HAProxy lacks 2 backends, first {ONE}; {kind.absence(ONE).partition('; ')[2]}"
    ]
    assert leading(kind, {SHOW: table(("0a?", ONE))}) == {ONE: {"0a?"}, TWO: set()}


def test_what_is_no_map_is_no_answer() -> None:
    with pytest.raises(RemoteProtocolError, match="no answer"):
        new().parse({SHOW: "something else"}, [ONE])


def test_for_a_person() -> None:
    kind = new()
    assert kind.title(ONE) == f"backend {ONE}"
    kind.parse({SHOW: table(("0b?", ONE), ("0a?", ONE))}, [])
    assert kind.title(ONE) == "host 0a?"
    assert kind.log_fields(ONE) == {"backend": ONE}
    seen = {unit: ObservedUnit(unit, frozenset(), {}) for unit in (ONE, TWO)}
    assert list(kind.problems(seen)) == []


def test_it_is_shown_without_a_server_too() -> None:
    assert new().rules(ONE).conceal_after_seconds is None
