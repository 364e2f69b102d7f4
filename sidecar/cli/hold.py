"""``hold`` and ``release``: stop reconciling a port, and resume."""

import sys
from pathlib import Path

from sidecar.cli.context import load_settings
from sidecar.common.errors import UsageError
from sidecar.common.files import cannot_write
from sidecar.common.text import reason_of
from sidecar.control.holds import holds_file, read_holds, write_holds
from sidecar.model.pool import format_ports


def hold(config: Path | None, port: int) -> None:
    """Nothing of ``port`` is changed from now on, whatever is desired."""
    _change(config, port, held=True)
    sys.stdout.write(f"port {port} is held: the sidecar does not change it until it is released\n")


def release(config: Path | None, port: int) -> None:
    """The sidecar brings ``port`` to what is desired again."""
    _change(config, port, held=False)
    sys.stdout.write(f"port {port} is released: the sidecar reconciles it again\n")


def _change(config: Path | None, port: int, *, held: bool) -> None:
    settings = load_settings(config)
    pool = settings.pool()
    if held and port not in pool:
        raise UsageError(f"port {port} is in no pool; available ports: {format_ports(pool.ports)}")
    path = holds_file(settings.haproxy.state_file)
    try:
        ports = read_holds(path)
    except ValueError as exc:
        raise UsageError(f"{exc}: delete it, then hold the ports again") from exc
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {reason_of(exc)}") from exc
    if not held and port not in ports:
        raise UsageError(f"port {port} is not held; held ports: {format_ports(ports) or 'none'}")
    try:
        write_holds(path, ports | {port} if held else ports - {port})
    except OSError as exc:
        kept = f"port {port} is {'not held' if held else 'still held'}"
        raise UsageError(f"{kept}: {cannot_write(path, exc)}") from exc
