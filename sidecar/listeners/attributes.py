"""What HAProxy is told of a backend beside its servers, as entries of maps: an attribute each.

Owns how an attribute's value becomes entries, and what was last read of them. Used by listeners of
every kind; must not know what an attribute is about. Does no I/O.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from sidecar.haproxy.dialect import MAP_UNKNOWN
from sidecar.haproxy.maps import (
    AddEntry,
    DeleteEntry,
    SetEntry,
    is_entry,
    is_word,
    parse_found,
    parse_map,
)
from sidecar.haproxy.operations import KeyOperation
from sidecar.model.desired import Attributes, BackendName, ClaimKey, Unit

#: The value of an entry whose key says it all.
_IS_THERE = "1"

#: Begins a part that is the whole key; no other part does.
_WHOLE = "="


class Attribute(Protocol):
    """One, however HAProxy has it; see `AttributeMap`."""

    @property
    def name(self) -> str: ...
    @property
    def exists(self) -> bool: ...
    @property
    def needed(self) -> bool: ...
    @property
    def otherwise(self) -> str: ...
    @property
    def values(self) -> Mapping[str, str]: ...
    def change(self, unit: Unit, value: str) -> Sequence[KeyOperation]: ...
    def remove(self, unit: Unit) -> Sequence[KeyOperation]: ...
    def questions(self, touched: Collection[ClaimKey] | None) -> list[str]: ...
    def parse(self, answers: Mapping[str, str]) -> None: ...


class AttributeMap:
    """What is known of a map whose keys are backends. ``name``: of the attribute. ``file``: as
    haproxy.cfg has it. ``needed``: a Route is not to be served without its value, even by a HAProxy
    that has no such map, but for the one that such a HAProxy goes by ``otherwise``. An entry of a
    backend that is not ours has no effect, and stays."""

    def __init__(self, name: str, file: str, *, needed: bool, otherwise: str = "") -> None:
        self.name = name
        self.file = file
        self.needed = needed
        self.otherwise = otherwise
        #: Whether HAProxy has it.
        self.exists = True
        self.values: dict[str, str] = {}

    @property
    def entries(self) -> Mapping[str, str]:
        """Those of the map."""
        return self.values

    def change(self, unit: Unit, value: str) -> Sequence[KeyOperation]:
        key = ClaimKey(self.name, unit)
        add = AddEntry(unit, key, self.file, unit, value)
        if unit not in self.values:
            return (add,)
        if is_word(value):
            return (SetEntry(unit, key, self.file, unit, value),)
        # No command replaces it by what has a semicolon, as a header may.
        return (*self.remove(unit), add)

    def remove(self, unit: Unit) -> Sequence[KeyOperation]:
        return (DeleteEntry(unit, ClaimKey(self.name, unit), self.file, unit),)

    def questions(self, touched: Collection[ClaimKey] | None) -> list[str]:
        """What shows the ``touched`` values; None: all."""
        if touched is None:
            return [f"show map {self.file}"]
        return [f"get map {self.file} {key.name}" for key in touched]

    def parse(self, answers: Mapping[str, str]) -> None:
        for question, reply in answers.items():
            if question == f"show map {self.file}":
                self.exists = reply not in MAP_UNKNOWN
                found = parse_map(reply).items() if self.exists else ()
                # Any other is of none of ours, and no file could have it.
                self.values = {key: value for key, value in found if is_entry(key, value)}
            elif question.startswith(f"get map {self.file} "):
                unit = question.rpartition(" ")[2]
                self.values.pop(unit, None)
                if shown := parse_found(reply):
                    self.values[unit] = shown[1]


class _EntriesMap(AttributeMap):
    """One with several entries of each backend, whose keys are ``UNIT/NAME``."""

    def questions(self, touched: Collection[ClaimKey] | None) -> list[str]:
        # No command shows all entries of one backend.
        return [f"show map {self.file}"] if touched is None or touched else []

    def _add(self, unit: Unit, key: str, value: str) -> KeyOperation:
        return AddEntry(unit, ClaimKey(self.name, unit), self.file, key, value)

    def _delete(self, unit: Unit, key: str) -> KeyOperation:
        return DeleteEntry(unit, ClaimKey(self.name, unit), self.file, key)


class PartsMap(_EntriesMap):
    """One whose values have several parts, with a comma between them: each is an entry with the key
    ``UNIT/PART``, because HAProxy looks for what a key begins with. So a key with which one of
    ``units`` begins is for that, too: it is a part of the first such one, which nobody wants."""

    def __init__(self, name: str, file: str, units: Iterable[Unit], *, needed: bool) -> None:
        super().__init__(name, file, needed=needed)
        self._units = tuple(units)

    def change(self, unit: Unit, value: str) -> Sequence[KeyOperation]:
        wanted, has = self._parts(value), self._parts(self.values.get(unit, ""))
        # What is allowed comes before the rest goes.
        added = [self._add(unit, self._key(unit, part), _IS_THERE) for part in sorted(wanted - has)]
        return (*added, *self._without(unit, has - wanted))

    def remove(self, unit: Unit) -> Sequence[KeyOperation]:
        return self._without(unit, self._parts(self.values.get(unit, "")))

    def parse(self, answers: Mapping[str, str]) -> None:
        if (reply := answers.get(f"show map {self.file}")) is None:
            return
        self.exists = reply not in MAP_UNKNOWN
        found: dict[str, list[str]] = {}
        for key in parse_map(reply) if self.exists else ():
            unit, _, part = key.partition("/")
            if not part:
                begun = (item for item in self._units if f"{item}/".startswith(key))
                unit, part = next(begun, ""), f"{_WHOLE}{key}"
            if unit and is_entry(key, _IS_THERE):
                found.setdefault(unit, []).append(part)
        self.values = {unit: ",".join(sorted(parts)) for unit, parts in found.items()}

    @property
    def entries(self) -> Mapping[str, str]:
        return {
            self._key(unit, part): _IS_THERE
            for unit, value in self.values.items()
            for part in self._parts(value)
        }

    def _without(self, unit: Unit, parts: Iterable[str]) -> Sequence[KeyOperation]:
        return [self._delete(unit, self._key(unit, part)) for part in sorted(parts)]

    @staticmethod
    def _key(unit: str, part: str) -> str:
        return part.removeprefix(_WHOLE) if part.startswith(_WHOLE) else f"{unit}/{part}"

    @staticmethod
    def _parts(value: str) -> set[str]:
        return set(filter(None, value.split(",")))


class FieldsMap(_EntriesMap):
    """One whose values have several named fields, which HAProxy looks up by their whole keys: an
    attribute's value is ``name:word`` of each, in the order of their names, with a blank between
    them. No name has a ``:``, and one may have none."""

    def __init__(self, name: str, file: str, *, needed: bool) -> None:
        super().__init__(name, file, needed=needed)
        # What somebody else wrote may have blanks, and so it is kept apart.
        self._fields: dict[Unit, dict[str, str]] = {}

    def change(self, unit: Unit, value: str) -> Sequence[KeyOperation]:
        has = self._fields.get(unit, {})
        wanted = dict(_split(item) for item in value.split())
        made: list[KeyOperation] = []
        for name, word in wanted.items():
            if name in has and has[name] != word:
                made += self._replace(unit, name, word)
            elif name not in has:
                made.append(self._add(unit, f"{unit}/{name}", word))
        return (*made, *self._without(unit, has.keys() - wanted.keys()))

    def remove(self, unit: Unit) -> Sequence[KeyOperation]:
        return self._without(unit, self._fields.get(unit, {}))

    def parse(self, answers: Mapping[str, str]) -> None:
        if (reply := answers.get(f"show map {self.file}")) is None:
            return
        self.exists = reply not in MAP_UNKNOWN
        self._fields = {}
        for key, value in parse_map(reply).items() if self.exists else ():
            unit, slash, name = key.partition("/")
            if slash and is_entry(key, value):
                self._fields.setdefault(BackendName(unit), {})[name] = value
        self.values = {
            unit: " ".join(f"{name}:{fields[name]}" for name in sorted(fields))
            for unit, fields in self._fields.items()
        }

    @property
    def entries(self) -> Mapping[str, str]:
        return {
            f"{unit}/{name}": value
            for unit, fields in self._fields.items()
            for name, value in fields.items()
        }

    def _replace(self, unit: Unit, name: str, word: str) -> Sequence[KeyOperation]:
        key = f"{unit}/{name}"
        if not is_word(word):
            # Too long for a command's line: for an instant there is none.
            return self._delete(unit, key), self._add(unit, key, word)
        return (SetEntry(unit, ClaimKey(self.name, unit), self.file, key, word),)

    def _without(self, unit: Unit, names: Iterable[str]) -> Sequence[KeyOperation]:
        return [self._delete(unit, f"{unit}/{name}") for name in sorted(names)]


class AttributeSet:
    """All of one kind of listeners, by name."""

    def __init__(self, attributes: Iterable[Attribute]) -> None:
        self._by_name = {item.name: item for item in attributes}

    @property
    def names(self) -> Collection[str]:
        return self._by_name.keys()

    def takes(self, attribute: str, value: str) -> bool:
        found = self._by_name.get(attribute)
        return found is not None and (found.exists or (found.needed and value != found.otherwise))

    def lacks(self, attribute: str, value: str) -> bool:
        return self.takes(attribute, value) and not self._by_name[attribute].exists

    def change(self, unit: Unit, attribute: str, value: str) -> Sequence[KeyOperation]:
        return self._by_name[attribute].change(unit, value)

    def remove(self, unit: Unit, attribute: str) -> Sequence[KeyOperation]:
        return self._by_name[attribute].remove(unit)

    def questions(self, touched: Collection[ClaimKey] | None) -> list[str]:
        """What shows the ``touched`` values; None: all."""
        lines: list[str] = []
        for item in self._by_name.values():
            own = [key for key in touched or () if key.listener == item.name]
            lines += item.questions(None if touched is None else own)
        return lines

    def parse(self, answers: Mapping[str, str]) -> None:
        for item in self._by_name.values():
            item.parse(answers)

    def of(self, unit: Unit) -> Attributes:
        """What HAProxy is told of ``unit``, as last read."""
        known = ((name, item.values.get(unit)) for name, item in self._by_name.items())
        return {name: value for name, value in known if value is not None}


def _split(item: str) -> tuple[str, str]:
    name, _, word = item.partition(":")
    return name, word
