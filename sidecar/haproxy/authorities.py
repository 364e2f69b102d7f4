"""The CAs by which a backend's servers are verified: changed over the Runtime API, and read back.

Each backend has a CA file of its own, whose name in HAProxy is its path. HAProxy never reads the
file again, nor writes it. One change is four operations in a row, of which the last, an abort, does
nothing but after a commit that was refused, so that a bad CA is in nobody's way.

The rules of `sidecar.haproxy.certificates` hold. Besides: what a commit took is used for the next
handshake, but connections to servers that are kept for further requests stay, until their server
goes to maint. Of an Ed25519 certificate HAProxy shows no fingerprint, and none of those after it:
none is given to it. Pure.
"""

from dataclasses import dataclass

from sidecar.common.errors import LocalProtocolError, RemoteProtocolError
from sidecar.haproxy.certificates import Abort, Commit, Set, Store, is_locked
from sidecar.haproxy.pem import Pem
from sidecar.haproxy.protocol import Command
from sidecar.model.certificates import CertificateAuthority, mark_of
from sidecar.model.desired import ClaimKey, Unit

_SERIAL, _FINGERPRINT = "Serial: ", "SHA1 FingerPrint: "


@dataclass(frozen=True, slots=True)
class SetAuthority:
    """Begin to let servers of ``unit`` be verified by ``authority``. ``file``: as in
    haproxy.cfg."""

    unit: Unit
    key: ClaimKey
    file: str
    authority: CertificateAuthority

    @property
    def value(self) -> str:
        """What HAProxy then has, see `parse_mark`."""
        return self.authority.mark

    def command(self) -> Command:
        payload = Pem.of(self.file, self.authority.pem).payload
        return Set("ca-file", self.file, payload).command()

    def succeeded(self, reply: str) -> bool:
        return Set("ca-file", self.file, b"").succeeded(reply)


@dataclass(frozen=True, slots=True)
class CommitAuthority:
    """End what `SetAuthority` began."""

    unit: Unit
    key: ClaimKey
    file: str

    def command(self) -> Command:
        return Commit("ca-file", self.file).command()

    def succeeded(self, reply: str) -> bool:
        return Commit("ca-file", self.file).succeeded(reply)


@dataclass(frozen=True, slots=True)
class AbortAuthority:
    """Forget what was begun and not ended, if anything was, for ``file``."""

    unit: Unit
    key: ClaimKey
    file: str

    def command(self) -> Command:
        return Abort("ca-file", self.file).command()

    def succeeded(self, reply: str) -> bool:
        return Abort("ca-file", self.file).succeeded(reply)


@dataclass(frozen=True, slots=True)
class RefuseAuthority:
    """Do nothing, because of ``problem``."""

    unit: Unit
    key: ClaimKey
    problem: str

    def command(self) -> Command:
        raise LocalProtocolError(self.problem)

    def succeeded(self, _reply: str, /) -> bool:
        return False


AuthorityOperation = SetAuthority | CommitAuthority | AbortAuthority | RefuseAuthority


def long_commit(request: object) -> Store | None:
    """The store of a commit that HAProxy may take its time for: what it is about has many users."""
    if isinstance(request, CommitAuthority):
        return "ca-file"
    if isinstance(request, Commit) and request.store != "cert":
        return request.store
    return None


def change_authority(
    unit: Unit, key: ClaimKey, file: str, authority: CertificateAuthority, begun: str | None
) -> tuple[AuthorityOperation, ...]:
    """Let servers of ``unit`` be verified by ``authority``. ``begun``: the file that HAProxy's
    only transaction is about, which is in the way of any other."""
    first = () if begun is None else (AbortAuthority(unit, key, begun),)
    last = CommitAuthority(unit, key, file), AbortAuthority(unit, key, file)
    return (*first, SetAuthority(unit, key, file, authority), *last)


def parse_mark(text: str) -> str | None:
    """``show ssl ca-file FILE``: the `CertificateAuthority.mark` of what HAProxy has; None where it
    does not say. Raises RemoteProtocolError if it is something else."""
    if is_locked(text) or text.startswith("Can't display the CA file"):
        return None
    if not text.startswith("Filename: "):
        raise RemoteProtocolError(f"no answer of 'show ssl ca-file': {text[:200]!r}")
    found: list[str] = []
    for line in text.split("\n"):
        if line.startswith(_SERIAL):
            found.append(line.removeprefix(_SERIAL))
        elif line.startswith(_FINGERPRINT) and found:
            found[-1] = line.removeprefix(_FINGERPRINT)
    return mark_of(found)
