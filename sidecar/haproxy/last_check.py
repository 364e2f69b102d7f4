"""The last check of a certificate before HAProxy gets it: whether OpenSSL itself loads it.

HAProxy loads certificates by OpenSSL, and so does Python, as another process; what the rules of
`sidecar.model.certificate_rules` let through and OpenSSL does not shall never be HAProxy's problem.
Must not judge anything itself, nor write the key to a disk. Not pure: it has a file in memory.
"""

import os
import ssl

from sidecar.common.text import reason_of
from sidecar.model.certificates import ServerCertificate


def python_loads(certificate: ServerCertificate) -> str | None:
    """None if OpenSSL loads it, otherwise why not; says nothing of what is in it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        with open(os.memfd_create("certificate"), "wb") as file:  # noqa: PTH123  # not a path
            file.write(certificate.pem)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=_no_password)
    except _PasswordWantedError:
        return "the private key is encrypted"
    except ssl.SSLError as exc:
        # of OpenSSL's own list of reasons, like KEY_VALUES_MISMATCH
        return f"OpenSSL does not load it: {exc.reason or 'no reason given'}"
    except OSError as exc:
        return f"it cannot be checked: {reason_of(exc)}"
    return None


class _PasswordWantedError(Exception):
    pass


def _no_password() -> str:
    """Without this, OpenSSL asks on the terminal."""
    raise _PasswordWantedError
