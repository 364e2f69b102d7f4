"""The commands and their options. Holds no logic: each calls the module that does the work."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="haproxy-sidecar",
    help="The router for OpenShift and Kubernetes that never reloads HAProxy: TCP by port, HTTP and"
    " HTTPS by host and path, TLS passthrough by SNI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain text: it reads well in a pipe, and rich would double the time that --help takes.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        envvar="SIDECAR_CONFIG",
        metavar="FILE",
        help="Settings file (default: built-in).",
        show_default=False,
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def _version(value: bool) -> None:
    if value:
        from sidecar import __version__

        typer.echo(f"haproxy-sidecar {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


@app.command()
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


@app.command()
def run(context: typer.Context, config: Config = None) -> None:
    """Watch the source and reconcile HAProxy: what the container runs."""
    from sidecar.cli import run as command

    command.run(config, context.obj)


@app.command()
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


@app.command()
def check(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFESTS", help="Files and folders.")
    ],
    config: Config = None,
) -> None:
    """Show offline which Route gets which port or host, and why not.

    Exits with 1 if any Route is refused or any file is invalid.
    """
    from sidecar.cli import check as command

    command.check(config, manifests)


@app.command()
def plan(
    config: Config = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what they change, port by port, and host by host.")
    ] = False,
) -> None:
    """Print the commands that would be sent to HAProxy now.

    Sends none of them; prints none if HAProxy has converged. What would only be sent later
    (after timing.close_after or drain.deadline, or once HAProxy serves a certificate) is listed
    separately, on stderr.
    """
    from sidecar.cli import plan as command

    command.plan(config, as_diff=diff)


@app.command()
def status(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAMES",
            help="Show only these ports, hosts, Routes or NAMESPACE/ROUTEs; * is a wildcard.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "-n", "--namespace", help="Show only Routes in this namespace.", show_default=False
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

    command.status(config, names or [], namespace=namespace, as_json=json, watch=watch)


@app.command()
def ports(config: Config = None, json: JSON = False) -> None:
    """Show which port is whose, who is waiting, and which are free.

    Asks the source and HAProxy. Exits with 3 if HAProxy is down.
    """
    from sidecar.cli import ports as command

    command.ports(config, as_json=json)


@app.command()
def why(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="PORT|NAMESPACE/ROUTE|URL",
            help="What to explain; a URL is what a client asks for, e.g. https://shop.example/cart.",
        ),
    ],
    config: Config = None,
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

    command.why(config, subject, as_json=json, connect=probe)


@app.command()
def history(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="PORT|NAMESPACE/ROUTE|HOST",
            help="Show only this port or backend.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    json: JSON = False,
) -> None:
    """Show what the sidecar changed in HAProxy recently, and why.

    Newest last. Exits with 3 if no sidecar answers.
    """
    from sidecar.cli import history as command

    command.history(config, subject, as_json=json)


Port = Annotated[int, typer.Argument(metavar="PORT", help="A port of the pool.")]


@app.command()
def hold(port: Port, config: Config = None) -> None:
    """Stop reconciling a port until it is released."""
    from sidecar.cli import hold as command

    command.hold(config, port)


@app.command()
def release(port: Port, config: Config = None) -> None:
    """Resume reconciling a held port."""
    from sidecar.cli import hold as command

    command.release(config, port)


Target = Annotated[
    str,
    typer.Argument(
        metavar="PORT|NAMESPACE/ROUTE", help="A port of the pool, or the Route that has it."
    ),
]


@app.command()
def sessions(target: Target, config: Config = None, json: JSON = False) -> None:
    """Show who is connected to a port, for how long, to which server."""
    from sidecar.cli import sessions as command

    command.sessions(config, target, as_json=json)


@app.command()
def kick(
    target: Target,
    config: Config = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="SLOT|POD|ADDRESS",
            help="End only the sessions on this server.",
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


@app.command()
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


imports = typer.Typer(
    name="import",
    help="Convert another router's configuration to Routes.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(imports)


@imports.command("tcp-services")
def import_tcp_services(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE…",
            help="The ConfigMap, and the Services to look up ports in; - is stdin.",
        ),
    ],
    config: Config = None,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="DIR", help="Where to write them; - is stdout."),
    ] = "-",
) -> None:
    """Convert ingress-nginx's tcp-services ConfigMap to annotated Routes.

    Reports what could not be converted, and exits with 1 if there is anything.
    """
    from sidecar.cli import import_tcp_services as command

    command.import_tcp_services(config, files, output)
