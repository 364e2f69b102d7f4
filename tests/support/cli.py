"""The command line, called as a user calls it: in this process, or as one of its own."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from stand import HAPROXY, await_

from sidecar.cli import command as run_command

ROOT = Path(__file__).parents[2]


class Process:
    """A command in a process of its own, with what it has said so far."""

    def __init__(self, arguments: list[str], cwd: Path, **environment: str) -> None:
        # A group of its own, so that Ctrl-C goes to all of it, as from a terminal.
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            env={**clean_environment(), "HAPROXY": HAPROXY, **environment},
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.said += line

    def await_said(self, text: str, seconds: float = 15) -> None:
        await_(lambda: text in self.said or self.ended, f"it says {text!r}: {self.said}", seconds)
        assert text in self.said, self.said

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None and not self._reader.is_alive()

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def ctrl_c(self) -> None:
        os.killpg(self.pid, signal.SIGINT)

    def wait(self, seconds: float = 15) -> int:
        code = self._process.wait(seconds)
        self._reader.join(5)
        return code

    def close(self) -> None:
        # Its children too, should it have left any.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(10)
        self._reader.join(5)
        if self._process.stdout:
            self._process.stdout.close()
        sys.stdout.write(self.said)  # shown with a test that failed


#: The fixture `start`.
Start = Callable[..., Process]


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
            run_command()
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    return Result(code, out.getvalue(), err.getvalue())


def one_line(text: str) -> str:
    """What is told, whatever way a terminal's table folds it."""
    return " ".join(text.split())


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


def run_lines(lines: str, cwd: Path, **environment: str) -> Result:
    """Lines that a document has a reader type, in a shell that finds haproxy-sidecar; until one
    fails."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-euc", lines],
        capture_output=True,
        check=False,
        cwd=cwd,
        env={**clean_environment(), "PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def clean_environment() -> Mapping[str, str]:
    """Ours, without what would change the settings."""
    sidecar = ("SIDECAR_CONFIG", "SIDECAR_URL", "SIDECAR_TOKEN_FILE", "WZH_ROUTER_NAME")
    ours = (*sidecar, "COLUMNS", "NO_COLOR", "FORCE_COLOR")
    return {name: value for name, value in os.environ.items() if name not in ours}
