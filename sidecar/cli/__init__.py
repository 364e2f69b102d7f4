"""The command line. `main` is all of it; each command is implemented in a module of its own,
imported when the command runs, so that ``--help`` is fast."""

import os
import sys

from sidecar.common.garbage import collecting_rarely
from sidecar.common.supervisor import Predecessors, supervise

#: Set by the shell that asks for completions.
COMPLETE_VARIABLE = "_HAPROXY_SIDECAR_COMPLETE"


def main() -> None:
    """Run one command; see docs/reference.md. Exits with 0, 1, 2 or 3.

    ``run`` does so in a worker, which is started again when it dies.
    """
    if is_run(sys.argv[1:]):
        before = supervise()
        with collecting_rarely():
            command(before)
    else:
        command()


def is_run(arguments: list[str]) -> bool:
    """Whether the command is ``run``: the first word that is no option, nor the value of one."""
    words = iter(arguments)
    for word in words:
        if word in ("-c", "--config", "--url"):
            next(words, None)
        elif not word.startswith("-"):
            return word == "run"
    return False


def command(before: Predecessors | None = None) -> None:
    """Run one command in this process; ``before``: what it replaces."""
    try:
        _run(before)
    except KeyboardInterrupt:
        # Before the command was so far as to handle it.
        sys.exit(130)


def _run(before: Predecessors | None) -> None:
    if before and before.count:
        # At once, before the settings are known: nobody else would, if this one died at its start.
        from sidecar.common.logs import set_up_logging

        log = set_up_logging("auto", "info")
        log.error("the sidecar %s; restarted (%d)", before.last, before.count)

    from sidecar.cli.app import app
    from sidecar.common.errors import SidecarError

    if COMPLETE_VARIABLE in os.environ:
        # It also tells typer of the shells.
        from typer.completion import get_completion_inspect_parameters

        get_completion_inspect_parameters()
    try:
        app(prog_name="haproxy-sidecar", obj=before)
    except SidecarError as exc:
        sys.stderr.write(f"haproxy-sidecar: {exc}\n")
        sys.exit(exc.exit_code)
