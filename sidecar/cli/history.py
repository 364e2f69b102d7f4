"""``history``: the running sidecar's last operations."""

import json
import sys
import time
from collections.abc import Iterable
from operator import itemgetter
from pathlib import Path

from pydantic import TypeAdapter
from rich.markup import escape
from rich.table import Table

from sidecar.cli.ask import ask_sidecar
from sidecar.cli.context import load_settings
from sidecar.cli.screen import make_console, make_table
from sidecar.common.errors import UsageError
from sidecar.control.history import EntryReport
from sidecar.settings.schema import Settings

_ENTRIES = TypeAdapter(list[EntryReport])


def history(config: Path | None, subject: str | None, *, as_json: bool) -> None:
    """Print it, the newest last, where a terminal's eye is. ``subject``: a port, or a Route or host
    as `status` takes it. Raises NoSidecarError."""
    settings = load_settings(config)
    queries = [{}] if subject is None else _queries(settings, subject)
    data, *more = (ask_sidecar(settings, "/api/history", query) for query in queries)
    for other in more:
        data["entries"] += other["entries"]
    data["entries"].sort(key=itemgetter("at_seconds"), reverse=True)
    if as_json:
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
        return
    entries = _ENTRIES.validate_python(data["entries"])
    if entries:
        make_console().print(table_of(reversed(entries)))
    else:
        what = subject or "anything"
        what = f"port {what}" if _is_port(what) else what
        sys.stderr.write(f"the sidecar has not changed {what} since it started\n")


def _is_port(subject: str) -> bool:
    return subject.isascii() and subject.isdigit() and len(subject) < 6


def _queries(settings: Settings, subject: str) -> list[dict[str, str]]:
    """What to ask for what ``subject`` has: each port or backend by itself."""
    if _is_port(subject):
        return [{"port": subject}]
    report = ask_sidecar(settings, "/api/status", {"names": subject})
    found = [{"backend": item["backend"]} for item in report["hosts"]]
    found += [{"port": str(item["port"])} for item in report["ports"]]
    if not subject.strip() or not found:
        raise UsageError(
            f"{subject[:80]!r} is not served; write a port, NAMESPACE/ROUTE or a host that a"
            " Route has"
        )
    return found


def table_of(entries: Iterable[EntryReport]) -> Table:
    """A row for each; the reply only where it is not plainly yes."""
    table = make_table("TIME", ">TOOK", "COMMAND", "REPLY", "BECAUSE")
    for entry in entries:
        # HAProxy's yes has many words; --json has them.
        reply = "[green]done[/]" if entry.done else f"[red]{escape(entry.reply.strip())}[/]"
        table.add_row(
            time.strftime("%H:%M:%S", time.localtime(entry.at_seconds)),
            f"{entry.duration_seconds * 1000:.1f}ms",
            escape(entry.command),
            reply,
            escape("; ".join(entry.causes)),
        )
    return table
