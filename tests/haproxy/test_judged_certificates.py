"""What `judge_tls` passes, HAProxy loads at its start and shows as we know it; what it refuses as
too weak, HAProxy refuses too."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pki
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID
from stand import HAPROXY, await_, fresh_ip

from sidecar.common.errors import RuntimeAPIError
from sidecar.common.secret_text import SecretText
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.last_check import python_loads
from sidecar.haproxy.own_certificates import placeholder_authority, self_signed
from sidecar.model.certificate_rules import PEM_MAX_BYTES, GoodTLS, judge_tls
from sidecar.model.certificates import ServerCertificate
from sidecar.model.objects import RouteTLS

NOW_SECONDS = 1_700_000_000.0

ROOT = pki.CA.root()
MIDDLE = ROOT.authority()
RSA = pki.CA.root("rsa", pki.rsa_key())
ODD = x509.Name(
    [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'A/B=c, "ü"'),
    ]
)

GOOD: dict[str, Callable[[], pki.Issued]] = {
    "leaf": ROOT.leaf,
    "chain": MIDDLE.leaf,
    "rsa": lambda: RSA.leaf(key=pki.rsa_key(number=1)),
    "rsa3072": lambda: ROOT.leaf(key=pki.rsa_key(3072)),
    "ed25519": lambda: ROOT.leaf(key=pki.ed25519_key()),
    "p224": lambda: ROOT.leaf(key=ec.generate_private_key(ec.SECP224R1())),
    "p384": lambda: ROOT.leaf(key=ec.generate_private_key(ec.SECP384R1())),
    "p521": lambda: ROOT.leaf(key=ec.generate_private_key(ec.SECP521R1())),
    "expired": lambda: ROOT.leaf(days=(-9, -3)),
    "future": lambda: ROOT.leaf(days=(3, 9)),
    "self": pki.self_signed,
    "sha1": lambda: pki.self_signed(key=pki.rsa_key(), weak="SHA1"),
    "md5": lambda: pki.self_signed(key=pki.rsa_key(), weak="MD5"),
    "root": lambda: pki.CA.root(key=pki.rsa_key(), weak="SHA1").leaf(),
    "big": lambda: RSA.leaf(padding_bytes=PEM_MAX_BYTES * 3 // 4 - 2500),
    "serial1": lambda: ROOT.leaf(serial=1),
    "serial80": lambda: ROOT.leaf(serial=0x80FFEE),
    "odd": lambda: ROOT.leaf(subject=ODD),
    "many": lambda: ROOT.leaf(*(f"*.{number}.test" for number in range(200))),
}

WEAK: dict[str, Callable[[], pki.Issued]] = {
    "rsa1024": lambda: ROOT.leaf(key=pki.rsa_key(1024)),
    "root of rsa1024": lambda: pki.CA.root(key=pki.rsa_key(1024)).leaf(),
}


def route_tls(issued: pki.Issued) -> RouteTLS:
    return RouteTLS(
        "edge",
        certificate=SecretText(issued.pem),
        key=SecretText(issued.key_pem),
        ca_certificate=SecretText(issued.issuers_pem),
    )


def judged(issued: pki.Issued) -> ServerCertificate:
    result = judge_tls(route_tls(issued))
    assert isinstance(result, GoodTLS), result
    assert result.certificate
    return result.certificate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "certificates").mkdir()
    return tmp_path


def write_config(folder: Path, more: str = "") -> Path:
    config = folder / "haproxy.cfg"
    config.write_text(
        f"""global
    stats socket {folder}/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
frontend tls
    bind {fresh_ip()}:8443 ssl crt {folder}/certificates
    {more}
"""
    )
    return config


def problem_at_start(folder: Path, more: str = "") -> str:
    """What ``haproxy -c`` says against what is there; "" if nothing."""
    command = [HAPROXY, "-c", "-f", str(write_config(folder, more))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


@pytest.fixture
def shown(folder: Path) -> Iterator[Callable[[Path], dict[str, str]]]:
    """What a running HAProxy shows of a certificate that it has read from a file."""
    processes: list[subprocess.Popen[bytes]] = []
    client = RuntimeClient(str(folder / "admin.sock"), timeout_seconds=5.0)

    def ask(file: Path) -> dict[str, str]:
        if not processes:
            log = (folder / "log").open("wb")
            command = [HAPROXY, "-db", "-f", str(write_config(folder))]
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))
            log.close()
        reply = await_(lambda: answer(file), "HAProxy answers", 20)
        return dict(line.split(": ", 1) for line in reply.splitlines() if ": " in line)

    def answer(file: Path) -> str | None:
        assert processes[0].poll() is None, (folder / "log").read_text()
        try:
            return client.ask(f"show ssl cert {file}")
        except RuntimeAPIError:
            return None

    try:
        yield ask
    finally:
        client.close()
        for process in processes:
            process.terminate()
            process.wait(10)


def test_what_is_good_is_loaded_and_shown_as_it_is_known(
    folder: Path, shown: Callable[[Path], dict[str, str]]
) -> None:
    known = {folder / "certificates" / f"{name}.pem": judged(GOOD[name]()) for name in GOOD}
    known[folder / "certificates" / "own.pem"] = self_signed("router.test", NOW_SECONDS)
    for file, certificate in known.items():
        file.write_bytes(certificate.pem)
        assert python_loads(certificate) is None, file
        assert not certificate.name.strip("0123456789abcdef")
    assert problem_at_start(folder) == ""
    for file, certificate in known.items():
        found = shown(file)
        assert found["Status"] == "Used"
        assert found["Serial"] == certificate.serial, file
        # HAProxy's answer breaks off before it where it cannot tell the size of a key.
        leaf = x509.load_pem_x509_certificate(certificate.pem)
        has_none = isinstance(leaf.public_key(), Ed25519PublicKey)
        expected = None if has_none else certificate.sha1_fingerprint
        assert found.get("SHA1 FingerPrint") == expected, file


@pytest.mark.parametrize("name", WEAK)
def test_what_is_too_weak_haproxy_refuses_too(folder: Path, name: str) -> None:
    issued = WEAK[name]()
    text = issued.pem + issued.issuers_pem + issued.key_pem
    (folder / "certificates" / "weak.pem").write_text(text)
    assert not isinstance(judge_tls(route_tls(issued)), GoodTLS)
    assert "unable to load" in problem_at_start(folder)


def test_haproxy_takes_the_authorities(folder: Path) -> None:
    (folder / "certificates" / "own.pem").write_bytes(self_signed("a.test", NOW_SECONDS).pem)
    result = judge_tls(
        RouteTLS("reencrypt", destination_ca_certificate=SecretText(ROOT.pem + RSA.pem))
    )
    assert isinstance(result, GoodTLS)
    assert result.destination_ca
    for number, authority in enumerate((result.destination_ca, placeholder_authority(NOW_SECONDS))):
        file = folder / f"{number}.ca"
        file.write_bytes(authority.pem)
        server = f"server s 127.0.0.1:1 ssl verify required ca-file {file}"
        assert problem_at_start(folder, f"default_backend b\nbackend b\n    {server}") == ""
