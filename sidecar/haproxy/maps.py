"""HAProxy's maps over the Runtime API: what they show, and what changes one entry.

A map is a file of haproxy.cfg, by exactly the name that it has there. The rules, measured on 2.6,
3.0 and 3.2:

* ``add map`` never looks whether the key exists: of two entries the first one added wins. ``set
  map`` changes both, and fails where there is none; ``del map`` takes both away. So what to do
  follows from ``show map``.
* No request misses its key while others come and go, or while ``set map`` changes its value.
* In a command a blank ends a value, without an error. In a payload a line is a key, a blank and
  the value, to its end; a line without a value swallows the next one.
* In a file a line that begins with ``#`` is a comment, and blanks at its end are dropped.

Therefore a key is one word that any command can carry, and a value printable ASCII. Entries are
changed one by one: with ``prepare map`` and ``commit map`` 20,000 would cost HAProxy 30 ms instead
of 55, and need a second way to judge and repair what was done. Only ``set map`` before 3.0 is dear:
it passes all entries, 0.4 ms among 20,000. Pure.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sidecar.common.errors import LocalProtocolError, RemoteProtocolError
from sidecar.common.text import shown
from sidecar.haproxy import dialect
from sidecar.haproxy.protocol import Command
from sidecar.model.desired import ClaimKey, Unit

#: A key; a value that is longer, or is no word, only fits into a payload.
WORD_MAX_BYTES = 2048

#: A value; with its key, a command's words and a file's name it stays below a payload's maximum.
VALUE_MAX_BYTES = 8192

# Whatever a command's line can carry (see `sidecar.haproxy.protocol`), without blanks.
_WORD = re.compile(r"(?!.*<<)[!#-&(-:<-\[\]-~]+")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")

_FOUND = re.compile(r'.*\bfound=yes\b.*\bkey="(.*)", value="(.*)", type=.*')

_SHOWN = re.compile(r"0x[0-9a-f]+ ([^ ]*) (.*)")


class MapEntry(NamedTuple):
    """A key, and what it leads to."""

    key: str
    value: str

    def checked(self) -> "MapEntry":
        """Itself. Raises LocalProtocolError if HAProxy, or its map file, would hold another."""
        key, value = self
        if not is_key(key):
            raise LocalProtocolError(f"{shown(key)} is not a valid key of a map")
        if not _is_value(value):
            raise LocalProtocolError(f"{shown(value)} is not a valid value of a map")
        return self

    @property
    def line(self) -> str:
        """As payloads and map files have it."""
        return f"{self.key} {self.value}"


def is_entry(key: str, value: str) -> bool:
    """Whether commands and a map file can carry it."""
    return is_key(key) and _is_value(value)


def _is_value(value: str) -> bool:
    return _VALUE.fullmatch(value) is not None and len(value) <= VALUE_MAX_BYTES


def is_key(text: str) -> bool:
    """Whether commands and a map file can carry ``text`` as a key."""
    return is_word(text) and not text.startswith("#")


def is_word(value: str) -> bool:
    """Whether a command's line can carry ``value``, as ``set map`` must."""
    return len(value) <= WORD_MAX_BYTES and _WORD.fullmatch(value) is not None


# -- what HAProxy shows ------------------------------------------------------------------------


def parse_found(text: str) -> tuple[str, str] | None:
    """``get map FILE KEY``: the entry that HAProxy finds, which with a tree of beginnings is the
    longest that fits; None if there is none."""
    found = _FOUND.fullmatch(text)
    return (found[1], found[2]) if found else None


def parse_map(text: str) -> Mapping[str, str]:
    """``show map FILE``: key -> the value that HAProxy finds. Raises RemoteProtocolError if it is
    something else."""
    entries: list[MapEntry] = []
    for line in text.split("\n") if text else ():
        if row := _SHOWN.fullmatch(line):
            entries.append(MapEntry(row[1], row[2]))
        elif entries:  # somebody made a value of two lines
            entries[-1] = entries[-1]._replace(value=f"{entries[-1].value}\n{line}")
        else:
            raise RemoteProtocolError(f"no answer of 'show map': {text[:200]!r}")
    return _found(entries)


def parse_map_file(text: str) -> Mapping[str, str]:
    """A map file, as HAProxy reads it when it starts: as `parse_map`."""
    lines = (line.strip(" \t\r") for line in text.split("\n"))
    words = (re.split(r"[ \t]+", line, maxsplit=1) for line in lines if line and line[0] != "#")
    return _found(MapEntry(key, "".join(value)) for key, *value in words)


def _found(entries: Iterable[MapEntry]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for key, value in entries:
        found.setdefault(key, value)  # further entries of a key are of no effect
    return found


def render_map(entries: Mapping[str, str]) -> str:
    """The map file with ``entries``, in their order. Raises LocalProtocolError if HAProxy would
    read others."""
    return "".join(f"{MapEntry(*item).checked().line}\n" for item in entries.items())


# -- one entry ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddEntry:
    """Add an entry; only for a key that the map does not have, or it would have it twice."""

    unit: Unit
    key: ClaimKey
    file: str
    entry: str
    value: str

    def command(self) -> Command:
        entry = MapEntry(self.entry, self.value).checked()
        if is_word(self.value):
            return Command.of("add", "map", self.file, *entry)
        return Command.of("add", "map", self.file, payload=entry.line.encode("ascii"))

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.SILENCE


@dataclass(frozen=True, slots=True)
class SetEntry:
    """Change the value of a key that the map has, to one that is a single word."""

    unit: Unit
    key: ClaimKey
    file: str
    entry: str
    value: str

    def command(self) -> Command:
        entry = MapEntry(self.entry, self.value).checked()
        if not is_word(self.value):
            raise LocalProtocolError(f"'set map' cannot carry {shown(self.value)}")
        return Command.of("set", "map", self.file, *entry)

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.SILENCE


@dataclass(frozen=True, slots=True)
class DeleteEntry:
    """Take a key away; one that is gone already is no failure."""

    unit: Unit
    key: ClaimKey
    file: str
    entry: str

    def command(self) -> Command:
        return Command.of("del", "map", self.file, MapEntry(self.entry, "-").checked().key)

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.MAP_ENTRY_DELETED
