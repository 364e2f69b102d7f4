"""The files by which others' certificates are verified: CAs, and what these have taken back.

Owns how they are read, and that what HAProxy would print is harmless; whether they are good,
`sidecar.model.certificate_rules` and `sidecar.model.revocations` say. Both are public.
"""

from pathlib import Path

from sidecar.common.errors import CertificateError
from sidecar.control.pem_files import read_pem
from sidecar.haproxy.pem import fault, prints_control
from sidecar.model.certificate_rules import judge_authority
from sidecar.model.certificates import CertificateAuthority
from sidecar.model.revocations import RevocationLists, judge_revocations
from sidecar.model.verdicts import Refusal

#: What the CAs of clients sign.
CLIENTS = "clients' certificates"


def read_authorities(path: Path, signed: str) -> CertificateAuthority:
    """The CAs in a file, which sign what is ``signed``. Raises CertificateError, which names the
    file and says what would be right."""
    text = read_pem(path, f"a PEM file with the CAs that sign {signed}").text
    found = judge_authority(str(path), text)
    if isinstance(found, Refusal):
        raise CertificateError(found.message)
    if problem := fault(str(path), found.pem):
        raise CertificateError(problem)
    return found


def read_revocations(path: Path) -> RevocationLists:
    """Raises CertificateError, which names the file and says what would be right."""
    text = read_pem(path, "a PEM file with the revocation lists of clients' CAs").text
    found = judge_revocations(str(path), text)
    if isinstance(found, Refusal):
        raise CertificateError(found.message)
    if any(map(prints_control, found.issuers)):
        raise CertificateError(f"{path}: the issuer of a list has a control character")
    return found
