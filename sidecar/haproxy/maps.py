"""HAProxy's maps over the Runtime API: what they show, and the least that makes them as desired.

A map is a file of haproxy.cfg, by exactly the name that it has there. The rules, measured on 2.6,
3.0 and 3.2:

* ``add map`` never looks whether the key exists: of two entries the first one added wins. ``set
  map`` changes both, and fails where there is none. So what to do follows from ``show map``.
* ``prepare map`` opens a version that no lookup sees before ``commit map``, which replaces all
  entries at once: no request finds a key missing. No ``set map`` meanwhile: some 3.2 loop for ever.
* In a command a blank ends a value, without an error. In a payload a line is a key, a blank and
  the value, to its end; a line without a value swallows the next one.
* In a file a line that begins with ``#`` is a comment, and blanks at its end are dropped.

Therefore a key is one word that any command can carry, and a value printable ASCII. Pure.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sidecar.common.errors import LocalProtocolError, RemoteProtocolError
from sidecar.common.text import shown
from sidecar.haproxy import dialect
from sidecar.haproxy.operations import KeyOperation
from sidecar.haproxy.protocol import WITH_PAYLOAD_MAX_BYTES, Command
from sidecar.model.desired import BackendName, ClaimKey, Unit

#: A key; a value that is longer, or is no word, only fits into a payload.
WORD_MAX_BYTES = 2048

#: A value; with its key, a command's words and a file's name it stays below a payload's maximum.
VALUE_MAX_BYTES = 8192

# Whatever a command's line can carry (see `sidecar.haproxy.protocol`), without blanks.
_WORD = re.compile(r"(?!.*<<)[!#-&(-:<-\[\]-~]+")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")

_SHOWN = re.compile(r"0x[0-9a-f]+ ([^ ]*) (.*)")
_STATUS = re.compile(r"^\S+ \((\S*)\) .*\bcurr_ver=([0-9]+) next_ver=([0-9]+)", re.MULTILINE)

#: So many changes are always made one by one, where that is possible.
FEW = 50

#: A change by a command of its own costs HAProxy as much as so many entries of a transaction.
ENTRIES_PER_CHANGE = 2

#: Before 3.0, ``set map`` passes so many entries while a transaction adds one.
PASSED_PER_ENTRY = 200


class MapEntry(NamedTuple):
    """A key, and what it leads to."""

    key: str
    value: str

    def checked(self) -> "MapEntry":
        """Itself. Raises LocalProtocolError if HAProxy, or its map file, would hold another."""
        key, value = self
        if not is_key(key):
            raise LocalProtocolError(f"{shown(key)} is not a valid key of a map")
        if not _VALUE.fullmatch(value) or len(value) > VALUE_MAX_BYTES:
            raise LocalProtocolError(f"{shown(value)} is not a valid value of a map")
        return self

    @property
    def line(self) -> str:
        """As payloads and map files have it."""
        return f"{self.key} {self.value}"


def is_key(text: str) -> bool:
    """Whether commands and a map file can carry ``text`` as a key."""
    return _is_word(text) and not text.startswith("#")


def _is_word(value: str) -> bool:
    """Whether a command's line can carry ``value``, as ``set map`` must."""
    return len(value) <= WORD_MAX_BYTES and _WORD.fullmatch(value) is not None


# -- what HAProxy shows ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ObservedMap:
    """A map as it answers. ``entries``: key -> the value that HAProxy finds. ``doubled``: keys
    that have further entries, which were added later and are of no effect."""

    entries: Mapping[str, str]
    doubled: frozenset[str]

    def wrong(self, desired: Mapping[str, str]) -> set[str]:
        """The keys that are not as in ``desired``: missing, another's, too many or doubled."""
        differing = self.entries.items() ^ desired.items()
        return {key for key, _ in differing} | self.doubled


def parse_map(text: str) -> ObservedMap:
    """``show map FILE``. Raises RemoteProtocolError if it is something else."""
    entries: list[MapEntry] = []
    for line in text.split("\n") if text else ():
        if row := _SHOWN.fullmatch(line):
            entries.append(MapEntry(row[1], row[2]))
        elif entries:  # somebody made a value of two lines
            entries[-1] = entries[-1]._replace(value=f"{entries[-1].value}\n{line}")
        else:
            raise RemoteProtocolError(f"no answer of 'show map': {text[:200]!r}")
    return _observed(entries)


def parse_map_file(text: str) -> ObservedMap:
    """A map file, as HAProxy reads it when it starts."""
    lines = (line.strip(" \t\r") for line in text.split("\n"))
    words = (re.split(r"[ \t]+", line, maxsplit=1) for line in lines if line and line[0] != "#")
    return _observed([MapEntry(key, "".join(value)) for key, *value in words])


def _observed(entries: Sequence[MapEntry]) -> ObservedMap:
    found: dict[str, str] = {}
    doubled = set()
    for key, value in entries:
        if key in found:
            doubled.add(key)
        else:
            found[key] = value
    return ObservedMap(found, frozenset(doubled))


def parse_open_versions(text: str, file: str) -> range:
    """``show map`` without a name: the versions of ``file`` that were opened after its present
    one. They may be empty: ``entry_cnt`` does not tell, HAProxy miscounts entries that it refuses.

    Raises RemoteProtocolError if HAProxy has no such map.
    """
    for name, current, newest in _STATUS.findall(text):
        if name == file:
            return range(int(current) + 1, int(newest) + 1)
    raise RemoteProtocolError(f"HAProxy has no map {file}: {text[:200]!r}")


def render_map(entries: Mapping[str, str]) -> str:
    """The map file with ``entries``, in their order. Raises LocalProtocolError if HAProxy would
    read others."""
    return "".join(f"{entry.checked().line}\n" for entry in _of(entries))


def _of(entries: Mapping[str, str]) -> Iterable[MapEntry]:
    return (MapEntry(key, value) for key, value in entries.items())


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
        if _is_word(self.value):
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
        if not _is_word(self.value):
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


#: One change of one entry.
EntryOperation = AddEntry | SetEntry | DeleteEntry


# -- all entries at once -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PrepareMap:
    """Open a version, whose number the reply has."""

    file: str

    @property
    def unit(self) -> Unit:
        """What is done for a whole map has its file in the unit's place."""
        return BackendName(self.file)

    def command(self) -> Command:
        return Command.of("prepare", "map", self.file)

    def succeeded(self, reply: str) -> bool:
        return dialect.MAP_PREPARED.fullmatch(reply) is not None


def prepared_version(reply: str) -> int:
    """Of a reply that `PrepareMap` calls success."""
    return int(reply.rpartition(" ")[2])


@dataclass(frozen=True, slots=True)
class _OfVersion:
    """What is done with an open version of a map."""

    file: str
    version: int

    @property
    def unit(self) -> Unit:
        return BackendName(self.file)

    def succeeded(self, reply: str) -> bool:
        return reply in dialect.SILENCE

    def _command(self, verb: str, payload: bytes | None = None) -> Command:
        return Command.of(verb, "map", f"@{self.version}", self.file, payload=payload)


@dataclass(frozen=True, slots=True)
class FillMap(_OfVersion):
    """Add the lines of ``payload`` to an open version."""

    payload: bytes = field(repr=False)

    def command(self) -> Command:
        return self._command("add", self.payload)


@dataclass(frozen=True, slots=True)
class CommitMap(_OfVersion):
    """Let an open version replace all entries, and older open ones, at once."""

    def command(self) -> Command:
        return self._command("commit")


@dataclass(frozen=True, slots=True)
class ClearMap(_OfVersion):
    """Throw an open version away."""

    def command(self) -> Command:
        return self._command("clear")


@dataclass(frozen=True, slots=True)
class Transaction:
    """All entries of a map, to be replaced at once. ``payloads``: each fits into one command."""

    file: str
    payloads: tuple[bytes, ...]

    def fill(self, version: int) -> list[FillMap]:
        return [FillMap(self.file, version, payload) for payload in self.payloads]


def transaction(file: str, desired: Mapping[str, str]) -> Transaction:
    """The one after which ``file`` has just ``desired``. Raises LocalProtocolError if an entry
    would not arrive."""
    room = WITH_PAYLOAD_MAX_BYTES - len(f"add map @{2**32} {file} <<\n\n\n")
    payloads: list[bytes] = []
    lines: list[str] = []
    size = 0
    for entry in _of(desired):
        line = entry.checked().line
        if lines and size + len(line) > room:
            payloads.append("\n".join(lines).encode("ascii"))
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    if lines:
        payloads.append("\n".join(lines).encode("ascii"))
    return Transaction(file, tuple(payloads))


# -- which of both -----------------------------------------------------------------------------

#: For whom an entry is changed, and what clients ask for there.
OwnerOf = Callable[[MapEntry], tuple[Unit, ClaimKey]]


def single_changes(
    file: str, observed: ObservedMap, desired: Mapping[str, str], owner_of: OwnerOf
) -> list[EntryOperation]:
    """What makes each entry of ``file`` as in ``desired``; those that are doubled stay so.

    ``owner_of`` is asked with the entry as it will be; with the present one, if it is to go.
    """
    has = observed.entries
    removed = [MapEntry(key, value) for key, value in has.items() if key not in desired]
    changes: list[EntryOperation] = [
        DeleteEntry(*owner_of(entry), file, entry.key) for entry in removed
    ]
    for entry in _of(desired):
        if entry.key not in has:
            changes.append(AddEntry(*owner_of(entry), file, *entry))
        elif has[entry.key] != entry.value:
            changes.append(SetEntry(*owner_of(entry), file, *entry))
    return changes


def map_changes(
    file: str,
    observed: ObservedMap,
    desired: Mapping[str, str],
    owner_of: OwnerOf,
    version: dialect.Dialect,
) -> list[EntryOperation] | Transaction:
    """The cheapest for HAProxy that makes ``file`` as in ``desired``: one command for each entry,
    or, where they are many or could not do it, all entries at once.

    Raises LocalProtocolError if an entry of ``desired`` would not arrive.
    """
    changes = single_changes(file, observed, desired, owner_of)
    if observed.doubled or not all(map(_is_possible, changes)):
        return transaction(file, desired)
    if len(changes) > FEW:
        searching = sum(not isinstance(item, AddEntry) for item in changes)
        passed = 0 if version.finds_map_entries else len(observed.entries) * searching
        cost = ENTRIES_PER_CHANGE * len(changes) + passed / PASSED_PER_ENTRY
        if cost > len(desired):
            return transaction(file, desired)
    return changes


def _is_possible(change: KeyOperation) -> bool:
    try:
        change.command()
    except LocalProtocolError:
        return False
    return True
