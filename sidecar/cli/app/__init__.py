"""The commands, by what they are for, and the options before them. Holds no logic."""

from typing import Annotated

import typer

from sidecar.cli.app import acting, importing, looking, serving
from sidecar.cli.app.options import ASKING, URL, Config
from sidecar.cli.app.quick import QuickGroup

app = typer.Typer(
    name="haproxy-sidecar",
    cls=QuickGroup,
    help="The router for OpenShift and Kubernetes that never reloads HAProxy: TCP by port, HTTP and"
    " HTTPS by host and path, TLS passthrough by SNI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain text: it reads well in a pipe, and rich would double the time that --help takes.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from sidecar import __version__

        typer.echo(f"haproxy-sidecar {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    config: Config = None,
    url: URL = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    _ = config, url, version  # done by their callbacks
    source = context.get_parameter_source("url")
    command = context.invoked_subcommand
    if source is not None and source.name == "COMMANDLINE" and command not in ASKING:
        raise typer.BadParameter(
            f"`{command}` does not ask the running sidecar; these do: {', '.join(ASKING)}",
            param_hint="--url",
        )


for group in (serving, looking, acting):
    app.add_typer(group.commands)
app.add_typer(importing.commands)
