"""Ports that an operator keeps as they are: a small file that outlives the sidecar.

The commands ``hold`` and ``release`` write it, the daemon reads it before each compare. Nothing
of a held port is changed, whatever is desired.
"""

import json
import logging
from pathlib import Path

from sidecar.common.files import write_atomically
from sidecar.listeners.tcp import unit_of
from sidecar.model.desired import Unit

log = logging.getLogger(__name__)


def holds_file(state_file: Path) -> Path:
    """Where held ports are kept: beside HAProxy's own state."""
    return state_file.with_name("held-ports.json")


def read_holds(path: Path) -> frozenset[int]:
    """The held ports. Raises ValueError if the file is not ours, OSError if it cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return frozenset()
    except ValueError:
        data = None
    if not isinstance(data, list) or not all(type(port) is int for port in data):
        raise ValueError(f"{path} is not a list of ports")
    return frozenset(data)


def held_units(path: Path) -> frozenset[Unit]:
    """What `read_holds` has, as units."""
    return frozenset(map(unit_of, read_holds(path)))


def write_holds(path: Path, ports: frozenset[int]) -> None:
    """Replace the held ports. Raises OSError."""
    write_atomically(path, json.dumps(sorted(ports)) + "\n")


class Holds:
    """What is held, read again when the file was replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: object = None
        self._units: frozenset[Unit] = frozenset()

    def units(self) -> frozenset[Unit]:
        """As of now; a file that cannot be read keeps what was held before."""
        try:
            status = self._path.stat()
            seen: object = (status.st_mtime_ns, status.st_ino, status.st_size)
        except OSError:
            seen = None
        if seen != self._seen:
            self._seen = seen
            try:
                self._units = held_units(self._path)
            except (OSError, ValueError) as exc:
                log.error("cannot read held ports, keeping the last ones: %s", exc)  # noqa: TRY400
        return self._units
