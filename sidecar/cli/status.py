"""``status``: one screen that says which port leads where, and why a Route got none."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from typer import Exit

from sidecar.cli.context import load_settings, read_haproxy, read_source
from sidecar.cli.screen import make_console, make_table, print_section
from sidecar.errors import RuntimeAPIError
from sidecar.holds import holds_file, read_holds
from sidecar.observed import ObservedPort, ProcessInfo
from sidecar.observer import compare
from sidecar.pool import Pool
from sidecar.report import PortReport, Report, build_report, report_json
from sidecar.settings import Settings
from sidecar.verdicts import Reason

_COLOURS = {"open": "green", "closed": "yellow", "unknown": "red"}

#: A server's states, the best one first.
_STATES = ("ready", "down", "drain", "maint")

#: More servers of one port than this are only counted: one screen should hold all ports.
_SERVERS_SHOWN = 8


def status(config: Path | None, *, as_json: bool) -> None:
    """Ask HAProxy and the source. Exits with 3, after showing the rest, if HAProxy is away."""
    settings = load_settings(config)
    snapshot = read_source(settings)
    process, observed, faults = _look(settings, snapshot.pool)
    problems = (*snapshot.problems, *faults)
    report = build_report(
        settings.router_name,
        snapshot.pool,
        snapshot.routing,
        process=process,
        observed=observed,
        problems=problems,
        held=read_holds(holds_file(settings)),
    )
    if as_json:
        json.dump(report_json(report), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        show(report, make_console())
    if process is None:
        raise Exit(3)


def _look(
    settings: Settings, pool: Pool
) -> tuple[ProcessInfo | None, dict[int, ObservedPort], Iterable[str]]:
    """What HAProxy shows, and what is wrong with it."""
    try:
        process, observed = read_haproxy(settings, pool, with_sessions=True)
    except RuntimeAPIError as exc:
        return None, {}, [str(exc)]
    return process, observed, compare(pool, observed)


def show(report: Report, console: Console) -> None:
    """The report as a person reads it; nothing is cut off when it goes into a pipe."""
    process = report.haproxy
    if process:
        console.print(
            f"router [bold]{escape(report.router_name)}[/]  HAProxy {process.version},"
            f" PID {process.pid}, up {_age(process.uptime_seconds)},"
            f" {process.current_connections} connections"
        )
    else:
        console.print(f"router [bold]{escape(report.router_name)}[/]  [red]HAProxy is away[/]")
    open_ports = sum(item.state == "open" for item in report.ports)
    known = f"{open_ports} open of" if process else "unknown which are open, of"
    console.print(f"ports  {known} {report.ports_total} in the pool\n")
    table = make_table(">PORT", "STATE", "ROUTE", "SERVERS", ">SESSIONS")
    for item in report.ports:
        table.add_row(
            str(item.port),
            f"[{_COLOURS[item.state]}]{item.state}[/]" + (" held" if item.held else ""),
            escape(item.route or "-"),
            _states(item),
            "-" if item.sessions is None else str(item.sessions),
        )
        for row in _server_rows(item):
            table.add_row("", "", *row)
    if report.ports:
        console.print(table)
    else:
        console.print("no Route has a port")
    notes = [
        f"{item.port} {item.route or '-'}: {note}" for item in report.ports for note in _notes(item)
    ]
    print_section(console, "notes", notes, "yellow")
    waiting = [
        f"{verdict.route.namespace}/{verdict.route.name}: {verdict.reason}: {verdict.message}"
        for verdict in report.waiting
    ]
    print_section(console, "without a port", waiting, "red")
    print_section(console, "problems", report.problems, "red")


def _states(item: PortReport) -> str:
    """``3 ready, 1 drain``."""
    states = Counter(server.state for server in item.servers)
    return ", ".join(f"{states[name]} {name}" for name in _STATES if name in states) or "none"


def _server_rows(item: PortReport) -> Iterator[tuple[str, str, str]]:
    """The last three columns of a port's first servers, those that take connections first."""
    servers = sorted(item.servers, key=lambda server: _STATES.index(server.state))
    for server in servers[:_SERVERS_SHOWN]:
        pod = f" {escape(server.pod)}" if server.pod else ""
        colour = "dim" if server.state == "ready" else "yellow"
        sessions = "-" if server.sessions is None else str(server.sessions)
        yield f"  {server.address}{pod}", f"[{colour}]{server.slot} {server.state}[/]", sessions
    if more := servers[_SERVERS_SHOWN:]:
        yield f"  and {len(more)} more", "", str(sum(server.sessions or 0 for server in more))


def _notes(item: PortReport) -> Iterator[str]:
    """What does not go without saying."""
    if item.message:
        known = item.reason in (None, Reason.ADMITTED)
        yield item.message if known else f"{item.reason}: {item.message}"
    if item.left_out:
        count = "1 endpoint" if item.left_out == 1 else f"{item.left_out} endpoints"
        yield f"{count} left out; see limits.max_servers and pools.slots"
    if item.held:
        yield f"held: the sidecar changes nothing here until `haproxy-sidecar release {item.port}`"


def _age(seconds: int) -> str:
    """``3d 4h``, ``5m 10s``: the two largest units."""
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size or (unit == "s" and not parts):
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
    return " ".join(parts[:2])
