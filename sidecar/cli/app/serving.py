"""Commands that make, run and foresee what HAProxy is told. Holds no logic: each calls the module
that does the work."""

from pathlib import Path
from typing import Annotated

import typer

from sidecar.cli.app.options import JSON, Config

commands = typer.Typer(rich_markup_mode=None)


@commands.command()
def render(
    config: Config = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Where to write it; - is stdout.",
            show_default="haproxy.config of the settings",
        ),
    ] = None,
) -> None:
    """Render haproxy.cfg from the settings.

    It has the pool of ports, the listeners and the backends, each with its server slots; the
    files that HAProxy needs when it starts are made next to its state file.
    """
    from sidecar.cli import render as command

    command.render(config, output)


@commands.command()
def run(context: typer.Context, config: Config = None) -> None:
    """Watch the source and reconcile HAProxy: what a pod runs."""
    from sidecar.cli import run as command

    command.run(config, context.obj)


@commands.command()
def up(
    manifests: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MANIFESTS",
            help="Files and folders to watch instead of source.path.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Laptop mode: like run, but with its own HAProxy.

    Renders haproxy.cfg, starts HAProxy, watches and reconciles; Ctrl-C stops everything.
    """
    from sidecar.cli import up as command

    command.up(config, manifests or [])


@commands.command()
def check(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFESTS", help="Files and folders.")
    ],
    config: Config = None,
    summary: Annotated[
        bool,
        typer.Option("--summary", help="Show how many Routes get what, not each of them."),
    ] = False,
    json: JSON = False,
) -> None:
    """Show offline which Route gets which port or host, and why not.

    Exits with 1 if any Route is refused or any file is invalid.
    """
    from sidecar.cli import check as command

    command.check(config, manifests, summarized=summary, as_json=json)


@commands.command()
def plan(
    config: Config = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what they change, port by port, and host by host.")
    ] = False,
    json: JSON = False,
) -> None:
    """Print the commands that would be sent to HAProxy now.

    Sends none of them; prints none if HAProxy has converged. What would only be sent later
    (after timing.close_after or drain.deadline, or once HAProxy serves a certificate) is listed
    separately, on stderr.
    """
    from sidecar.cli import plan as command

    command.plan(config, as_diff=diff, as_json=json)
