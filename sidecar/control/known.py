"""What is known of each unit and of HAProxy, for those who report; the loop alone writes it.

Owns what the rounds leave behind: units as last seen, what fails, what found no room, what is held,
what is new. Nothing is decided on it but when to look again. Reports of other threads ask the loop
(`sidecar.control.loop_calls`).
"""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from sidecar.common.errors import RuntimeAPIError
from sidecar.control.connection import Connection
from sidecar.control.failures import Failures, UnitFailure
from sidecar.haproxy.state import ObservedUnit, ProcessInfo
from sidecar.listeners.base import ListenerKind
from sidecar.model.desired import Unit
from sidecar.planning.planner import Plan
from sidecar.planning.schedule import Schedule
from sidecar.planning.slots import is_clean

#: A unit that was tried so often fails: it takes some seconds.
FAILS_AFTER = 3


class UnitStatus(NamedTuple):
    """What is known of one unit. ``observed``: as last seen; None: not yet, or HAProxy lacks it.
    ``verified``: HAProxy was read back and shows what is desired. ``failure``: why it cannot be
    brought there. ``left_out``: how many endpoints found no room."""

    observed: ObservedUnit | None
    verified: bool
    failure: UnitFailure | None
    left_out: int

    @property
    def open(self) -> bool:
        """Clients get there."""
        return self.observed is not None and self.observed.open


class Known:
    """Of the units of ``kind``; ``schedule`` and ``connection`` are only asked."""

    def __init__(self, kind: ListenerKind, schedule: Schedule, connection: Connection) -> None:
        self._schedule = schedule
        self._connection = connection
        #: Units as last seen; one that HAProxy lacks is absent. To be read only.
        self.observed: dict[Unit, ObservedUnit] = {}
        self._left_out: dict[Unit, int] = {}
        self._touched: set[Unit] = set()
        #: Why units are not as desired.
        self.failures = Failures(kind)
        #: The units that are left as they are.
        self.held: frozenset[Unit] = frozenset()
        #: The identity of the process that was last compared as a whole, by this sidecar.
        self.compared: tuple[int, int] | None = None
        #: The identity of the process that was last brought to what is desired, certificates
        #: included; of a former sidecar, as long as it is not ours.
        self.programmed: tuple[int, int] | None = None
        #: The hosts whose clients are not shown the certificate that they should be, as last seen.
        self.lacking: Collection[str] = ()
        #: What HAProxy lacks of the pool, a line each.
        self.pool_problems: tuple[str, ...] = ()

    @property
    def process(self) -> ProcessInfo | None:
        """The HAProxy that was met last."""
        return self._connection.process

    @property
    def connection_error(self) -> RuntimeAPIError | None:
        """Why HAProxy cannot be asked, or changed, now."""
        return self._connection.error

    @property
    def converged(self) -> bool:
        """HAProxy was read back and shows what is desired, everywhere but on held units."""
        return self.process is not None and not (
            self._schedule.dirty or self.failures or self.lacking or self.connection_error
        )

    @property
    def is_compared(self) -> bool:
        """HAProxy answers, and was wholly compared since it started. What waited for that, as
        certificates do, may not be there yet."""
        answering = self._connection.answering
        return answering is not None and answering == self.compared

    @property
    def serving(self) -> bool:
        """HAProxy answers, and was wholly compared and brought to what is desired since it started,
        but for units that fail. What changed since may not be carried out yet."""
        answering = self._connection.answering
        return answering is not None and answering == self.programmed

    @property
    def left_out(self) -> Mapping[Unit, int]:
        """How many endpoints found no room, where some did not."""
        return MappingProxyType(self._left_out)

    def status(self, unit: Unit) -> UnitStatus:
        return UnitStatus(
            self.observed.get(unit),
            self.verified(unit),
            self.failures.get(unit),
            self._left_out.get(unit, 0),
        )

    def verified(self, unit: Unit) -> bool:
        """HAProxy was read back and shows what is desired of ``unit``; a held one is not driven."""
        return unit in self.observed and not (
            unit in self._schedule.dirty
            or unit in self.failures
            or unit in self.held
            or self.connection_error
        )

    def is_clean(self, unit: Unit) -> bool | None:
        """See `sidecar.planning.slots.is_clean`; None where HAProxy lacks ``unit``."""
        seen = self.observed.get(unit)
        return None if seen is None else is_clean(seen)

    def still(self, observed: Mapping[Unit, ObservedUnit]) -> frozenset[Unit]:
        """The units that are verified, and were last looked at for ``observed``."""
        return frozenset(
            unit
            for unit, seen in observed.items()
            if self.observed.get(unit) is seen and self.verified(unit)
        )

    def compares(self, unit: Unit) -> bool:
        """Whether ``unit`` is compared when it changes: it is not held, and HAProxy answers."""
        return unit not in self.held and self.connection_error is None

    def works(self, unit: Unit) -> bool:
        """Whether what is desired of ``unit`` is there soon: it is not held, nor has it failed
        again and again."""
        failure = self.failures.get(unit)
        return unit not in self.held and not (failure and failure.attempts >= FAILS_AFTER)

    def take_touched(self) -> set[Unit]:
        """The units that were changed in HAProxy, verified or failed since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    # For the loop.

    def touch(self, units: Iterable[Unit]) -> None:
        """Somebody may have to be told of ``units``."""
        self._touched.update(units)

    def saw(self, observed: Mapping[Unit, ObservedUnit], plans: Mapping[Unit, Plan]) -> None:
        """Units are as ``observed``, for which ``plans`` were made."""
        self.observed.update(observed)
        for unit, item in plans.items():
            if missing := len(item.assignment.left_out):
                self._left_out[unit] = missing
            else:
                self._left_out.pop(unit, None)

    def lost(self, unit: Unit) -> bool:
        """HAProxy does not have ``unit``; whether it had."""
        return self.observed.pop(unit, None) is not None

    def begin(self, there: Collection[Unit], problems: Iterable[str]) -> None:
        """A HAProxy that was not known has only what is ``there``, and ``problems``."""
        self.failures.clear()
        self.lacking = ()
        for unit in self.observed.keys() - there:
            del self.observed[unit]
        self.pool_problems = tuple(problems)
