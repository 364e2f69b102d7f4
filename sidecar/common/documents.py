"""Parses the bytes of a manifest file into plain values, one for each object in it.

Owns the syntax: UTF-8, YAML as kubectl reads it, JSON, documents, lists of objects, and the
limits of all of them. Must not know what the objects mean. Pure: no I/O.

YAML is built from libyaml's events, not by PyYAML's loaders: those recurse for every level (a file
of 200,000 brackets kills the process), keep the whole tree with its marks (50 times the file's
size), take the last of two equal keys, read times into datetimes, and answer an odd tag with
whatever Python raises.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from sidecar.common.errors import SidecarError
from sidecar.common.text import cut, shown

try:
    from yaml import CBaseLoader as _Loader
except ImportError:  # PyYAML without libyaml: the same, slower
    from yaml import BaseLoader as _Loader  # type: ignore[assignment]

#: Larger files are refused: no manifest is, and reading one would stop everything else.
MAX_BYTES = 16 * 2**20

#: For a command that does nothing else, as `check` of all that a cluster has: a quarter of a second
#: for each MB of YAML, and 15 times its size in memory.
DUMP_MAX_BYTES = 256 * 2**20

#: Levels of nesting; a Route has 5.
MAX_DEPTH = 100

#: How many values a file may always have. Beyond, not more than it has characters: only aliases
#: can bring that about, and then a few lines stand for millions of values ("billion laughs").
#: Aliases themselves are fine.
_MAX_VALUES = 10_000

_NULLS = ("", "~", "null", "Null", "NULL")
_CONSTANTS: Mapping[str, bool | None] = dict.fromkeys(_NULLS) | {
    spelling: value
    for words, value in ((("true", "yes", "on"), True), (("false", "no", "off"), False))
    for word in words
    for spelling in (word, word.capitalize(), word.upper())
}
# Bounded, and without YAML 1.1's octals, hexadecimals and sixties, which nobody means: those
# stay text, and where a number belongs the message shows them.
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(
    r"[-+]?[0-9]{1,18}(?:\.[0-9]{0,18}(?:[eE][-+]?[0-9]{1,3})?|[eE][-+]?[0-9]{1,3})"
)
_TAGS = (None, *(f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map")))


class DocumentError(SidecarError):
    """A file is not what its name promises. ``line`` counts from 1; None where it is unknown."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        self.problem = problem
        self.line = line
        super().__init__(problem if line is None else f"line {line}: {problem}")


class Entry(NamedTuple):
    """What should be one object. ``place``: ``document 1``, or ``document 1, item 3``."""

    place: str
    data: Any


def read_entries(raw: bytes, *, is_json: bool, max_bytes: int = MAX_BYTES) -> list[Entry]:
    """Everything in a file, in its order; documents without content are left out.

    Raises DocumentError when the file as a whole cannot be read.
    """
    if len(raw) > max_bytes:
        raise DocumentError(f"larger than {max_bytes // 2**20} MiB; split it into smaller files")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise DocumentError(
            f"not UTF-8 text (byte 0x{raw[exc.start]:02x}); save it as UTF-8",
            raw.count(b"\n", 0, exc.start) + 1,
        ) from exc
    try:
        documents = [_read_json(text)] if is_json else _read_yaml(text)
        return [
            entry
            for number, document in enumerate(documents, 1)
            if document is not None
            for entry in _unfold(f"document {number}", document)
        ]
    except RecursionError as exc:
        raise DocumentError("nested too deeply") from exc


def _unfold(place: str, data: Any) -> Iterator[Entry]:
    """The objects of a List, RouteList, …; anything else as it is."""
    kind = data.get("kind") if isinstance(data, dict) else None
    if not (isinstance(kind, str) and kind.endswith("List")) or data.get("items") is None:
        yield Entry(place, data)
        return
    # The API server leaves out in a RouteList what goes without saying.
    implied: dict[str, Any] = {}
    if kind != "List":
        implied = {"apiVersion": data.get("apiVersion"), "kind": kind.removesuffix("List")}
    items = data["items"]
    # What is no list is taken for its only item, and is then refused for what it is.
    for number, item in enumerate(items if isinstance(items, list) else [items], 1):
        whole = implied | item if isinstance(item, dict) else item
        yield from _unfold(f"{place}, item {number}", whole)


def _read_json(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as exc:
        raise DocumentError(f"invalid JSON: {exc.msg}", exc.lineno) from exc
    except ValueError as exc:
        raise DocumentError(f"invalid JSON: {exc}") from exc


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"the key {shown(twice)} occurs twice in one object")
    return found


def _read_yaml(text: str) -> list[Any]:
    builder = _Builder(max(len(text), _MAX_VALUES))
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.feed(event)
    except yaml.MarkedYAMLError as exc:
        problem = ": ".join(part for part in (exc.context, exc.problem) if part)
        raise DocumentError(f"invalid YAML: {cut(problem, 200)}", _line(exc.problem_mark)) from exc
    except yaml.reader.ReaderError as exc:
        raise DocumentError(f"invalid YAML: {exc.reason}") from exc
    return builder.documents


@dataclass(slots=True)
class _Open:
    """A list or mapping that has begun and not ended yet."""

    values: list[Any] | dict[str, Any]
    anchor: str | None
    #: How many values there were before it.
    before: int
    #: Of a mapping: the key whose value comes next.
    key: str | None = None
    #: Of a mapping: what ``<<`` brings, where it has no value of its own.
    merged: dict[str, Any] = field(default_factory=dict)


class _Builder:
    """Plain values from YAML events. An alias gives the very value of its anchor again, and
    counts as much as that."""

    def __init__(self, max_values: int) -> None:
        self.documents: list[Any] = []
        self._open: list[_Open] = []
        #: anchor -> its value, and how many values that holds
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0
        self._max_values = max_values

    def feed(self, event: yaml.Event) -> None:
        line = _line(event.start_mark)
        match event:
            case yaml.ScalarEvent():
                _refuse_tag(event.tag, line)
                # The first of the two flags says that it is plain and without a tag, so that its
                # text decides what it is. A key is text in any case, as in JSON.
                is_plain = event.implicit[0] and not self._awaits_key()
                self._count += 1
                self._put(_plain(event.value) if is_plain else event.value, event.anchor, 1, line)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                _refuse_tag(event.tag, line)
                if len(self._open) == MAX_DEPTH:
                    raise DocumentError(f"nested more than {MAX_DEPTH} levels deep", line)
                is_list = isinstance(event, yaml.SequenceStartEvent)
                self._open.append(_Open([] if is_list else {}, event.anchor, self._count))
                self._count += 1
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                done = self._open.pop()
                values = done.values
                whole = done.merged | values if isinstance(values, dict) else values
                self._put(whole, done.anchor, self._count - done.before, line)
            case yaml.AliasEvent():
                if event.anchor not in self._anchors:
                    name = cut(event.anchor or "", 40)
                    raise DocumentError(f"the alias *{name} has no anchor &{name} before it", line)
                value, size = self._anchors[event.anchor]
                self._count += size
                if self._count > self._max_values:
                    raise DocumentError("its aliases expand too far; write the values out", line)
                self._put(value, None, size, line)
            case yaml.DocumentStartEvent():
                self._anchors.clear()

    def _awaits_key(self) -> bool:
        if not self._open:
            return False
        inner = self._open[-1]
        return inner.key is None and isinstance(inner.values, dict)

    def _put(self, value: Any, anchor: str | None, size: int, line: int | None) -> None:
        """Give a complete value its place: in a list, as a key, as a key's value, or on top."""
        if anchor:
            self._anchors[anchor] = (value, size)
        if not self._open:
            self.documents.append(value)
            return
        inner = self._open[-1]
        if isinstance(inner.values, list):
            inner.values.append(value)
        elif inner.key is None:
            if not isinstance(value, str):
                raise DocumentError("a key that is no string; keys are strings", line)
            if value in inner.values:
                raise DocumentError(f"the key {shown(value)} occurs twice in one mapping", line)
            inner.key = value
        elif inner.key == "<<":
            for source in value if isinstance(value, list) else [value]:
                if not isinstance(source, dict):
                    raise DocumentError("<< takes a mapping, and this is none", line)
                for name, item in source.items():
                    inner.merged.setdefault(name, item)
            inner.key = None
        else:
            inner.values[inner.key] = value
            inner.key = None


def _line(mark: Any) -> int | None:
    return mark.line + 1 if mark else None


def _refuse_tag(tag: str | None, line: int | None) -> None:
    if tag not in _TAGS:
        raise DocumentError(f"the tag {shown(tag)} is not allowed in a manifest; remove it", line)


def _plain(text: str) -> Any:
    """What text without quotes stands for."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
