"""`status`: the table of Routes by host, with their certificates, on terminals of any width."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from sidecar.cli.status_hosts import certificate_lines, host_notes, hosts_table
from sidecar.reporting.certificate_reports import DEFAULT, AuthorityReport, CertificateReport
from sidecar.reporting.reports import (
    HostReport,
    Report,
    ServerReport,
    SourceReport,
    TimesReport,
    TrafficReport,
)

DAY = 86400
HOUR = 3600
NOT_KNOWN = TimesReport(None, None, None, 12)
TRAFFIC = TrafficReport(
    *(90.0, 3, 1, 12_345_678, 12_345_678, {"2xx": 9, "5xx": 1200}, 1, 1, 0, 0, 0, 0),
    average=NOT_KNOWN,
    most=NOT_KNOWN,
)
SERVER = ServerReport(
    *("s1", "10.128.14.211:8443", "ready", 256, 1, "web", "web-5d4f7c9b8-x2x7k", "node-1"),
    *("", 1, 1, 1),
)
OWN = CertificateReport(
    "CN=shop.example",
    "CN=root",
    "2027-02-24T12:00:00Z",
    90 * DAY + HOUR,
    "spec.tls.certificate of demo/shop",
    True,
    3600.0,
)


def host(name: str, certificate: CertificateReport | None, path: str = "") -> HostReport:
    return HostReport(
        *(name, path, "edge", "be_http_1", "open", "demo/shop", "Admitted", "", (SERVER,)),
        *(0, "", 5.0),
        traffic=TRAFFIC,
        certificate=certificate,
    )


def report(*hosts: HostReport, default: CertificateReport | None = None) -> Report:
    source = SourceReport("directory", "x", (), None)
    return Report(
        *("r", "sidecar", "/s", None, source, True, "", 1, (), (), (), 10, 0, 10, 0, 0),
        hosts=hosts,
        default_certificate=default,
    )


def table(found: Report, width: int | None, *, servers: bool = False) -> list[str]:
    """Into a pipe without ``width``."""
    text = io.StringIO()
    console = Console(
        file=text, width=width or 1000, force_terminal=width is not None, color_system=None
    )
    console.print(hosts_table(found, console, servers=servers))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def left(days: float) -> CertificateReport:
    return replace(OWN, seconds_left=int(days * DAY))


@pytest.mark.parametrize(
    ("certificate", "shown"),
    [
        (OWN, "90d"),
        (left(13.5), "13d"),
        (left(0.5), "0d"),
        (left(-0.5), "expired"),
        (replace(OWN, served=False), "missing"),
        (replace(OWN, served=None), "90d"),
        (replace(OWN, source=DEFAULT), "default"),
        (replace(left(2.5), source=DEFAULT), "2d"),
        (CertificateReport("", "", "", None, DEFAULT, True), "default"),
    ],
)
def test_how_long_it_is_valid(certificate: CertificateReport, shown: str) -> None:
    head, row = table(report(host("shop.example", certificate)), None)
    assert row[head.index("CERT") :].split()[0] == shown


def test_without_tls_nothing_is_said_of_it() -> None:
    head, _ = table(report(host("shop.example", None)), None)
    assert "CERT" not in head
    head, _, row = table(report(host("shop.example", OWN), host("www.example", None)), None)
    assert row[head.index("CERT") :].split()[0] == "3"


@pytest.mark.parametrize("width", [40, 80, 100, 200])
@pytest.mark.parametrize(
    "name", ["a.example", "a-very-long-name.of-a-project.apps.cluster.example"]
)
def test_a_host_takes_one_line(width: int, name: str) -> None:
    found = report(
        replace(host(name, OWN), route="a-project-of-a-team/a-very-long-name"),
        host(name, left(2), "/cart"),
    )
    lines = table(found, width)
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    # What a person looks for stays, whatever has to go.
    assert "CERT" in lines[0]
    assert "90d" in lines[1]
    if width >= 80:
        assert lines[1].startswith(name[:20])


def test_at_80_columns_the_figures_go_first() -> None:
    head, *_ = table(report(host("shop.example", OWN)), 80)
    assert head.split()[-4:] == ["CERT", "SESSIONS", "REQUESTS", "5XX"]
    head, *_ = table(report(host("a-longer-name.apps.cluster.example", OWN)), 80)
    assert head.split() == ["HOST", "KIND", "STATE", "ROUTE", "SERVERS", "CERT", "5XX"]
    head, *_ = table(report(host("shop.example", OWN)), None)
    assert head.split()[-4:] == ["SESSIONS", "REQUESTS", "5XX", "MS"]


def test_a_server_has_a_line_of_its_own_in_which_nothing_is_cut() -> None:
    _, _, line = table(report(host("shop.example", OWN)), 80, servers=True)
    assert line.split() == ["s1", "10.128.14.211:8443", "ready", "web-5d4f7c9b8-x2x7k"]
    long = host("checkout.shop.apps.cluster.example", OWN)
    long = replace(long, route="a-team-project/checkout-service")
    text = "".join("".join(table(report(long), 60, servers=True)[2:]).split())
    assert "10.128.14.211:" in text
    assert "8443" in text


def test_what_does_not_go_without_saying() -> None:
    lost = replace(OWN, served=False, failure="HAProxy refuses it")
    found = report(
        host("ok.example", OWN),
        host("soon.example", left(13.5)),
        host("soon.example", left(13.5), "/cart"),
        host("lost.example", lost),
        # Its Route says it already.
        replace(host("told.example", lost), message="HAProxy refuses it"),
        host("new.example", replace(OWN, served=False)),
        host("default.example", replace(left(1.5), source=DEFAULT)),
        default=replace(left(1.5), source=DEFAULT),
    )
    title = "CN=shop.example, signed by CN=root, valid until 2027-02-24"
    assert list(host_notes(found)) == [
        f"soon.example: certificate ends in 13 days: {title}",
        "lost.example: certificate not served: HAProxy refuses it",
        "told.example demo/shop: HAProxy refuses it",
        "new.example: certificate not served: it is being loaded",
        f"the default certificate ends in 1 day: {title}",
    ]


def test_all_that_is_known() -> None:
    ca = AuthorityReport(("CN=root",), 1, "", "spec.tls.destinationCACertificate")
    found = report(
        replace(host("shop.example", OWN), ca=ca),
        host("shop.example", OWN, "/cart"),
        host("plain.example", None),
    )
    title = "CN=shop.example, signed by CN=root, valid until 2027-02-24"
    assert list(certificate_lines(found)) == [
        f"shop.example: {title} (90 days), spec.tls.certificate of demo/shop; served for 1h",
        f"shop.example demo/shop: {ca.text}",
    ]
