"""The command line, called as a user calls it: in this process, or as one of its own."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from sidecar.cli import main

ROOT = Path(__file__).parent.parent


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def run_cli(*arguments: object, **environment: str) -> Result:
    """Run one command in this process, with its output in a pipe."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = ["haproxy-sidecar", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    return Result(code, out.getvalue(), err.getvalue())


def command(*arguments: object) -> list[str]:
    """The command's argument list, for a process of its own."""
    return [sys.executable, "-m", "sidecar", *map(str, arguments)]


def spawn_cli(*arguments: object, cwd: Path = ROOT, **environment: str) -> Result:
    """Run one command in a process of its own, with its output in pipes."""
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        check=False,
        cwd=cwd,
        env={**clean_environment(), **environment},
        text=True,
        timeout=30,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def clean_environment() -> Mapping[str, str]:
    """Ours, without what would change the settings."""
    ours = ("SIDECAR_CONFIG", "WZH_ROUTER_NAME", "COLUMNS", "NO_COLOR", "FORCE_COLOR")
    return {name: value for name, value in os.environ.items() if name not in ours}
