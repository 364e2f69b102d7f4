"""Several kinds of listeners as one: who has a unit or a key, answers for it. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from sidecar.haproxy.operations import KeyOperation
from sidecar.haproxy.state import ObservedUnit
from sidecar.listeners.base import ExposureRules, ListenerKind
from sidecar.model.desired import Attributes, BackendClass, ClaimKey, Unit


class Kinds:
    """A `ListenerKind` made of others."""

    def __init__(self, *kinds: ListenerKind) -> None:
        self._kinds = kinds
        self._by_name = {name: kind for kind in kinds for name in kind.names}
        self._of = {unit: kind for kind in kinds for unit in kind.classes}
        self.classes: Mapping[Unit, BackendClass] = {
            unit: item for kind in kinds for unit, item in kind.classes.items()
        }

    @property
    def names(self) -> Collection[str]:
        return self._by_name.keys()

    def rules(self, unit: Unit, /) -> ExposureRules:
        return self._of[unit].rules(unit)

    def expose(self, key: ClaimKey, unit: Unit) -> KeyOperation:
        return self._by_name[key.listener].expose(key, unit)

    def conceal(self, key: ClaimKey, unit: Unit) -> KeyOperation:
        return self._by_name[key.listener].conceal(key, unit)

    def takes(self, attribute: str, value: str) -> bool:
        return any(kind.takes(attribute, value) for kind in self._kinds)

    def lacks(self, attribute: str, value: str) -> bool:
        return any(kind.lacks(attribute, value) for kind in self._kinds)

    def guards(self, attribute: str) -> bool:
        return any(kind.guards(attribute) for kind in self._kinds)

    def judges(self, attribute: str) -> bool:
        return any(kind.judges(attribute) for kind in self._kinds)

    def judged_by(self, attributes: Attributes) -> str:
        return next(filter(None, (kind.judged_by(attributes) for kind in self._kinds)), "")

    def describe(self, unit: Unit, attribute: str, value: str) -> Sequence[KeyOperation]:
        return self._of[unit].describe(unit, attribute, value)

    def forget(self, unit: Unit, attribute: str) -> Sequence[KeyOperation]:
        return self._of[unit].forget(unit, attribute)

    def questions(
        self, units: Collection[Unit] | None, touched: Collection[ClaimKey], /
    ) -> list[str]:
        lines: list[str] = []
        for kind in self._kinds:
            own = None if units is None else [unit for unit in units if self._of[unit] is kind]
            keys = [key for key in touched if key.listener in kind.names]
            if own is None or own or keys:
                lines += kind.questions(own, keys)
        return lines

    def parse(
        self, answers: Mapping[str, str], units: Collection[Unit], /
    ) -> dict[Unit, frozenset[ClaimKey]]:
        found: dict[Unit, frozenset[ClaimKey]] = {}
        for kind in self._kinds:
            found.update(kind.parse(answers, [unit for unit in units if self._of[unit] is kind]))
        return found

    def attributes(self, unit: Unit) -> Attributes:
        return self._of[unit].attributes(unit)

    def absence(self, unit: Unit) -> str:
        return self._of[unit].absence(unit)

    def problems(self, observed: Mapping[Unit, ObservedUnit]) -> Iterable[str]:
        for kind in self._kinds:
            yield from kind.problems(
                {unit: seen for unit, seen in observed.items() if self._of[unit] is kind}
            )

    def title(self, unit: Unit) -> str:
        return self._of[unit].title(unit)

    def port(self, unit: Unit) -> int | None:
        return self._of[unit].port(unit)

    def log_fields(self, unit: Unit) -> Mapping[str, object]:
        return self._of[unit].log_fields(unit)
