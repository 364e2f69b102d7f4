"""The objects in a set of manifest files, with the last good version of invalid ones.

Owns the rules by which a folder that people edit while it is being read never loses an object by
accident; `merge` implements them. Must not know how files are found or read. Pure: no I/O,
no clock.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from sidecar.common.documents import MAX_BYTES, DocumentError, read_entries
from sidecar.common.errors import ObjectError
from sidecar.common.text import counted
from sidecar.model.change import Change, Problem
from sidecar.model.objects import Key, Object, Refers, Route
from sidecar.model.parsing import AnnotationKeys, identify, project


class Held(NamedTuple):
    """An object, the file that it is from, and the place (file and document) for a person."""

    file: str
    where: str
    object: Object


@dataclass(frozen=True, slots=True)
class Good:
    """An object of a file that can be used."""

    where: str
    key: Key
    object: Object


@dataclass(frozen=True, slots=True)
class Wrong:
    """An object of a file that is there but cannot be used."""

    where: str
    key: Key
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a file holds.

    ``problems``: what could not even be told to be some object. While there are any, nobody knows
    what else the file means to hold, so that an absence from ``items`` proves nothing.
    ``unused``: Secrets that no Route refers to, of which nothing is kept.
    ``version`` tells one writing of the file from the next, whatever it holds. ``reading``: that
    there is a later writing, which is not read yet.
    """

    items: tuple[Good | Wrong, ...]
    problems: tuple[Problem, ...]
    version: tuple[int, ...] = ()
    reading: bool = False
    unused: frozenset[Key] = frozenset()


class Doubt(NamedTuple):
    """``version``: of the file that the object was in, None if that is gone; ``looks``: how often
    in a row it was missed."""

    version: tuple[int, ...] | None
    looks: int


@dataclass(frozen=True, slots=True)
class View:
    """What we go by, after a look at all files.

    ``doubted``: keys of ``held`` that no file had in this look; they go by the next one, if that
    finds their file as it was.
    """

    held: Mapping[Key, Held]
    doubted: Mapping[Key, Doubt]
    problems: tuple[Problem, ...]


#: A file that something writes all the time is believed in the end: after about 5 s.
LOOKS_MAX = 25
#: The same, of one that takes long to read: after about 2 min.
LOOKS_READING_MAX = 600

#: Before the first look.
NOTHING = View({}, {}, ())


def parse_file(
    name: str,
    raw: bytes,
    keys: AnnotationKeys,
    version: tuple[int, ...] = (),
    max_bytes: int = MAX_BYTES,
) -> Parsed:
    """The objects in a file's bytes; ``name`` tells JSON (``.json``) from YAML. Never raises."""
    title = printable(name)
    try:
        entries = read_entries(raw, is_json=name.endswith(".json"), max_bytes=max_bytes)
    except DocumentError as exc:
        where = title if exc.line is None else f"{title}, line {exc.line}"
        return Parsed((), (Problem(where, None, "", exc.problem),), version)
    items: list[Good | Wrong] = []
    problems = []
    for place, data in entries:
        where = f"{title}, {place}"
        try:
            key = identify(data)
        except ObjectError as exc:
            problems.append(Problem(where, None, exc.field, exc.problem))
            continue
        if key is None:
            continue
        try:
            items.append(Good(where, key, project(data, keys)))
        except ObjectError as exc:
            items.append(Wrong(where, key, exc.field, exc.problem))
    return Parsed(tuple(items), tuple(problems), version)


def reuse(parsed: Parsed, former: Parsed) -> Parsed:
    """``parsed``, with the objects of ``former`` as far as they are equal: whoever keeps those has
    them once in memory."""
    if parsed == former:
        return former
    known = {item.key: item.object for item in former.items if isinstance(item, Good)}
    return replace(
        parsed,
        items=tuple(
            replace(item, object=known[item.key])
            if isinstance(item, Good) and known.get(item.key) == item.object
            else item
            for item in parsed.items
        ),
    )


def referred_to(view: View, refers: Refers | None) -> frozenset[Key]:
    """The Secrets that Routes refer to."""
    if refers is None:
        return frozenset()
    routes = (item.object for item in view.held.values() if isinstance(item.object, Route))
    return frozenset(key for route in routes if (key := refers(route)))


def without_unused(view: View, used: Collection[Key]) -> View:
    """``view``, with no Secrets but ``used``: nobody asks what others hold, nor whether they are
    right."""

    def is_unused(key: Key | None) -> bool:
        return key is not None and key.kind == "Secret" and key not in used

    held, doubted = view.held.items(), view.doubted.items()
    return View(
        {key: item for key, item in held if not is_unused(key)},
        {key: doubt for key, doubt in doubted if not is_unused(key)},
        tuple(problem for problem in view.problems if not is_unused(problem.key)),
    )


def forgetting_unused(parsed: Parsed, used: Collection[Key]) -> Parsed:
    """``parsed``, with nothing of any Secret but ``used``."""
    unused = {item.key for item in parsed.items if item.key.kind == "Secret"}.difference(used)
    if not unused:
        return parsed
    items = tuple(item for item in parsed.items if item.key not in unused)
    return replace(parsed, items=items, unused=parsed.unused | unused)


def printable(name: str) -> str:
    """A file's name for a message: names may hold bytes that no log or JSON can."""
    return name.encode(errors="backslashreplace").decode()


def merge(files: Mapping[str, Parsed], before: View) -> View:
    """What to go by, from all files in their order and what we went by until now.

    A folder that cannot be listed stands in ``files`` by its own name, for all that is below it.

    1. Of two objects of one key the first counts.
    2. A wrong object counts as its last good version; one that never was good does not count.
    3. A file (or folder) with problems of its own also counts as all that it had.
    4. What counts nowhere is held until two looks in a row found the same writing of its file, or
       none: a file is empty or away for a moment while it is written or replaced, and an object
       may be on its way from one file to another, which may be one that is still being read.
    """
    is_reading = any(parsed.reading for parsed in files.values())
    looks_max = LOOKS_READING_MAX if is_reading else LOOKS_MAX
    held: dict[Key, Held] = {}
    wrongs: list[tuple[str, Wrong]] = []
    problems: list[Problem] = []
    for file, parsed in files.items():
        for item in parsed.items:
            if isinstance(item, Wrong):
                wrongs.append((file, item))
                last = before.held.get(item.key)
                if last and last.where == item.where:
                    held.setdefault(item.key, last)
            elif held.setdefault(item.key, Held(file, item.where, item.object)).where != item.where:
                problems.append(_second(item, held[item.key]))
        if parsed.problems:
            kept = {
                key: last
                for key, last in before.held.items()
                if key not in held and _covers(file, last.file)
            }
            held |= kept
            problems += [_with_count(problem, len(kept)) for problem in parsed.problems]
    for file, item in wrongs:
        # It is new at this place, and nobody else has it: moved, or moved up or down in its file.
        if item.key not in held and item.key in before.held:
            held[item.key] = Held(file, item.where, before.held[item.key].object)
        problems.append(_wrong(item, held.get(item.key)))
    doubted: dict[Key, Doubt] = {}
    for key, last in before.held.items():
        if key in held:
            continue
        version = files[last.file].version if last.file in files else None
        doubt = before.doubted.get(key)
        looks = doubt.looks + 1 if doubt else 1
        if doubt is None or ((is_reading or doubt.version != version) and looks < looks_max):
            doubted[key] = Doubt(version, looks)
    return View(held | {key: before.held[key] for key in doubted}, doubted, tuple(problems))


def changes(before: View, now: View) -> list[Change]:
    """What is different in ``now``, in the order of the files; what is gone comes last."""
    found = [
        Change(key, item.object)
        for key, item in now.held.items()
        if key not in before.held or before.held[key].object != item.object
    ]
    return found + [Change(key, None) for key in before.held if key not in now.held]


def _covers(file: str, other: str) -> bool:
    return other == file or other.startswith(file.rstrip("/") + "/")


def _second(item: Good, first: Held) -> Problem:
    message = f"{first.where} has it too and takes precedence; remove one of the two"
    return Problem(item.where, item.key, "", message)


def _wrong(item: Wrong, used: Held | None) -> Problem:
    if used is None:
        meanwhile = "ignored until fixed"
    elif used.where == item.where:
        meanwhile = "keeping its last good version"
    else:
        meanwhile = f"using the one in {used.where}"
    return Problem(item.where, item.key, item.field, f"{item.message}; {meanwhile}")


def _with_count(problem: Problem, count: int) -> Problem:
    if not count:
        return problem
    return replace(
        problem, message=f"{problem.message}; keeping the {counted(count, 'object')} it had"
    )
