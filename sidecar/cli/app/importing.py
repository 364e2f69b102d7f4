"""The commands of ``import``. Holds no logic: each calls the module that does the work."""

from typing import Annotated

import typer

from sidecar.cli.app.options import Config

commands = typer.Typer(
    name="import",
    help="Convert what other routers have to Routes and settings.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.command("tcp-services")
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


@commands.command("egress")
def import_egress(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE…",
            help="Their Pods, Deployments, …, with the ConfigMaps that these refer to;"
            " EgressRouters; or KEY=VALUE lines; - is stdin.",
        ),
    ],
    config: Config = None,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="DIR", help="Where to write them; - is stdout."),
    ] = "-",
    namespace: Annotated[
        str,
        typer.Option("-n", "--namespace", help="The namespace for KEY=VALUE lines."),
    ] = "default",
) -> None:
    """Convert OpenShift's egress routers to annotated Routes, Services and EndpointSlices.

    Reports what could not be converted, and exits with 1 if there is anything.
    """
    from sidecar.cli import import_egress as command

    command.import_egress(config, files, output, namespace)


@commands.command("router-env")
def import_router_env(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE…",
            help="Its Deployment, with the ConfigMaps that it refers to; or KEY=VALUE lines; - is"
            " stdin.",
        ),
    ],
) -> None:
    """Convert the variables and flags of OpenShift's router to settings of this one.

    Reports what was left out, and exits with 1 if any of it may be missed.
    """
    from sidecar.cli import import_router_env as command

    command.import_router_env(files)
