"""Files of PEM that a person names in the settings, and that anybody may have put there.

Owns that reading one neither waits nor takes more memory than such a file is worth. What is in it
may be a private key, and is in no message; whether it is good, `sidecar.model.certificate_rules`
says.
"""

import os
import stat
from pathlib import Path

from sidecar.common.errors import CertificateError
from sidecar.common.secret_text import SecretText
from sidecar.common.text import reason_of

#: HAProxy takes far less; what is bigger is something else.
_READ_MAX_BYTES = 2**20


def read_pem(file: Path, wanted: str) -> SecretText:
    """What is in ``file``. Raises CertificateError, which names it; ``wanted``: what the settings
    should name instead."""
    remedy = f"write the path of {wanted}"
    try:
        # Of a named pipe, without waiting for who writes to it.
        opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise CertificateError(f"{file}: not a file; {remedy}")
            with os.fdopen(opened, "rb", closefd=False) as stream:
                content = stream.read(_READ_MAX_BYTES + 1)
        finally:
            os.close(opened)
    except OSError as exc:
        raise CertificateError(
            f"{file}: cannot be read: {reason_of(exc)}; {remedy}, that the sidecar may read"
        ) from exc
    if len(content) > _READ_MAX_BYTES:
        raise CertificateError(f"{file}: more than {_READ_MAX_BYTES} bytes; {remedy}")
    return SecretText(content.decode(errors="replace"))
