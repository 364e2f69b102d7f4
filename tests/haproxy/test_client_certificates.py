"""`web.client_certificates`: which clients are let in where TLS ends, what their servers are told,
and that CAs and revocation lists change while HAProxy runs.
"""

import base64
import ssl
from pathlib import Path
from typing import NamedTuple

import pytest
from by_host import MakeNamed, NamedServer, WebStand, ask_raw
from cryptography.hazmat.primitives.hashes import SHA1
from mutual import REFUSED, Curl, MutualClient
from pki import CA, Issued, self_signed
from stand import MakeStand, await_, converged, running
from test_route_certificates import app

from sidecar.cli.render import write_files
from sidecar.common.errors import SettingsError

ROOT = CA.root("servers")
TLS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
HOST, OTHER = "a.example", "b.example"


class Clients(NamedTuple):
    """A CA of clients, with files for the settings, and certificates by it."""

    ca: CA
    good: Issued
    expired: Issued
    revoked: Issued
    unknown: Issued
    ca_file: Path
    crl_file: Path

    @classmethod
    def make(cls, folder: Path) -> "Clients":
        ca, folder = CA.root("clients"), folder / "named"
        folder.mkdir()
        made = cls(
            ca,
            ca.leaf("good.test"),
            ca.leaf("expired.test", days=(-9, -1)),
            ca.leaf("revoked.test"),
            CA.root("others").leaf("unknown.test"),
            folder / "clients.crt",
            folder / "clients.crl",
        )
        made.ca_file.write_text(ca.pem)
        made.crl_file.write_text(ca.revocations(made.revoked))
        return made

    def settings(self, mode: str, **rest: str) -> dict[str, str]:
        return {"mode": mode, "ca": str(self.ca_file), "crl": str(self.crl_file), **rest}


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    return Clients.make(tmp_path)


def served(web: WebStand, server: NamedServer, other: NamedServer) -> None:
    """Two hosts with certificates of their own, so that they speak HTTP/2."""
    web.stand.write(
        "web.yaml",
        *app("a", HOST, server, ROOT.leaf(HOST)),
        *app("b", OTHER, other, ROOT.leaf(OTHER)),
    )


def headers(server: NamedServer) -> dict[str, str]:
    """What it was asked last, but for what every request has."""
    pairs = (line.split(": ", 1) for line in server.heads[-1].splitlines()[1:])
    ours = ("x-ssl", "x_ssl", "x-other")
    return {name.lower(): value for name, value in pairs if name.lower().startswith(ours)}


@pytest.mark.parametrize("mode", ["required", "optional", "none"])
def test_who_is_let_in(
    make_stand: MakeStand, named: MakeNamed, clients: Clients, mode: str, tmp_path: Path
) -> None:
    setting = clients.settings(mode) if mode != "none" else {}
    web = WebStand.make(make_stand, client_certificates=setting)
    served(web, named("a"), named("b"))
    without = REFUSED if mode == "required" else "a"
    bad = REFUSED if mode != "none" else "a"
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        for version in TLS:
            for issued, wanted in (
                (clients.good, "a"),
                (None, without),
                (clients.expired, bad),
                (clients.revoked, bad),
                (clients.unknown, bad),
                (self_signed("good.test"), bad),
            ):
                assert MutualClient(web.tls, issued, version).ask(HOST) == wanted
        assert Curl(web.tls).ask(HOST) == without
        for issued, wanted in ((clients.good, "a"), (clients.revoked, bad)):
            assert Curl.with_certificate(web.tls, tmp_path, issued).ask(HOST) == wanted


FORGED = [
    f"{name}: forged"
    for name in (
        "X-SSL",
        "x-ssl-client-dn",
        "X-SSL-Client-Whatever",
        "X_SSL_Client_DN",
        "x-SSL_Client_CN",
        "X-Other",
    )
]


@pytest.mark.parametrize("mode", ["required", "optional", "none"])
def test_servers_are_told_of_it_by_haproxy_alone(
    make_stand: MakeStand, named: MakeNamed, clients: Clients, mode: str, tmp_path: Path
) -> None:
    setting = clients.settings(mode) if mode != "none" else {}
    web, server = WebStand.make(make_stand, client_certificates=setting), named("a")
    served(web, server, named("b"))
    web.stand.write("clear.yaml", *app("a", HOST, server, ROOT.leaf(HOST), insecure="Allow"))
    web.stand.remove("web.yaml")
    forged = "".join(f"\r\n{line}" for line in FORGED)
    certificate = clients.good.certificate
    told = {
        "x-ssl": "1",
        "x-ssl-client-verify": "0",
        "x-ssl-client-serial": _hex(certificate.serial_number),
        "x-ssl-client-version": "3",
        "x-ssl-client-sha1": _sha1(clients.good),
        "x-ssl-client-dn": "/CN=good.test",
        "x-ssl-client-cn": "good.test",
        "x-ssl-issuer": "/CN=clients",
        "x-ssl-client-notbefore": f"{certificate.not_valid_before_utc:%y%m%d%H%M%SZ}",
        "x-ssl-client-notafter": f"{certificate.not_valid_after_utc:%y%m%d%H%M%SZ}",
        "x-ssl-client-der": base64.b64encode(_der(clients.good)).decode(),
    }
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        await_(lambda: web.served(HOST) == "a", "it is served in clear, too")
        assert ask_raw(web.http, f"GET / HTTP/1.1\r\nHost: {HOST}{forged}").body == "a"
        assert headers(server) == {"x-other": "forged"}
        wanted = {**(told if mode != "none" else {}), "x-other": "forged"}
        assert MutualClient(web.tls, clients.good).ask(HOST, lines=forged) == "a"
        assert headers(server) == wanted
        curl = Curl.with_certificate(web.tls, tmp_path, clients.good)
        assert curl.ask(HOST, *FORGED) == "a"
        assert headers(server) == wanted
        if mode == "optional":
            assert MutualClient(web.tls).ask(HOST, lines=forged) == "a"
            found = headers(server)
            assert found.keys() == wanted.keys()
            assert {name for name, value in found.items() if value} == {
                "x-ssl",
                "x-ssl-client-verify",
                "x-other",
            }


def _der(issued: Issued) -> bytes:
    return ssl.PEM_cert_to_DER_cert(issued.pem)


def _hex(serial: int) -> str:
    """In whole bytes."""
    return serial.to_bytes((serial.bit_length() + 7) // 8).hex().upper()


def _sha1(issued: Issued) -> str:
    return issued.certificate.fingerprint(SHA1()).hex().upper()


def test_a_large_certificate_fits_beside_a_large_request(
    make_stand: MakeStand, named: MakeNamed, clients: Clients
) -> None:
    web = WebStand.make(make_stand, client_certificates=clients.settings("required"))
    server = named("a")
    served(web, server, named("b"))
    large = clients.ca.leaf("large.test", padding_bytes=3000)
    lines = "".join(f"\r\nX-Large-{number}: {'x' * 4000}" for number in range(3))
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert MutualClient(web.tls, large).ask(HOST, lines=lines) == "a"
        assert headers(server)["x-ssl-client-der"].startswith("MII")


@pytest.mark.parametrize(
    "pattern", ["CN=good", "^/CN=good\\.test$", '["$}{]|# good|goo\\x64', "}|d"]
)
@pytest.mark.parametrize("mode", ["required", "optional"])
def test_only_subjects_that_fit_are_served(
    make_stand: MakeStand, named: MakeNamed, clients: Clients, mode: str, pattern: str
) -> None:
    setting = clients.settings(mode, subject_filter=pattern)
    web = WebStand.make(make_stand, client_certificates=setting)
    served(web, named("a"), named("b"))
    another = clients.ca.leaf("other.test")
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert MutualClient(web.tls, clients.good).ask(HOST) == "a"
        assert MutualClient(web.tls, another).ask(HOST) == "403"
        # As the original: who shows none has no subject that fits.
        assert MutualClient(web.tls).ask(HOST) == (REFUSED if mode == "required" else "403")


def test_every_ca_of_a_chain_needs_a_list_that_is_valid(
    make_stand: MakeStand, named: MakeNamed, clients: Clients
) -> None:
    """As docs/reference.md says; HAProxy's rule, not ours."""
    below = clients.ca.authority()
    client, server, other = below.leaf("below.test"), named("a"), named("b")
    for lists, wanted in (
        ((clients.ca.revocations(), below.revocations()), "a"),
        ((below.revocations(),), REFUSED),
        ((clients.ca.revocations(),), REFUSED),
        ((clients.ca.revocations(), below.revocations(days=(-9, -1))), REFUSED),
    ):
        clients.crl_file.write_text("".join(lists))
        web = WebStand.make(make_stand, client_certificates=clients.settings("required"))
        served(web, server, other)
        with running(web.stand.daemon()) as daemon:
            converged(daemon)
            assert MutualClient(web.tls, client).ask(HOST) == wanted


@pytest.mark.parametrize("version", TLS)
def test_no_session_carries_a_certificate_on(
    make_stand: MakeStand, named: MakeNamed, clients: Clients, version: ssl.TLSVersion
) -> None:
    web = WebStand.make(make_stand, client_certificates=clients.settings("required"))
    served(web, named("a"), named("b"))
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        client = MutualClient(web.tls, clients.good, version)
        for host, name in ((HOST, "a"), (HOST, "a"), (OTHER, "b")):
            assert client.ask(host) == name
            assert not client.resumed
        assert client.ask(OTHER, sni=HOST) == "b"


@pytest.mark.parametrize("key", ["ca", "crl"])
def test_a_bad_file_is_an_error_of_the_settings(
    make_stand: MakeStand, clients: Clients, key: str
) -> None:
    web = WebStand.make(make_stand, client_certificates=clients.settings("required"))
    settings = web.stand.settings
    file = clients.ca_file if key == "ca" else clients.crl_file
    for content, problem in (
        (clients.good.key_pem, "private key" if key == "ca" else "PEM block 1 is no revocation"),
        ("", "empty" if key == "ca" else "no revocation list in it"),
        ("x" * 2**21, "more than"),
        (None, "No such file"),
    ):
        file.unlink() if content is None else file.write_text(content)
        with pytest.raises(SettingsError) as caught:
            write_files(settings, settings.haproxy.config)
        assert f"web.client_certificates.{key}: {file}: " in str(caught.value)
        assert problem in str(caught.value)
        assert clients.good.key_pem.splitlines()[1] not in str(caught.value)
