"""Maps as values: what HAProxy shows, the file that it reads, and the least that changes one."""

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import LocalProtocolError, RemoteProtocolError
from sidecar.haproxy.dialect import Dialect
from sidecar.haproxy.maps import (
    FEW,
    VALUE_MAX_BYTES,
    WORD_MAX_BYTES,
    AddEntry,
    ClearMap,
    CommitMap,
    DeleteEntry,
    EntryOperation,
    FillMap,
    MapEntry,
    ObservedMap,
    PrepareMap,
    SetEntry,
    Transaction,
    map_changes,
    parse_map,
    parse_map_file,
    parse_open_versions,
    prepared_version,
    render_map,
    single_changes,
    transaction,
)
from sidecar.haproxy.operations import Operation
from sidecar.haproxy.protocol import IN_FLIGHT_MAX_BYTES, encode
from sidecar.model.desired import BackendName, ClaimKey, Unit

FILE = "/run/haproxy/route.map"
UNIT = BackendName("be_1")
KEY = ClaimKey("http", "a.example")
OLD, NEW = Dialect((2, 6)), Dialect((3, 2))


def owner_of(entry: MapEntry) -> tuple[Unit, ClaimKey]:
    return BackendName(entry.value), ClaimKey("http", entry.key)


def valid(key: str, value: str) -> bool:
    try:
        MapEntry(key, value).checked()
    except LocalProtocolError:
        return False
    return True


def add(entry: str = "a", value: str = "be") -> AddEntry:
    return AddEntry(UNIT, KEY, FILE, entry, value)


def set_(entry: str = "a", value: str = "be") -> SetEntry:
    return SetEntry(UNIT, KEY, FILE, entry, value)


def shown_by_haproxy(entries: Mapping[str, str]) -> str:
    return "\n".join(f"0x{number:x} {key} {entries[key]}" for number, key in enumerate(entries))


def observed(entries: Mapping[str, str]) -> ObservedMap:
    return parse_map(shown_by_haproxy(entries))


WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
KEYS = WORDS.filter(lambda key: valid(key, "v"))
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=90)
ENTRIES = st.dictionaries(KEYS, VALUES.filter(lambda value: valid("k", value)), max_size=40)

# -- entries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "",
        " ",
        "a b",
        " a",
        "a\t",
        "a\nb",
        "a\0",
        "a\x7f",
        "a;b",
        "a\\",
        "a'b",
        'a"',
        "a<<b",
        "<<",
        "#a",
        "\N{LATIN SMALL LETTER U WITH DIAERESIS}",
        "\ud800",
        "x" * (WORD_MAX_BYTES + 1),
    ],
)
def test_a_key_that_some_command_or_file_would_change_is_refused(key: str) -> None:
    for operation in (add(key), set_(key), DeleteEntry(UNIT, KEY, FILE, key)):
        with pytest.raises(LocalProtocolError, match="is not a valid key of a map"):
            operation.command()
    with pytest.raises(LocalProtocolError):
        render_map({key: "v"})
    with pytest.raises(LocalProtocolError):
        transaction(FILE, {key: "v"})


@pytest.mark.parametrize(
    "value",
    ["", " ", " a", "a ", "a\nb", "a\r", "a\tb", "a\0", "\N{EM DASH}", "x" * (VALUE_MAX_BYTES + 1)],
)
def test_a_value_that_would_not_arrive_is_refused(value: str) -> None:
    for operation in (add("a", value), set_("a", value)):
        with pytest.raises(LocalProtocolError, match="is not a valid value of a map"):
            operation.command()
    with pytest.raises(LocalProtocolError):
        render_map({"a": value})
    with pytest.raises(LocalProtocolError):
        transaction(FILE, {"a": value})


@pytest.mark.parametrize("value", ["a b", "max-age=1; x", "\\1", "'", '"', "<<", "x" * 4000])
def test_what_is_no_word_goes_by_payload_and_cannot_be_set(value: str) -> None:
    assert add("k", value).command().line == f"add map {FILE}"
    assert add("k", value).command().payload == f"k {value}".encode()
    with pytest.raises(LocalProtocolError, match="'set map' cannot carry"):
        set_("k", value).command()


@pytest.mark.parametrize(
    ("operation", "line"),
    [
        (add("0a.example/x?", "be_1"), f"add map {FILE} 0a.example/x? be_1"),
        (set_("0*.example/", "be_2"), f"set map {FILE} 0*.example/ be_2"),
        (DeleteEntry(UNIT, KEY, FILE, "a/~%2f"), f"del map {FILE} a/~%2f"),
        (PrepareMap(FILE), f"prepare map {FILE}"),
        (FillMap(FILE, 3, b"a b"), f"add map @3 {FILE}"),
        (CommitMap(FILE, 3), f"commit map @3 {FILE}"),
        (ClearMap(FILE, 3), f"clear map @3 {FILE}"),
    ],
)
def test_the_command(operation: Operation, line: str) -> None:
    assert operation.command().line == line


UNKNOWN = "Unknown map identifier. Please use #<id> or <file>."


@pytest.mark.parametrize(
    ("operation", "reply", "success"),
    [
        (add(), "", True),
        (add(), UNKNOWN, False),
        (add(), "Missing value for key 'a'.", False),
        (set_(), "", True),
        (set_(), "entry not found.", False),
        (DeleteEntry(UNIT, KEY, FILE, "a"), "", True),
        (DeleteEntry(UNIT, KEY, FILE, "a"), "Key not found.", True),
        (DeleteEntry(UNIT, KEY, FILE, "a"), UNKNOWN, False),
        (PrepareMap(FILE), "New version created: 12", True),
        (PrepareMap(FILE), "", False),
        (PrepareMap(FILE), UNKNOWN, False),
        (FillMap(FILE, 3, b"a b"), "", True),
        (FillMap(FILE, 3, b"a b"), "Version number in the future", False),
        (CommitMap(FILE, 3), "", True),
        (CommitMap(FILE, 3), "Version number out of range.", False),
        (ClearMap(FILE, 3), "", True),
        (ClearMap(FILE, 3), UNKNOWN, False),
    ],
)
def test_what_a_reply_proves(operation: Operation, reply: str, success: bool) -> None:
    assert operation.succeeded(reply) == success


def test_the_version_that_was_prepared() -> None:
    assert prepared_version("New version created: 12") == 12


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_entry_is_refused_or_goes_into_every_command(key: str, value: str) -> None:
    if not valid(key, value):
        return
    for operation in (add(key, value), DeleteEntry(UNIT, KEY, FILE, key)):
        assert encode(operation.command()).count(b"\n") in (1, 3)


def test_the_longest_entry_fits() -> None:
    entry = MapEntry("k" * WORD_MAX_BYTES, "v" * VALUE_MAX_BYTES).checked()
    encode(add(*entry).command())
    assert len(encode(set_(entry.key, entry.key).command())) < IN_FLIGHT_MAX_BYTES
    (fill,) = transaction(FILE, dict([entry])).fill(2**32 - 1)
    encode(fill.command())


# -- what HAProxy shows ------------------------------------------------------------------------


@given(ENTRIES)
def test_what_is_shown_is_parsed(entries: dict[str, str]) -> None:
    assert observed(entries) == ObservedMap(entries, frozenset())


@given(ENTRIES)
def test_a_file_holds_what_was_rendered(entries: dict[str, str]) -> None:
    assert parse_map_file(render_map(entries)) == observed(entries)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3))
def test_a_file_holds_any_text_or_is_refused(entries: dict[str, str]) -> None:
    if all(valid(*item) for item in entries.items()):
        assert parse_map_file(render_map(entries)).entries == entries
    else:
        with pytest.raises(LocalProtocolError):
            render_map(entries)


def test_the_first_of_a_key_counts_and_the_others_are_reported() -> None:
    seen = parse_map("0x1 a be_1\n0x2 b be_2\n0x3 a be_3\n0x4 a be_1")
    assert seen == ObservedMap({"a": "be_1", "b": "be_2"}, frozenset({"a"}))
    assert seen.wrong({"a": "be_1", "b": "be_2"}) == {"a"}
    assert seen.wrong({"a": "be_1", "c": "be_2"}) == {"a", "b", "c"}


def test_what_others_made() -> None:
    text = "0x1 a b c\nmore 2\n0x2  #h v\n0x3 k "
    assert parse_map(text).entries == {"a": "b c\nmore 2", "": "#h v", "k": ""}


def test_an_empty_map() -> None:
    assert parse_map("") == parse_map_file("") == ObservedMap({}, frozenset())


@pytest.mark.parametrize("text", [UNKNOWN, "\n", "a b", "0xg a b"])
def test_what_is_no_map(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="no answer of 'show map'"):
        parse_map(text)


def test_a_file_as_haproxy_reads_it() -> None:
    text = "# comment\nk0  two  words \n\n   k1\tv1  \r\nk2\n#x y\nk0 second\n0x1 a b"
    assert parse_map_file(text) == ObservedMap(
        {"k0": "two  words", "k1": "v1", "k2": "", "0x1": "a b"}, frozenset({"k0"})
    )


STATUS = f"""# id (file) description
0 ({FILE}) pattern loaded from file '{FILE}' used by map at file 'c' line 10, by map at 'c' (1). \
curr_ver=3 next_ver=5 entry_cnt=7
2 (virt@x) pattern loaded from file 'virt@x' used by map at file 'c' line 11. \
curr_ver=0 next_ver=0 entry_cnt=5"""


def test_which_versions_were_left_open() -> None:
    assert list(parse_open_versions(STATUS, FILE)) == [4, 5]
    assert list(parse_open_versions(STATUS, "virt@x")) == []
    with pytest.raises(RemoteProtocolError, match=re.escape("HAProxy has no map x.map")):
        parse_open_versions(STATUS, "x.map")


# -- what to change ----------------------------------------------------------------------------


def carried_out(seen: ObservedMap, changes: list[EntryOperation] | Transaction) -> dict[str, str]:
    """What HAProxy has afterwards, if it is as we know it."""
    if isinstance(changes, Transaction):
        text = b"".join(payload + b"\n" for payload in changes.payloads).decode()
        return dict(parse_map_file(text).entries)
    entries = dict(seen.entries)
    for change in changes:
        encode(change.command())
        if isinstance(change, DeleteEntry):
            del entries[change.entry]
        else:
            assert (change.entry in entries) == isinstance(change, SetEntry)
            entries[change.entry] = change.value
    return entries


@given(ENTRIES, ENTRIES, st.sampled_from([OLD, NEW]))
def test_the_changes_lead_from_any_map_to_any_other(
    before: dict[str, str], after: dict[str, str], dialect: Dialect
) -> None:
    seen = observed(before)
    changes = map_changes(FILE, seen, after, owner_of, dialect)
    assert carried_out(seen, changes) == after
    if before == after:
        assert changes == []


@given(ENTRIES)
def test_no_payload_is_too_long_and_none_is_empty(entries: dict[str, str]) -> None:
    many = {f"{number}{key}": entries[key] for key in entries for number in range(50)}
    plan = transaction(FILE, many)
    for fill in plan.fill(2**32 - 1):
        encode(fill.command())
    assert carried_out(observed({}), plan) == many


def test_each_change_is_for_its_owner() -> None:
    before, after = {"a": "be_1", "b": "be_2", "c": "be_3"}, {"b": "be_4", "c": "be_3", "d": "be_5"}
    changes = single_changes(FILE, observed(before), after, owner_of)
    assert changes == [
        DeleteEntry(BackendName("be_1"), ClaimKey("http", "a"), FILE, "a"),
        SetEntry(BackendName("be_4"), ClaimKey("http", "b"), FILE, "b", "be_4"),
        AddEntry(BackendName("be_5"), ClaimKey("http", "d"), FILE, "d", "be_5"),
    ]


@pytest.mark.parametrize(
    ("seen", "desired"),
    [
        (parse_map("0x1 a x\n0x2 a y"), {"a": "x"}),  # doubled
        (parse_map("0x1 a x"), {"a": "two words"}),  # cannot be set
        (parse_map("0x1  x"), {"a": "x"}),  # cannot be deleted
    ],
)
def test_what_single_commands_cannot_do(seen: ObservedMap, desired: dict[str, str]) -> None:
    assert map_changes(FILE, seen, desired, owner_of, NEW) == transaction(FILE, desired)


def test_an_empty_map_is_a_transaction_without_payloads() -> None:
    many = {str(number): "v" for number in range(FEW + 1)}
    assert map_changes(FILE, observed(many), {}, owner_of, NEW) == Transaction(FILE, ())


@pytest.mark.parametrize("dialect", [OLD, NEW])
def test_many_changes_are_made_at_once(dialect: Dialect) -> None:
    def is_bulk(entries: int, changes: int) -> bool:
        before = {str(number): "x" for number in range(entries)}
        after = {key: "y" if int(key) < changes else "x" for key in before}
        plan = map_changes(FILE, observed(before), after, owner_of, dialect)
        return isinstance(plan, Transaction)

    assert not is_bulk(FEW, FEW)
    assert not is_bulk(10_000, FEW)
    assert is_bulk(10_000, 1_000) == (dialect is OLD)
    assert is_bulk(10_000, 10_000)
