"""Routes whose certificate is in a Secret, end to end: what clients are shown."""

import hashlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from by_host import Asking, MakeNamed, NamedServer, WebStand, host_app, secret_manifest
from cli import run_cli
from handshake import shake_hands
from kube import FakeAPI, Fault
from pki import CA, Issued
from stand import MakeStand, await_, converged, running

from sidecar.cli.context import make_source

ROOT = CA.root()


def app(name: str, host: str, server: NamedServer, secret: str = "web-tls", **rest: Any) -> Any:
    tls: Any = {"externalCertificate": {"name": secret}, **rest.pop("tls", {})}
    return host_app(name, host, [server], **{"termination": "edge", **rest, "tls": tls})


def fingerprint(issued: Issued) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(issued.pem)).hexdigest()


def shown(web: WebStand, host: str) -> str:
    with shake_hands(web.tls, host) as secured:
        return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()


def await_shown(web: WebStand, host: str, issued: Issued) -> None:
    await_(lambda: shown(web, host) == fingerprint(issued), f"{host} has its certificate")


def test_a_certificate_out_of_a_secret_is_served_and_renewed_without_a_gap(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web, server = WebStand.make(make_stand), named("web")
    first, second, other = (ROOT.leaf("a.example") for _ in range(3))
    web.stand.write("web.yaml", *app("web", "a.example", server))
    web.stand.write("tls.yaml", secret_manifest("web-tls", first))
    with running(web.stand.daemon()) as daemon:
        await_shown(web, "a.example", first)
        await_(lambda: web.ended("a.example") == "web", "it is served")
        with Asking(web, "a.example") as asking:
            web.stand.write("tls.yaml", secret_manifest("web-tls", second))
            await_shown(web, "a.example", second)
            # Another Secret, by the Route.
            web.stand.write(
                "tls.yaml", secret_manifest("web-tls", second), secret_manifest("other", other)
            )
            web.stand.write("web.yaml", *app("web", "a.example", server, "other"))
            await_shown(web, "a.example", other)
        assert set(asking.answers) == {"web"}
        converged(daemon)
        folder = web.stand.settings.haproxy.state_file.parent / "certificates"
        await_(lambda: len(list(folder.glob("*.pem"))) == 2, "only one beside the default one")
    # A sidecar that comes later finds all as it should be.
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert daemon.reconciler.history.total == 0
        assert shown(web, "a.example") == fingerprint(other)


def test_a_bad_secret_costs_its_routes_only(make_stand: MakeStand, named: MakeNamed) -> None:
    web, server = WebStand.make(make_stand), named("web")
    issued, stranger = ROOT.leaf("a.example"), ROOT.leaf("a.example")
    good = app("good", "good.example", server, "good-tls")
    web.stand.write("web.yaml", *app("web", "a.example", server), *good)
    web.stand.write("good.yaml", secret_manifest("good-tls", ROOT.leaf("good.example")))
    mismatch = secret_manifest("web-tls", issued)
    mismatch["data"]["tls.key"] = secret_manifest("web-tls", stranger)["data"]["tls.key"]
    bad = (
        (mismatch, "Secret web-tls: tls.key: the private key does not belong to the certificate"),
        (secret_manifest("web-tls", issued, kind="Opaque"), "has type 'Opaque'"),
        (secret_manifest("else", issued), "Secret web-tls does not exist in namespace demo"),
    )
    with running(web.stand.daemon()) as daemon, Asking(web, "good.example") as asking:
        await_(lambda: web.ended("good.example") == "web", "the other one is served")
        asking.answers.clear()
        for secret, problem in bad:
            web.stand.write("tls.yaml", secret_manifest("web-tls", issued))
            await_(lambda: web.ended("a.example") == "web", "it is served")
            web.stand.write("tls.yaml", secret)
            await_(lambda: web.ended("a.example") == "503", "it is refused")
            told = [item.message for item in daemon.view.facts().verdicts if not item.admitted]
            assert len(told) == 1
            assert problem in told[0]
    assert set(asking.answers) == {"web"}


def test_reencrypt_takes_it_too(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    inner, outer = ROOT.leaf("in.example"), ROOT.leaf("a.example")
    server = named("web", issued=inner)
    tls = {"destinationCACertificate": ROOT.pem}
    route = app("web", "a.example", server, termination="reencrypt", tls=tls)
    web.stand.write("web.yaml", *route, secret_manifest("web-tls", outer))
    with running(web.stand.daemon()):
        await_shown(web, "a.example", outer)
        await_(lambda: web.ended("a.example") == "web", "it is served")


def test_a_sidecar_that_restarts_takes_no_certificate_away(
    make_stand: MakeStand, named: MakeNamed, tmp_path: Path
) -> None:
    """Though it does not know at first what Secrets hold."""
    with FakeAPI() as api:
        config = str(api.kubeconfig(tmp_path / "kubeconfig"))
        source = {"kind": "kubernetes", "kubeconfig": config}
        web = WebStand.make(make_stand, {"source": source}, external_certificates=True)
        settings, issued, other = web.stand.settings, *(ROOT.leaf("a.example") for _ in range(2))
        api.apply(*app("web", "a.example", named("web")), secret_manifest("web-tls", issued))
        with running(web.stand.daemon(make_source(settings))):
            await_shown(web, "a.example", issued)
            await_(lambda: web.ended("a.example") == "web", "it is served")
        api.fault(Fault(status=500), plural="secrets", times=2)
        after = web.stand.daemon(make_source(settings))
        with Asking(web, "a.example") as asking, running(after) as daemon:
            converged(daemon)
            assert daemon.reconciler.history.total == 0
            assert shown(web, "a.example") == fingerprint(issued)
            api.apply(secret_manifest("web-tls", other))
            await_shown(web, "a.example", other)
        assert set(asking.answers) == {"web"}


@pytest.mark.parametrize("reads", [True, False])
def test_commands_say_where_it_is_from(
    make_stand: MakeStand, named: MakeNamed, *, reads: bool
) -> None:
    web = WebStand.make(make_stand, external_certificates=reads)
    stand = web.stand
    objects = (
        *app("web", "a.example", named("web")),
        secret_manifest("web-tls", ROOT.leaf("a.example")),
    )
    stand.write("web.yaml", *objects)
    config = ("-c", str(stand.settings_file))
    checked = run_cli("check", str(stand.manifests), *config)
    if not reads:
        assert checked.code == 1
        assert "this router reads no Secrets; set web.external_certificates" in checked.out
        return
    assert "certificates\n  demo/web: from Secret demo/web-tls" in checked.out
    with running(stand.daemon()) as daemon:
        await_(lambda: web.ended("a.example") == "web", "it is served")
        converged(daemon)
        asked = run_cli("why", "https://a.example/", *config)
        assert "Secret demo/web-tls of demo/web" in asked.out
        asked = run_cli("status", "a.example", *config)
        assert "Secret demo/web-tls of demo/web" in asked.out
