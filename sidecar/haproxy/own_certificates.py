"""Certificates that the sidecar makes itself, for HAProxy to start with and to serve by default.

Owns how they are made. Must not decide when they are needed. Not pure: each has a new key.
"""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sidecar.model.certificates import CertificateAuthority, ServerCertificate

_VALID = timedelta(days=3653)

#: Clients' clocks may be slow.
_BEFORE = timedelta(hours=1)

#: X.520: a common name has no more characters; clients look at the alternative name.
_COMMON_NAME_MAX = 64


def self_signed(host_name: str, now_seconds: float) -> ServerCertificate:
    """A certificate for ``host_name``, for ten years from now (Unix time): what is served where
    none is configured."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(host_name, key, now_seconds).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(host_name)]), critical=False
    )
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    builder = builder.add_extension(usage, critical=False).add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    return ServerCertificate.of([builder.sign(key, SHA256())], key)


def placeholder_authority(now_seconds: float) -> CertificateAuthority:
    """An authority whose key nobody has, so that what trusts it alone trusts nobody: HAProxy
    needs a valid one in each ca-file at its start."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("nobody", key, now_seconds).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    return CertificateAuthority.of([builder.sign(key, SHA256())])


def _builder(
    name: str, key: ec.EllipticCurvePrivateKey, now_seconds: float
) -> x509.CertificateBuilder:
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_COMMON_NAME_MAX])])
    now = datetime.fromtimestamp(now_seconds, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(own)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + _VALID)
    )
