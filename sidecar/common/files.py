"""Files that other processes read: replaced as a whole, so that nobody reads a partial one."""

import contextlib
import errno
import logging
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from sidecar.common.text import reason_of

log = logging.getLogger(__name__)


#: Modes of files. HAProxy runs as another user in its own container: what is public is readable by
#: everybody, and what is not, by the group that both are in.
PUBLIC, SECRET = 0o644, 0o640


def write_atomically(path: Path, text: str, mode: int = PUBLIC) -> None:
    """Replace ``path`` by ``text``, making its folder if need be. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def remove_partial(paths: Iterable[Path]) -> None:
    """Remove what processes left that were killed while they wrote one of ``paths``, which nobody
    writes now: it may be half of a private key. What cannot be removed stays."""
    by_folder: dict[Path, list[str]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(re.escape(path.name))
    for folder, names in by_folder.items():
        partial = re.compile(rf"\.(?:{'|'.join(names)})\.[a-z0-9_]{{8}}")
        with contextlib.suppress(OSError):
            for item in os.scandir(folder):
                if partial.fullmatch(item.name) and item.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        Path(item.path).unlink()


class KeptFile:
    """A file that is replaced again and again: that it cannot be is said once, and once that it
    can be again."""

    def __init__(self, path: Path, mode: int = PUBLIC) -> None:
        self._path = path
        self._mode = mode
        self._problem = ""

    def write(self, text: str) -> bool:
        """Replace it, if that works; whether it did."""
        try:
            write_atomically(self._path, text, self._mode)
        except OSError as exc:
            problem = cannot_write(self._path, exc)
            if problem != self._problem:
                log.error("%s; retrying until it succeeds", problem)  # noqa: TRY400
            self._problem = problem
            return False
        if self._problem:
            log.info("%s is writable again", self._path)
        self._problem = ""
        return True


_FULL = "make room in {folder}"
_FORBIDDEN = "{folder} must be writable by the user running this, UID {uid}"

_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: "{folder} must be on a volume that is writable here",
}


def cannot_write(path: Path, error: OSError) -> str:
    """What went wrong, for a user, and what to do where that is known."""
    found = f"cannot write {path}: {reason_of(error)}"
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return found
    return f"{found}; {remedy.format(folder=path.parent, uid=os.geteuid())}"
