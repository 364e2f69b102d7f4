"""The seam: what a kind of listener is to everybody else.

Claims, slots, the planner, the schedule, the loop and the reports handle the values of
`sidecar.model.desired` only; what is peculiar to a kind (a TCP port; a host with a path, or an
SNI) stands behind `ListenerKind`. Kinds do not know each other. Pure: no I/O, no clock.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sidecar.haproxy.operations import KeyOperation
from sidecar.haproxy.state import ObservedUnit
from sidecar.model.desired import Attributes, BackendClass, ClaimKey, Unit


@dataclass(frozen=True, slots=True)
class ExposureRules:
    """When a key may begin and cease to lead to its unit.

    ``conceal_after_seconds``: for how long it stays exposed without a server that takes
    connections; None: it is exposed whether it has any or not. ``min_toggle_seconds``: for how long
    it stays as it was just put. ``let_in_seconds``: for how long a client that was let in may be on
    its way to a server.
    """

    conceal_after_seconds: float | None
    min_toggle_seconds: float
    let_in_seconds: float = 0.0


class ListenerKind(Protocol):
    """A way in which clients get to backends."""

    @property
    def names(self) -> Collection[str]:
        """Those in its claim keys."""

    @property
    def classes(self) -> Mapping[Unit, BackendClass]:
        """Its backends in haproxy.cfg, in the order in which they are shown."""

    def rules(self, unit: Unit, /) -> ExposureRules: ...

    def expose(self, key: ClaimKey, unit: Unit) -> KeyOperation:
        """Let ``key``, which does not lead to ``unit``, lead there."""

    def conceal(self, key: ClaimKey, unit: Unit) -> KeyOperation:
        """Let ``key``, which leads to ``unit``, lead nowhere."""

    def takes(self, attribute: str, value: str) -> bool:
        """Whether HAProxy is to be told of this attribute, if it should have this value."""

    def lacks(self, attribute: str, value: str) -> bool:
        """Whether HAProxy is to be told of it and cannot be: clients get nowhere until it can."""

    def guards(self, attribute: str) -> bool:
        """Whether a server of a unit may take connections only while HAProxy shows the value of
        this attribute that the unit should have, and none made with another value."""

    def judges(self, attribute: str) -> bool:
        """Whether clients of a unit are let in by it: another value is read back before any of
        them gets to a server that the unit did not have."""

    def judged_by(self, attributes: Attributes) -> str:
        """Whose rules let clients in where these are told; "" where all may come."""

    def describe(self, unit: Unit, attribute: str, value: str) -> Sequence[KeyOperation]:
        """Tell HAProxy that ``unit`` has this value of an attribute."""

    def forget(self, unit: Unit, attribute: str) -> Sequence[KeyOperation]:
        """Tell HAProxy that it has none."""

    def questions(
        self, units: Collection[Unit] | None, touched: Collection[ClaimKey], /
    ) -> list[str]:
        """What to ask HAProxy for to see the keys that lead to ``units``, and their attributes;
        None: to all. Of some only the ``touched`` ones may have changed since all were seen."""

    def parse(
        self, answers: Mapping[str, str], units: Collection[Unit], /
    ) -> Mapping[Unit, frozenset[ClaimKey]]:
        """unit -> the keys that lead to it. ``answers``: by question, of other kinds, too. One of
        ``units`` that HAProxy cannot expose, since it runs on another haproxy.cfg, is absent."""

    def attributes(self, unit: Unit) -> Attributes:
        """What HAProxy is told of ``unit``, as last parsed."""

    def absence(self, unit: Unit) -> str:
        """What is to be said where HAProxy lacks ``unit``."""

    def problems(self, observed: Mapping[Unit, ObservedUnit]) -> Iterable[str]:
        """What a running HAProxy, ``observed`` as a whole, lacks of the kind, a line each."""

    def title(self, unit: Unit) -> str:
        """For a person: ``port 30000``."""

    def port(self, unit: Unit) -> int | None:
        """The TCP port that leads to ``unit`` alone; None where there is none."""

    def log_fields(self, unit: Unit) -> Mapping[str, object]:
        """For the fields of a log record: ``{"port": 30000}``."""
