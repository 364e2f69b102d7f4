"""``status``: the table of Routes by host, with their certificates, and what is noted of them.

Owns how these look. What they say is in the report (`sidecar.reporting.reports`).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sidecar.cli.amounts import amount
from sidecar.cli.columns import MEASURED, SERVERS_SHOWN, Column, fitting
from sidecar.cli.screen import PORT_COLOURS, make_table
from sidecar.reporting.certificate_reports import (
    ENDS_SOON_DAYS,
    ENDS_VERY_SOON_DAYS,
    CertificateReport,
)
from sidecar.reporting.problems import Problem, default_certificate_problems, row_problems
from sidecar.reporting.reports import (
    HostReport,
    PortReport,
    Report,
    ServerReport,
    TrafficReport,
)

#: A server's states, the best one first.
STATES = ("ready", "down", "drain", "maint")


def hosts_table(report: Report, console: Console, *, servers: bool) -> Table:
    """Routes by host, a line each however narrow the terminal is, and one for each server."""
    first = replace(report, hosts=report.hosts[:MEASURED])
    columns = fitting(_columns(report), partial(_filled, first, servers=servers), console)
    return _filled(report, columns, servers=servers)


def _filled(report: Report, columns: Sequence[Column[HostReport]], *, servers: bool) -> Table:
    table = make_table(*(column.title for column in columns))
    for item in report.hosts:
        table.add_row(*(_uncut_or_short(column.line(item)) for column in columns))
        for server in item.servers[:SERVERS_SHOWN] if servers else ():
            table.add_row(*(column.server(server) for column in columns))
        if servers and (more := len(item.servers) - SERVERS_SHOWN) > 0:
            table.add_row(f"  and {more} more")
    return table


def _uncut_or_short(markup: str) -> Text:
    """Not folded into a second line."""
    text = Text.from_markup(markup, emoji=False, overflow="ellipsis")
    text.no_wrap = True
    return text


def _columns(report: Report) -> Iterator[Column[HostReport]]:
    """All that have something to say of this report."""
    yield Column("HOST", 0, lambda item: escape(item.title), _server)
    yield Column("KIND", 2, lambda item: item.listener)
    yield Column(
        "STATE",
        0,
        lambda item: f"[{PORT_COLOURS[item.state]}]{item.state}[/]",
        lambda server: server.state,
    )
    # A server's pod stands there: with its address, it would make all hosts' column wide.
    yield Column("ROUTE", 0, lambda item: escape(item.route), lambda it: _dim(it.pod or ""))
    yield Column("SERVERS", 0, lambda item: _servers_line(item.servers))
    # Where it is not the same for all of a kind.
    if len({(item.listener, item.balance) for item in report.hosts}) > len(
        {item.listener for item in report.hosts}
    ):
        yield Column("BALANCE", 2, lambda item: item.balance or "")
    if any(item.certificate for item in report.hosts):
        yield Column("CERT", 0, lambda item: _validity(item.certificate))
    if any(item.traffic for item in report.hosts):
        yield Column(">SESSIONS", 4, _figure(lambda found: found.sessions))
        yield Column(">REQUESTS", 3, _figure(lambda found: found.sessions_total))
        yield Column(">5XX", 1, _failed)
        yield Column(">MS", 5, _milliseconds)


def _server(server: ServerReport) -> str:
    return _dim(f"  {server.slot} {server.address}")


def _dim(text: str) -> str:
    return f"[dim]{escape(text)}[/]" if text else ""


def _servers_line(servers: Sequence[ServerReport]) -> str:
    """``2 ready, 1 drain``."""
    counts = Counter(server.state for server in servers)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "none"


def _validity(item: CertificateReport | None) -> str:
    """``89d``: how long it is valid; that it is not served counts more."""
    if item is None:
        return ""
    if item.served is False:
        return "[red]missing[/]"
    days = item.days_left
    if days is None or (item.is_default and days >= ENDS_SOON_DAYS):
        return "default"
    if days < 0:
        return "[red]expired[/]"
    if days < ENDS_VERY_SOON_DAYS:
        return f"[red]{days}d[/]"
    return f"[yellow]{days}d[/]" if days < ENDS_SOON_DAYS else f"{days}d"


def _figure(value: Callable[[TrafficReport], int]) -> Callable[[HostReport], str]:
    return lambda item: amount(value(item.traffic)) if item.traffic else "-"


def _failed(item: HostReport) -> str:
    """Those that a 5xx answered, in red."""
    failed = item.traffic.responses["5xx"] if item.traffic and item.traffic.responses else None
    return f"[red]{amount(failed)}[/]" if failed else amount(failed)


def _milliseconds(item: HostReport) -> str:
    """That one takes, on average."""
    found = item.traffic.average.total if item.traffic else None
    return "-" if found is None else str(found)


def is_in_the_table(found: Problem, item: PortReport | HostReport) -> bool:
    """Servers' states have columns of their own; why there are none has not."""
    return found.group == "down" or (found.group == "closed" and not item.message)


def host_notes(report: Report) -> Iterator[str]:
    """What does not go without saying, a line each."""
    said: set[str] = set()
    for item in report.hosts:
        certificate = item.certificate
        for found in row_problems(item):
            if found.group != "certificate":
                if not is_in_the_table(found, item):
                    yield f"{item.title} {item.route}: {found.text}"
            # Its paths have the same one; and its Route's message may be about it.
            elif certificate and item.host not in said:
                said.add(item.host)
                title = f": {certificate.title}" if certificate.ending else ""
                if certificate.served is not False:
                    yield f"{item.host}: {found.text}{title}"
                elif not item.message or certificate.failure != item.message:
                    yield f"{item.host}: {found.text}"
    for found in default_certificate_problems(report):
        if report.default_certificate:
            yield f"{found.text}: {report.default_certificate.title}"


def certificate_lines(report: Report) -> Iterator[str]:
    """All that is known of the certificates of the hosts, and of the CAs of their servers."""
    found = [f"{item.host}: {item.certificate.text}" for item in report.hosts if item.certificate]
    yield from dict.fromkeys(found)
    for item in report.hosts:
        if item.ca:
            yield f"{item.title} {item.route}: {item.ca.text}"
