"""A certificate in files that somebody else replaces: the one for clients whose SNI has none.

Owns which files these are, when they are read again, and that one that became bad changes nothing
but a message: the last good one goes on. How a file is read, `sidecar.control.pem_files` knows;
whether it is good, `sidecar.model.certificate_rules` and OpenSSL say; how it gets into HAProxy,
`sidecar.control.certificate_keeper` knows. What is in the files may be a private key, and is in no
message.
"""

import time
from collections.abc import Callable
from pathlib import Path

from sidecar.common.errors import CertificateError
from sidecar.control.pem_files import read_pem
from sidecar.haproxy.last_check import python_loads
from sidecar.model.certificate_rules import judge_files
from sidecar.model.certificates import ServerCertificate
from sidecar.model.verdicts import Refusal

#: Of a Secret of the type kubernetes.io/tls, as it is mounted.
_CERTIFICATE, _KEY = "tls.crt", "tls.key"

_WANTED = f"a PEM file, or of a folder with {_CERTIFICATE} and {_KEY}"

#: How often files are looked at that tell nobody when they change.
_LOOK_SECONDS = 1.0

#: A file as it was: another one, or another content, has another.
_Stamp = tuple[tuple[int, int, int, int, int] | None, ...]


def read_certificate(path: Path) -> ServerCertificate:
    """What HAProxy is to have of ``path``: a PEM file, or a folder with tls.crt and tls.key.

    Raises CertificateError, which names the file and says what would be right.
    """
    files = _files(path)
    texts = [(str(file), read_pem(file, _WANTED)) for file in files]
    found = judge_files(*texts)
    if isinstance(found, Refusal):
        raise CertificateError(found.message)
    if problem := python_loads(found):
        raise CertificateError(f"{files[0]}: {problem}; use another certificate or key")
    return found


class WatchedCertificate:
    """The one at ``path``. ``certificate``: the last good one; None: there was none yet.
    ``problem``: why it is not what is in the files now, or ""."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.certificate: ServerCertificate | None = None
        self.problem = ""
        self._path = path
        self._clock = clock
        self._look_at = float("-inf")
        self._stamp: _Stamp | None = None
        self._settled = False

    def look(self) -> bool:
        """Read it, if it is time and it changed; whether `certificate` or `problem` did."""
        if self._clock() < self._look_at:
            return False
        self._look_at = self._clock() + _LOOK_SECONDS
        stamp = _stamp(self._path)
        if self._settled and stamp == self._stamp:
            return False
        # Certificate and key may be written one after the other, and faster than a file's time
        # counts: what was read counts as a fault, and is not read again, if it stayed until now.
        first, self._settled, self._stamp = self._stamp is None, stamp == self._stamp, stamp
        before = self.certificate, self.problem
        try:
            found = read_certificate(self._path)
        except CertificateError as exc:
            if self._settled or first:
                self.problem = str(exc)
        else:
            self.certificate, self.problem = found, ""
        return (self.certificate, self.problem) != before


def _files(path: Path) -> tuple[Path, ...]:
    return (path / _CERTIFICATE, path / _KEY) if path.is_dir() else (path,)


def _stamp(path: Path) -> _Stamp:
    return tuple(map(_stamp_of, _files(path)))


def _stamp_of(file: Path) -> tuple[int, int, int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
