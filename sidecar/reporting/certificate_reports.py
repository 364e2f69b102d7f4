"""Certificates of hosts, and CAs of their servers, as reports have them: the fields are the JSON's.

Made of facts that were found when a certificate changed, not when somebody asks. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from sidecar.common.durations import format_span
from sidecar.common.text import counted
from sidecar.listeners.host_rules import WebClaim
from sidecar.model.certificates import ServerCertificate, title
from sidecar.model.desired import Unit
from sidecar.model.objects import Key
from sidecar.routing.host_certificates import HostFacts
from sidecar.routing.web import Web
from sidecar.routing.web_places import Trust

_DAY_SECONDS = 86400

#: A certificate that ends sooner is something to look after.
ENDS_SOON_DAYS = 14

#: Of the CAs of one file, so many are named: a bundle has hundreds.
_SUBJECTS_SHOWN = 5

#: Where TLS ends at the router.
_ENDED = ("edge", "reencrypt")

DEFAULT = "default certificate"

#: Of a certificate that HAProxy does not show yet, and has not refused.
LOADING = "it is being loaded"


def source_of(route: Key | None, origins: Mapping[Key, str]) -> str:
    """Where the certificate comes from that ``route`` brings. ``origins``: see `WebTLS`."""
    if route is None:
        return DEFAULT
    return f"{origins.get(route, 'spec.tls.certificate')} of {route.namespace}/{route.name}"


@dataclass(frozen=True, slots=True)
class CertificateReport:
    """What clients of a host should be shown. ``not_after``: its end, in UTC, and ``seconds_left``
    until then, below 0 once it is over; of the default certificate "" and None where nobody knows.
    ``source``: where it comes from. ``served``: whether clients are shown it; None: not known.
    ``served_seconds_ago``: since when, as far as the sidecar has seen it. ``failure``: why it is
    not served, or ""."""

    subject: str
    issuer: str
    not_after: str
    seconds_left: int | None
    source: str
    served: bool | None
    served_seconds_ago: float | None = None
    failure: str = ""

    @property
    def days_left(self) -> int | None:
        """Whole days."""
        return None if self.seconds_left is None else self.seconds_left // _DAY_SECONDS

    @property
    def title(self) -> str:
        """For a person: whose it is, by whom, and until when."""
        if not self.not_after:
            return DEFAULT
        return title(self.subject, self.issuer, self.not_after)

    @property
    def ending(self) -> str:
        """Its end in words, if that is soon, or over; else ""."""
        days = self.days_left
        if days is None or days >= ENDS_SOON_DAYS:
            return ""
        return f"ends in {counted(days, 'day')}" if days >= 0 else f"expired on {self.not_after}"

    @property
    def is_default(self) -> bool:
        return self.source == DEFAULT

    @property
    def text(self) -> str:
        """All of it in a line, for a person."""
        days = self.days_left
        left = "" if days is None else f" ({counted(days, 'day')})" if days >= 0 else " (expired)"
        source = "" if self.title == DEFAULT else f", {self.source}"
        return f"{self.title}{left}{source}; {self._when}"

    @property
    def _when(self) -> str:
        if self.served is None:
            return "whether it is served, a running sidecar knows"
        if not self.served:
            return f"not served: {self.failure or LOADING}"
        if self.served_seconds_ago is None:
            return "served"
        return f"served for {format_span(int(self.served_seconds_ago))}"


@dataclass(frozen=True, slots=True)
class AuthorityReport:
    """By whom the servers of a Route are verified. ``subjects``: of the first CAs of
    ``subjects_total``. ``server_name``: that their certificates must be for; "": any."""

    subjects: tuple[str, ...]
    subjects_total: int
    server_name: str
    source: str

    @classmethod
    def of(cls, trust: Trust) -> Self:
        subjects = trust.authority.subjects
        return cls(subjects[:_SUBJECTS_SHOWN], len(subjects), trust.server_name, trust.source)

    @property
    def text(self) -> str:
        """In a line, for a person."""
        of = " + ".join(self.subjects)
        if more := self.subjects_total - len(self.subjects):
            of += f" and {more} more"
        name = f"the name {self.server_name}" if self.server_name else "any name"
        return f"servers need a certificate by {of} ({self.source}), for {name}"


@dataclass(frozen=True, slots=True)
class TLSFacts:
    """What is known of TLS at one instant, ``now_seconds`` of Unix time. ``hosts``: host, or
    ``*.domain`` -> its certificate; ``since``: likewise, seconds of the clock by which it is ``at``
    now. ``default``: None where nobody knows it. ``trusts``: unit -> by whom its servers are
    verified. ``origins``: Route -> where its certificate comes from, if not from its own fields."""

    now_seconds: float = 0.0
    hosts: Mapping[str, HostFacts] = field(default_factory=dict)
    trusts: Mapping[Unit, Trust] = field(default_factory=dict)
    default: ServerCertificate | None = None
    since: Mapping[str, float] = field(default_factory=dict)
    at: float = 0.0
    origins: Mapping[Key, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        web: Web | None,
        now_seconds: float,
        default: ServerCertificate | None = None,
        since: Mapping[str, float] | None = None,
        at: float = 0.0,
    ) -> Self:
        """``since`` is copied: it goes on changing."""
        if web is None:
            return cls(now_seconds)
        hosts, trusts = web.certificates.facts, dict(web.trusts)
        return cls(now_seconds, hosts, trusts, default, dict(since or {}), at, web.tls.origins)

    def certificate(self, claim: WebClaim) -> CertificateReport | None:
        """Of the host that a Route has; None where TLS does not end here."""
        found = self.hosts.get(claim.pattern) if claim.termination in _ENDED else None
        if found is None:
            return None
        since = self.since.get(claim.pattern) if found.certificate and found.served else None
        return self._report(
            found.certificate or self.default,
            source_of(found.route, self.origins),
            found.served,
            None if since is None else round(self.at - since, 1),
            found.failure,
        )

    @property
    def default_certificate(self) -> CertificateReport | None:
        """Of clients whose SNI has none; None where nobody knows it."""
        return self._report(self.default, DEFAULT, True) if self.default else None

    def _report(
        self,
        certificate: ServerCertificate | None,
        source: str,
        served: bool | None,
        seconds_ago: float | None = None,
        failure: str = "",
    ) -> CertificateReport:
        return CertificateReport(
            certificate.subject if certificate else "",
            certificate.issuer if certificate else "",
            certificate.not_after if certificate else "",
            int(certificate.not_after_seconds - self.now_seconds) if certificate else None,
            source,
            served,
            seconds_ago,
            failure,
        )
