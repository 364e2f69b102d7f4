"""``why``: one port or Route explained, one line per step."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from typer import Exit

from sidecar.cli.ask import NoSidecarError, ask_sidecar
from sidecar.cli.context import haproxy_at, load_settings, read_source
from sidecar.cli.history import table_of
from sidecar.cli.probe import probe, probe_host
from sidecar.cli.screen import make_console
from sidecar.cli.snapshot import look, refuse_another
from sidecar.common.errors import RuntimeAPIError
from sidecar.control.holds import held_units, holds_file
from sidecar.haproxy.state import ObservedUnit
from sidecar.model.desired import Unit
from sidecar.reporting.explain import explain
from sidecar.reporting.explain_parts import World
from sidecar.reporting.explanation import Line, Link, Mark, WhyReport
from sidecar.settings.schema import Settings

_WHY = TypeAdapter(WhyReport)

_MARKS: Mapping[Mark, tuple[str, str]] = {
    "ok": ("\N{CHECK MARK}", "green"),
    "warn": ("!", "yellow"),
    "bad": ("\N{BALLOT X}", "red"),
    "info": ("\N{MIDDLE DOT}", "dim"),
}


def why(config: Path | None, subject: str, *, as_json: bool, connect: bool) -> None:
    """Print the chain; exits with 1 if it breaks somewhere. ``connect``: to each server, too."""
    settings = load_settings(config)
    try:
        report = _of_sidecar(settings, subject)
        no_sidecar = ""
    except NoSidecarError as exc:
        report, no_sidecar = _of_haproxy(settings, subject), str(exc)
    if connect:
        report = _probed(settings, report)
    if as_json:
        sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    else:
        make_console().print(Group(*_screen(report, no_sidecar)))
    if not report.why.works:
        raise Exit(1)


def _of_sidecar(settings: Settings, subject: str) -> WhyReport:
    data = ask_sidecar(settings, "/api/why", {"subject": subject})
    try:
        report = _WHY.validate_python(data)
    except ValidationError as exc:
        raise NoSidecarError("the running sidecar is of another version") from exc
    refuse_another(settings, report.router_name, report.socket)
    return report


def _of_haproxy(settings: Settings, subject: str) -> WhyReport:
    snapshot = read_source(settings)
    observed: Mapping[Unit, ObservedUnit] | None = None
    faults = snapshot.problems
    try:
        with haproxy_at(settings) as client:
            _, observed = snapshot.look(client)
    except RuntimeAPIError as exc:
        faults = (str(exc), *faults)
    world = World(
        settings.router_name,
        snapshot.ports.pool,
        snapshot.routing,
        observed,
        held_units(holds_file(settings.haproxy.state_file)),
        {},
        faults if observed is None else (),
    )
    found = explain(subject, world)
    socket = settings.haproxy.absolute_socket
    return WhyReport(settings.router_name, "haproxy", socket, found, ())


def _probed(settings: Settings, report: WhyReport) -> WhyReport:
    """``report``, with how connections to its servers, and through its port or listeners, went."""
    found, pool = look(settings).report, settings.pool()
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


def _screen(report: WhyReport, no_sidecar: str) -> Iterator[RenderableType]:
    if no_sidecar:
        told = f"no running sidecar; read from HAProxy and the source: {no_sidecar}"
        yield Text(told + "\n", "yellow")
    chain = Table.grid(padding=(0, 1))
    chain.add_column(no_wrap=True)
    chain.add_column(no_wrap=True, style="bold")
    chain.add_column(overflow="fold")
    remedies = []
    for link in report.why.links:
        mark, colour = _MARKS[link.mark]
        chain.add_row(Text(mark, colour), link.name, Text(link.text))
        for line in link.lines:
            its_mark, its_colour = _MARKS[line.mark]
            # A mark of its own in the text's column, so that a folded line stays under itself.
            row = Table.grid(padding=(0, 1))
            row.add_row(Text(its_mark, its_colour), Text(line.text, overflow="fold"))
            chain.add_row("", "", row)
        if link.remedy and link.mark in ("bad", "warn"):
            remedies.append((link.name, link.remedy))
    yield chain
    for title, remedy in remedies:
        yield Text.assemble((f"\N{RIGHTWARDS ARROW} {title}", "bold"), f": {remedy}")
    if report.operations:
        yield Text("\nlast operations", "bold")
        yield table_of(reversed(report.operations))
    yield Text(
        "\nit works" if report.why.works else "\nit does not work",
        "green" if report.why.works else "red",
    )
