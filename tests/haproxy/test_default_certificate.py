"""`web.default_certificate`: which one clients without another are shown, and when."""

import os
from pathlib import Path

import pytest
from by_host import MakeNamed, WebStand
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from pki import CA, Issued, ed25519_key, rsa_key
from stand import MakeStand, await_, await_told, converged, running
from test_route_certificates import app, asked, await_shown, fingerprint

from sidecar.cli.render import write_files
from sidecar.common.errors import SettingsError
from sidecar.haproxy.web_files import WebFiles

ROOT = CA.root()


def put(folder: Path, number: int, certificate: Issued, key: Issued) -> None:
    """As the kubelet does it: a new folder, and a symbolic link that is replaced."""
    data = folder / f"..{number}"
    data.mkdir(parents=True)
    (data / "tls.crt").write_text(certificate.pem)
    (data / "tls.key").write_text(key.key_pem)
    (folder / "..new").symlink_to(data.name)
    (folder / "..new").replace(folder / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


def test_it_is_replaced_while_running_and_the_last_good_one_stays(
    make_stand: MakeStand, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, first, second, third = tmp_path / "tls", *(ROOT.leaf("*.example") for _ in range(3))
    put(folder, 1, first, first)
    web = WebStand.make(make_stand, default_certificate=str(folder))
    assert asked(web, "any.example").fingerprint == fingerprint(first)
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        pid = web.stand.info().pid
        put(folder, 2, second, second)
        await_shown(web, "any.example", second)
        put(folder, 3, third, first)
        await_told(caplog, "web.default_certificate")
        assert asked(web, "any.example").fingerprint == fingerprint(second)
        converged(daemon)
        text = daemon.view.readyz().text
        assert "tls.key: the private key does not belong" in text
        assert text.removeprefix("ok; ") in daemon.view.facts().problems
        assert third.key_pem.splitlines()[1] not in caplog.text
        assert web.stand.info().pid == pid
    # The sidecar and HAProxy come back without a good file: the last good one serves.
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        await_(lambda: daemon.view.facts().problems, "the problem is known")
        web.stand.stop_haproxy()
        web.stand.start_haproxy()
        assert asked(web, "any.example").fingerprint == fingerprint(second)
        put(folder, 4, third, third)
        await_shown(web, "any.example", third)
        await_(lambda: not daemon.view.facts().problems, "the problem is over")
    assert sum("web.default_certificate: " in item.message for item in caplog.records) == 2


def test_a_bad_one_is_an_error_of_the_settings(make_stand: MakeStand, tmp_path: Path) -> None:
    file, good, other = tmp_path / "default.pem", ROOT.leaf("a.example"), ROOT.leaf("a.example")
    file.write_text(good.pem + good.key_pem)
    edwards = ROOT.leaf("a.example", key=ed25519_key())
    web = WebStand.make(make_stand, default_certificate=str(file))
    settings = web.stand.settings
    made = WebFiles.beside(settings.haproxy.state_file).default_certificate
    assert made.stat().st_mode & 0o777 == 0o640
    os.mkfifo(tmp_path / "pipe")
    for content, problem in (
        (good.pem, "no key specified"),
        (edwards.pem + edwards.key_pem, "Ed25519"),
        (good.pem + other.key_pem, "does not belong to the certificate"),
        ("", "empty"),
        ("x" * 2**21, "more than"),
        (None, "No such file"),
    ):
        file.unlink() if content is None else file.write_text(content)
        with pytest.raises(SettingsError) as caught:
            write_files(settings, settings.haproxy.config)
        assert f"web.default_certificate: {file}: " in str(caught.value)
        assert problem in str(caught.value)
        assert other.key_pem.splitlines()[1] not in str(caught.value)
    (tmp_path / "pipe").rename(file)
    with pytest.raises(SettingsError, match="not a file"):
        write_files(settings, settings.haproxy.config)
    # Without the setting: a self-signed one again, and only once.
    plain = settings.model_copy(
        update={"web": settings.web.model_copy(update={"default_certificate": None})}
    )
    write_files(plain, plain.haproxy.config)
    own = made.read_bytes()
    assert good.pem.encode() not in own
    write_files(plain, plain.haproxy.config)
    assert made.read_bytes() == own


@pytest.mark.parametrize("key", [None, rsa_key()], ids=["ECDSA", "RSA"])
def test_it_is_not_shown_for_a_host_with_a_certificate_of_its_own(
    make_stand: MakeStand, named: MakeNamed, tmp_path: Path, key: RSAPrivateKey | None
) -> None:
    """Though it is good for that host, and HAProxy prefers ECDSA."""
    default, own = ROOT.leaf("*.w.example"), ROOT.leaf("a.w.example", key=key)
    file = tmp_path / "default.pem"
    file.write_text(default.pem + default.key_pem)
    web = WebStand.make(make_stand, default_certificate=str(file))
    web.stand.write("web.yaml", *app("a", "a.w.example", named("a"), own))
    with running(web.stand.daemon()) as daemon:
        await_shown(web, "a.w.example", own)
        converged(daemon)
        assert asked(web, "b.w.example").fingerprint == fingerprint(default)
        renewed = ROOT.leaf("*.w.example")
        file.write_text(renewed.pem + renewed.key_pem)
        await_shown(web, "b.w.example", renewed)
        assert asked(web, "a.w.example").fingerprint == fingerprint(own)
