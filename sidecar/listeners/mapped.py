"""Backends that keys of a map lead to: of a host and path, or of an SNI name.

A claim key is one entry of HAProxy's map, so that each is set, read back and repaired by itself.
What was last read of the map is kept, because a look at one backend cannot ask which entries lead
there: it is the whole map at each slow compare, and after a change those entries that it touched.
An entry that leads to none of our backends is somebody else's doing: it counts as one of the first
backend, under a name that nobody claims, and so goes.
Must not know what an entry's key is made of (`sidecar.listeners.web_keys`). Does no I/O.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping

from sidecar.common.text import counted
from sidecar.haproxy.dialect import MAP_UNKNOWN
from sidecar.haproxy.maps import AddEntry, DeleteEntry, SetEntry, is_key, parse_map
from sidecar.haproxy.operations import KeyOperation
from sidecar.haproxy.state import ObservedUnit
from sidecar.listeners.base import ExposureRules
from sidecar.model.desired import BackendClass, BackendName, ClaimKey, Unit

#: An entry stands without a server, too: HAProxy answers 503, and does not look for a shorter path.
_RULES = ExposureRules(conceal_after_seconds=None, min_toggle_seconds=0.0)

_NOTHING: frozenset[ClaimKey] = frozenset()

_OTHER_CONFIG = "it runs on another haproxy.cfg: render it from these settings and restart HAProxy"

#: Ends the name of an entry that leads to none of our backends; no key has a blank.
_STRAY = " (leads elsewhere)"

#: HAProxy's answer to "get map": with a tree of beginnings, of the longest that fits.
_FOUND = re.compile(r'.*\bfound=yes\b.*\bkey="(.*)", value="(.*)", type=.*')


class MappedBackends:
    """The backends of ``classes``, to which the entries of ``map_file`` lead; a `ListenerKind`.

    ``name``: of its claim keys. ``map_file``: as haproxy.cfg has it. ``describe``: an entry's key
    for a person.
    """

    def __init__(
        self,
        name: str,
        map_file: str,
        classes: Mapping[Unit, BackendClass],
        describe: Callable[[str], str],
    ) -> None:
        self.name = name
        self.classes = classes
        self._file = map_file
        self._describe = describe
        # key -> the unit that it leads to (None: to none of ours), and the other way round, as last
        # read; without those that go before any other becomes an entry
        self._leads: dict[str, Unit | None] = {}
        self._leading: dict[Unit, frozenset[ClaimKey]] = {}
        # whether HAProxy has the map; it may run on another haproxy.cfg
        self._exists = True

    def rules(self, _unit: Unit, /) -> ExposureRules:
        return _RULES

    def expose(self, key: ClaimKey, unit: Unit) -> KeyOperation:
        # Never on a guess: a second entry of one key would stay behind the first.
        if key.name in self._leads:
            return SetEntry(unit, key, self._file, key.name, unit)
        return AddEntry(unit, key, self._file, key.name, unit)

    def conceal(self, key: ClaimKey, unit: Unit) -> KeyOperation:
        return DeleteEntry(unit, key, self._file, _entry(key))

    def questions(
        self, units: Collection[Unit] | None, touched: Collection[ClaimKey], /
    ) -> list[str]:
        if units is None:
            return [f"show map {self._file}"]
        return list(dict.fromkeys(f"{self._get}{_entry(key)}" for key in touched))

    def parse(
        self, answers: Mapping[str, str], units: Collection[Unit], /
    ) -> dict[Unit, frozenset[ClaimKey]]:
        for question, reply in answers.items():
            if question == f"show map {self._file}":
                self._exists = reply not in MAP_UNKNOWN
                self._read_all(parse_map(reply).entries if self._exists else {})
            elif question.startswith(self._get):
                self._read(question.removeprefix(self._get), reply)
        return {unit: self._leading.get(unit, _NOTHING) for unit in units if self._exists}

    def absence(self, unit: Unit) -> str:
        return f"HAProxy has no backend {unit}; {_OTHER_CONFIG}"

    def problems(self, observed: Mapping[Unit, ObservedUnit]) -> Iterable[str]:
        if absent := [unit for unit in self.classes if unit not in observed]:
            backends = counted(len(absent), "backend")
            yield f"HAProxy lacks {backends}, first {absent[0]}; {_OTHER_CONFIG}"

    def title(self, unit: Unit) -> str:
        keys = (key.name for key in self._leading.get(unit, _NOTHING))
        own = sorted(name for name in keys if not name.endswith(_STRAY))
        return self._describe(own[0]) if own else f"backend {unit}"

    def port(self, _unit: Unit, /) -> None:
        return None

    def log_fields(self, unit: Unit) -> Mapping[str, object]:
        return {"backend": unit}

    @property
    def leads(self) -> Mapping[str, Unit]:
        """Entry -> the unit that it leads to, as last read."""
        return {key: unit for key, unit in self._leads.items() if unit is not None}

    @property
    def _get(self) -> str:
        return f"get map {self._file} "

    def _own(self, value: str) -> Unit | None:
        """The unit that an entry leads to; None for one that somebody else made, or that is of
        former settings."""
        unit = BackendName(value)
        return unit if unit in self.classes else None

    def _read_all(self, entries: Mapping[str, str]) -> None:
        self._leads = {}
        leading: dict[Unit, set[ClaimKey]] = {}
        keeper = next(iter(self.classes), None)
        for key, value in entries.items():
            if not is_key(key):
                continue  # no command can carry it, and no Route claims it
            if (unit := self._own(value)) is not None:
                self._leads[key] = unit
                leading.setdefault(unit, set()).add(ClaimKey(self.name, key))
            elif keeper is not None:
                leading.setdefault(keeper, set()).add(ClaimKey(self.name, f"{key}{_STRAY}"))
        self._leading = {unit: frozenset(keys) for unit, keys in leading.items()}

    def _read(self, key: str, reply: str) -> None:
        """One entry, of which others may be the beginning."""
        found = _FOUND.fullmatch(reply)
        before = self._leads.pop(key, None) or next(iter(self.classes))
        claim = ClaimKey(self.name, key)
        gone = {claim, ClaimKey(self.name, f"{key}{_STRAY}")}
        self._leading[before] = self._leading.get(before, _NOTHING) - gone
        if found and found[1] == key:
            now = self._leads[key] = self._own(found[2])
            if now is not None:
                self._leading[now] = self._leading.get(now, _NOTHING) | {claim}


def _entry(key: ClaimKey) -> str:
    return key.name.removesuffix(_STRAY)
