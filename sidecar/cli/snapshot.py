"""A snapshot of everything: from the running sidecar, or, if there is none, from HAProxy and the
source."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from sidecar.cli.ask import NoSidecarError, ask_sidecar
from sidecar.cli.context import Snapshot, haproxy_at, read_source
from sidecar.common.errors import RuntimeAPIError
from sidecar.control.holds import held_units, holds_file
from sidecar.control.observer import Observer
from sidecar.haproxy.state import ObservedUnit
from sidecar.haproxy.stats import Traffic
from sidecar.model.desired import Unit
from sidecar.reporting.certificate_reports import TLSFacts
from sidecar.reporting.figures import with_traffic
from sidecar.reporting.reports import Report, SourceReport
from sidecar.reporting.status import Facts, build_report
from sidecar.settings.schema import Settings

_REPORT = TypeAdapter(Report)


class Look(NamedTuple):
    """``no_sidecar``: why the running sidecar was not asked, or "" if it was."""

    report: Report
    no_sidecar: str


def look(settings: Settings) -> Look:
    """Raises SourceError if no sidecar answers and the source cannot be read either."""
    try:
        return Look(_of_sidecar(settings), "")
    except NoSidecarError as exc:
        return Look(_of_haproxy(settings), str(exc))


def _of_sidecar(settings: Settings) -> Report:
    data = ask_sidecar(settings, "/api/status", {})
    try:
        report = _REPORT.validate_python(data)
    except ValidationError as exc:
        raise NoSidecarError(
            f"the sidecar at {settings.http.listen} is of another version"
        ) from exc
    refuse_another(settings, report.router_name, report.socket)
    return report


def refuse_another(settings: Settings, router_name: str, socket: str) -> None:
    """Raises NoSidecarError if who answered drives another HAProxy than the settings'."""
    if (router_name, socket) != (settings.router_name, settings.haproxy.absolute_socket):
        raise NoSidecarError(
            f"the sidecar at {settings.http.listen} serves router {router_name!r} with HAProxy at"
            f" {socket}; is -c right?"
        )


def _of_haproxy(settings: Settings) -> Report:
    snapshot = read_source(settings)
    observed: Mapping[Unit, ObservedUnit] = {}
    traffic: Traffic | None = None
    faults: tuple[str, ...] = ()
    try:
        with haproxy_at(settings) as client:
            _, observed = snapshot.look(client)
            report = build_report(_facts(settings, snapshot, observed, ()))
            traffic = Observer(client, snapshot.ports).traffic([item.port for item in report.ports])
        faults = tuple(snapshot.listeners.kind.problems(observed))
    except RuntimeAPIError as exc:
        observed, faults = {}, (str(exc),)
    report = build_report(_facts(settings, snapshot, observed, faults))
    return with_traffic(report, traffic) if traffic else report


def _facts(
    settings: Settings,
    snapshot: Snapshot,
    observed: Mapping[Unit, ObservedUnit],
    faults: tuple[str, ...],
) -> Facts:
    return Facts(
        router_name=settings.router_name,
        asked="haproxy",
        socket=settings.haproxy.absolute_socket,
        pool=snapshot.ports.pool,
        source=SourceReport(settings.source.kind, settings.source.title, (), None),
        claims=snapshot.routing.claimed,
        verdicts=snapshot.routing.verdicts(),
        observed=observed,
        problems=(*snapshot.problems, *faults),
        web=snapshot.routing.by_host,
        held=held_units(holds_file(settings.haproxy.state_file)),
        failures={},
        changed_seconds_ago={},
        tls=TLSFacts.of(snapshot.routing.web, time.time()),
    )
