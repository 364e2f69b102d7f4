"""`sidecar.common.documents`: what bytes hold, and which bytes are refused."""

import itertools
import json
import re
import string
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.common.documents import MAX_BYTES, DocumentError, Entry, read_entries


def values(text: str) -> list[Any]:
    return [entry.data for entry in read_entries(text.encode(), is_json=False)]


def refused(raw: bytes, *, is_json: bool = False) -> str:
    with pytest.raises(DocumentError) as caught:
        read_entries(raw, is_json=is_json)
    return str(caught.value)


# --- YAML -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("13306", 13306),
        ("-1", -1),
        ("0", 0),
        ('"13306"', "13306"),
        ("'13306'", "13306"),
        ("!!str 13306", "13306"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("True", True),
        ("yes", True),
        ("off", False),
        ("null", None),
        ("~", None),
        ("web", "web"),
        ("10.0.0.1", "10.0.0.1"),
        # A time stays the text that the API has.
        ("2024-01-31T12:00:00Z", "2024-01-31T12:00:00Z"),
        # Numbers by YAML 1.1 only, which nobody means.
        ("010", "010"),
        ("0x10", "0x10"),
        ("22:22", "22:22"),
        ("1_000", "1_000"),
        ("9" * 10_000, "9" * 10_000),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_what_a_scalar_stands_for(text: str, value: object) -> None:
    assert values(f"[{text}]" if "|" not in text else f"- {text}") == [[value]]
    assert type(values(f"- {text}")[0][0]) is type(value)


def test_keys_are_text_as_in_json() -> None:
    assert values("80: a\ntrue: b\n~: c") == [{"80": "a", "true": "b", "~": "c"}]


def test_documents_are_counted_and_empty_ones_left_out() -> None:
    raw = b"# only a comment\n---\na: 1\n---\n---\n# nothing\n---\nb: 2\n...\n"
    assert read_entries(raw, is_json=False) == [
        Entry("document 1", {"a": 1}),
        Entry("document 4", {"b": 2}),
    ]


@pytest.mark.parametrize("raw", [b"", b"\n", b"# comment\n", b"---\n", b"\xef\xbb\xbf"])
def test_a_file_may_be_empty(raw: bytes) -> None:
    assert read_entries(raw, is_json=False) == []


def test_a_byte_order_mark_is_no_content() -> None:
    assert read_entries(b"\xef\xbb\xbfa: 1", is_json=False) == [Entry("document 1", {"a": 1})]


def test_aliases_repeat_their_anchor() -> None:
    text = "a: &a {x: [1, &b two]}\nc: *a\nd: *b\n*b : key"
    assert values(text) == [
        {"a": {"x": [1, "two"]}, "c": {"x": [1, "two"]}, "d": "two", "two": "key"}
    ]


def test_merge_keys_give_what_is_not_written() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {y: 4, <<: [*a, {x: 9, z: 5}]}"
    (found,) = values(text)
    assert found["b"] == {"x": 1, "y": 3}
    assert found["c"] == {"x": 1, "y": 4, "z": 5}


def test_an_anchor_ends_with_its_document() -> None:
    assert refused(b"a: &a 1\n---\nb: *a") == "line 3: the alias *a has no anchor &a before it"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a: 1\nb: [1,\n", "line 3: invalid YAML: "),
        (b"a: b: c", "line 1: invalid YAML: "),
        (b'a: "x', "line 1: invalid YAML: "),
        (b"a:\n\t- b", "line 2: invalid YAML: "),
        (b"\x7fELF\x02\x01\x00", "invalid YAML: "),
        (b"a: b\nc: \xe4", "line 2: not UTF-8 text (byte 0xe4); save it as UTF-8"),
        ("a: b".encode("utf-16"), "line 1: not UTF-8 text (byte 0xff); save it as UTF-8"),
        (b"a: 1\nb: {c: 1,\n  'c': 2}", "line 3: the key 'c' occurs twice in one mapping"),
        (b"? [a]\n: b", "line 1: a key that is no string; keys are strings"),
        (b"a: !vault b", "line 1: the tag '!vault' is not allowed in a manifest; remove it"),
        (b"a: !!timestamp b", "line 1: the tag 'tag:yaml.org,2002:timestamp' is not allowed"),
        (b"a: ! b", "line 1: the tag '!' is not allowed"),
        (b"a: !Ref [b]", "line 1: the tag '!Ref' is not allowed"),
        (b"a: &a [*a]", "line 1: the alias *a has no anchor &a before it"),
        (b"a: {<<: 5}", "line 1: << takes a mapping, and this is none"),
        (b"- " * 200_000, "line 1: nested more than 100 levels deep"),
        (b"a" * (MAX_BYTES + 1), "larger than 16 MiB; split it into smaller files"),
    ],
)
def test_what_is_no_yaml_is_refused(raw: bytes, message: str) -> None:
    assert refused(raw).startswith(message)


@pytest.mark.parametrize("bracket", [b"[", b"{a: ", b"? "])
def test_deep_nesting_is_refused(bracket: bytes) -> None:
    # By us or already by libyaml, whose words are its own.
    assert re.match("line 1: .*nest", refused(bracket * 200_000))


@pytest.mark.parametrize("merged", [False, True])
def test_aliases_cannot_blow_a_file_up(merged: bool) -> None:
    names = string.ascii_lowercase
    lines = [f"a: &a {{{', '.join(f'k{n}: 1' for n in range(9))}}}"]
    for last, name in itertools.pairwise(names):
        items = ", ".join([f"*{last}"] * 9)
        lines.append(
            f"{name}: &{name} {{<<: [{items}]}}" if merged else f"{name}: &{name} [{items}]"
        )
    assert "its aliases expand too far; write the values out" in refused("\n".join(lines).encode())


def test_many_merged_mappings_are_no_more_work_than_they_are_long() -> None:
    # With the square of them it would be the test's timeout that ends this.
    sources = ", ".join(f"{{k{number}: 1}}" for number in range(100_000))
    assert len(values(f"<<: [{sources}]")[0]) == 100_000


def test_many_aliases_of_little_are_fine() -> None:
    text = "a: &a [tcp]\n" + "".join(f"k{number}: *a\n" for number in range(2000))
    assert len(values(text)[0]) == 2001


#: PyYAML writes 0E0 without quotes; to us, as to kubectl, that is a number.
TEXTS = st.text().filter(lambda text: not re.fullmatch(r"[-+]?[0-9.]+[eE][-+]?[0-9]+", text))
JSONABLE = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)  # a busy machine is no fault
@given(JSONABLE.filter(lambda data: data is not None))
def test_yaml_that_was_written_is_read(data: Any) -> None:
    assert read_entries(yaml.safe_dump(data).encode(), is_json=False) == [Entry("document 1", data)]


@settings(deadline=None)  # a busy machine is no fault
@given(st.binary() | st.text(alphabet="a1&*!{}[],:-?|>'\"#%@<\n \t~", max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for is_json in (False, True):
        try:
            entries = read_entries(raw, is_json=is_json)
        except DocumentError:
            continue
        assert all(entry.place.startswith("document ") for entry in entries)


# --- JSON -----------------------------------------------------------------------------------


@settings(deadline=None)  # a busy machine is no fault
@given(JSONABLE.filter(lambda data: data is not None))
def test_json_that_was_written_is_read(data: Any) -> None:
    assert read_entries(json.dumps(data).encode(), is_json=True) == [Entry("document 1", data)]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "line 1: invalid JSON: "),
        (b'{\n"a": }', "line 2: invalid JSON: "),
        (b'{"a": 1, "a": 2}', "invalid JSON: the key 'a' occurs twice in one object"),
        (b"[" * 200_000, "nested too deeply"),
        (b"1" * 5000, "invalid JSON: "),
    ],
)
def test_what_is_no_json_is_refused(raw: bytes, message: str) -> None:
    assert refused(raw, is_json=True).startswith(message)


def test_a_key_twice_among_many_is_found_at_once() -> None:
    # With the square of them it would be the test's timeout that ends this.
    keys = ", ".join(f'"k{number}": 1' for number in (*range(200_000), 199_999))
    message = "invalid JSON: the key 'k199999' occurs twice in one object"
    assert refused(f"{{{keys}}}".encode(), is_json=True) == message


# --- lists ----------------------------------------------------------------------------------


def test_a_list_is_unfolded() -> None:
    text = "kind: List\napiVersion: v1\nitems: [{kind: A}, {kind: List, items: [{kind: B}, 5]}]"
    assert read_entries(f"a: 1\n---\n{text}".encode(), is_json=False) == [
        Entry("document 1", {"a": 1}),
        Entry("document 2, item 1", {"kind": "A"}),
        Entry("document 2, item 2, item 1", {"kind": "B"}),
        Entry("document 2, item 2, item 2", 5),
    ]


def test_a_list_of_one_kind_says_for_its_items_what_they_are() -> None:
    text = "kind: RouteList\napiVersion: x/v1\nitems: [{a: 1}, {kind: Other}, 5]"
    assert values(text) == [
        {"apiVersion": "x/v1", "kind": "Route", "a": 1},
        {"apiVersion": "x/v1", "kind": "Other"},
        5,
    ]


@pytest.mark.parametrize("items", ["", "items: []"])
def test_a_list_may_be_empty(items: str) -> None:
    text = f"kind: List\n{items}"
    assert [entry for entry in values(text) if entry.get("kind") != "List"] == []


def test_items_that_are_no_list_are_judged_as_one() -> None:
    raw = b"{kind: List, items: {a: 1}}"
    assert read_entries(raw, is_json=False) == [Entry("document 1, item 1", {"a": 1})]
