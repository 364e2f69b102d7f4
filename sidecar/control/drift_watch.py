"""What somebody else changed in HAProxy: finds it, and says it to the history and the log.

Owns which units may be compared with what they were: those that only others could have changed
since. Decides nothing.
"""

import logging
from collections.abc import Collection, Iterable, Mapping

from sidecar.common.log_fields import about
from sidecar.common.metrics import Metrics
from sidecar.control.history import History
from sidecar.haproxy.state import ObservedUnit
from sidecar.listeners.base import ListenerKind
from sidecar.model.desired import Unit
from sidecar.planning.drift import changes, summary

log = logging.getLogger(__name__)


class DriftWatch:
    """Compares looks of ``kind``'s units; tells ``history``."""

    def __init__(self, kind: ListenerKind, history: History, metrics: Metrics) -> None:
        self._kind = kind
        self._history = history
        self._metrics = metrics
        # units that were not as desired when last seen, or that somebody else may change: what is
        # different on them at the next look may be our own doing
        self._unsettled: set[Unit] = set()

    def unsettle(self, units: Iterable[Unit]) -> None:
        """What is different on ``units`` at the next look is nobody else's doing."""
        self._unsettled.update(units)

    def settle(self, units: Iterable[Unit]) -> None:
        """``units`` are as desired: from now on only others change them."""
        self._unsettled.difference_update(units)

    def changed_by_others(
        self, before: Mapping[Unit, ObservedUnit], now: Mapping[Unit, ObservedUnit]
    ) -> dict[Unit, tuple[str, ...]]:
        """unit -> what is not as it was ``before``, when it was as desired."""
        return {
            unit: found
            for unit, seen in now.items()
            if unit not in self._unsettled
            and (was := before.get(unit))
            and (found := changes(was, seen))
        }

    def found(self, drift: Mapping[Unit, tuple[str, ...]], to_repair: Collection[Unit]) -> None:
        """Others changed units, of which some have to be repaired."""
        for unit, found in drift.items():
            if unit in to_repair:
                self._metrics.drift.inc()
                self._history.blame(unit, f"changed by somebody else: {summary(found)}")
            log.warning(
                "%s: changed by somebody else: %s; %s",
                self._kind.title(unit),
                summary(found),
                "repairing" if unit in to_repair else "it needs no repair",
                extra=about(**self._kind.log_fields(unit)),
            )
