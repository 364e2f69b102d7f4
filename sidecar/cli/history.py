"""``history``: the running sidecar's last operations."""

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from rich.markup import escape
from rich.table import Table

from sidecar.cli.ask import ask_shaped
from sidecar.cli.look import ask_report
from sidecar.cli.screen import make_console, make_table
from sidecar.cli.whom import NoSidecarError, Sidecar, find_sidecar
from sidecar.common.errors import UsageError
from sidecar.common.shapes import read_as
from sidecar.control.history import EntryReport, HistoryReport

#: How often is asked for what is new.
_FOLLOW_SECONDS = 0.5

#: What to ask for: ("port", …) or ("backend", …); () is everything.
Query = tuple[tuple[str, str], ...]


class Wanted(NamedTuple):
    """Which operations: the ``last`` ones (None: all), ``failed``: only those that HAProxy did not
    carry out."""

    last: int | None
    failed: bool

    def of(self, entries: Iterable[EntryReport]) -> list[EntryReport]:
        """The newest first."""
        found = [entry for entry in entries if not (self.failed and entry.done)]
        found.sort(key=attrgetter("at_seconds"), reverse=True)
        return found[: self.last]


def history(
    config: Path | None,
    url: str | None,
    subject: str | None,
    wanted: Wanted,
    *,
    as_json: bool,
    follow: bool,
) -> None:
    """Print it, the newest last, where a terminal's eye is. ``subject``: a port, or a Route or host
    as `status` takes it. ``follow``: and then what comes, until Ctrl-C. Raises NoSidecarError."""
    sidecar = find_sidecar(config, url)
    # Asked first: what was done until then to a backend that the Route gets later is not new.
    began = _newest(_asked(sidecar, ()), 0.0) if follow else 0.0
    queries = _queries(sidecar, subject)
    if not queries:
        raise UsageError(
            f"{(subject or '')[:80]!r} is not served; write a port, NAMESPACE/ROUTE or a host that"
            " a Route has"
        )
    reports = {query: _asked(sidecar, query) for query in queries}
    entries = wanted.of(entry for report in reports.values() for entry in report.entries)
    if as_json and not follow:
        whole = replace(reports[queries[0]], entries=tuple(entries))
        sys.stdout.write(json.dumps(asdict(whole), indent=2) + "\n")
        return
    told = _tell_json if as_json else _tell
    if entries:
        told(entries, first=True)
    elif not follow:
        what = subject or "anything"
        what = f"port {what}" if _is_port(what) else what
        nothing = "had nothing refused on" if wanted.failed else "has not changed"
        sys.stderr.write(f"the sidecar {nothing} {what} since it started\n")
    # Of each by itself: what is found late may be older than what others have by then.
    newest = {query: _newest(report, began) for query, report in reports.items()}
    while follow:
        time.sleep(_FOLLOW_SECONDS)
        # Also those that it no longer has: what ends there is of interest, too.
        newest = {**dict.fromkeys(_queries_now(sidecar, subject), began), **newest}
        entries = []
        for query, before in newest.items():
            report = _asked(sidecar, query)
            # Those that were sent together have the same time, and are remembered together.
            entries += [entry for entry in report.entries if entry.at_seconds > before]
            newest[query] = _newest(report, before)
        if new := wanted._replace(last=None).of(entries):
            told(new, first=False)


def _asked(sidecar: Sidecar, query: Query) -> HistoryReport:
    """Raises NoSidecarError."""
    read = partial(read_as, HistoryReport)
    report = ask_shaped(sidecar, "/api/history", dict(query), read)
    sidecar.refuse_another(report.router_name, report.socket)
    return report


def _newest(report: HistoryReport, before: float) -> float:
    return max((entry.at_seconds for entry in report.entries), default=before)


def _tell(entries: list[EntryReport], *, first: bool) -> None:
    table = table_of(reversed(entries))
    table.show_header = first
    make_console().print(table)


def _tell_json(entries: list[EntryReport], *, first: bool) -> None:  # noqa: ARG001
    """A line each."""
    sys.stdout.writelines(json.dumps(asdict(entry)) + "\n" for entry in reversed(entries))
    sys.stdout.flush()


def _is_port(subject: str) -> bool:
    return subject.isascii() and subject.isdigit() and len(subject) < 6


def _queries(sidecar: Sidecar, subject: str | None) -> list[Query]:
    """What to ask for what ``subject`` has: each port or backend by itself; nothing if it is not
    served. Raises NoSidecarError."""
    if subject is None:
        return [()]
    if _is_port(subject):
        return [(("port", subject),)]
    if not subject.strip():
        return []
    report = ask_report(sidecar, subject)
    found: list[Query] = [(("backend", item.backend),) for item in report.hosts]
    return found + [(("port", str(item.port)),) for item in report.ports]


def _queries_now(sidecar: Sidecar, subject: str | None) -> list[Query]:
    """The same; nothing while a sidecar that is busy does not say where ``subject`` is."""
    try:
        return _queries(sidecar, subject)
    except NoSidecarError:
        return []


def table_of(entries: Iterable[EntryReport]) -> Table:
    """A row for each; the reply only where it is not plainly yes."""
    table = make_table("TIME", ">TOOK", "COMMAND", "REPLY", "BECAUSE")
    for entry in entries:
        # HAProxy's yes has many words; --json has them.
        reply = "[green]done[/]" if entry.done else f"[red]{escape(entry.reply.strip())}[/]"
        table.add_row(
            _clock(entry.at_seconds),
            f"{entry.duration_seconds * 1000:.1f}ms",
            escape(entry.command),
            reply,
            escape("; ".join(entry.causes)),
        )
    return table


def _clock(at_seconds: float) -> str:
    """Of this machine, to the millisecond: an operation takes about one."""
    milliseconds = int(at_seconds * 1000)
    clock = time.strftime("%H:%M:%S", time.localtime(milliseconds // 1000))
    return f"{clock}.{milliseconds % 1000:03}"
