"""A certificate in files that somebody else replaces: the one for clients whose SNI has none.

Owns which files these are. When they are read again, `sidecar.control.watched_files` says; how a
file is read, `sidecar.control.pem_files` knows; whether it is good,
`sidecar.model.certificate_rules` and OpenSSL say; how it gets into HAProxy,
`sidecar.control.certificate_keeper` knows. What is in the files may be a private key, and is in no
message.
"""

import time
from collections.abc import Callable
from pathlib import Path

from sidecar.common.errors import CertificateError
from sidecar.control.pem_files import read_pem
from sidecar.control.watched_files import WatchedFiles
from sidecar.haproxy.last_check import python_loads
from sidecar.model.certificate_rules import judge_files
from sidecar.model.certificates import ServerCertificate
from sidecar.model.verdicts import Refusal

#: Of a Secret of the type kubernetes.io/tls, as it is mounted.
_CERTIFICATE, _KEY = "tls.crt", "tls.key"

_WANTED = f"a PEM file, or of a folder with {_CERTIFICATE} and {_KEY}"


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


class WatchedCertificate(WatchedFiles[ServerCertificate]):
    """The one at ``path``."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(lambda: _files(path), lambda: read_certificate(path), clock=clock)


def _files(path: Path) -> tuple[Path, ...]:
    return (path / _CERTIFICATE, path / _KEY) if path.is_dir() else (path,)
