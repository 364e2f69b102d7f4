"""What is known of TLS, and the reports of certificates that it makes.

Made of facts that were found when a certificate changed, not when somebody asks. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from sidecar.listeners.host_rules import WebClaim
from sidecar.model.certificates import ServerCertificate
from sidecar.model.desired import Unit
from sidecar.model.objects import Key
from sidecar.reporting.certificate_reports import DEFAULT, CertificateReport
from sidecar.routing.host_certificates import HostFacts
from sidecar.routing.web import Web
from sidecar.routing.web_places import Trust

#: Where TLS ends at the router.
_ENDED = ("edge", "reencrypt")


def source_of(route: Key | None, origins: Mapping[Key, str]) -> str:
    """Where the certificate comes from that ``route`` brings. ``origins``: see `WebTLS`."""
    if route is None:
        return DEFAULT
    return f"{origins.get(route, 'spec.tls.certificate')} of {route.namespace}/{route.name}"


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
