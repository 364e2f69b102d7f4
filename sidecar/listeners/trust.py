"""Whom HAProxy trusts on its way to a backend's servers, as an attribute of the backend.

Owns what is known of the CA files: as last read, since a look at a few backends asks only for those
that were changed. A backend without a Route trusts ``nobody``, and so is shown without the
attribute. Which CA is a Route's, `sidecar.routing.web` knows. Does no I/O.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from sidecar.haproxy.authorities import RefuseAuthority, change_authority, parse_mark
from sidecar.haproxy.certificates import ask_begun, is_locked, parse_begun, show
from sidecar.haproxy.operations import KeyOperation
from sidecar.model.certificates import CertificateAuthority
from sidecar.model.desired import ClaimKey, Unit


class TrustFiles:
    """``name``: of the attribute, whose value is a `CertificateAuthority.mark`. ``files``: unit ->
    its CA file, as haproxy.cfg has it."""

    #: As of an `AttributeMap`: no Route is served without.
    exists = needed = True
    otherwise = ""

    def __init__(self, name: str, files: Mapping[Unit, str], nobody: CertificateAuthority) -> None:
        self.name = name
        self.files = files
        self.nobody = nobody
        #: By whom the servers of a unit should be verified.
        self.wanted: Callable[[Unit], CertificateAuthority | None] = lambda _: None
        #: Is told what HAProxy's transaction is about; why that must not be touched, or "".
        self.meets: Callable[[str | None], str] = lambda _: ""
        self.values: dict[str, str] = {}
        # the file that HAProxy's transaction is about, and why nothing may be done about that
        self._begun: str | None = None
        self._fixed = ""
        self._units = {show("ca-file", file): unit for unit, file in files.items()}
        self._seen: set[Unit] = set()

    def change(self, unit: Unit, value: str) -> Sequence[KeyOperation]:
        authority = self.wanted(unit)
        if authority is None or authority.mark != value:
            raise ValueError(f"{unit}: nobody wants it to trust {value}")
        return self._change(unit, authority)

    def remove(self, unit: Unit) -> Sequence[KeyOperation]:
        return self._change(unit, self.nobody)

    def _change(self, unit: Unit, authority: CertificateAuthority) -> Sequence[KeyOperation]:
        key = ClaimKey(self.name, unit)
        if self._fixed:
            return (RefuseAuthority(unit, key, f"CA file {self._begun}: {self._fixed}"),)
        return change_authority(unit, key, self.files[unit], authority, self._begun)

    def questions(self, touched: Collection[ClaimKey] | None) -> list[str]:
        """What shows the ``touched`` values; None: all."""
        if touched is None:
            return [ask_begun("ca-file"), *self._units]
        asked: Iterable[str] = (self.files[Unit(key.name)] for key in touched)
        lines = [show("ca-file", file) for file in dict.fromkeys(asked)]
        return [ask_begun("ca-file"), *lines] if lines else []

    def parse(self, answers: Mapping[str, str]) -> None:
        for question, reply in answers.items():
            if question == ask_begun("ca-file"):
                self._begun = None if is_locked(reply) else parse_begun(reply)
                self._fixed = "" if is_locked(reply) else self.meets(self._begun)
            elif unit := self._units.get(question):
                self._read(unit, parse_mark(reply))

    def _read(self, unit: Unit, mark: str | None) -> None:
        self.values.pop(unit, None)
        self._seen.discard(unit)
        if mark is not None:
            self._seen.add(unit)
            if mark != self.nobody.mark:
                self.values[unit] = mark

    @property
    def shown(self) -> Mapping[str, CertificateAuthority]:
        """File -> what HAProxy has of it, of those that are known to us."""
        found: dict[str, CertificateAuthority] = {}
        for unit in self._seen:
            mark, wanted = self.values.get(unit), self.wanted(unit)
            if mark is None:
                found[self.files[unit]] = self.nobody
            elif wanted and wanted.mark == mark:
                found[self.files[unit]] = wanted
        return found
