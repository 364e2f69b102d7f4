"""`sidecar.model.certificates`: what is shown of a certificate, its name, and what never is."""

import pki
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from sidecar.model.certificates import CertificateAuthority, ServerCertificate


def of(issued: pki.Issued) -> ServerCertificate:
    return ServerCertificate.of([issued.certificate, *issued.issuers], issued.key)


@pytest.mark.parametrize(
    ("serial", "shown"), [(1, "01"), (0xAB, "AB"), (0xFFF, "0FFF"), (0x80FFEE, "80FFEE")]
)
def test_serials_have_whole_bytes(serial: int, shown: str) -> None:
    assert of(pki.self_signed(serial=serial)).serial == shown


def test_what_is_known_of_a_certificate() -> None:
    issued = pki.CA.root().leaf("a.test", "*.b.test")
    found = of(issued)
    assert (found.subject, found.issuer) == ("CN=a.test", "CN=root")
    assert found.not_after_seconds == issued.certificate.not_valid_after_utc.timestamp()


def test_a_subject_is_one_line() -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "a\nb\x1b[2J")])
    assert of(pki.self_signed(subject=subject)).subject == "O=a b?[2J"


def test_the_name_is_by_content() -> None:
    root = pki.CA.root()
    one, other = root.leaf(), root.leaf()
    again = of(one)
    assert again == of(one)
    assert hash(again) == hash(of(one))
    assert again != of(other)
    assert again.name != ServerCertificate.of([one.certificate], one.key).name
    assert again.name.isalnum()
    assert len(again.name) == 32


def test_nothing_shows_a_private_key() -> None:
    one, other = of(pki.self_signed()), of(pki.self_signed())
    with pytest.raises(AssertionError) as failure:
        assert one == other
    for text in (repr(one), str(one), str(failure.value)):
        assert "PRIVATE KEY" not in text
        assert "pem" not in text


def test_an_authority_counts_each_certificate_once() -> None:
    root, other = pki.CA.root().own.certificate, pki.CA.root("other").own.certificate
    found = CertificateAuthority.of([root, other, root])
    assert found.subjects == ("CN=root", "CN=other")
    assert found.pem.decode() == pki.pem(root, other)
    assert found == CertificateAuthority.of([root, other])
    assert found != CertificateAuthority.of([root])
    assert found.mark == CertificateAuthority.of([other, root]).mark
