"""The units that could not be brought to what is desired: why, how often it was tried, when next.

Owns the words for it in the log, one line for each new reason. Reads no clock: ``now`` is given, in
monotonic seconds.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sidecar.common.backoff import backoff_seconds
from sidecar.common.log_fields import about
from sidecar.listeners.base import ListenerKind
from sidecar.model.desired import Unit

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UnitFailure:
    """``retry_at``: on the loop's clock."""

    message: str
    attempts: int
    retry_at: float


class Failures(Mapping[Unit, UnitFailure]):
    """By unit."""

    def __init__(self, kind: ListenerKind) -> None:
        self._kind = kind
        self._failures: dict[Unit, UnitFailure] = {}

    def __getitem__(self, unit: Unit) -> UnitFailure:
        return self._failures[unit]

    def __iter__(self) -> Iterator[Unit]:
        return iter(self._failures)

    def __len__(self) -> int:
        return len(self._failures)

    def add(self, unit: Unit, message: str, now: float) -> float:
        """``unit`` failed; when to try it again."""
        former = self._failures.get(unit)
        attempts = former.attempts + 1 if former else 1
        retry_at = now + backoff_seconds(attempts)
        self._failures[unit] = UnitFailure(message, attempts, retry_at)
        if former is None or former.message != message:
            log.error(
                "%s: %s; retrying until it succeeds",
                self._kind.title(unit),
                message,
                extra=about(**self._kind.log_fields(unit)),
            )
        return retry_at

    def over(self, unit: Unit) -> bool:
        """It does not fail any more; whether it did."""
        return self._failures.pop(unit, None) is not None

    def clear(self) -> None:
        self._failures.clear()
