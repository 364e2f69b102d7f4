"""``status``: one screen that says which port leads where, and why a Route got none."""

import json
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer import Exit

from sidecar.cli.context import load_settings, make_console, read_haproxy, read_source
from sidecar.errors import RuntimeAPIError
from sidecar.observed import ObservedPort, ProcessInfo
from sidecar.reconciler import compare
from sidecar.report import PortReport, Report, build_report, report_json

_COLOURS = {"open": "green", "closed": "yellow", "unknown": "red"}


def status(config: Path | None, *, as_json: bool) -> None:
    """Ask HAProxy and the source. Exits with 3, after showing the rest, if HAProxy is away."""
    settings = load_settings(config)
    snapshot = read_source(settings)
    problems = list(snapshot.problems)
    process: ProcessInfo | None = None
    observed: dict[int, ObservedPort] = {}
    try:
        process, observed = read_haproxy(settings, snapshot.pool, with_sessions=True)
        problems += compare(snapshot.pool, observed)
    except RuntimeAPIError as exc:
        problems.append(str(exc))
    report = build_report(
        settings.router_name, snapshot.pool, snapshot.routing, process, observed, tuple(problems)
    )
    if as_json:
        json.dump(report_json(report), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        show(report, make_console())
    if process is None:
        raise Exit(3)


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
    console.print(f"ports  {open_ports} open of {report.ports_total} in the pool\n")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("PORT", justify="right")
    table.add_column("STATE")
    table.add_column("ROUTE", overflow="fold")
    table.add_column("SERVERS", no_wrap=True)
    table.add_column("SESSIONS", justify="right")
    table.add_column("NOTE", overflow="fold")
    for item in report.ports:
        table.add_row(
            str(item.port),
            f"[{_COLOURS[item.state]}]{item.state}[/]",
            escape(item.route or "-"),
            _servers(item),
            "-" if item.sessions is None else str(item.sessions),
            escape(_note(item)),
        )
    if report.ports:
        console.print(table)
    else:
        console.print("no Route has a port")
    if report.waiting:
        console.print("\n[bold]without a port[/]")
        for verdict in report.waiting:
            title = f"{verdict.route.namespace}/{verdict.route.name}"
            console.print(f"  {escape(title)}  [red]{verdict.reason}[/]: {escape(verdict.message)}")
    if report.problems:
        console.print("\n[bold]problems[/]")
        for problem in report.problems:
            console.print(f"  [red]{escape(problem)}[/]")


def _servers(item: PortReport) -> str:
    """``ready 3, drain 1``, then the addresses, a line each."""
    if not item.servers:
        return "none"
    states = Counter(server.state for server in item.servers)
    lines = [", ".join(f"{state} {count}" for state, count in states.items())]
    for server in item.servers[:8]:
        state = "" if server.state == "ready" else f" [yellow]{server.state}[/]"
        lines.append(f"[dim]{server.slot}[/] {server.address}{state}")
    if len(item.servers) > 8:
        lines.append(f"[dim]and {len(item.servers) - 8} more[/]")
    return "\n".join(lines)


def _note(item: PortReport) -> str:
    if item.reason == "Admitted" and item.message.startswith("owns port"):
        return ""
    return f"{item.reason}: {item.message}" if item.reason else item.message


def _age(seconds: int) -> str:
    """``3d 4h``, ``5m 10s``: the two largest units."""
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size or (unit == "s" and not parts):
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
    return " ".join(parts[:2])
