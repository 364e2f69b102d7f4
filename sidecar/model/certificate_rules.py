"""Whether the TLS of a Route, or of files, can be served: what OpenShift's router calls
extended validation, and what HAProxy would find out too late.

Owns which fields go together, which certificates and keys are good, and the words for what is not.
All problems are said at once, each with its field and what would be right; never any of the data.
Expired and not yet valid certificates are good, and so are those for other hosts: what a client
makes of them is the client's affair. Reads no clock. Pure.

Unlike OpenShift's router, this refuses keys that HAProxy takes first and does not serve with (RSA
below 2048 bits, DSA), takes Ed25519, and lets intermediate certificates stand in `certificate`
while `caCertificate` has the root alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.common.errors import CertificateError
from sidecar.common.secret_text import NO_TEXT, SecretText
from sidecar.common.text import few, shown
from sidecar.model.certificate_faults import (
    is_consistent,
    key_fault,
    leads_to,
    signature_fault,
)
from sidecar.model.certificates import CertificateAuthority, ServerCertificate, ServerKey
from sidecar.model.objects import RouteTLS, Secret
from sidecar.model.pem import Contents, read
from sidecar.model.verdicts import Reason, Refusal

#: What HAProxy takes with one command while it runs, less the command (`haproxy.protocol`).
PEM_MAX_BYTES = 15_500

#: Most problems that a message tells.
_PROBLEMS_MAX = 8

_CHAIN = "the certificate, then the intermediate ones that signed it"


@dataclass(frozen=True, slots=True)
class GoodTLS:
    """What HAProxy needs for a Route. ``certificate``: None where the Route brings none itself.
    ``destination_ca``: None where it names none."""

    certificate: ServerCertificate | None = None
    destination_ca: CertificateAuthority | None = None


def certificate_field(secret: Secret | None) -> str:
    """Where the certificate stands that `judge_tls` finds."""
    return f"Secret {secret.name}: tls.crt" if secret else "spec.tls.certificate"


def judge_tls(tls: RouteTLS, secret: Secret | None = None) -> GoodTLS | Refusal:
    """What HAProxy needs to serve ``tls``, or all that is wrong with it. ``secret``: the one that
    it names, which has certificate and key in place of those fields; None: it is not looked at."""
    problems = [*_wrong_combinations(tls)]
    pair = _Given("spec.tls.certificate", tls.certificate), _Given("spec.tls.key", tls.key)
    if secret:
        key = _Given(f"Secret {secret.name}: tls.key", secret.private_key)
        pair = _Given(certificate_field(secret), secret.certificate), key
    certificate = _server_certificate(
        *pair,
        _Given("spec.tls.caCertificate", tls.ca_certificate),
        problems,
    )
    authority = _authority(
        _Given("spec.tls.destinationCACertificate", tls.destination_ca_certificate), problems
    )
    return _refusal(problems) if problems else GoodTLS(certificate, authority)


def judge_authority(field: str, text: str) -> CertificateAuthority | Refusal:
    """The CAs in ``text``, which is at ``field``, or all that is wrong with it."""
    problems: list[str] = []
    found = _authority(_Given(field, SecretText(text)), problems)
    if found is None and not problems:
        problems.append(f"{field}: empty; write the PEM of the CA's certificates")
    return found if found and not problems else _refusal(problems)


def judge_files(
    certificate: tuple[str, SecretText], key: tuple[str, SecretText] | None = None
) -> ServerCertificate | Refusal:
    """What HAProxy needs to serve a certificate out of files (name and content), or all that is
    wrong with it. ``key``: None where the private key stands beside the certificate."""
    held = _Given(*certificate)
    problems: list[str] = []
    if not held.text:
        problems.append(held.problem(f"empty; write the PEM of {_CHAIN}"))
    beside = _Given(*key) if key else _Given(held.field, NO_TEXT)
    found = _server_certificate(held, beside, _Given("", NO_TEXT), problems)
    contents = held.read([])
    leaf = contents.certificates[0] if found and contents else None
    if leaf and isinstance(leaf.public_key(), Ed25519PublicKey):
        # A Route's own has a name in HAProxy that no other has; this one has a fixed one.
        problems.append(held.problem(f"a certificate with an Ed25519 key: {_ED25519_UNSEEN}"))
    return found if found and not problems else _refusal(problems)


class _Given(NamedTuple):
    """A text, and the field that it stands in."""

    field: str
    text: SecretText

    def problem(self, text: str) -> str:
        return f"{self.field}: {text}"

    def read(self, problems: list[str]) -> Contents | None:
        """What it holds, with good certificates; nothing where it is empty."""
        try:
            found = read(self.text)
        except CertificateError as exc:
            problems.append(self.problem(str(exc)))
            return None
        several = len(found.certificates) > 1
        for number, certificate in enumerate(found.certificates, 1):
            if fault := key_fault(certificate) or signature_fault(certificate):
                which = f"certificate {number}" if several else "the certificate"
                problems.append(self.problem(f"{which} {fault}"))
        return found


#: One that was replaced by another with the same serial number would still be trusted, or served.
_ED25519_UNSEEN = (
    "HAProxy does not show which one of those it has, so that nobody could tell whether it took"
    " another one; use ECDSA or RSA"
)


def _refusal(problems: Sequence[str]) -> Refusal:
    return Refusal(Reason.EXTENDED_VALIDATION_FAILED, few(problems, _PROBLEMS_MAX, ". "))


def _wrong_combinations(tls: RouteTLS) -> Iterator[str]:
    termination = tls.termination.lower() or "edge"  # the API server's default
    policies = ["None", "Allow", "Redirect"]
    fields = {
        "certificate": tls.certificate,
        "key": tls.key,
        "caCertificate": tls.ca_certificate,
        "destinationCACertificate": tls.destination_ca_certificate,
        "externalCertificate": tls.external_certificate,
    }
    match termination:
        case "passthrough":
            policies.remove("Allow")
            for name in (name for name, value in fields.items() if value):
                yield (
                    f"spec.tls.{name}: passthrough termination does not support certificates;"
                    " remove it, or use edge or reencrypt"
                )
        case "edge":
            if tls.destination_ca_certificate:
                yield (
                    "spec.tls.destinationCACertificate: edge termination does not support"
                    " destination certificates; remove it, or use reencrypt"
                )
        case "reencrypt":
            pass
        case _:
            yield (
                f"spec.tls.termination: {shown(tls.termination)} is not a valid termination;"
                " use edge, reencrypt or passthrough"
            )
    if tls.insecure_policy and tls.insecure_policy not in policies:
        yield (
            f"spec.tls.insecureEdgeTerminationPolicy: {shown(tls.insecure_policy)} is not"
            f" supported with {shown(termination)} termination; use {' or '.join(policies)}"
        )
    if tls.certificate and tls.external_certificate:
        yield (
            "spec.tls.externalCertificate: cannot stand beside spec.tls.certificate; remove one"
            " of them"
        )


def _server_certificate(
    certificate: _Given, key: _Given, authority: _Given, problems: list[str]
) -> ServerCertificate | None:
    """Adds to ``problems`` all that is wrong; what is returned is good if there is nothing."""
    held, keys, trusted = (item.read(problems) for item in (certificate, key, authority))
    if trusted and authority.text:
        _judge_authorities(authority, trusted, problems)
    if keys and key.text and not keys.keys:
        problems.append(
            key.problem(
                "no private key in it, and a public one does not do; write the PEM of the private"
                " key"
            )
        )
        keys = None
    if not held or not certificate.text:
        return None
    if not held.certificates:
        problems.append(certificate.problem(f"no certificate in it; write the PEM of {_CHAIN}"))
        return None
    chain = tuple(dict.fromkeys([*held.certificates, *(trusted.certificates if trusted else ())]))
    _judge_chain(certificate, held, trusted, chain, problems)
    if not keys:
        return None
    if not held.keys and not keys.keys:
        problems.append(
            key.problem("no key specified; write the PEM of the certificate's private key")
        )
        return None
    matching = [
        *_matching(certificate, held, held, problems),
        *_matching(key, keys, held, problems),
    ]
    if not matching or problems:
        return None
    made = ServerCertificate.of(chain, matching[0])
    if len(made.pem) > PEM_MAX_BYTES:
        problems.append(certificate.problem(_too_big(len(made.pem))))
    return made


def _judge_chain(
    certificate: _Given,
    held: Contents,
    trusted: Contents | None,
    chain: Sequence[x509.Certificate],
    problems: list[str],
) -> None:
    size = sum(len(item.public_bytes(Encoding.DER)) for item in chain)
    if size > PEM_MAX_BYTES:  # and nobody verifies thousands of signatures for it
        problems.append(certificate.problem(_too_big(size)))
    elif trusted and trusted.certificates and not leads_to(held.certificates, trusted.certificates):
        problems.append(
            certificate.problem(
                "the first certificate is not signed by one of caCertificate, nor by an"
                " intermediate one beside it that is; write the certificate first, and the CA that"
                " signed it into caCertificate, or remove that"
            )
        )


def _matching(
    given: _Given, contents: Contents, held: Contents, problems: list[str]
) -> Iterator[ServerKey]:
    """The keys of ``contents`` that belong to the first certificate; the others are problems."""
    wanted, *others = (item.public_key() for item in held.certificates)
    for key in contents.keys:
        public = key.public_key()
        if public == wanted and isinstance(key, ServerKey):
            if not isinstance(key, RSAPrivateKey) or is_consistent(key):
                yield key
            else:
                problems.append(given.problem("the private key is damaged; copy it anew"))
        elif public in others:
            problems.append(
                given.problem(
                    "the private key belongs to a certificate that is not the first; write"
                    f" {_CHAIN}"
                )
            )
        elif public != wanted:  # or its certificate is refused already
            problems.append(
                given.problem(
                    "the private key does not belong to the certificate; write the one that the"
                    " certificate was requested with"
                )
            )


def _authority(given: _Given, problems: list[str]) -> CertificateAuthority | None:
    found = given.read(problems)
    if not found or not given.text:
        return None
    _judge_authorities(given, found, problems)
    if any(isinstance(item.public_key(), Ed25519PublicKey) for item in found.certificates):
        problems.append(given.problem(f"a CA with an Ed25519 key: {_ED25519_UNSEEN}"))
    made = CertificateAuthority.of(found.certificates)
    if len(made.pem) > PEM_MAX_BYTES:
        problems.append(given.problem(_too_big(len(made.pem))))
    return made


def _judge_authorities(given: _Given, found: Contents, problems: list[str]) -> None:
    if not found.certificates:
        problems.append(
            given.problem("no certificate in it; write the PEM of the CA's certificates")
        )
    if found.keys:
        problems.append(given.problem("a private key has no place here; remove it"))


def _too_big(size: int) -> str:
    return (
        f"{size} bytes with all that belongs to it, and HAProxy takes {PEM_MAX_BYTES} while it"
        " runs; leave out certificates that nobody needs (the root, repetitions), or use ECDSA"
    )
