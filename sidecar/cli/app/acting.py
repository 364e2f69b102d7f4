"""Commands by which an operator interferes. Holds no logic: each calls the module that
does the work."""

from typing import Annotated

import typer

from sidecar.cli.app.options import SERVERS, Config, HeldPort, Port, Target, Yes
from sidecar.cli.app.quick import QuickCommand

commands = typer.Typer(rich_markup_mode=None)


def _shells(incomplete: str) -> list[str]:
    return [name for name in ("bash", "zsh", "fish") if name.startswith(incomplete)]


@commands.command()
def hold(
    port: Port,
    config: Config = None,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="TEXT", help="Why, for others.", show_default=False),
    ] = None,
) -> None:
    """Stop reconciling a port until it is released."""
    from sidecar.cli import hold as command

    command.hold(config, port, reason)


@commands.command()
def release(port: HeldPort, config: Config = None) -> None:
    """Resume reconciling a held port."""
    from sidecar.cli import hold as command

    command.release(config, port)


@commands.command()
def kick(
    target: Target,
    config: Config = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="SLOT|POD|ADDRESS",
            help="End only the sessions on this server.",
            autocompletion=SERVERS,
            show_default=False,
        ),
    ] = None,
    per_second: Annotated[
        int | None,
        typer.Option(
            "--per-second",
            metavar="N",
            min=1,
            help="End at most this many per second.",
            show_default="drain.sessions_per_second",
        ),
    ] = None,
    yes: Yes = False,
) -> None:
    """End the sessions on a port, or on one of its servers.

    Ends the current sessions at a limited rate; clients may reconnect.
    """
    from sidecar.cli import kick as command

    command.kick(config, target, server, per_second, yes=yes)


@commands.command()
def shell(
    config: Config = None,
    execute: Annotated[
        str | None,
        typer.Option(
            "-e",
            "--execute",
            metavar="COMMAND",
            help="Run one command and exit; - reads commands from stdin.",
            show_default=False,
        ),
    ] = None,
    yes: Yes = False,
    table: Annotated[
        bool | None,
        typer.Option(
            "--table/--raw",
            help="Show long replies as tables, or as HAProxy sent them.",
            show_default="tables on a terminal",
        ),
    ] = None,
    socket: Annotated[
        str | None,
        typer.Option(
            "--socket",
            metavar="ADDRESS",
            help="Connect to another CLI, of a worker or a master: a path or host:port.",
            show_default="haproxy.socket of the settings",
        ),
    ] = None,
) -> None:
    """Open an interactive shell for HAProxy's Runtime API.

    Has history and completion. Exits with 1 if HAProxy refused a command, with 3 if it is down.
    """
    from sidecar.cli import shell as command

    command.shell(config, execute, yes=yes, table=table, socket=socket)


@commands.command(cls=QuickCommand)
def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", autocompletion=_shells)],
) -> None:
    """Print the script by which a shell completes words.

    For bash and zsh: source <(haproxy-sidecar completion bash), in ~/.bashrc or ~/.zshrc.
    """
    from sidecar.cli import completion as command

    command.completion(shell)
