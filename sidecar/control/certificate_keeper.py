"""Keeps HAProxy's certificates as Routes want them, between the steps of the loop.

Owns when `sidecar.control.certificate_writer` looks, and in which order certificates and a host's
entries come and go: its entries follow its certificate, which `sidecar.routing.web` waits for, and
that is no other one for as long as an entry leads to who is no Route of the host any more. For the
loop's thread.
"""

import logging
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path

from sidecar.common.errors import CommandRefusedError
from sidecar.common.metrics import Metrics
from sidecar.control.certificate_files import read_saved
from sidecar.control.certificate_times import CertificateTimes
from sidecar.control.certificate_writer import CertificateWriter, Written
from sidecar.control.default_certificate import WatchedCertificate
from sidecar.haproxy.last_check import python_loads
from sidecar.haproxy.pem import Pem
from sidecar.model.certificates import ServerCertificate
from sidecar.planning.certificates import WantedEntry, replacements, served, with_exclusions
from sidecar.routing.host_certificates import HostCertificate, HostCertificates, Shown

log = logging.getLogger(__name__)

#: Of a certificate of one Route alone: a client may take its connection for no other host.
_HTTP_2 = "alpn h2,http/1.1"

_FIXED = (
    "before 3.2 HAProxy would crash at the next change of web.client_certificates if it had this"
    " (haproxy #3165); render again and restart HAProxy"
)

_OTHER_CONFIG = "render haproxy.cfg from these settings and restart HAProxy"

#: After a failure: this long, then twice as long, and so on.
_RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a sidecar would make of HAProxy's certificates. ``now``: what is served; ``then``: what
    will be, if HAProxy takes it all. ``changes``: for a person, each (what, before, after), "" for
    none. ``problems``: what will not be as wanted, a line each."""

    now: Shown = field(default_factory=Shown)
    then: Shown = field(default_factory=Shown)
    changes: tuple[tuple[str, str, str], ...] = ()
    problems: tuple[str, ...] = ()


class CertificateKeeper:
    """``folder``: of the certificates' files. ``strays``: of some hosts (or ``*.domain``), those of
    which an entry, for requests whose TLS ended here, leads to none of their Routes, as HAProxy was
    last seen, or as it would start; and wildcards above such ones, as it was seen.
    ``resync_seconds``: between looks for what others changed. ``default``: what to make of the
    certificate for clients whose SNI has none, which HAProxy has by the name of its file; None: it
    stays as it is. ``saved_default``: that file, as it was saved once HAProxy took it.
    ``is_default_fixed``: whether HAProxy cannot be given another one now."""

    def __init__(
        self,
        writer: CertificateWriter,
        certificates: HostCertificates,
        folder: Path,
        strays: Callable[[AbstractSet[str]], AbstractSet[str]],
        resync_seconds: float,
        *,
        default: tuple[Path, WatchedCertificate] | None = None,
        saved_default: WatchedCertificate | None = None,
        metrics: Metrics | None = None,
        is_default_fixed: Callable[[], bool] = lambda: False,
        http2: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._certificates = certificates
        self._folder = str(folder)
        self._strays = strays
        self._resync_seconds = resync_seconds
        self._default = default
        self._is_default_fixed = is_default_fixed
        self._own_options = _HTTP_2 if http2 else ""
        #: What is wrong with the default certificate, or "".
        self.default_problem = ""
        self._saved_default = saved_default
        #: Since when each host's certificate is served.
        self.times = CertificateTimes(metrics or Metrics(), clock)
        self._noticed = certificates.changes
        self._clock = clock
        # what was written last, and its contents by name
        self._entries: dict[str, WantedEntry] = {}
        self._pems: dict[str, bytes] = {}
        # name -> what is wrong with it, of those that were looked at; one that has its file was
        # served by HAProxy already
        self._checked: dict[str, str | None] = {}
        # the hosts of which it is not what is wanted yet, because of their entries
        self._kept: AbstractSet[str] = frozenset()
        self._changes = -1
        # host -> the name of what its clients are shown
        self._served: dict[str, str] = {}
        self._look_at = float("-inf")
        self._retry_seconds = _RETRY_SECONDS
        self._said: Mapping[str, str] = {}

    @property
    def default_certificate(self) -> ServerCertificate | None:
        """What clients are shown whose SNI has none; None where nobody knows."""
        return self._saved_default.value if self._saved_default else None

    def notice(self) -> None:
        """Routes were taken as they are now; the next step is when HAProxy was compared."""
        if self._noticed != self._certificates.changes:
            self._noticed = self._certificates.changes
            self.times.picked_up()

    def step(self) -> Shown | None:
        """Do what is due, once HAProxy was compared; what it serves now, None if nothing was due.
        Raises RuntimeAPIError when HAProxy goes away."""
        if self._saved_default:
            self._saved_default.look()
        now, changes = self._clock(), self._certificates.changes
        # Of a HAProxy that was replaced nothing is known.
        fully = now >= self._look_at or not self._certificates.is_known
        renews = self._default is not None and self._default[1].look()
        if fully and self._certificates.is_known and self._writer.confirm():
            fully = False
            self._plan_next(now, fails=False)
        if not fully and not renews and changes == self._changes and not self._kept:
            return None
        changed = self._certificates.take_changed() | self._kept
        shown = None if fully or renews else self._change(changed)
        if shown is None:
            shown = self._write(fully=fully)
        self._changes = changes
        return shown

    def _change(self, patterns: AbstractSet[str]) -> Shown | None:
        """Do what is due for these hosts; None: all must be looked at."""
        found = ((pattern, self._certificates.wanted_of(pattern)) for pattern in patterns)
        wanted = {pattern: item for pattern, item in found if item}
        names = {pattern: item.certificate.name for pattern, item in wanted.items()}
        self.times.want(names, patterns)
        entries, pems, failures = self._make(wanted)
        kept = self._keep(entries, pems, patterns)
        if failures:
            return None
        changes = {pattern: entries.get(pattern) for pattern in patterns}
        written = self._writer.change(changes, pems)
        if written is None:
            return None
        for pattern, entry in changes.items():
            if entry:
                self._entries[pattern] = entry
            else:
                self._entries.pop(pattern, None)
        self._pems |= pems
        # A key is kept for no longer than it is of use.
        for name in written.deleted:
            self._pems.pop(name, None)
            self._checked.pop(name, None)
        self._kept = kept
        served = dict(self._served)
        for pattern in patterns:
            served.pop(pattern, None)
        served |= {pattern: Path(name).stem for pattern, name in written.served.items()}
        if not written.saved:
            self._plan_next(self._clock(), fails=True)
        others = {pattern: why for pattern, why in self._said.items() if pattern not in patterns}
        return self._serve(served, others, written, wanted, patterns)

    def _write(self, *, fully: bool) -> Shown:
        """Do what is due for all hosts."""
        now = self._clock()
        wanted, first = self._certificates.wanted, self.begins
        self.times.want({pattern: item.certificate.name for pattern, item in wanted.items()})
        names = {self._file(item.certificate) for item in wanted.values()}
        self._checked = {name: found for name, found in self._checked.items() if name in names}
        entries, pems, failures = self._make(wanted)
        kept: AbstractSet[str] = frozenset()
        if not first:
            kept = self._keep(entries, pems, entries.keys() | self._entries.keys())
        apart = self._certificates.apart(kept)
        entries = with_exclusions(entries, apart)
        fixed = self._fixed_default()
        if self._default and (certificate := self._default[1].value) and fixed is None:
            pems[str(self._default[0])] = certificate.pem
        try:
            written = self._writer.write(entries, pems, fully=fully)
        except CommandRefusedError as exc:
            self._say(dict.fromkeys(wanted, f"{exc}; {_OTHER_CONFIG}"))
            self._judge_default(f"{exc}; {_OTHER_CONFIG}")
            self._plan_next(now, fails=True)
            return Shown({}, self._said)
        self._entries, self._pems, self._kept = entries, pems, kept
        failures |= {
            pattern: str(written.failures[entry.certificate])
            for pattern, entry in entries.items()
            if entry.certificate in written.failures
        }
        failures = {**written.foreign, **failures}
        served = {pattern: Path(name).stem for pattern, name in written.served.items()}
        alone = {host for pattern in apart.keys() - failures.keys() for host in apart[pattern]}
        shown = self._serve(served, failures, written, wanted, first=first)
        shown = replace(shown, apart=alone)
        refused = written.failures.get(str(self._default[0])) if self._default else None
        self._judge_default(str(refused or fixed or ""))
        self._plan_next(now, fails=bool(failures or refused) or not written.saved)
        return shown

    def _serve(
        self,
        served: dict[str, str],
        failures: Mapping[str, str],
        written: Written,
        wanted: Mapping[str, HostCertificate],
        patterns: AbstractSet[str] | None = None,
        *,
        first: bool = False,
    ) -> Shown:
        """Say and count what clients are shown now. ``patterns``: of which hosts something is new;
        None: of all."""
        self._say(failures)
        self._tell(served, wanted, patterns)
        loaded = {Path(name).stem for name in written.loaded}
        self.times.serve(served, loaded, patterns, first=first)
        self.times.tried(len(loaded), len(written.refused))
        return Shown(served, failures, patterns)

    def prospect(self) -> Prospect:
        """What `step` would do, of one who knows nothing yet; does nothing of it. Raises
        RuntimeAPIError when HAProxy goes away."""
        wanted = self._certificates.wanted
        entries, pems, failures = self._make(wanted)
        entries = with_exclusions(entries)
        problems = []
        titles = {
            entry.certificate: wanted[pattern].certificate.title
            for pattern, entry in entries.items()
        }
        if self._default:
            self._default[1].look()
            fixed = self._fixed_default()
            if fixed:
                problems.append(f"web.default_certificate: {fixed}")
            elif fixed is None and (certificate := self._default[1].value):
                name = str(self._default[0])
                pems[name], titles[name] = certificate.pem, certificate.title
            if problem := self._default[1].problem:
                problems.append(f"web.default_certificate: {problem}")
        try:
            compared, observed, others = self._writer.compare(entries, pems)
        except CommandRefusedError as exc:
            return Prospect(problems=(*problems, f"{exc}; {_OTHER_CONFIG}"))
        failures = {**others, **failures}
        problems += [f"{pattern}: {problem}" for pattern, problem in sorted(failures.items())]
        changes = []
        for item in sorted(replacements(compared, observed), key=lambda item: item.filter):
            stored = observed.stored.get(item.before) if item.before else None
            before = f"serial number {stored.serial or 'none'}" if stored else item.before or ""
            default = self._default and str(self._default[0]) in (item.before, item.after)
            what = item.filter or ("the default one" if default else "no host")
            changes.append((what, before, titles[item.after] if item.after else ""))
        shown = {name: Path(file).stem for name, file in served(compared, observed).items()}
        then = {
            name: Path(entry.certificate).stem
            for name, entry in entries.items()
            if name not in others
        }
        return Prospect(
            Shown(shown, failures), Shown(then, failures), tuple(changes), tuple(problems)
        )

    @property
    def begins(self) -> bool:
        """Whether nothing is known of HAProxy's certificates yet: the next step takes away all that
        nobody wants."""
        return not self._certificates.is_known

    @property
    def seconds(self) -> float:
        """In how many to step again, if nothing happens before."""
        return max(0.0, self._look_at - self._clock())

    def _keep(
        self,
        entries: dict[str, WantedEntry],
        pems: dict[str, bytes],
        patterns: AbstractSet[str],
    ) -> AbstractSet[str]:
        """Let ``entries`` of ``patterns`` be what they were, for hosts that it is too soon for;
        which these are."""
        changing = {
            pattern
            for pattern in patterns
            if _own(entries.get(pattern)) != _own(self._entries.get(pattern))
        }
        kept = self._strays(changing) if changing else frozenset[str]()
        kept |= self._certificates.covered(changing - entries.keys() - kept, kept)
        for pattern in kept:
            if former := self._entries.get(pattern):
                entries[pattern] = former
                pems.setdefault(former.certificate, self._pems[former.certificate])
            else:
                del entries[pattern]
        return kept

    def _plan_next(self, now: float, *, fails: bool) -> None:
        if fails:
            self._look_at = now + self._retry_seconds
            self._retry_seconds = min(2 * self._retry_seconds, self._resync_seconds)
        else:
            self._look_at, self._retry_seconds = now + self._resync_seconds, _RETRY_SECONDS

    def _fixed_default(self) -> str | None:
        """What to do about the default certificate where HAProxy cannot be given another one now,
        "" if there is nothing to do; None where it can."""
        certificate = self._default[1].value if self._default else None
        if not (self._default and certificate and self._is_default_fixed()):
            return None
        path = self._default[0]
        return "" if read_saved(path) == Pem.of(str(path), certificate.pem) else _FIXED

    def _judge_default(self, failure: str) -> None:
        """Say what is wrong with it, once, until it is over. ``failure``: HAProxy has it not."""
        problem = (self._default[1].problem if self._default else "") or failure
        if self._default and problem:
            problem = f"web.default_certificate: {problem}; the former one is served"
        if self._default and problem != self.default_problem:
            if problem:
                log.error("%s", problem)
            else:
                log.info("resolved: web.default_certificate")
            self.default_problem = problem

    def _say(self, failures: Mapping[str, str]) -> None:
        """Each once, until it is over."""
        for pattern, problem in failures.items():
            if self._said.get(pattern) != problem:
                log.error("host %s: %s; retrying until it succeeds", pattern, problem)
        self._said = failures

    def _tell(
        self,
        served: dict[str, str],
        wanted: Mapping[str, HostCertificate],
        patterns: AbstractSet[str] | None,
    ) -> None:
        """What is new of what clients are shown."""
        for pattern in served.keys() | self._served.keys() if patterns is None else patterns:
            name, before = served.get(pattern), self._served.get(pattern)
            certificate = wanted[pattern].certificate if pattern in wanted else None
            if certificate and certificate.name == name != before:
                log.info("host %s: serves the certificate of %s", pattern, certificate.title)
            if before and not name:
                log.info("host %s: has no certificate of its own any more", pattern)
        self._served = served

    def _make(
        self, wanted: Mapping[str, HostCertificate]
    ) -> tuple[dict[str, WantedEntry], dict[str, bytes], dict[str, str]]:
        """What each host is to have, the contents by name, and why some hosts cannot have it."""
        entries: dict[str, WantedEntry] = {}
        pems: dict[str, bytes] = {}
        failures: dict[str, str] = {}
        checked: dict[str, str | None] = {}
        for pattern, (certificate, own) in wanted.items():
            name = self._file(certificate)
            if name not in self._checked and not Path(name).exists():
                checked[name] = python_loads(certificate)
            else:
                checked[name] = self._checked.get(name)
            if problem := checked[name]:
                failures[pattern] = f"the certificate cannot be loaded: {problem}"
                if former := self._entries.get(pattern):
                    entries[pattern] = former
                    pems[former.certificate] = self._pems[former.certificate]
                continue
            options = self._own_options if own else ""
            entries[pattern] = WantedEntry(name, options, certificate.algorithm)
            pems[name] = certificate.pem
        bad = {name for name, problem in checked.items() if problem}
        self.times.tried(0, len(bad - self._checked.keys()))
        self._checked |= checked
        return entries, pems, failures

    def _file(self, certificate: ServerCertificate) -> str:
        return f"{self._folder}/{certificate.name}.pem"


def _own(entry: WantedEntry | None) -> WantedEntry | None:
    """Without what other hosts make of it."""
    return entry._replace(excluded=()) if entry else None
