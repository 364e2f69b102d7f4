"""Commands that show what is, and change nothing. Holds no logic: each calls the module that
does the work."""

from typing import Annotated

import typer

from sidecar.cli.app.options import JSON, NAMESPACES, SUBJECTS, URL, Config, Target
from sidecar.cli.app.quick import QuickCommand

commands = typer.Typer(rich_markup_mode=None)


@commands.command(cls=QuickCommand)
def status(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAMES",
            help="Show only these ports, hosts, Routes or NAMESPACE/ROUTEs; * is a wildcard.",
            autocompletion=SUBJECTS,
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    url: URL = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "-n",
            "--namespace",
            help="Show only Routes in this namespace.",
            show_default=False,
            autocompletion=NAMESPACES,
        ),
    ] = None,
    json: JSON = False,
    watch: Annotated[
        bool, typer.Option("-w", "--watch", help="Refresh every second until Ctrl-C.")
    ] = False,
) -> None:
    """Show ports, hosts, their Routes, servers and sessions.

    Asks the running sidecar, or else HAProxy and the source. Exits with 3 if HAProxy is down.
    """
    from sidecar.cli import status as command

    command.status(config, url, names or [], namespace=namespace, as_json=json, watch=watch)


@commands.command(cls=QuickCommand)
def top(config: Config = None, url: URL = None) -> None:
    """Show the same live, on a terminal.

    Scrolls, sorts, filters, explains, and ends sessions; ? lists the keys. Asks the running
    sidecar.
    """
    from sidecar.cli import top as command

    command.top(config, url)


@commands.command(cls=QuickCommand)
def ports(config: Config = None, json: JSON = False) -> None:
    """Show which port is whose, who is waiting, and which are free.

    Asks the source and HAProxy. Exits with 3 if HAProxy is down.
    """
    from sidecar.cli import ports as command

    command.ports(config, as_json=json)


@commands.command(cls=QuickCommand)
def why(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="PORT|NAMESPACE/ROUTE|URL",
            help="What to explain; a URL is what a client asks for, e.g. https://shop.example/cart.",
            autocompletion=SUBJECTS,
        ),
    ],
    config: Config = None,
    url: URL = None,
    json: JSON = False,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Connect to each server, and through the port or the listeners."
        ),
    ] = False,
) -> None:
    """Explain why a port, Route or URL works or not, step by step.

    Exits with 1 if it does not work.
    """
    from sidecar.cli import why as command

    command.why(config, url, subject, as_json=json, connect=probe)


@commands.command(cls=QuickCommand)
def history(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="PORT|NAMESPACE/ROUTE|HOST",
            help="Show only this port or backend.",
            show_default=False,
            autocompletion=SUBJECTS,
        ),
    ] = None,
    config: Config = None,
    url: URL = None,
    last: Annotated[
        int | None,
        typer.Option(
            "-n", "--last", metavar="N", min=1, help="Show only the last N.", show_default=False
        ),
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Show only what HAProxy did not carry out.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with what is new, until Ctrl-C.")
    ] = False,
    json: JSON = False,
) -> None:
    """Show what the sidecar changed in HAProxy recently, and why.

    Newest last. Exits with 3 if no sidecar answers.
    """
    from sidecar.cli import history as command

    wanted = command.Wanted(last, failed)
    command.history(config, url, subject, wanted, as_json=json, follow=follow)


@commands.command(cls=QuickCommand)
def sessions(target: Target, config: Config = None, json: JSON = False) -> None:
    """Show who is connected to a port, how long, to which server."""
    from sidecar.cli import sessions as command

    command.sessions(config, target, as_json=json)
