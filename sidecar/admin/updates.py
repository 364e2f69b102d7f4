"""What of the report is new to whom has an older one: a page asks every other second, and of 5,000
rows some change.

Owns which row was last different in which version. Ages do not count as a difference: whoever has
a row counts on from when it came. The days that a certificate has left do, by which it is judged.
Makes nothing but JSON-ready data of reports, and of what is wrong with them.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from sidecar.reporting.certificate_reports import CertificateReport
from sidecar.reporting.problems import router_problems, row_problems
from sidecar.reporting.reports import (
    AttemptsReport,
    HostReport,
    PortReport,
    Report,
    ServerReport,
    TrafficReport,
    WaitingReport,
)

Row = PortReport | HostReport | WaitingReport

#: So many rows that are gone are remembered; a page that has missed more gets everything again.
GONE_MAX = 10_000

#: Of the report: all that is not a row.
_HEAD = tuple(
    item.name for item in fields(Report) if item.name not in ("ports", "hosts", "waiting")
)


@dataclass(frozen=True, slots=True)
class _Kept:
    """``row`` as it was in ``version``, and since then but for its ages. ``steady``: all of it but
    these."""

    version: int
    row: Row
    steady: object


class Updates:
    """``name``: of this run, so that numbers of a former one mean nothing here. May be used from
    any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._report: Report | None = None
        self._at = 0.0
        self._number = 0
        self._rows: dict[str, _Kept] = {}
        # key -> in which version it was missing first, the oldest first
        self._gone: dict[str, int] = {}
        # what went before this version is forgotten
        self._gone_since = 0

    def since(
        self, report: Report, version: str, at: float = 0.0, now: float = 0.0
    ) -> dict[str, Any]:
        """What is different in ``report`` for whom has ``version``; all of it for any other text.
        The newest report that was given counts, where ``report`` is older. ``at``: when its figures
        were counted, in seconds of the clock that says ``now``."""
        with self._lock:
            if self._report is None or (report is not self._report and at >= self._at):
                self._take(report)
                self._at = at
            newest = self._report or report
            known = self._known(version)
            rows = [
                {"key": key, "problems": row_problems(kept.row), **_plain(kept.row)}
                for key, kept in self._rows.items()
                if kept.version > known
            ]
            gone = [key for key, number in self._gone.items() if number > known >= 0]
            return {
                "version": f"{self._name}.{self._number}",
                "whole": known < 0,
                "age_seconds": round(max(0.0, now - self._at), 3),
                "problems": router_problems(newest),
                "head": {name: _plain(getattr(newest, name)) for name in _HEAD},
                "rows": rows,
                "gone": gone,
            }

    def _known(self, version: str) -> int:
        name, _, number = version.rpartition(".")
        known = int(number) if number.isascii() and number.isdigit() and len(number) < 16 else -1
        if name != self._name or not self._gone_since <= known <= self._number:
            return -1
        return known

    def _take(self, report: Report) -> None:
        self._report = report
        self._number += 1
        found = dict(_keyed(report))
        for key in self._rows.keys() - found.keys():
            del self._rows[key]
            self._gone[key] = self._number
        for key, row in found.items():
            steady, kept = _steady(row), self._rows.get(key)
            if kept is None or kept.steady != steady or _is_younger(row, kept.row):
                self._rows[key] = _Kept(self._number, row, steady)
                self._gone.pop(key, None)
        while len(self._gone) > GONE_MAX:
            self._gone_since = self._gone.pop(next(iter(self._gone)))


def _keyed(report: Report) -> Iterator[tuple[str, Row]]:
    """Each row by a name that it keeps, however often its backend is another."""
    for port in report.ports:
        yield f"port:{port.port}", port
    for host in report.hosts:
        yield f"{host.listener}:{host.title}", host
    for waiting in report.waiting:
        yield f"route:{waiting.route}", waiting


def _all_but(kind: type, *names: str) -> Callable[[Any], Any]:
    """What gets all fields of a dataclass, except those with ``names``, quickly."""
    return attrgetter(*(item.name for item in fields(kind) if item.name not in names))


_ATTEMPTS = _all_but(AttemptsReport, "seconds")
_SERVER = _all_but(ServerReport, "seconds_since_change", "attempts")
_PORT = _all_but(PortReport, "changed_seconds_ago", "servers", "attempts")
_HOST = _all_but(HostReport, "changed_seconds_ago", "servers", "certificate", "traffic")
_CERTIFICATE = _all_but(CertificateReport, "seconds_left", "served_seconds_ago")
_DAYS_LEFT = attrgetter("days_left")
_TRAFFIC = _all_but(TrafficReport, "seconds")


def _steady(row: Row) -> object:
    """All of ``row`` that does not change by itself, to compare it."""
    if isinstance(row, WaitingReport):
        return row
    servers = tuple(
        (_SERVER(server), server.attempts and _ATTEMPTS(server.attempts)) for server in row.servers
    )
    if isinstance(row, PortReport):
        return _PORT(row), servers, row.attempts and _ATTEMPTS(row.attempts)
    certificate = row.certificate and (_CERTIFICATE(row.certificate), _DAYS_LEFT(row.certificate))
    return _HOST(row), servers, certificate, row.traffic and _TRAFFIC(row.traffic)


def _is_younger(row: Row, than: Row) -> bool:
    """Whether something happened to it since, which its other fields do not show."""
    if isinstance(row, WaitingReport) or isinstance(than, WaitingReport):
        return False
    now, before = row.changed_seconds_ago, than.changed_seconds_ago
    return now is not None and (before is None or now < before)


def _plain(value: Any) -> Any:
    """``value`` with dataclasses as dicts, like `asdict`, which takes longer, since it also copies
    each text and number."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    names = getattr(value, "__dataclass_fields__", None)
    return value if names is None else {name: _plain(getattr(value, name)) for name in names}
