"""What ``top`` knows of all ports and hosts: what /api/updates said, put together, and what came a
second in between.

Owns the counts of former reports. Asks nobody, and reads no clock: it is told when something came.
Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sidecar.cli.top.rows import Item, Rates, Row, row_of
from sidecar.common.shapes import ShapeError, read_as
from sidecar.reporting.reports import HostReport, PortReport, Report, WaitingReport

#: Errors are counted over so long.
ERRORS_SECONDS = 60.0


class Update(NamedTuple):
    """What is new. ``whole``: what is not in ``rows`` is gone. ``age_seconds``: how long ago its
    figures were counted, when it was sent. ``head``: all but the rows."""

    version: str
    whole: bool
    age_seconds: float
    head: Report
    rows: Mapping[str, Item]
    gone: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Answer:
    """The update's own shape; its rows are of three kinds."""

    version: str
    whole: bool
    age_seconds: float
    gone: tuple[str, ...]


class Known(NamedTuple):
    """All of it, at one moment."""

    head: Report
    rows: Mapping[str, Row]


class _Counts(NamedTuple):
    """Sums, as HAProxy counts them; None where it does not."""

    requests: int | None
    bytes_in: int | None
    bytes_out: int | None


def read_update(data: Any) -> Update:
    """An answer of /api/updates. Raises ShapeError."""
    answer = read_as(_Answer, data)
    head, rows = data.get("head"), data.get("rows")
    if not (isinstance(head, dict) and isinstance(rows, list)):
        raise ShapeError("an update without head and rows")
    report = read_as(Report, {**head, "ports": [], "hosts": [], "waiting": []})
    found = {}
    for row in rows:
        key = row.get("key") if isinstance(row, dict) else None
        if not isinstance(key, str):
            raise ShapeError("a row without its key")
        found[key] = _item(key, row)
    gone = frozenset(answer.gone)
    return Update(answer.version, answer.whole, answer.age_seconds, report, found, gone)


def _item(key: str, row: Any) -> Item:
    if key.startswith("port:"):
        return read_as(PortReport, row)
    if key.startswith("route:"):
        return read_as(WaitingReport, row)
    return read_as(HostReport, row)


class Memory:
    """``version``: of what it knows; "" for nothing."""

    def __init__(self) -> None:
        self.version = ""
        self._rows: dict[str, Row] = {}
        self._at = 0.0
        # key -> errors by when they were seen, the oldest that still counts first
        self._errors: dict[str, list[tuple[float, int]]] = {}

    def take(self, update: Update, at: float) -> Known:
        """Everything, with ``update``, whose figures were counted at ``at``, in seconds of any
        clock. When it came says nothing: a sidecar that others ask, too, has older ones at hand."""
        if update.version == self.version:
            return Known(update.head, dict(self._rows))
        before, seconds = self._rows, at - self._at
        kept = {} if update.whole else {k: v for k, v in before.items() if k not in update.gone}
        rows = {key: self._still(row, at) for key, row in kept.items() if key not in update.rows}
        for key, item in update.rows.items():
            former = before.get(key)
            rates = _rates(former.item if former else None, item, seconds)
            errors = self._errors_of(key, item, at)
            rows[key] = row_of(key, item, at, rates._replace(errors=errors))
        for key in self._errors.keys() - rows.keys():
            del self._errors[key]
        self._rows, self._at, self.version = rows, at, update.version
        return Known(update.head, dict(rows))

    def _still(self, row: Row, at: float) -> Row:
        """``row``, which did not change since: nothing was counted."""
        rates = _rates(row.item, row.item, 1.0)._replace(
            errors=self._errors_of(row.key, row.item, at)
        )
        return row if rates == row.rates else replace(row, rates=rates)

    def _errors_of(self, key: str, item: Item, at: float) -> int | None:
        if isinstance(item, PortReport):
            return item.attempts.errors if item.attempts else None
        now = _errors_sum(item)
        if now is None:
            self._errors.pop(key, None)
            return None
        seen = self._errors.setdefault(key, [])
        if seen and now < seen[-1][1]:
            # Counted anew: HAProxy was started, or another backend is the Route's.
            seen.clear()
        if not seen or seen[-1][1] != now:
            seen.append((at, now))
        # The last one from before counts as what there was when the minute began.
        while len(seen) > 1 and seen[1][0] <= at - ERRORS_SECONDS:
            del seen[0]
        return now - seen[0][1]


def _errors_sum(item: Item) -> int | None:
    """Of a Route by host: responses 5xx; connections that failed, of one that has no responses."""
    found = item.traffic if isinstance(item, HostReport) else None
    if found is None:
        return None
    if found.responses is not None:
        return found.responses.get("5xx", 0)
    return found.connection_errors + found.response_errors


def _rates(before: Item | None, now: Item, seconds: float) -> Rates:
    if before is None or seconds <= 0:
        return Rates()
    pairs = zip(_counts(before), _counts(now), strict=True)
    requests, bytes_in, bytes_out = (_rate(former, count, seconds) for former, count in pairs)
    return Rates(requests, bytes_in, bytes_out)


def _rate(before: int | None, now: int | None, seconds: float) -> float | None:
    if before is None or now is None or now < before:
        return None
    return (now - before) / seconds


def _counts(item: Item) -> _Counts:
    match item:
        case PortReport():
            return _Counts(None, item.bytes_in, item.bytes_out)
        case HostReport(traffic=found) if found:
            return _Counts(found.requests, found.bytes_in, found.bytes_out)
    return _Counts(None, None, None)
