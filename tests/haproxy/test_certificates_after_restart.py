"""What a sidecar knows of the certificates of a HAProxy that it meets, and when it is ready."""

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
from by_host import MakeNamed, WebStand
from pki import CA
from stand import MakeStand, await_, converged, running
from test_route_certificates import app, await_shown
from web import get

from sidecar.control import certificate_keeper
from sidecar.control.certificate_keeper import CertificateKeeper
from sidecar.control.certificate_writer import CertificateWriter, Written
from sidecar.model.certificates import ServerCertificate

ROOT = CA.root()

#: How long a certificate takes to be loaded, where that is slow.
SLOW_SECONDS = 0.5
HOST = "a.example"


def certificates(web: WebStand) -> Path:
    return web.stand.settings.haproxy.state_file.parent / "certificates"


def test_nothing_is_believed_of_a_haproxy_that_another_one_showed(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web, issued = WebStand.make(make_stand, {"timing": {"resync": "1h"}}), ROOT.leaf(HOST)
    web.stand.write("web.yaml", *app("web", HOST, named("web"), issued))
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.ended(HOST) == "web", "it is served")
        converged(daemon)
        for _ in range(2):
            web.stand.stop_haproxy()
            (certificates(web) / "crt-list").write_text("")
            web.stand.start_haproxy()
            await_shown(web, HOST, issued)
            await_(lambda: web.ended(HOST) == "web", "it is served")
            converged(daemon)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates are loaded slowly."""
    write = CertificateWriter.write

    def slowly(*arguments: Any, **options: Any) -> Written:
        time.sleep(SLOW_SECONDS)
        return write(*arguments, **options)

    monkeypatch.setattr(CertificateWriter, "write", slowly)


def is_ready(web: WebStand) -> bool:
    try:
        return get(web.stand, "/readyz").status == 200
    except OSError:
        return False


def watched(web: WebStand, seconds: float = 4 * SLOW_SECONDS) -> list[tuple[bool, str]]:
    """Each that was seen: whether /readyz succeeds, and who then answers."""
    seen: list[tuple[bool, str]] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            now = is_ready(web), web.ended(HOST)
            seen += [now] if now not in seen else []
    return seen


@pytest.mark.usefixtures("slow")
def test_clients_are_sent_only_once_certificates_are_served(
    make_stand: MakeStand, named: MakeNamed, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = WebStand.make(make_stand)
    web.stand.write("web.yaml", *app("web", HOST, named("web"), ROOT.leaf(HOST)))
    with running(web.stand.daemon()):
        seen = watched(web)
        assert seen[-1] == (True, "web")
        assert {who for is_ready, who in seen if is_ready} == {"web"}
        web.stand.stop_haproxy()
        (certificates(web) / "crt-list").write_text("")
        for path in (web.stand.settings.haproxy.state_file.parent / "maps").iterdir():
            path.write_text("")
        web.stand.start_haproxy()
        seen = watched(web)
        assert seen[-1] == (True, "web")
        assert {who for is_ready, who in seen if is_ready} == {"web"}
    # One that takes over does not wait for what its predecessor has done.
    monkeypatch.setattr(CertificateKeeper, "step", lambda _: None)
    with running(web.stand.daemon()):
        await_(lambda: is_ready(web), "it is ready")


def test_a_certificate_that_is_refused_keeps_no_sidecar_unready(
    make_stand: MakeStand, named: MakeNamed, monkeypatch: pytest.MonkeyPatch
) -> None:
    web, bad = WebStand.make(make_stand), ROOT.leaf("bad.example")
    refused = f"{bad.certificate.serial_number:X}"

    def loads(certificate: ServerCertificate) -> str | None:
        return "refused" if certificate.serial.lstrip("0") == refused else None

    monkeypatch.setattr(certificate_keeper, "python_loads", loads)
    web.stand.write(
        "web.yaml",
        *app("bad", "bad.example", named("bad"), bad),
        *app("web", HOST, named("web"), ROOT.leaf(HOST)),
    )
    with running(web.stand.daemon()):
        await_(lambda: is_ready(web), "it is ready", every_seconds=0.001)
        assert web.ended(HOST) == "web"
        assert web.ended("bad.example") == "503"
        assert get(web.stand, "/readyz").body.endswith("certificate: bad.example\n")


def test_a_sidecar_without_web_routes_is_ready_at_once(make_stand: MakeStand) -> None:
    web = WebStand.make(make_stand, {"timing": {"resync": "1h"}})
    with running(web.stand.daemon()) as daemon:
        await_(daemon.view.serving, "it is ready", 0.5)
