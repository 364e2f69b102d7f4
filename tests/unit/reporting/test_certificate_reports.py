"""`sidecar.reporting.certificate_reports`: what a report says of a host's certificate, and in which
words."""

from dataclasses import replace
from typing import Any

import pytest

from sidecar.haproxy.own_certificates import placeholder_authority, self_signed
from sidecar.listeners.host_rules import Termination, WebClaim
from sidecar.model.objects import Key
from sidecar.reporting.certificate_reports import AuthorityReport, CertificateReport
from sidecar.reporting.tls_facts import TLSFacts
from sidecar.routing.host_certificates import HostFacts
from sidecar.routing.web_places import Trust

DAY = 86400.0
NOW = 1_800_000_000.0
MADE = self_signed("a.test", NOW)
ROUTE = Key("Route", "demo", "shop")


def claim(termination: Termination = "edge", host: str = "a.test") -> WebClaim:
    return WebClaim(host, "", wildcard=False, termination=termination)


def facts(found: HostFacts, *, days: float = 0.0, **others: Any) -> TLSFacts:
    """``days`` after `NOW`."""
    base = TLSFacts(NOW + days * DAY, {"a.test": found}, since={"a.test": 100.0}, at=163.0)
    return replace(base, **others)


def text(tls: TLSFacts) -> str:
    found = tls.certificate(claim())
    assert found
    return found.text


SERVED = HostFacts(MADE, ROUTE, True, "")
TITLE = "CN=a.test, signed by itself, valid until 2037-01-15"


def test_of_a_route() -> None:
    assert facts(SERVED, days=3600).certificate(claim("reencrypt")) == CertificateReport(
        "CN=a.test",
        "CN=a.test",
        "2037-01-15T08:00:00Z",
        53 * 86400,
        "spec.tls.certificate of demo/shop",
        True,
        63.0,
        "",
    )
    source = "spec.tls.certificate of demo/shop"
    assert text(facts(SERVED, days=3600)) == f"{TITLE} (53 days), {source}; served for 1m3s"


@pytest.mark.parametrize("termination", ["http", "passthrough"])
def test_there_is_none_where_tls_does_not_end_here(termination: Termination) -> None:
    assert facts(SERVED).certificate(claim(termination)) is None
    assert facts(SERVED).certificate(claim(host="b.test")) is None


@pytest.mark.parametrize(
    ("found", "end"),
    [
        (SERVED._replace(served=None), "whether it is served, a running sidecar knows"),
        (SERVED._replace(served=False), "not served: it is being loaded"),
        (SERVED._replace(served=False, failure="it is bad"), "not served: it is bad"),
    ],
)
def test_one_that_is_not_served(found: HostFacts, end: str) -> None:
    assert text(facts(found)).partition("; ")[2] == end
    report = facts(found).certificate(claim())
    assert report
    assert report.served_seconds_ago is None


def test_the_default_one() -> None:
    found = HostFacts(None, None, True, "")
    assert text(facts(found)) == "default certificate; served"
    assert facts(found).default_certificate is None
    known = facts(found, days=3652, default=MADE)
    assert text(known) == f"{TITLE} (1 day), default certificate; served"
    default = known.default_certificate
    assert default
    assert (default.subject, default.seconds_left, default.served) == ("CN=a.test", 86400, True)


@pytest.mark.parametrize(
    ("days", "ending"),
    [
        (0, ""),
        (3639, ""),
        (3639.5, "ends in 13 days"),
        (3652, "ends in 1 day"),
        (3652.5, "ends in 0 days"),
        (3653.5, "expired on 2037-01-15T08:00:00Z"),
    ],
)
def test_that_one_ends_soon(days: float, ending: str) -> None:
    report = facts(SERVED, days=days).certificate(claim())
    assert report
    assert report.ending == ending
    assert ("(expired)" in report.text) == ending.startswith("expired")


def test_by_whom_servers_are_verified() -> None:
    nobody = placeholder_authority(NOW)
    report = AuthorityReport.of(Trust(nobody, "", "spec.tls.destinationCACertificate"))
    assert report.text == (
        "servers need a certificate by CN=nobody (spec.tls.destinationCACertificate), for any name"
    )
    many = replace(nobody, subjects=tuple(f"CN={number}" for number in range(150)))
    report = AuthorityReport.of(Trust(many, "web.demo.svc", "web.service_ca"))
    assert len(report.subjects) == 5
    assert report.text == (
        "servers need a certificate by CN=0 + CN=1 + CN=2 + CN=3 + CN=4 and 145 more"
        " (web.service_ca), for the name web.demo.svc"
    )
