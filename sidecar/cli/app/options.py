"""Options and arguments that several commands have. What stands before the command counts as if it
stood behind it, where that has none."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

#: The commands that ask the running sidecar, and so may be told where it is.
ASKING = ("status", "top", "why", "history")


def _from_before(context: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """``value``, or what was given before the command, which the environment does not outdo."""
    source = context.get_parameter_source(param.name or "")
    if source is not None and source.name == "COMMANDLINE":
        # One dictionary for a command and the one that it belongs to.
        context.meta[_key(param.name)] = value
        return value
    return context.meta.get(_key(param.name), value)


def given(context: Any, name: str) -> Any:
    """What the command line, or the environment, has for an option: for completion, when nothing
    runs yet."""
    own = context.params.get(name)
    before = context.find_root().params.get(name)
    return own or context.meta.get(_key(name)) or before


def _completed(kind: str) -> Callable[[typer.Context, str], Sequence[tuple[str, str]]]:
    """Values from the running sidecar."""

    def complete(ctx: typer.Context, incomplete: str) -> Sequence[tuple[str, str]]:
        from sidecar.cli import completion

        found: Sequence[tuple[str, str]] = getattr(completion, kind)(ctx, incomplete)
        return found

    return complete


SUBJECTS, TARGETS, PORTS = map(_completed, ("subjects", "targets", "ports"))
NAMESPACES, SERVERS, HELD = map(_completed, ("namespaces", "servers", "held"))


def _key(name: str | None) -> str:
    return f"haproxy-sidecar.{name}"


Config = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        envvar="SIDECAR_CONFIG",
        metavar="FILE",
        help="Settings file (default: built-in).",
        show_default=False,
        callback=_from_before,
    ),
]
URL = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="SIDECAR_URL",
        metavar="URL",
        help="Ask the sidecar there, e.g. at a forwarded port, and nobody else.",
        show_default=False,
        callback=_from_before,
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Port = Annotated[
    int,
    typer.Argument(metavar="PORT", help="A port of the pool.", autocompletion=PORTS),
]
HeldPort = Annotated[int, typer.Argument(metavar="PORT", help="A held port.", autocompletion=HELD)]
Target = Annotated[
    str,
    typer.Argument(
        metavar="PORT|NAMESPACE/ROUTE",
        help="A port of the pool, or the Route that has it.",
        autocompletion=TARGETS,
    ),
]
