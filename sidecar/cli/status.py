"""``status``: one screen that shows where each port is routed, and why a Route has none."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from typer import Exit

from sidecar.cli.amounts import age, amount
from sidecar.cli.columns import MEASURED, SERVERS_SHOWN, Column, fitting
from sidecar.cli.head import Style, head_lines
from sidecar.cli.look import Look, look
from sidecar.cli.screen import PORT_COLOURS, make_console, make_table, section
from sidecar.cli.status_hosts import (
    STATES,
    certificate_lines,
    host_notes,
    hosts_table,
    is_in_the_table,
)
from sidecar.model.pool import WEIGHT_MAX
from sidecar.reporting.problems import pool_problems, row_problems
from sidecar.reporting.reading import narrowed, report_json
from sidecar.reporting.reports import PortReport, Report, ServerReport

_WATCH_SECONDS = 1.0

_HEAD_STYLES: Mapping[Style, str] = {
    "": "",
    "title": "bold",
    "good": "green",
    "warn": "yellow",
    "bad": "red",
}

_POD_RANK = 1


def status(
    config: Path | None,
    url: str | None,
    names: Collection[str],
    *,
    namespace: str | None,
    as_json: bool,
    watch: bool,
) -> None:
    """Print the report; exits with 3, after that, if HAProxy is away."""
    console = make_console()

    def seen() -> Look:
        found = look(config, url)
        return found._replace(report=narrowed(found.report, namespace, names))

    if as_json:
        found = seen()
        while True:
            indent = None if watch else 2
            sys.stdout.write(json.dumps(report_json(found.report), indent=indent) + "\n")
            if not watch:
                break
            sys.stdout.flush()
            time.sleep(_WATCH_SECONDS)
            found = seen()
    elif watch:
        _watch(seen, console)
        return
    else:
        found = seen()
        console.print(screen(found, console, details=bool(names)))
    if found.report.haproxy is None:
        raise Exit(3)


def _watch(seen: Callable[[], Look], console: Console) -> None:
    """Until Ctrl-C. What does not fit on the terminal is left out, the servers first."""
    from rich.live import Live

    terminal = console.is_terminal
    with Live(console=console, screen=terminal, auto_refresh=False) as live:
        while True:
            found = seen()
            shown = screen(found, console)
            if not terminal:
                console.print(shown)
            else:
                if len(console.render_lines(shown)) > console.height:
                    shown = screen(found, console, servers=False)
                live.update(shown, refresh=True)
            time.sleep(_WATCH_SECONDS)


def screen(
    found: Look, console: Console, *, servers: bool = True, details: bool = False
) -> RenderableType:
    """The report as a person reads it; nothing is cut off when it goes into a pipe. ``details``:
    also what there is no room for in the tables."""
    report = found.report
    parts: list[RenderableType] = [_head(found), Text()]
    if report.ports:
        parts.append(_table(report, console, servers=servers))
    elif not report.hosts:
        parts.append(Text("no Route has a port"))
    if report.hosts:
        parts += [Text()] if report.ports else []
        parts.append(hosts_table(report, console, servers=servers))
    if details:
        parts += section("certificates", certificate_lines(report))
    parts += section(
        "notes",
        [*_port_notes(report), *host_notes(report)],
        "yellow",
    )
    parts += section(
        "not served",
        [f"{item.route}: {item.reason}: {item.message}" for item in report.waiting],
        "red",
    )
    pool = (found.text for found in pool_problems(report))
    parts += section("problems", [*report.problems, *pool], "red")
    return Group(*parts)


def _port_notes(report: Report) -> Iterator[str]:
    """What does not go without saying, a line each."""
    for item in report.ports:
        for found in row_problems(item):
            if not is_in_the_table(found, item):
                yield f"{item.port} {item.owner}: {found.text}"


def _head(found: Look) -> Table:
    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim", no_wrap=True)
    head.add_column(overflow="fold")
    for title, pieces in head_lines(found.report, no_sidecar=found.no_sidecar):
        # As Text: nothing in it is markup.
        told = Text.assemble(*((text, _HEAD_STYLES[style]) for style, text in pieces))
        head.add_row(title, told)
    return head


def _table(report: Report, console: Console, *, servers: bool) -> Table:
    first = replace(report, ports=report.ports[:MEASURED])
    columns = fitting(_columns(report), partial(_filled, first, servers=servers), console, _without)
    return _filled(report, columns, servers=servers)


def _without(rank: int, columns: list[Column[PortReport]]) -> list[Column[PortReport]]:
    if rank != _POD_RANK:
        return columns
    # The pod is what the person looks for: below the address, where a terminal folds it.
    return [
        column._replace(server=_address_and_pod) if column.title == "ROUTE" else column
        for column in columns
    ]


def _filled(report: Report, columns: Sequence[Column[PortReport]], *, servers: bool) -> Table:
    table = make_table(*(column.title for column in columns))
    for item in report.ports:
        table.add_row(*(column.line(item) for column in columns))
        ordered = sorted(item.servers, key=lambda server: STATES.index(server.state))
        for server in ordered[: SERVERS_SHOWN * servers]:
            table.add_row(*(column.server(server) for column in columns))
        if servers and (more := ordered[SERVERS_SHOWN:]):
            row = {"ROUTE": f"  and {len(more)} more", ">SESSIONS": amount(_sessions(more))}
            table.add_row(*(row.get(column.title, "") for column in columns))
    return table


def _columns(report: Report) -> Iterator[Column[PortReport]]:
    """All that have something to say of this report."""
    servers = [server for item in report.ports for server in item.servers]
    yield Column(">PORT", 0, lambda item: str(item.port), _nothing)
    yield Column("STATE", 0, _port_state, _nothing)
    if len({item.pool for item in report.ports}) > 1:
        yield Column("POOL", 5, lambda item: escape(item.pool), _nothing)
    yield Column(
        "ROUTE", 0, lambda item: escape(item.owner), lambda item: escape(f"  {item.address}")
    )
    yield Column("SERVERS", 0, _states, _server_state)
    if any(server.pod for server in servers):
        yield Column("POD", _POD_RANK, _nothing, lambda server: escape(server.pod or ""))
    if any(server.node for server in servers):
        yield Column("NODE", 7, _nothing, lambda server: escape(server.node or ""))
    if any(server.weight != WEIGHT_MAX for server in servers):
        yield Column(">WEIGHT", 4, _nothing, lambda server: str(server.weight))
    if any(server.check for server in servers):
        yield Column("CHECK", 3, _nothing, lambda server: escape(server.check or ""))
    for title, rank, figure in (
        (">SESSIONS", 0, attrgetter("sessions")),
        (">NEW/S", 6, attrgetter("sessions_per_second")),
        (">IN", 8, attrgetter("bytes_in")),
        (">OUT", 8, attrgetter("bytes_out")),
    ):
        yield Column(title, rank, partial(_figure, figure), partial(_figure, figure))
    if any(item.attempts and item.attempts.failed for item in report.ports):
        yield Column(">FAILED", 1, _failed, _failed)
    yield Column(">CHANGED", 2, _changed, _nothing)


def _figure(figure: Callable[[Any], int | None], item: PortReport | ServerReport) -> str:
    return amount(figure(item))


def _failed(item: PortReport | ServerReport) -> str:
    """``3+9``: connections that failed lately, and attempts that were made again."""
    found = item.attempts
    return f"[red]{found.errors}+{found.repeated}[/]" if found and found.failed else ""


def _address_and_pod(server: ServerReport) -> str:
    return escape(f"  {server.address} {server.pod or ''}".rstrip())


def _nothing(_: object) -> str:
    return ""


def _port_state(item: PortReport) -> str:
    marks = " held" * item.held + " failing" * bool(item.failure)
    return f"[{PORT_COLOURS[item.state]}]{item.state}[/][red]{marks}[/]"


def _states(item: PortReport) -> str:
    """``ready 3, drain 1``. A shared port has none of its own: its hosts do."""
    states = Counter(server.state for server in item.servers)
    none = "" if item.shared else "none"
    return ", ".join(f"{name} {states[name]}" for name in STATES if name in states) or none


def _server_state(server: ServerReport) -> str:
    colour = "dim" if server.state == "ready" else "yellow"
    return f"[{colour}]{server.slot} {server.state}[/]"


def _sessions(servers: Collection[ServerReport]) -> int:
    return sum(server.sessions or 0 for server in servers)


def _changed(item: PortReport) -> str:
    return "-" if item.changed_seconds_ago is None else age(item.changed_seconds_ago)
