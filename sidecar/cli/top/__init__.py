"""``top``: ports, hosts and their servers, live on a terminal, with what one does about them.

`rows`, `memory`, `columns`, `fitted`, `table`, `desk` and `paint` are pure; `feed` and `work` ask
others; `screen` has the terminal.
"""

import os
import sys
from pathlib import Path

from sidecar.cli.whom import find_sidecar
from sidecar.common.errors import UsageError

_ELSEWHERE = (
    "sessions are read from HAProxy's socket, which is where the sidecar of --url is: run top there"
)


def top(config: Path | None, url: str | None) -> None:
    """Until the user leaves. Raises UsageError where there is no terminal, and what `find_sidecar`
    raises."""
    sidecar = find_sidecar(config, url)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("top needs a terminal; `haproxy-sidecar status` shows the same in a pipe")
    if os.environ.get("TERM") == "dumb":
        raise UsageError(
            "top needs a terminal that can move its cursor, and TERM is dumb;"
            " `haproxy-sidecar status` needs none"
        )
    from sidecar.cli.top.screen import Screen

    Screen(config, sidecar, _ELSEWHERE if url is not None else "").run()
