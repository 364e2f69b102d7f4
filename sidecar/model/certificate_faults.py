"""Single certificates and keys: what OpenSSL, as HAProxy has it, would have against them.

Owns what is weak, what is self-signed, who signed whom, and which numbers are a private key; a
fault is the predicate of a sentence about a certificate, with what would be right. Must not know
fields of a Route (`sidecar.model.certificate_rules`). Reads no clock. Pure.
"""

from collections.abc import Collection, Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.x509.oid import ExtensionOID, PublicKeyAlgorithmOID

#: Fewer bits HAProxy does not serve with; more no client takes, and each handshake costs HAProxy
#: a tenth of a second.
_RSA_BITS = range(2048, 8192 + 1)

#: Those that TLS has.
_CURVES = frozenset({"secp224r1", "secp256r1", "secp384r1", "secp521r1"})

_WEAK_HASHES = frozenset({"md2", "md5", "sha1"})

#: Signed with MD2, of which the library knows nothing.
_MD2 = frozenset({"1.2.840.113549.1.1.2"})


def leads_to(held: Iterable[x509.Certificate], trusted: Collection[x509.Certificate]) -> bool:
    """Whether the first of ``held`` is one of those that are ``trusted`` or signed by one,
    directly or by way of others of ``held``."""
    leaf, *others = held
    reached = [leaf]
    for one in reached:
        if any(one == item or _is_signed_by(one, item) for item in trusted):
            return True
        more = [item for item in others if _is_signed_by(one, item)]
        others = [item for item in others if item not in more]
        reached += more
    return False


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject or not _may_sign(issuer):
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _may_sign(issuer: x509.Certificate) -> bool:
    """As of RFC 5280, 4.2.1.9 and 4.2.1.3; certificates of version 1 do not say."""
    if issuer.version is x509.Version.v1:
        return True
    try:
        is_ca = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as exc:
        return exc.oid == ExtensionOID.KEY_USAGE and is_ca
    return is_ca and usage.key_cert_sign


def key_fault(certificate: x509.Certificate) -> str | None:
    """What OpenSSL has against the key of a certificate, at the level of security that HAProxy
    runs at."""
    key, better = certificate.public_key(), "use RSA of 2048 bits or more, or ECDSA with P-256"
    match key:
        case RSAPublicKey() if (
            certificate.public_key_algorithm_oid != PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5
        ):
            return f"has a key for RSASSA-PSS alone, which is not supported; {better}"
        case RSAPublicKey() if key.key_size not in _RSA_BITS:
            return (
                f"has an RSA key of {key.key_size} bits, and HAProxy and its clients take"
                f" {_RSA_BITS.start} to {_RSA_BITS.stop - 1}; {better}"
            )
        case EllipticCurvePublicKey() if key.curve.name not in _CURVES:
            return f"has a key of an elliptic curve that TLS does not have; {better}"
        case RSAPublicKey() | EllipticCurvePublicKey() | Ed25519PublicKey():
            return None
        case _:
            return f"has a key that is neither RSA, ECDSA nor Ed25519; {better}"


def signature_fault(certificate: x509.Certificate) -> str | None:
    """What OpenSSL has against the signature of a certificate; it minds none that an own key
    made."""
    if _is_self_signed(certificate):
        return None
    name = "md2" if certificate.signature_algorithm_oid.dotted_string in _MD2 else ""
    try:
        # None: Ed25519 has none to choose
        algorithm = None if name else certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return "is signed in an unknown way; have it signed with SHA-256"
    name = name or (algorithm.name if algorithm else "")
    if name in _WEAK_HASHES:
        return f"is signed by a CA with {name.upper()}; have it signed with SHA-256"
    return None


def _is_self_signed(certificate: x509.Certificate) -> bool:
    """As OpenSSL sees it, who does not verify the signature for it."""
    if certificate.issuer != certificate.subject:
        return False
    of = certificate.extensions.get_extension_for_class
    try:
        signer = of(x509.AuthorityKeyIdentifier).value.key_identifier
        return signer is None or signer == of(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound as exc:
        return exc.oid == ExtensionOID.AUTHORITY_KEY_IDENTIFIER


def is_consistent(key: RSAPrivateKey) -> bool:
    """Whether the numbers of a private key belong together, as far as that is cheap to see."""
    numbers = key.private_numbers()
    p, q, d = numbers.p, numbers.q, numbers.d
    return (
        min(p, q) > 2
        and p * q == numbers.public_numbers.n
        and all(numbers.public_numbers.e * d % (prime - 1) == 1 for prime in (p, q))
        and (numbers.dmp1, numbers.dmq1) == (d % (p - 1), d % (q - 1))
        and numbers.iqmp * q % p == 1
    )
