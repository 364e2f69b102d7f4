"""What HAProxy shows of the certificates that CAs have taken back, which is in its CRL files.

Owns how that is read. The rules of `sidecar.haproxy.certificates` hold, and a CRL file is changed
as a CA file is. A certificate is refused then in the next whole handshake; a session that is
resumed is not verified again, on any version. Pure.
"""

from sidecar.common.errors import RemoteProtocolError
from sidecar.haproxy.certificates import is_locked
from sidecar.model.revocations import ShownList, mark_of

_LIST = "Certificate Revocation List #"
_LAST, _NEXT, _SERIAL = "Last Update: ", "Next Update: ", "    Serial Number: "


def parse_mark(text: str) -> str | None:
    """``show ssl crl-file FILE``: the `RevocationLists.mark` of what HAProxy has; None where it
    does not say. Raises RemoteProtocolError if it is something else."""
    if is_locked(text) or text.startswith("Can't display the CRL file"):
        return None
    if not text.startswith("Filename: "):
        raise RemoteProtocolError(f"no answer of 'show ssl crl-file': {text[:200]!r}")
    lists: list[ShownList] = []
    for line in text.split("\n"):
        if line.startswith(_LIST):
            lists.append(ShownList("", "", ()))
        elif not lists:
            continue
        elif line.startswith(_LAST):
            lists[-1] = lists[-1]._replace(last_update=line.removeprefix(_LAST))
        elif line.startswith(_NEXT):
            lists[-1] = lists[-1]._replace(next_update=line.removeprefix(_NEXT))
        elif line.startswith(_SERIAL):
            serials = (*lists[-1].serials, line.removeprefix(_SERIAL))
            lists[-1] = lists[-1]._replace(serials=serials)
    return mark_of(lists)
