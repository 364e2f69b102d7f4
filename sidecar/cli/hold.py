"""``hold`` and ``release``: stop reconciling a port, and resume."""

import getpass
import os
import socket
import sys
import time
from pathlib import Path

from sidecar.cli.config import load_settings
from sidecar.common.errors import UsageError
from sidecar.common.files import cannot_write
from sidecar.common.text import one_line, reason_of
from sidecar.control.holds import REASON_MAX, holds_file, read_holds, write_holds
from sidecar.model.hold import Hold
from sidecar.model.pool import format_ports


def hold(config: Path | None, port: int, reason: str | None) -> None:
    """Nothing of ``port`` is changed from now on, whatever is desired. ``reason``: for others."""
    _change(config, port, Hold(_who(), time.time(), one_line(reason or "", REASON_MAX)))
    sys.stdout.write(f"port {port} is held: the sidecar does not change it until it is released\n")


def release(config: Path | None, port: int) -> None:
    """The sidecar brings ``port`` to what is desired again."""
    _change(config, port, None)
    sys.stdout.write(f"port {port} is released: the sidecar reconciles it again\n")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user that has no name, as in many pods
        user = str(os.getuid())
    return one_line(f"{user}@{socket.gethostname()}", REASON_MAX)


def _change(config: Path | None, port: int, held: Hold | None) -> None:
    settings = load_settings(config)
    pool = settings.pool()
    if held and port not in pool:
        raise UsageError(f"port {port} is in no pool; available ports: {format_ports(pool.ports)}")
    path = holds_file(settings.haproxy.state_file)
    try:
        holds = dict(read_holds(path))
    except ValueError as exc:
        raise UsageError(f"{exc}: delete it, then hold the ports again") from exc
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {reason_of(exc)}") from exc
    if not held and port not in holds:
        raise UsageError(f"port {port} is not held; held ports: {format_ports(holds) or 'none'}")
    holds.pop(port, None)
    if held:
        holds[port] = held
    try:
        write_holds(path, holds)
    except OSError as exc:
        kept = f"port {port} is {'not held' if held else 'still held'}"
        raise UsageError(f"{kept}: {cannot_write(path, exc)}") from exc
