"""``why``: one port or Route explained, one line per step."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from typer import Exit

from sidecar.cli.ask import ask_shaped
from sidecar.cli.config import load_settings
from sidecar.cli.history import table_of
from sidecar.cli.screen import make_console
from sidecar.cli.whom import NoSidecarError, Sidecar, find_sidecar
from sidecar.common.errors import UsageError
from sidecar.common.shapes import read_as
from sidecar.reporting.explanation import Mark, WhyReport

_MARKS: Mapping[Mark, tuple[str, str]] = {
    "ok": ("\N{CHECK MARK}", "green"),
    "warn": ("!", "yellow"),
    "bad": ("\N{BALLOT X}", "red"),
    "info": ("\N{MIDDLE DOT}", "dim"),
}


def why(
    config: Path | None, url: str | None, subject: str, *, as_json: bool, connect: bool
) -> None:
    """Print the chain; exits with 1 if it breaks somewhere. ``connect``: to each server, too."""
    if connect and url is not None:
        raise UsageError(
            "--probe connects from here to the servers, which are where the sidecar of --url is:"
            " run it there, or leave out --url (SIDECAR_URL)"
        )
    try:
        report = explained(find_sidecar(config, url), subject)
        no_sidecar = ""
    except NoSidecarError as exc:
        if url is not None:
            raise
        from sidecar.cli.why_alone import explain_alone

        report, no_sidecar = explain_alone(load_settings(config), subject), str(exc)
    if connect:
        from sidecar.cli.why_alone import probed

        report = probed(load_settings(config), report)
    if as_json:
        sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    else:
        make_console().print(Group(*shown(report, no_sidecar)))
    if not report.why.works:
        raise Exit(1)


def explained(sidecar: Sidecar, subject: str) -> WhyReport:
    """By the running sidecar. Raises NoSidecarError, UsageError."""
    read = partial(read_as, WhyReport)
    report = ask_shaped(sidecar, "/api/why", {"subject": subject}, read)
    sidecar.refuse_another(report.router_name, report.socket)
    return report


def shown(report: WhyReport, no_sidecar: str) -> Iterator[RenderableType]:
    """As a person reads it. ``no_sidecar``: why none was asked, or ""."""
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
