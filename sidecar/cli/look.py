"""The report of everything: from the running sidecar, or, if there is none, from HAProxy and the
source. Loads what only the latter needs when it is needed."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from sidecar.cli.ask import ask_shaped
from sidecar.cli.whom import NoSidecarError, Sidecar, find_sidecar
from sidecar.common.shapes import read_as
from sidecar.reporting.reports import Report


class Look(NamedTuple):
    """``no_sidecar``: why the running sidecar was not asked, or "" if it was."""

    report: Report
    no_sidecar: str


def look(config: Path | None, url: str | None) -> Look:
    """Raises NoSidecarError if none answers at ``url``; SourceError if none of the settings does,
    and the source cannot be read either."""
    try:
        return Look(ask_report(find_sidecar(config, url)), "")
    except NoSidecarError as exc:
        if url is not None:
            raise
        from sidecar.cli.config import load_settings
        from sidecar.cli.snapshot import report_of_haproxy

        return Look(report_of_haproxy(load_settings(config)), str(exc))


def ask_report(sidecar: Sidecar, names: str = "") -> Report:
    """``names``: of which Routes, as `status` takes them. Raises NoSidecarError."""
    query = {"names": names} if names else {}
    report = ask_shaped(sidecar, "/api/status", query, partial(read_as, Report))
    sidecar.refuse_another(report.router_name, report.socket)
    return report
