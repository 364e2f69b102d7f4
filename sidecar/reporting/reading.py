"""What is done with a report that is there: it is narrowed, and turned into JSON.

Loads nothing of what reports are made of, so that whoever only shows one is quick. Pure.
"""

from collections.abc import Collection
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from typing import Any

from sidecar.reporting.reports import Report


def narrowed(report: Report, namespace: str | None, names: Collection[str]) -> Report:
    """Only the Routes of ``namespace`` and those that one of ``names`` means: a port, a host, a
    Route's name, ``namespace/name``, or a pattern of these like ``my*``. The totals stay."""
    if namespace is None and not names:
        return report

    def meant(route: str | None, port: int | None, host: str = "") -> bool:
        its_namespace, _, name = (route or "").partition("/")
        if namespace is not None and its_namespace != namespace:
            return False
        known = [text for text in (route, name, str(port or ""), host) if text]
        return not names or any(fnmatchcase(text, item) for text in known for item in names)

    return replace(
        report,
        ports=tuple(item for item in report.ports if meant(item.route, item.port)),
        waiting=tuple(item for item in report.waiting if meant(item.route, item.port, item.host)),
        hosts=tuple(item for item in report.hosts if meant(item.route, item.port, item.host)),
    )


def report_json(report: Report) -> dict[str, Any]:
    """The report as JSON-ready data; the shape is documented in docs/reference.md."""
    return asdict(report)
