"""Ports that an operator keeps as they are: a small file that outlives the sidecar.

The commands ``hold`` and ``release`` write it, the daemon reads it before each compare. Nothing
of a held port is changed, whatever is desired.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from sidecar.common.files import write_atomically
from sidecar.common.text import one_line
from sidecar.listeners.tcp import unit_of
from sidecar.model.desired import Unit
from sidecar.model.hold import Hold

#: Of a reason, in characters: a line.
REASON_MAX = 200

#: The last moment that a person can be shown.
_LATEST_SECONDS = datetime.max.replace(tzinfo=UTC).timestamp()

log = logging.getLogger(__name__)


def holds_file(state_file: Path) -> Path:
    """Where held ports are kept: beside HAProxy's own state."""
    return state_file.with_name("held-ports.json")


def read_holds(path: Path) -> Mapping[int, Hold]:
    """The held ports. Raises ValueError if the file is not ours, OSError if it cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return dict(map(_hold, _list(data)))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{path} is not a list of ports") from None


def _list(data: object) -> list[object]:
    if not isinstance(data, list):
        raise TypeError
    return data


def _hold(item: object) -> tuple[int, Hold]:
    """One item of the list: as `write_holds` writes them, or, as former versions did, a port."""
    if type(item) is int:
        return item, Hold()
    if not isinstance(item, dict) or type(item.get("port")) is not int:
        raise TypeError
    at = item.get("at_seconds")
    # Beyond, and where it is no number at all, nobody held it.
    seconds = float(at) if isinstance(at, int | float) and 0 <= at <= _LATEST_SECONDS else None
    by, reason = (one_line(str(item.get(key) or ""), REASON_MAX) for key in ("by", "reason"))
    return item["port"], Hold(by, seconds, reason)


def held_units(path: Path) -> Mapping[Unit, Hold]:
    """What `read_holds` has, by unit."""
    return {unit_of(port): hold for port, hold in read_holds(path).items()}


def write_holds(path: Path, holds: Mapping[int, Hold]) -> None:
    """Replace the held ports. Raises OSError."""
    items = [{"port": port, **holds[port]._asdict()} for port in sorted(holds)]
    write_atomically(path, json.dumps(items) + "\n")


class Holds:
    """What is held, read again when the file was replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: object = None
        self._units: Mapping[Unit, Hold] = {}

    def units(self) -> Mapping[Unit, Hold]:
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
