"""`sidecar.sources.manifests.view`: what a set of files stands for while people edit them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.model.change import Problem
from sidecar.model.objects import Key, Object, Service
from sidecar.model.parsing import AnnotationKeys
from sidecar.sources.manifests.view import (
    LOOKS_MAX,
    LOOKS_READING_MAX,
    NOTHING,
    Good,
    Parsed,
    View,
    Wrong,
    changes,
    merge,
    parse_file,
    reuse,
)

KEYS = AnnotationKeys("example.com/router", "example.com/port", "example.com/kept")


def key(name: str) -> Key:
    return Key("Service", "default", name)


def version(name: str, number: int) -> Service:
    """A Service in its ``number``-th version."""
    return Service("default", name, (), f"v{number}")


def parsed(file: str, *items: str) -> Parsed:
    """A file from shorthand: ``web2`` is web in its version 2, ``web!`` is web but wrong, and
    ``?`` is a document that is not even some object."""
    found: list[Good | Wrong] = []
    problems = []
    for number, item in enumerate(items, 1):
        where = f"{file}, document {number}"
        name, mark = item[:-1], item[-1]
        if mark == "?":
            problems.append(Problem(where, None, "kind", "missing"))
        elif mark == "!":
            found.append(Wrong(where, key(name), "spec", "bad"))
        else:
            found.append(Good(where, key(name), version(name, int(mark))))
    return Parsed(tuple(found), tuple(problems))


def files(**contents: str) -> dict[str, Parsed]:
    return {name: parsed(name, *text.split()) for name, text in contents.items()}


def after(*looks: Mapping[str, Parsed]) -> View:
    view = NOTHING
    for look in looks:
        view = merge(look, view)
    return view


def held(view: View) -> set[str]:
    """The names and versions held, as in the shorthand."""
    objects = [item.object for item in view.held.values()]
    return {f"{item.name}{item.external_name}".replace("v", "") for item in services(objects)}


def services(objects: Sequence[Object]) -> list[Service]:
    return [item for item in objects if isinstance(item, Service)]


def problems(view: View) -> list[str]:
    return [str(problem) for problem in view.problems]


# --- the rules, one by one ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        # What is added or changed counts at once.
        ([files(a="web1")], {"web1"}),
        ([files(a="web1"), files(a="web2 db1")], {"web2", "db1"}),
        # What is gone is believed at the second look.
        ([files(a="web1 db1"), files(a="web1")], {"web1", "db1"}),
        ([files(a="web1 db1"), files(a="web1"), files(a="web1")], {"web1"}),
        ([files(a="web1"), files()], {"web1"}),
        ([files(a="web1"), files(), files()], set()),
        # It was only away for a moment, and the doubt starts anew.
        ([files(a="web1"), files(a=""), files(a="web1"), files(a="")], {"web1"}),
        # It moves from file to file; nobody sees it in between.
        ([files(a="web1", b=""), files(a="", b="web1")], {"web1"}),
        ([files(a="web1", b=""), files(a="", b=""), files(a="", b="web2")], {"web2"}),
        ([files(a="", b="web1"), files(a="web2", b="")], {"web2"}),
        # The first of two counts, by file and then by document.
        ([files(a="web1", b="web2")], {"web1"}),
        ([files(a="web1 web2")], {"web1"}),
        ([files(b="web2"), files(a="web1", b="web2")], {"web1"}),
        ([files(a="web1", b="web2"), files(b="web2")], {"web2"}),
        # A wrong object counts as its last good version, if it has one.
        ([files(a="web!")], set()),
        ([files(a="web! db1")], {"db1"}),
        ([files(a="web1"), files(a="web!"), files(a="web!"), files(a="web!")], {"web1"}),
        ([files(a="web1"), files(a="web!"), files(a="web2")], {"web2"}),
        # Also when it breaks while it moves.
        ([files(a="web1"), files(a="db1 web!"), files(a="db1 web!")], {"web1", "db1"}),
        ([files(a="web1"), files(b="web!"), files(b="web!"), files(b="web!")], {"web1"}),
        # A wrong newcomer takes nothing from a good one, and a wrong first one keeps its place.
        ([files(b="web1"), files(a="web!", b="web2"), files(a="web!", b="web3")], {"web3"}),
        ([files(a="web1", b="web2"), files(a="web!", b="web2")], {"web1"}),
        # While a file cannot be told, it also counts as all that it had.
        ([files(a="web1 db1"), files(a="?"), files(a="?"), files(a="?")], {"web1", "db1"}),
        ([files(a="web1 db1"), files(a="web2 ?"), files(a="web2 ?")], {"web2", "db1"}),
        ([files(a="web1 db1"), files(a="?"), files(a="web1"), files(a="web1")], {"web1"}),
        ([files(a="web1", b="web2"), files(a="?", b="web2")], {"web1"}),
        ([files(a="web1"), files(a="?", b="web2")], {"web1"}),
        # Other files are none of its business.
        ([files(a="web1", b="db1"), files(a="?", b=""), files(a="?", b="")], {"web1"}),
        ([files(a="web1", b="db1"), files(a="?"), files(a="?")], {"web1"}),
        # Doubt ends when the file cannot be told any more.
        ([files(a="web1"), files(a=""), files(a="?"), files(a="?")], {"web1"}),
    ],
)
def test_what_is_held(looks: Sequence[Mapping[str, Parsed]], expected: set[str]) -> None:
    assert held(after(*looks)) == expected


def test_a_folder_that_cannot_be_listed_keeps_all_below_it() -> None:
    first = {name: parsed(name, f"{name[-1]}1") for name in ("m/a", "m/sub/b", "m/sub-c", "m/d")}
    broken = {"m/a": first["m/a"], "m/sub": parsed("m/sub", "?")}
    view = after(first, broken, broken, broken)
    assert held(view) == {"a1", "b1"}
    assert problems(view) == ["m/sub, document 1: kind: missing; keeping the 1 object it had"]


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([files(a="web1", b="db1")], []),
        (
            [files(a="web1", b="db1 web2")],
            [
                (
                    "b, document 2: Service default/web: a, document 1 has it too and"
                    " takes precedence; remove one of the two"
                )
            ],
        ),
        (
            [files(a="web!")],
            ["a, document 1: Service default/web: spec: bad; ignored until fixed"],
        ),
        (
            [files(a="web1"), files(a="web!")],
            ["a, document 1: Service default/web: spec: bad; keeping its last good version"],
        ),
        (
            [files(a="web!", b="web1")],
            ["a, document 1: Service default/web: spec: bad; using the one in b, document 1"],
        ),
        ([files(a="?")], ["a, document 1: kind: missing"]),
        (
            [files(a="web1 db1"), files(a="?")],
            ["a, document 1: kind: missing; keeping the 2 objects it had"],
        ),
        (
            [files(a="web1 db1"), files(a="web2 ?")],
            ["a, document 2: kind: missing; keeping the 1 object it had"],
        ),
        # What is doubted for a moment is no problem.
        ([files(a="web1"), files()], []),
    ],
)
def test_what_is_told(looks: Sequence[Mapping[str, Parsed]], expected: list[str]) -> None:
    assert problems(after(*looks)) == expected


def test_a_file_that_is_written_all_the_time_is_believed_in_the_end() -> None:
    view = after(files(a="web1"))
    for number in range(1, LOOKS_MAX + 1):
        assert held(view) == {"web1"}
        view = merge({"a": replace(parsed("a"), version=(number,))}, view)
    assert held(view) == set()


def test_while_a_file_is_being_read_nothing_that_is_missed_is_gone() -> None:
    """It may hold what another file lost; but it is not waited for without end."""
    reading = {"a": parsed("a"), "b": replace(parsed("b"), reading=True)}
    view = after(files(a="web1"))
    for _ in range(LOOKS_READING_MAX):
        assert held(view) == {"web1"}
        view = merge(reading, view)
    assert held(view) == set()
    # Once it is read, the look is one like any other.
    assert held(after(files(a="web1"), *[reading] * 5, files(a="", b="web2"))) == {"web2"}
    assert held(after(files(a="web1"), *[reading] * 5, files(a="", b=""))) == set()
    # What comes and what changes counts at once.
    assert held(after(files(a="web1"), reading | files(a="web2 db1"))) == {"web2", "db1"}


def test_changes_say_what_is_new_different_and_gone() -> None:
    before = after(files(a="web1 db1 same1"))
    now = after(files(a="web1 db1 same1"), files(a="new1 same1 web2"), files(a="new1 same1 web2"))
    assert changes(before, now) == [
        (key("new"), version("new", 1)),
        (key("web"), version("web", 2)),
        (key("db"), None),
    ]
    assert changes(now, now) == []


# --- the rules, whatever happens ------------------------------------------------------------

CONTENTS = st.lists(st.sampled_from(["x1", "x2", "x!", "y1", "y!", "z1", "?"]), max_size=3)
LOOKS = st.lists(
    st.dictionaries(st.sampled_from("abc"), CONTENTS, max_size=3).map(
        lambda found: {name: parsed(name, *found[name]) for name in sorted(found)}
    ),
    max_size=6,
)


@settings(deadline=None)  # a busy machine is no fault
@given(LOOKS, LOOKS)
def test_what_one_good_file_alone_holds_is_what_it_says(
    looks: list[dict[str, Parsed]], others: list[dict[str, Parsed]]
) -> None:
    """Whatever happens in other files."""
    view = after(*looks)
    for other in others:
        view = merge({"0": parsed("0", "own1"), **other}, view)
        assert "own1" in held(view)


@settings(deadline=None)  # a busy machine is no fault
@given(LOOKS)
def test_nothing_goes_that_was_not_absent_twice(looks: list[dict[str, Parsed]]) -> None:
    view = NOTHING
    absent: set[Key] = set()
    for look in looks:
        had, view = set(view.held), merge(look, view)
        before, absent = absent, had - {item.key for file in look.values() for item in file.items}
        assert had - set(view.held) <= absent & before


@settings(deadline=None)  # a busy machine is no fault
@given(LOOKS)
def test_looking_again_changes_nothing_but_doubts(looks: list[dict[str, Parsed]]) -> None:
    if not looks:
        return
    once = after(*looks, looks[-1])
    again = merge(looks[-1], once)
    assert not once.doubted
    assert (again.held, again.problems) == (once.held, once.problems)


@settings(deadline=None)  # a busy machine is no fault
@given(LOOKS)
def test_changes_added_up_are_what_is_held(looks: list[dict[str, Parsed]]) -> None:
    view = NOTHING
    objects: dict[Key, Object] = {}
    for look in looks:
        before, view = view, merge(look, view)
        for changed, new in changes(before, view):
            if new is None:
                del objects[changed]
            else:
                objects[changed] = new
        assert objects == {name: item.object for name, item in view.held.items()}


# --- files ----------------------------------------------------------------------------------


def test_places_in_a_file() -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: good}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: wrong}, spec: {ports: 5}}
- {apiVersion: v1, kind: Service, metadata: {}}
- {kind: Service}
"""
    found = parse_file("m/web.yaml", text.encode(), KEYS)
    assert found == Parsed(
        (
            Good("m/web.yaml, document 1", key("good"), Service("default", "good", (), None)),
            Wrong(
                "m/web.yaml, document 3, item 1",
                key("wrong"),
                "spec.ports",
                "5 is a number; write a list",
            ),
        ),
        found.problems,
    )
    assert [(problem.where, problem.field) for problem in found.problems] == [
        ("m/web.yaml, document 3, item 2", "metadata.name"),
        ("m/web.yaml, document 3, item 3", "apiVersion"),
    ]


def test_a_file_that_does_not_parse_names_its_line() -> None:
    found = parse_file("web.yaml", b"a: 1\nb: c: d", KEYS)
    assert found.items == ()
    assert str(found.problems[0]).startswith("web.yaml, line 2: invalid YAML: ")


def test_a_name_that_no_text_can_hold_is_shown_escaped() -> None:
    found = parse_file("\udcff.json", b"", KEYS)
    assert str(found.problems[0]) == "\\udcff.json, line 1: invalid JSON: Expecting value"


def test_what_a_file_still_holds_is_in_memory_once() -> None:
    former = parsed("a", "web1", "db1", "mq1", "old!")
    new = parsed("a", "new1", "web1", "db2", "mq!", "old1")
    found = reuse(new, former)
    assert found == new
    shared = {
        item.key.name
        for item in found.items
        for other in former.items
        if isinstance(item, Good) and isinstance(other, Good) and item.object is other.object
    }
    assert shared == {"web"}
    same = parsed("a", "web1")
    assert reuse(parsed("a", "web1"), same) is same
