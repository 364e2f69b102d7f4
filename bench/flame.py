"""Flame graphs: what a Python process does meanwhile, by py-spy, which looks at it from outside."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

#: So often a second; each look stops the process for some 0.1 ms.
_RATE = 250


@contextlib.contextmanager
def recorded(pid: int, path: Path) -> Iterator[None]:
    """What process ``pid`` does meanwhile, drawn into ``path``. Only threads that run Python are
    looked at. Raises SystemExit if py-spy fails."""
    # The command is the picture's title.
    command = ["py-spy", "record", "--gil", "--threads", "--function", "--rate", str(_RATE)]
    command += ["--pid", str(pid), "--output", str(path)]
    spy = subprocess.Popen(
        command,
        executable=Path(sys.executable).parent / "py-spy",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield
    finally:
        spy.send_signal(signal.SIGINT)
    _, told = spy.communicate(timeout=60)
    if spy.returncode:
        raise SystemExit(f"bench: {' '.join(command)} failed: {told[-500:]}")
