"""Which certificate is for which host, and whether HAProxy serves it. Pure.

A host has one certificate, whichever of its Routes a request is for: the client has it before it
says a path. So of the Routes of a host that bring one, the oldest decides. What a Route's own is,
`sidecar.model.certificate_rules` says; how it gets into HAProxy, `sidecar.control` knows.
"""

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from sidecar.model.certificates import ServerCertificate, wildcard_over
from sidecar.model.objects import Key
from sidecar.routing.claims import Claim

#: Two Routes with one certificate, of which one comes or goes, change what there is for the other.
_FEW = 2


class HostCertificate(NamedTuple):
    """``own``: no other Route has it, so that a client may not take a connection that has it for
    one to another host."""

    certificate: ServerCertificate
    own: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """What HAProxy serves. ``served``: host, or ``*.domain`` -> the name of its certificate, where
    it has one of ours. ``failures``: likewise -> why it has not the one that it should have.
    ``patterns``: those that were looked at, all else is as it was; None: all. ``apart``: hosts that
    no wildcard's certificate is shown for, though it is there; see `HostCertificates.apart`."""

    served: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    patterns: Collection[str] | None = None
    apart: AbstractSet[str] = frozenset()


class HostFacts(NamedTuple):
    """What is known of one host. ``certificate``: that its clients should be shown, which ``route``
    brings; both None: the default one. ``served``: whether they are; None: not known yet.
    ``failure``: why not, or ""."""

    certificate: ServerCertificate | None
    route: Key | None
    served: bool | None
    failure: str


class HostCertificates:
    """Kept up to date Route by Route. ``pattern`` is a host, or ``*.domain``."""

    def __init__(self) -> None:
        #: How often what is wanted changed.
        self.changes = 0
        self._shown = Shown()
        #: Whether it is known what HAProxy serves.
        self.is_known = False
        self._shown_changes = 0
        # pattern -> its Routes whose TLS ends here, with the certificate that each brings
        self._routes: dict[str, dict[Claim, ServerCertificate | None]] = {}
        self._of: dict[Key, tuple[str, Claim]] = {}
        # name of a certificate -> the Routes that bring it
        self._users: dict[str, set[Key]] = {}
        # Route -> the certificate that clients of its host got as they should, before another one
        # was wanted; None: the default one
        self._former: dict[Key, str | None] = {}
        # the patterns of which something else may be wanted since it was last asked
        self._changed: set[str] = set()
        # as last told, and the patterns of which something else is so since
        self._facts: Mapping[str, HostFacts] = {}
        self._stale: set[str] = set()
        # the patterns that are to have another one since the last `show`
        self._rewanted: set[str] = set()
        # the same of those that are not served as wanted
        self._missing: set[str] = set()
        self._unjudged: set[str] = set()

    def put(self, claim: Claim, pattern: str, certificate: ServerCertificate | None) -> None:
        """A Route is, or is again, one whose TLS ends here."""
        of = self._of.get(claim.route, ("", None))
        if of == (pattern, claim):
            before = self._routes[pattern][claim]
            if (before and before.name) == (certificate and certificate.name):
                return
        if of[0] == pattern:
            self._take_out(claim.route)
        else:
            self.remove(claim.route)
        self._of[claim.route] = pattern, claim
        self._mark((pattern,))
        self._routes.setdefault(pattern, {})[claim] = certificate
        if certificate:
            self._users.setdefault(certificate.name, set()).add(claim.route)
            self._change(pattern, certificate)

    def remove(self, route: Key) -> None:
        """It is none any more."""
        self._take_out(route)
        self._former.pop(route, None)

    def remember(self, routes: Iterable[Key], patterns: Iterable[str]) -> None:
        """Before these Routes leave their patterns, or come to ``patterns``: all that are there
        have what is served."""
        left = {self._of[route][0] for route in routes if route in self._of}
        for pattern in left.union(patterns, self._below(left.union(patterns))):
            if self._is_as_wanted(pattern):
                served, there = self._shown.served.get(pattern), self._routes.get(pattern, ())
                self._former.update((claim.route, served) for claim in there)

    def _is_as_wanted(self, pattern: str) -> bool:
        wanted, served = self._wanted(pattern), self._shown.served.get(pattern)
        if wanted or served:
            # That of a wildcard is for all hosts below, once it has been for none of others.
            is_whole = pattern not in map(wildcard_over, self._shown.apart)
            return served == (wanted.name if wanted else None) and is_whole
        # What a wildcard brings is for all hosts below it, but not what a former Route of it did.
        above, is_apart = wildcard_over(pattern), pattern in self._shown.apart
        right, shown = self._wanted(above), self._shown.served.get(above)
        if right is None:
            return shown is None or is_apart
        if shown == right.name:
            return not is_apart
        # What HAProxy cannot be given is not waited for.
        return shown is None or above in self._shown.failures

    def _below(self, patterns: AbstractSet[str]) -> set[str]:
        """The hosts below those of ``patterns`` that are wildcards."""
        wildcards = {pattern for pattern in patterns if pattern.startswith("*.")}
        if not wildcards:
            return set()
        return {host for host in self._routes if wildcard_over(host) in wildcards} - wildcards

    def apart(self, kept: AbstractSet[str]) -> Mapping[str, AbstractSet[str]]:
        """Of wildcards that are to have none any more, and whose certificate is ``kept`` until no
        entry needs it: the hosts below, whose Routes bring none. They are not to be shown that."""
        left = {name for name in kept if name.startswith("*.") and self._wanted(name) is None}
        hosts = [host for host in self._below(left) if self._wanted(host) is None]
        return {
            pattern: {host for host in hosts if wildcard_over(host) == pattern} for pattern in left
        }

    def covered(self, leaving: AbstractSet[str], kept: AbstractSet[str]) -> set[str]:
        """Of hosts that are ``leaving`` their own certificate: those that would be shown, instead,
        that of a wildcard that is ``kept`` though it is not for them any more."""
        apart = self.apart(kept)
        return {
            host
            for host in leaving
            if (above := wildcard_over(host)) in kept and host not in apart.get(above, ())
        }

    def _take_out(self, route: Key) -> None:
        pattern, claim = self._of.pop(route, ("", None))
        if claim is None:
            return
        self._mark((pattern,))
        certificate = self._routes[pattern].pop(claim)
        if not self._routes[pattern]:
            del self._routes[pattern]
        if certificate:
            self._users[certificate.name].discard(route)
            self._change(pattern, certificate)
            if not self._users[certificate.name]:
                del self._users[certificate.name]

    def _change(self, pattern: str, certificate: ServerCertificate) -> None:
        """A Route of ``pattern`` brings ``certificate`` from now on, or does not any more."""
        self.changes += 1
        self._changed.add(pattern)
        self._rewanted.add(pattern)
        users = self._users[certificate.name]
        if len(users) <= _FEW:  # there was only one, or is now
            self._changed.update(self._of[user][0] for user in users)

    def _mark(self, patterns: Iterable[str]) -> None:
        """Something else is so of them."""
        self._stale.update(patterns)
        self._unjudged.update(patterns)

    def show(self, shown: Shown) -> set[Key]:
        """HAProxy was looked at; the Routes of which something else is so."""
        if not self.is_known:
            self._mark(self._routes)
        before, self._shown, self.is_known = self._shown, shown, True
        pairs = (before.served, shown.served), (before.failures, shown.failures)
        changed = {
            pattern
            for former, latter in pairs
            for pattern in (
                former.keys() | latter.keys() if shown.patterns is None else shown.patterns
            )
            if former.get(pattern) != latter.get(pattern)
        }
        otherwise = before.apart ^ shown.apart
        changed |= self._below(changed | self._rewanted)
        changed.update(otherwise, map(wildcard_over, otherwise))
        self._rewanted = set()
        self._mark(changed)
        for pattern in changed:
            if self._is_as_wanted(pattern):
                for claim in self._routes.get(pattern, ()):
                    self._former.pop(claim.route, None)
        return {claim.route for pattern in changed for claim in self._routes.get(pattern, ())}

    def noted(self) -> None:
        """All that `show` returned is on its way to be looked at again: before, another thread
        would take hosts that wait for their certificate for ready."""
        self._shown_changes = self.changes

    def forget(self) -> None:
        """Another HAProxy is there, which was not looked at yet."""
        self._shown, self.is_known = Shown(), False
        self._shown_changes = -1
        self._former.clear()
        self._mark(self._routes)

    def take_changed(self) -> set[str]:
        """The patterns of which something else may be wanted since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def wanted_of(self, pattern: str) -> HostCertificate | None:
        """See `wanted`."""
        certificate = self._wanted(pattern)
        if certificate is None:
            return None
        return HostCertificate(certificate, len(self._users[certificate.name]) == 1)

    @property
    def wanted(self) -> Mapping[str, HostCertificate]:
        """pattern -> its certificate, of those that have one."""
        found = ((pattern, self.wanted_of(pattern)) for pattern in self._routes)
        return {pattern: item for pattern, item in found if item}

    @property
    def hosts(self) -> AbstractSet[str]:
        """The patterns of all Routes whose TLS ends here, with a certificate or without."""
        return self._routes.keys()

    @property
    def facts(self) -> Mapping[str, HostFacts]:
        """pattern -> what is known of it; later changes make another one of it. Costs what changed
        since the last call."""
        if self._stale:
            facts = dict(self._facts)
            for pattern in self._stale | self._below(self._stale):
                if pattern in self._routes:
                    facts[pattern] = self._told(pattern)
                else:
                    facts.pop(pattern, None)
            self._facts, self._stale = facts, set()
        return self._facts

    def _told(self, pattern: str) -> HostFacts:
        decides = self._decides(pattern)
        return HostFacts(
            self._routes[pattern][decides] if decides else None,
            decides.route if decides else None,
            self._is_as_wanted(pattern) if self.is_known else None,
            self._shown.failures.get(pattern, ""),
        )

    def of(self, route: Key) -> ServerCertificate | None:
        """What clients of the Route's host should be shown; None: the default certificate."""
        return self._wanted(self._of[route][0]) if route in self._of else None

    def host(self, route: Key) -> str | None:
        """The pattern of the Route; None for one whose TLS does not end here."""
        return self._of[route][0] if route in self._of else None

    def __contains__(self, route: Key) -> bool:
        return route in self._of

    def is_served(self, route: Key) -> bool:
        """Whether clients of the Route's host get the certificate that it should have; so it is
        with none where there is none."""
        return self._is_as_wanted(self._of.get(route, ("", None))[0])

    def goes_on(self, route: Key) -> bool:
        """Whether clients of the Route's host get a former certificate, which was as it should be
        when the Route had that host already."""
        if route not in self._former:
            return False
        return self._former[route] == self._shown.served.get(self._of[route][0])

    def failure(self, route: Key) -> str:
        """Why HAProxy has not the certificate of the Route's host; "" where it has, or may soon."""
        return self._shown.failures.get(self._of.get(route, ("", None))[0], "")

    @property
    def is_shown(self) -> bool:
        """Whether HAProxy was looked at since what is wanted changed last, and that was noted; for
        any thread."""
        return self._shown_changes == self.changes

    @property
    def missing(self) -> AbstractSet[str]:
        """The patterns that are not served as wanted. Costs what changed since the last call."""
        for pattern in self._unjudged | self._below(self._unjudged):
            if pattern in self._routes and not self._is_as_wanted(pattern):
                self._missing.add(pattern)
            else:
                self._missing.discard(pattern)
        self._unjudged.clear()
        return self._missing

    def _wanted(self, pattern: str) -> ServerCertificate | None:
        decides = self._decides(pattern)
        return self._routes[pattern][decides] if decides else None

    def _decides(self, pattern: str) -> Claim | None:
        """Of the Routes of the host that bring a certificate, the oldest."""
        having = (claim for claim, item in self._routes.get(pattern, {}).items() if item)
        return min(having, default=None)
