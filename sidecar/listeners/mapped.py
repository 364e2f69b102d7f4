"""Backends that entries of maps lead to: of a host and path, or of an SNI name.

A claim key is one entry of one of HAProxy's maps, so that each is set, read back and repaired by
itself. What was last read of the maps is kept, because a look at one backend cannot ask which
entries lead there: it is whole maps at each slow compare, and after a change those entries that it
touched. An entry that leads to none of our backends is somebody else's doing: it counts as one of
the first backend, under a name that nobody claims, and so goes.
Must not know what an entry's key is made of (`sidecar.listeners.web_keys`). Does no I/O.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from sidecar.common.text import counted
from sidecar.haproxy.dialect import MAP_UNKNOWN, OTHER_CONFIG
from sidecar.haproxy.maps import (
    AddEntry,
    DeleteEntry,
    SetEntry,
    is_key,
    parse_found,
    parse_map,
)
from sidecar.haproxy.operations import KeyOperation
from sidecar.haproxy.state import ObservedUnit
from sidecar.listeners.attributes import AttributeMap, AttributeSet
from sidecar.listeners.base import ExposureRules
from sidecar.listeners.trust import TrustFiles
from sidecar.model.desired import Attributes, BackendClass, BackendName, ClaimKey, Unit

#: An entry stands without a server, too: HAProxy answers 503, and does not look for a shorter path.
_RULES = ExposureRules(conceal_after_seconds=None, min_toggle_seconds=0.0)

_NOTHING: frozenset[ClaimKey] = frozenset()

#: Ends the name of an entry that leads to none of our backends; no key has a blank.
_STRAY = " (leads elsewhere)"


class EntryMap:
    """What is known of one map. ``name``: of its claim keys. ``file``: as haproxy.cfg has it.
    ``describe``: an entry's key for a person."""

    def __init__(self, name: str, file: str, describe: Callable[[str], str]) -> None:
        self.name = name
        self.file = file
        self.describe = describe
        #: Whether HAProxy has it; it may run on another haproxy.cfg.
        self.exists = True
        # key -> the unit that it leads to (None: to none of ours), and the other way round, as last
        # read; without those that go before any other becomes an entry
        self._leads: dict[str, Unit | None] = {}
        self._leading: dict[Unit, frozenset[ClaimKey]] = {}

    def has(self, key: str) -> bool:
        return key in self._leads

    def leads_to(self, key: str) -> Unit | None:
        return self._leads.get(key)

    @property
    def leads(self) -> Mapping[str, Unit]:
        """Entry -> the unit that it leads to, as last read."""
        return {key: unit for key, unit in self._leads.items() if unit is not None}

    @property
    def entries(self) -> Iterable[tuple[str, Unit | None]]:
        return self._leads.items()

    def leading(self, unit: Unit) -> frozenset[ClaimKey]:
        return self._leading.get(unit, _NOTHING)

    def questions(self, touched: Collection[ClaimKey] | None) -> list[str]:
        """What shows the ``touched`` entries; None: all."""
        if touched is None:
            return [self._show]
        return list(dict.fromkeys(f"{self._get}{_entry(key)}" for key in touched))

    def parse(self, answers: Mapping[str, str], units: Mapping[Unit, object]) -> None:
        """``units``: those that an entry may lead to, of which the first one keeps strays."""
        for question, reply in answers.items():
            if question == self._show:
                self.exists = reply not in MAP_UNKNOWN
                self._read_all(parse_map(reply) if self.exists else {}, units)
            elif question.startswith(self._get):
                self._read(question.removeprefix(self._get), reply, units)

    @property
    def _show(self) -> str:
        return f"show map {self.file}"

    @property
    def _get(self) -> str:
        return f"get map {self.file} "

    def _read_all(self, entries: Mapping[str, str], units: Mapping[Unit, object]) -> None:
        self._leads = {}
        leading: dict[Unit, set[ClaimKey]] = {}
        keeper = next(iter(units), None)
        for key, value in entries.items():
            if not is_key(key):
                continue  # no command can carry it, and no Route claims it
            if (unit := _own(value, units)) is not None:
                self._leads[key] = unit
                leading.setdefault(unit, set()).add(ClaimKey(self.name, key))
            elif keeper is not None:
                leading.setdefault(keeper, set()).add(ClaimKey(self.name, f"{key}{_STRAY}"))
        self._leading = {unit: frozenset(keys) for unit, keys in leading.items()}

    def _read(self, key: str, reply: str, units: Mapping[Unit, object]) -> None:
        """One entry, of which others may be the beginning."""
        found = parse_found(reply)
        before = self._leads.pop(key, None) or next(iter(units))
        claim = ClaimKey(self.name, key)
        gone = {claim, ClaimKey(self.name, f"{key}{_STRAY}")}
        self._leading[before] = self.leading(before) - gone
        if found and found[0] == key:
            now = self._leads[key] = _own(found[1], units)
            if now is not None:
                self._leading[now] = self.leading(now) | {claim}


class MappedBackends:
    """The backends of ``classes``, to which entries of ``maps`` lead, and of which HAProxy is told
    ``attributes``, and whom it is to trust; a `ListenerKind`. ``trust``: None where nobody is
    verified."""

    def __init__(
        self,
        maps: Iterable[EntryMap],
        classes: Mapping[Unit, BackendClass],
        attributes: Iterable[AttributeMap] = (),
        trust: TrustFiles | None = None,
    ) -> None:
        self.classes = classes
        self.maps = tuple(maps)
        self.attribute_maps = tuple(attributes)
        self.trust = trust
        self._attributes = AttributeSet([*self.attribute_maps, *([trust] if trust else [])])
        self._map = {item.name: item for item in self.maps}

    @property
    def names(self) -> Collection[str]:
        return [*self._map, *self._attributes.names]

    def rules(self, _unit: Unit, /) -> ExposureRules:
        return _RULES

    def expose(self, key: ClaimKey, unit: Unit) -> KeyOperation:
        of = self._map[key.listener]
        # Never on a guess: a second entry of one key would stay behind the first.
        if of.has(key.name):
            return SetEntry(unit, key, of.file, key.name, unit)
        return AddEntry(unit, key, of.file, key.name, unit)

    def conceal(self, key: ClaimKey, unit: Unit) -> KeyOperation:
        return DeleteEntry(unit, key, self._map[key.listener].file, _entry(key))

    def takes(self, attribute: str, value: str) -> bool:
        return self._attributes.takes(attribute, value)

    def lacks(self, attribute: str, value: str) -> bool:
        return self._attributes.lacks(attribute, value)

    def guards(self, attribute: str) -> bool:
        return self.trust is not None and attribute == self.trust.name

    def judges(self, _attribute: str, /) -> bool:
        return False

    def judged_by(self, _attributes: Attributes, /) -> str:
        return ""

    def describe(self, unit: Unit, attribute: str, value: str) -> Sequence[KeyOperation]:
        return self._attributes.change(unit, attribute, value)

    def forget(self, unit: Unit, attribute: str) -> Sequence[KeyOperation]:
        return self._attributes.remove(unit, attribute)

    def questions(
        self, units: Collection[Unit] | None, touched: Collection[ClaimKey], /
    ) -> list[str]:
        lines: list[str] = []
        for item in self.maps:
            own = [key for key in touched if key.listener == item.name]
            lines += item.questions(None if units is None else own)
        return [*lines, *self._attributes.questions(None if units is None else touched)]

    def parse(
        self, answers: Mapping[str, str], units: Collection[Unit], /
    ) -> dict[Unit, frozenset[ClaimKey]]:
        for item in self.maps:
            item.parse(answers, self.classes)
        self._attributes.parse(answers)
        if not any(item.exists for item in self.maps):
            return {}
        return {unit: self._leading(unit) for unit in units}

    def attributes(self, unit: Unit) -> Attributes:
        return self._attributes.of(unit)

    def absence(self, unit: Unit) -> str:
        return f"HAProxy has no backend {unit}; {OTHER_CONFIG}"

    def problems(self, observed: Mapping[Unit, ObservedUnit]) -> Iterable[str]:
        if absent := [unit for unit in self.classes if unit not in observed]:
            backends = counted(len(absent), "backend")
            yield f"HAProxy lacks {backends}, first {absent[0]}; {OTHER_CONFIG}"
        if observed and (lacking := [item.file for item in self.maps if not item.exists]):
            yield f"HAProxy lacks the map {lacking[0]}; {OTHER_CONFIG}"

    def title(self, unit: Unit) -> str:
        own = sorted(key for key in self._leading(unit) if not key.name.endswith(_STRAY))
        return self._map[own[0].listener].describe(own[0].name) if own else f"backend {unit}"

    def port(self, _unit: Unit, /) -> None:
        return None

    def log_fields(self, unit: Unit) -> Mapping[str, object]:
        return {"backend": unit}

    def entries(self, listener: str) -> Iterable[tuple[str, Unit | None]]:
        """Of one map, and the unit that each leads to, as last read; None: none of ours."""
        return self._map[listener].entries

    @property
    def leads(self) -> Mapping[ClaimKey, Unit]:
        """Entry -> the unit that it leads to, as last read."""
        return {
            ClaimKey(item.name, key): unit for item in self.maps for key, unit in item.leads.items()
        }

    def leads_to(self, key: ClaimKey) -> Unit | None:
        """Where an entry leads, as last read."""
        found = self._map.get(key.listener)
        return found.leads_to(key.name) if found else None

    def _leading(self, unit: Unit) -> frozenset[ClaimKey]:
        return _NOTHING.union(*(item.leading(unit) for item in self.maps))


def _own(value: str, units: Mapping[Unit, object]) -> Unit | None:
    """The unit that an entry leads to; None for one that somebody else made, or that is of former
    settings."""
    unit = BackendName(value)
    return unit if unit in units else None


def _entry(key: ClaimKey) -> str:
    return key.name.removesuffix(_STRAY)
