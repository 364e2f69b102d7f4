"""``history``: the running sidecar's last operations."""

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter
from rich.markup import escape
from rich.table import Table

from sidecar.cli.ask import ask_sidecar
from sidecar.cli.context import load_settings
from sidecar.cli.screen import make_console, make_table
from sidecar.control.history import EntryReport

_ENTRIES = TypeAdapter(list[EntryReport])


def history(config: Path | None, port: int | None, *, as_json: bool) -> None:
    """Print it, the newest last, where a terminal's eye is. Raises NoSidecarError."""
    settings = load_settings(config)
    data = ask_sidecar(settings, "/api/history", {} if port is None else {"port": str(port)})
    if as_json:
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
        return
    entries = _ENTRIES.validate_python(data["entries"])
    if entries:
        make_console().print(table_of(reversed(entries)))
    else:
        what = "anything" if port is None else f"port {port}"
        sys.stderr.write(f"the sidecar has not changed {what} since it started\n")


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
