"""Maps as values: what HAProxy shows, the file that it reads, and what changes one entry."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import LocalProtocolError, RemoteProtocolError
from sidecar.haproxy.maps import (
    VALUE_MAX_BYTES,
    WORD_MAX_BYTES,
    AddEntry,
    DeleteEntry,
    MapEntry,
    SetEntry,
    parse_map,
    parse_map_file,
    render_map,
)
from sidecar.haproxy.operations import Operation
from sidecar.haproxy.protocol import IN_FLIGHT_MAX_BYTES, encode
from sidecar.model.desired import BackendName, ClaimKey

FILE = "/run/haproxy/route.map"
UNIT = BackendName("be_1")
KEY = ClaimKey("http", "a.example")


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
    ],
)
def test_what_a_reply_proves(operation: Operation, reply: str, success: bool) -> None:
    assert operation.succeeded(reply) == success


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


# -- what HAProxy shows ------------------------------------------------------------------------


@given(ENTRIES)
def test_what_is_shown_is_parsed(entries: dict[str, str]) -> None:
    assert parse_map(shown_by_haproxy(entries)) == entries


@given(ENTRIES)
def test_a_file_holds_what_was_rendered(entries: dict[str, str]) -> None:
    assert parse_map_file(render_map(entries)) == entries


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3))
def test_a_file_holds_any_text_or_is_refused(entries: dict[str, str]) -> None:
    if all(valid(*item) for item in entries.items()):
        assert parse_map_file(render_map(entries)) == entries
    else:
        with pytest.raises(LocalProtocolError):
            render_map(entries)


def test_the_first_of_a_key_counts() -> None:
    seen = parse_map("0x1 a be_1\n0x2 b be_2\n0x3 a be_3\n0x4 a be_1")
    assert seen == {"a": "be_1", "b": "be_2"}


def test_what_others_made() -> None:
    text = "0x1 a b c\nmore 2\n0x2  #h v\n0x3 k "
    assert parse_map(text) == {"a": "b c\nmore 2", "": "#h v", "k": ""}


def test_an_empty_map() -> None:
    assert parse_map("") == parse_map_file("") == {}


@pytest.mark.parametrize("text", [UNKNOWN, "\n", "a b", "0xg a b"])
def test_what_is_no_map(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="no answer of 'show map'"):
        parse_map(text)


def test_a_file_as_haproxy_reads_it() -> None:
    text = "# comment\nk0  two  words \n\n   k1\tv1  \r\nk2\n#x y\nk0 second\n0x1 a b"
    entries = {"k0": "two  words", "k1": "v1", "k2": "", "0x1": "a b"}
    assert parse_map_file(text) == entries
