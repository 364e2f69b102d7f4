"""What a command finds out by itself where no sidecar runs: from HAProxy and the source."""

import time
from collections.abc import Mapping

from sidecar.cli.config import whereabouts_of
from sidecar.cli.context import Snapshot, haproxy_at, read_source
from sidecar.cli.look import Look, ask_report
from sidecar.cli.whom import NoSidecarError, sidecar_of
from sidecar.common.errors import RuntimeAPIError
from sidecar.control.holds import held_units, holds_file
from sidecar.control.observer import Observer
from sidecar.haproxy.state import ObservedUnit
from sidecar.haproxy.stats import Traffic
from sidecar.model.desired import Unit
from sidecar.reporting.figures import with_traffic
from sidecar.reporting.reports import Report, SourceReport
from sidecar.reporting.status import Facts, build_report
from sidecar.reporting.tls_facts import TLSFacts
from sidecar.settings.schema import Settings


def look_by(settings: Settings) -> Look:
    """Raises SourceError if no sidecar answers and the source cannot be read either."""
    try:
        return Look(ask_report(sidecar_of(whereabouts_of(settings))), "")
    except NoSidecarError as exc:
        return Look(report_of_haproxy(settings), str(exc))


def report_of_haproxy(settings: Settings) -> Report:
    """Raises SourceError if the source cannot be read."""
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
    holds = held_units(holds_file(settings.haproxy.state_file))
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
        held=frozenset(holds),
        holds=holds,
        failures={},
        changed_seconds_ago={},
        tls=TLSFacts.of(snapshot.routing.web, time.time()),
    )
