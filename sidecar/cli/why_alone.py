"""``why`` without a running sidecar: what the command finds out by itself, and by connecting."""

from collections.abc import Mapping
from dataclasses import replace

from sidecar.cli.context import haproxy_at, read_source
from sidecar.cli.probe import probe, probe_host
from sidecar.cli.snapshot import look_by
from sidecar.common.errors import RuntimeAPIError
from sidecar.control.holds import held_units, holds_file
from sidecar.haproxy.state import ObservedUnit
from sidecar.model.desired import Unit
from sidecar.reporting.explain import explain
from sidecar.reporting.explain_parts import World
from sidecar.reporting.explanation import Line, Link, Mark, WhyReport
from sidecar.settings.schema import Settings


def explain_alone(settings: Settings, subject: str) -> WhyReport:
    """Raises SourceError, UsageError."""
    snapshot = read_source(settings)
    observed: Mapping[Unit, ObservedUnit] | None = None
    faults = snapshot.problems
    try:
        with haproxy_at(settings) as client:
            _, observed = snapshot.look(client)
    except RuntimeAPIError as exc:
        faults = (str(exc), *faults)
    holds = held_units(holds_file(settings.haproxy.state_file))
    world = World(
        settings.router_name,
        snapshot.ports.pool,
        snapshot.routing,
        observed,
        frozenset(holds),
        {},
        faults if observed is None else (),
        holds,
    )
    found = explain(subject, world)
    socket = settings.haproxy.absolute_socket
    return WhyReport(settings.router_name, "haproxy", socket, found, ())


def probed(settings: Settings, report: WhyReport) -> WhyReport:
    """``report``, with how connections to its servers, and through its port or listeners, went."""
    found, pool = look_by(settings).report, settings.pool()
    of_route = (item for item in found.hosts if item.route == report.why.route)
    if host := next(of_route, None):
        shared = pool.by_port.get(host.port) if host.port else None
        results = probe_host(host, pool.web.listeners if pool.web else (), shared)
    elif item := next((item for item in found.ports if item.port == report.why.port), None):
        results = probe(item, pool.by_port[item.port])
    else:
        nothing = Link("probe", "info", "nothing to connect to: it is not served")
        return replace(report, why=replace(report.why, links=(*report.why.links, nothing)))
    mark: Mark = "ok" if all(result.works for result in results) else "bad"
    link = Link(
        "probe",
        mark,
        f"{sum(result.works for result in results)} of {len(results)} connections from here"
        " succeeded",
        tuple(
            Line("ok" if result.works else "bad", f"{result.who}: {result.what}")
            for result in results
        ),
    )
    why = report.why
    works = why.works and mark == "ok"
    return replace(report, why=replace(why, links=(*why.links, link), works=works))
