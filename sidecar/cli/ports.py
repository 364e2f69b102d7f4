"""``ports``: all claims, by port: who has it, who is waiting, and which are free."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from typer import Exit

from sidecar.cli.config import load_settings
from sidecar.cli.context import read_haproxy, read_source
from sidecar.cli.screen import PORT_COLOURS, make_console, make_table, print_section
from sidecar.common.errors import RuntimeAPIError
from sidecar.haproxy.state import ObservedUnit
from sidecar.model.desired import Unit
from sidecar.reporting.port_usage import Register, build_register, register_json

#: More of those who wait for one port are only counted.
_WAITING_SHOWN = 8


def ports(config: Path | None, *, as_json: bool) -> None:
    """Ask the source and HAProxy. Exits with 3, after showing the rest, if HAProxy is away."""
    settings = load_settings(config)
    snapshot = read_source(settings)
    away, observed = "", dict[Unit, ObservedUnit]()
    try:
        _, observed = read_haproxy(settings, snapshot)
    except RuntimeAPIError as exc:
        away = str(exc)
    problems = (*snapshot.problems, away) if away else snapshot.problems
    register = build_register(snapshot.ports.pool, snapshot.routing, observed, problems)
    if as_json:
        sys.stdout.write(json.dumps(register_json(register), indent=2) + "\n")
    else:
        show(register, make_console())
    if away:
        raise Exit(3)


def show(register: Register, console: Console) -> None:
    """The register as a person reads it."""
    table = make_table(">PORT", "POOL", "STATE", "ROUTE", ">WAITING")
    for item in register.ports:
        table.add_row(
            str(item.port),
            escape(item.pool),
            f"[{PORT_COLOURS[item.state]}]{item.state}[/]",
            escape(item.owner or (f"{len(item.shared)} by SNI" if item.shared else "-")),
            str(len(item.waiting) or "-"),
        )
    if register.ports:
        console.print(table)
    else:
        console.print("no Route claims a port")
    waiting = []
    for item in register.ports:
        if item.waiting:
            shown = ", ".join(item.waiting[:_WAITING_SHOWN])
            more = len(item.waiting) - _WAITING_SHOWN
            waiting.append(f"{item.port}: {shown}" + f" and {more} more" * (more > 0))
    shared = [f"{item.port}: {', '.join(item.shared)}" for item in register.ports if item.shared]
    print_section(console, "shared by SNI", shared)
    print_section(console, "waiting, oldest first", waiting)
    print_section(console, "without a port", register.without, "red")
    free = [
        f"{pool.name}: {pool.free_count} of {pool.ports_total}"
        + (f": {pool.free}" if pool.free else "")
        + f'; "auto" ports per namespace: at most {pool.auto_ports_per_namespace}'
        for pool in register.pools
    ]
    print_section(console, "free", free)
    print_section(console, "problems", register.problems, "red")
