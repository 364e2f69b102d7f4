"""`sidecar.haproxy.own_certificates`, `last_check`: what is made here, and what OpenSSL loads."""

from dataclasses import replace

import pki
import pytest
from cryptography import x509

from sidecar.common.secret_text import SecretText
from sidecar.haproxy.last_check import python_loads
from sidecar.haproxy.own_certificates import placeholder_authority, self_signed
from sidecar.model.certificate_rules import GoodTLS, judge_tls
from sidecar.model.certificates import ServerCertificate, is_for
from sidecar.model.objects import RouteTLS

NOW_SECONDS = 1_700_000_000.0
LONG_NAME = ".".join(["x" * 60] * 4)


@pytest.mark.parametrize("name", ["router.test", LONG_NAME])
def test_a_self_signed_certificate(name: str) -> None:
    made = self_signed(name, NOW_SECONDS)
    assert made.subject == made.issuer == f"CN={name[:64]}"
    leaf = x509.load_pem_x509_certificate(made.pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName(name)]
    assert is_for(name, made.pem)
    assert not is_for("x.test", made.pem)
    years = (made.not_after_seconds - NOW_SECONDS) / 365.25 / 86400
    assert 9.99 < years < 10.01
    assert NOW_SECONDS - 2 * 3600 < leaf.not_valid_before_utc.timestamp() < NOW_SECONDS
    assert python_loads(made) is None
    assert made.name != self_signed(name, NOW_SECONDS).name
    text = SecretText(made.pem.decode())
    assert judge_tls(RouteTLS(certificate=text)) == GoodTLS(made)


def test_a_placeholder_for_an_authority() -> None:
    made = placeholder_authority(NOW_SECONDS)
    (certificate,) = x509.load_pem_x509_certificates(made.pem)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    text = SecretText(made.pem.decode())
    assert judge_tls(RouteTLS("reencrypt", destination_ca_certificate=text)) == GoodTLS(None, made)


def loaded(text: str) -> str | None:
    certificate = self_signed("x.test", NOW_SECONDS)
    return python_loads(replace(certificate, pem=text.encode()))


ROOT = pki.CA.root()
LEAF = ROOT.leaf()


@pytest.mark.parametrize("key", [pki.ecdsa_key(), pki.rsa_key(), pki.ed25519_key()])
def test_openssl_loads_what_is_good(key: pki.AnyKey) -> None:
    issued = ROOT.leaf(key=key)
    assert python_loads(ServerCertificate.of([issued.certificate, *issued.issuers], key)) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "OpenSSL does not load it: "),
        (LEAF.pem, "OpenSSL does not load it: "),
        (LEAF.pem + ROOT.own.key_pem, "OpenSSL does not load it: KEY_VALUES_MISMATCH"),
        (
            LEAF.pem + pki.key_pem(LEAF.key, password="geheim"),
            "the private key is encrypted",
        ),
    ],
)
def test_openssl_does_not_load_what_is_not(text: str, problem: str) -> None:
    assert str(loaded(text)).startswith(problem)
