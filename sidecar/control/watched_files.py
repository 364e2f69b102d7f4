"""Files that somebody else replaces, without telling anybody.

Owns when they are read again, and that what became bad changes nothing but a message: the last good
one goes on. How they are read, and what is good, others say.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from sidecar.common.errors import CertificateError

#: How often files are looked at that tell nobody when they change.
_LOOK_SECONDS = 1.0

#: A file as it was: another one, or another content, has another.
_Stamp = tuple[tuple[int, int, int, int, int] | None, ...]

T = TypeVar("T")


class WatchedFiles(Generic[T]):
    """What ``read`` makes of ``files``, which raises CertificateError if they are bad. ``value``:
    the last good one; None: there was none yet. ``problem``: why it is not what is in the files
    now, or ""."""

    def __init__(
        self,
        files: Callable[[], tuple[Path, ...]],
        read: Callable[[], T],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.value: T | None = None
        self.problem = ""
        self._files = files
        self._read = read
        self._clock = clock
        self._look_at = float("-inf")
        self._stamp: _Stamp | None = None
        self._settled = False

    def look(self) -> bool:
        """Read them, if it is time and they changed; whether `value` or `problem` did."""
        if self._clock() < self._look_at:
            return False
        self._look_at = self._clock() + _LOOK_SECONDS
        stamp = tuple(map(_stamp_of, self._files()))
        if self._settled and stamp == self._stamp:
            return False
        # Several may be written one after the other, and faster than a file's time counts: what was
        # read counts as a fault, and is not read again, if it stayed until now.
        first, self._settled, self._stamp = self._stamp is None, stamp == self._stamp, stamp
        before = self.value, self.problem
        try:
            found = self._read()
        except CertificateError as exc:
            if self._settled or first:
                self.problem = str(exc)
        else:
            self.value, self.problem = found, ""
        return (self.value, self.problem) != before


def _stamp_of(file: Path) -> tuple[int, int, int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
