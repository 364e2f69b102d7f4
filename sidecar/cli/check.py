"""``check``: what manifests would get, without a HAProxy."""

from pathlib import Path

from rich.table import Table
from typer import Exit

from sidecar.cli.context import load_settings, make_console, read_source


def check(config: Path | None, manifests: list[Path]) -> None:
    """Print a line per Route and per problem; exit with 1 if any Route is refused or any file
    cannot be used."""
    settings = load_settings(config)
    snapshot = read_source(settings, manifests)
    verdicts = snapshot.routing.verdicts()
    console = make_console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("PORT", "ROUTE", "VERDICT"):
        table.add_column(column)
    table.add_column("SERVERS", justify="right")
    table.add_column("WHY", overflow="fold")
    for verdict in verdicts:
        claimed = snapshot.routing.claimed.get(verdict.port or 0)
        owner = claimed is not None and claimed.route.key == verdict.route
        servers = str(len(claimed.resolution.servers)) if claimed and owner else "-"
        colour = "red" if not verdict.admitted else "yellow" if servers == "0" else "green"
        table.add_row(
            str(verdict.port or "-"),
            f"{verdict.route.namespace}/{verdict.route.name}",
            f"[{colour}]{verdict.reason}[/]",
            servers,
            verdict.message,
        )
    if verdicts:
        console.print(table)
    else:
        console.print(
            f"no Route names this router: none has the annotation"
            f" {settings.annotations.router_name}: {settings.router_name}",
            markup=False,
        )
    for problem in snapshot.problems:
        console.print(f"problem: {problem}", style="red", markup=False)
    if snapshot.problems or any(not verdict.admitted for verdict in verdicts):
        raise Exit(1)
