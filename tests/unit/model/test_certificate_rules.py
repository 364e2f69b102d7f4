"""`sidecar.model.certificate_rules`: which TLS of a Route is good, and the words for what is not.

The table of extended validation is that of OpenShift's router, with what HAProxy refuses besides.
"""

import base64
from collections.abc import Callable

import pki
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.secret_text import SecretText
from sidecar.haproxy.protocol import Command, encode
from sidecar.model.certificate_rules import (
    PEM_MAX_BYTES,
    GoodTLS,
    judge_tls,
)
from sidecar.model.certificates import ServerCertificate
from sidecar.model.objects import RouteTLS
from sidecar.model.verdicts import Reason, Refusal

ROOT = pki.CA.root()
EDWARDS = pki.CA.root(key=pki.ed25519_key())
MIDDLE = ROOT.authority()
OTHER = pki.CA.root("other")
RSA = pki.CA.root("rsa", pki.rsa_key())
LEAF = ROOT.leaf("www.test")
DEEP = MIDDLE.leaf("www.test")
RSA_LEAF = RSA.leaf(key=pki.rsa_key(number=1))
OWN = pki.self_signed()
CERTIFICATE, KEY, CA, DESTINATION = (
    "certificate",
    "key",
    "caCertificate",
    "destinationCACertificate",
)

#: The texts of a Route's spec.tls, by their fields.
Texts = dict[str, str]


def tls(termination: str = "edge", policy: str = "", external: str = "", **texts: str) -> RouteTLS:
    return RouteTLS(
        termination,
        policy,
        SecretText(texts.get(CERTIFICATE, "")),
        SecretText(texts.get(KEY, "")),
        SecretText(texts.get(CA, "")),
        SecretText(texts.get(DESTINATION, "")),
        external,
    )


def good(result: GoodTLS | Refusal) -> GoodTLS:
    assert isinstance(result, GoodTLS), result
    return result


def served(result: GoodTLS | Refusal) -> ServerCertificate:
    certificate = good(result).certificate
    assert certificate is not None
    return certificate


def problems(result: object) -> str:
    assert isinstance(result, Refusal), result
    assert result.reason is Reason.EXTENDED_VALIDATION_FAILED
    return result.message


def pair(issued: pki.Issued, **more: str) -> Texts:
    return {CERTIFICATE: issued.pem, KEY: issued.key_pem, **more}


def below(*authorities: pki.CA) -> Texts:
    """A certificate by the first of them, with all as its CAs."""
    return pair(authorities[0].leaf(), caCertificate="".join(item.pem for item in authorities))


def curve(kind: ec.EllipticCurve) -> pki.Issued:
    return pki.self_signed(key=ec.generate_private_key(kind))


def authority_key(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    """Of another key: what has it is not self-signed, though subject and issuer are equal."""
    other = pki.ecdsa_key().public_key()
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(other)
    return builder.add_extension(identifier, critical=False)


# --- good --------------------------------------------------------------------------------------

GOOD: dict[str, Callable[[], Texts]] = {
    "leaf": lambda: pair(LEAF),
    "with its CA": lambda: pair(LEAF, caCertificate=ROOT.pem),
    "with all above it": lambda: pair(DEEP, caCertificate=DEEP.issuers_pem),
    "CA is an intermediate one": lambda: pair(DEEP, caCertificate=MIDDLE.pem),
    "intermediate beside it": lambda: {
        CERTIFICATE: DEEP.pem + MIDDLE.pem,
        KEY: DEEP.key_pem,
        CA: ROOT.pem,
    },
    "another CA beside the right one": lambda: pair(LEAF, caCertificate=OTHER.pem + ROOT.pem),
    "expired": lambda: pair(ROOT.leaf(days=(-9, -3)), caCertificate=ROOT.pem),
    "not yet valid": lambda: pair(ROOT.leaf(days=(3, 9)), caCertificate=ROOT.pem),
    "expired CA": lambda: below(pki.CA.root(days=(-9, -3))),
    "for another host": lambda: pair(ROOT.leaf("else.example"), caCertificate=ROOT.pem),
    "self-signed": lambda: pair(OWN),
    "self-signed, its own CA": lambda: pair(OWN, caCertificate=OWN.pem),
    "self-signed with SHA1": lambda: pair(pki.self_signed(key=pki.rsa_key(), weak="SHA1")),
    "self-signed with MD5": lambda: pair(pki.self_signed(key=pki.rsa_key(), weak="MD5")),
    "root with SHA1": lambda: below(pki.CA.root(key=pki.rsa_key(), weak="SHA1")),
    "RSA": lambda: pair(RSA.leaf(key=pki.rsa_key(number=1)), caCertificate=RSA.pem),
    "Ed25519": lambda: pair(ROOT.leaf(key=pki.ed25519_key())),
    "P-384": lambda: pair(curve(ec.SECP384R1())),
    "key inside certificate": lambda: {CERTIFICATE: LEAF.key_pem + LEAF.pem},
    "key in both": lambda: {CERTIFICATE: LEAF.pem + LEAF.key_pem, KEY: LEAF.key_pem},
    "key as of SEC 1": lambda: {
        CERTIFICATE: LEAF.pem,
        KEY: pki.key_pem(LEAF.key, PrivateFormat.TraditionalOpenSSL),
    },
    "key under another name": lambda: (
        pair(LEAF) | {KEY: LEAF.key_pem.replace("PRIVATE KEY", "EC PRIVATE KEY")}
    ),
    "EC PARAMETERS": lambda: (
        pair(LEAF) | {KEY: pki.block("EC PARAMETERS", "BggqhkjOPQMBBw==") + LEAF.key_pem}
    ),
    "public key beside it": lambda: pair(LEAF) | {CERTIFICATE: LEAF.pem + pki.public_pem(LEAF.key)},
    "other text": lambda: {
        CERTIFICATE: f"Bag Attributes\n    friendlyName: x\n\n{LEAF.pem}\n# end",
        KEY: "  " + LEAF.key_pem.replace("\n", "\r\n  "),
    },
    "headers": lambda: pair(LEAF) | {CERTIFICATE: pki.with_headers(LEAF.pem, "X-Note: a")},
    "no final newline": lambda: {CERTIFICATE: LEAF.pem.strip(), KEY: LEAF.key_pem.strip()},
    "the chain twice": lambda: {
        CERTIFICATE: DEEP.pem + DEEP.issuers_pem,
        KEY: DEEP.key_pem,
        CA: DEEP.issuers_pem,
    },
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_certificate(name: str) -> None:
    for termination in ("edge", "reencrypt", "Edge", ""):
        certificate = served(judge_tls(tls(termination, **GOOD[name]())))
        assert encode(Command("set ssl cert x", certificate.pem))


def test_haproxy_gets_leaf_chain_and_key_and_nothing_else() -> None:
    texts = {CERTIFICATE: "note\n" + DEEP.pem + MIDDLE.pem, KEY: DEEP.key_pem, CA: ROOT.pem}
    certificate = served(judge_tls(tls(**texts)))
    expected = DEEP.pem + MIDDLE.pem + ROOT.pem + DEEP.key_pem
    assert certificate.pem.decode() == expected


@pytest.mark.parametrize("termination", ["edge", "reencrypt", "passthrough", "", "Edge"])
def test_a_route_need_not_bring_a_certificate(termination: str) -> None:
    assert judge_tls(tls(termination)) == GoodTLS()


def test_a_destination_ca() -> None:
    result = good(
        judge_tls(
            tls("reencrypt", **pair(LEAF), destinationCACertificate=ROOT.pem + OTHER.pem + ROOT.pem)
        )
    )
    assert result.destination_ca is not None
    assert result.destination_ca.subjects == ("CN=root", "CN=other")
    assert result.destination_ca.pem.decode() == ROOT.pem + OTHER.pem


def test_a_secret_of_its_own_stands_for_a_certificate() -> None:
    assert judge_tls(tls(external="web")) == GoodTLS()


# --- wrong -------------------------------------------------------------------------------------

BIG = ROOT.leaf(padding_bytes=PEM_MAX_BYTES)
LONG = pki.CA.root("long", padding_bytes=PEM_MAX_BYTES)
WEAK = RSA.leaf(key=pki.rsa_key(number=1), weak="SHA1")

#: What a Route has -> what is said of each field.
WRONG: dict[str, tuple[Callable[[], Texts], list[str]]] = {
    "no key": (lambda: {CERTIFICATE: LEAF.pem}, ["key: no key specified; write the PEM"]),
    "key of another": (
        lambda: pair(LEAF) | {KEY: DEEP.key_pem},
        ["key: the private key does not belong to the certificate; write"],
    ),
    "two keys, one of another": (
        lambda: pair(LEAF) | {KEY: LEAF.key_pem + DEEP.key_pem},
        ["key: the private key does not belong"],
    ),
    "key of another inside": (
        lambda: {CERTIFICATE: LEAF.pem + DEEP.key_pem},
        ["certificate: the private key does not belong"],
    ),
    "public key": (
        lambda: pair(LEAF) | {KEY: pki.public_pem(LEAF.key)},
        ["key: no private key in it, and a public one does not do; write"],
    ),
    "key is a certificate": (lambda: pair(LEAF) | {KEY: LEAF.pem}, ["key: no private key in it"]),
    "key is blank": (lambda: pair(LEAF) | {KEY: " \n"}, ["key: no private key in it"]),
    "encrypted key": (
        lambda: pair(LEAF) | {KEY: pki.key_pem(LEAF.key, password="geheim")},
        ["key: PEM block 1 is an encrypted private key, and HAProxy cannot ask for a pass phrase"],
    ),
    "key encrypted as of old": (
        lambda: (
            pair(LEAF) | {KEY: pki.key_pem(LEAF.key, PrivateFormat.TraditionalOpenSSL, "geheim")}
        ),
        ["key: PEM block 1 is an encrypted private key"],
    ),
    "encrypted, under another name": (
        lambda: (
            pair(LEAF) | {KEY: pki.key_pem(LEAF.key, password="geheim").replace("ENCRYPTED ", "")}
        ),
        ["key: PEM block 1 is an encrypted private key"],
    ),
    "damaged key": (
        lambda: pair(LEAF) | {KEY: pki.block("PRIVATE KEY")},
        ["key: PEM block 1 is not a valid private key; copy it anew"],
    ),
    "RSA key with a wrong number": (
        lambda: pair(RSA_LEAF) | {KEY: pki.key_pem(pki.damaged(RSA_LEAF.key))},
        ["key: the private key is damaged; copy it anew"],
    ),
    "blank certificate": (
        lambda: pair(LEAF) | {CERTIFICATE: "\n"},
        ["certificate: no certificate in it; write the PEM of the certificate, then"],
    ),
    "certificate is a key": (
        lambda: pair(LEAF) | {CERTIFICATE: LEAF.key_pem},
        ["certificate: no certificate in it"],
    ),
    "chain first": (
        lambda: {CERTIFICATE: MIDDLE.pem + DEEP.pem, KEY: DEEP.key_pem},
        ["key: the private key belongs to a certificate that is not the first; write"],
    ),
    "not from the CA": (
        lambda: pair(LEAF, caCertificate=OTHER.pem),
        ["certificate: the first certificate is not signed by one of caCertificate"],
    ),
    "CA of the same name": (
        lambda: pair(LEAF, caCertificate=pki.CA.root().pem),
        ["certificate: the first certificate is not signed"],
    ),
    "root alone, intermediate missing": (
        lambda: pair(DEEP, caCertificate=ROOT.pem),
        ["certificate: the first certificate is not signed"],
    ),
    "CA is a leaf": (
        lambda: pair(pki.CA(LEAF).leaf("sub.test"), caCertificate=LEAF.pem),
        ["certificate: the first certificate is not signed"],
    ),
    "damaged certificate": (
        lambda: pair(LEAF) | {CERTIFICATE: pki.block("CERTIFICATE")},
        ["certificate: PEM block 1 is not a valid certificate; copy it anew"],
    ),
    "cut off": (
        lambda: pair(LEAF) | {CERTIFICATE: DEEP.pem + MIDDLE.pem[:-20]},
        ["certificate: PEM block 2 has no END line of its own; copy it as a whole"],
    ),
    "END of another": (
        lambda: pair(LEAF) | {CERTIFICATE: LEAF.pem.replace("END CERT", "END X509 CERT")},
        ["certificate: PEM block 1 has no END line"],
    ),
    "no Base64": (
        lambda: pair(LEAF) | {CERTIFICATE: pki.block("CERTIFICATE", "MA?=")},
        ["certificate: PEM block 1 is not valid Base64"],
    ),
    "wrong BEGIN line": (
        lambda: pair(LEAF) | {CERTIFICATE: LEAF.pem.replace("-----\n", "----\n", 1)},
        ["certificate: line 1 does not begin a PEM block, though it looks as if; write -----BEGIN"],
    ),
    "unknown block": (
        lambda: pair(LEAF) | {CERTIFICATE: LEAF.pem.replace("CERTIFICATE", "CERTIFICAT")},
        ["certificate: PEM block 1 has a name that is not supported; use CERTIFICATE"],
    ),
    "request": (
        lambda: pair(LEAF) | {CERTIFICATE: pki.request_pem(LEAF.key)},
        ["certificate: PEM block 1 is a certificate request; use"],
    ),
    "DH PARAMETERS": (
        lambda: pair(LEAF) | {CERTIFICATE: LEAF.pem + pki.block("DH PARAMETERS")},
        ["certificate: PEM block 2 is DH parameters, which a Route cannot have; remove them"],
    ),
    "request as CA": (
        lambda: pair(LEAF, caCertificate=pki.request_pem(LEAF.key)),
        ["caCertificate: PEM block 1 is a certificate request"],
    ),
    "key as CA": (
        lambda: pair(LEAF, caCertificate=ROOT.own.key_pem),
        [
            "caCertificate: no certificate in it; write the PEM of the CA's certificates",
            "caCertificate: a private key has no place here; remove it",
        ],
    ),
    "signed with SHA1": (
        lambda: pair(WEAK),
        ["certificate: the certificate is signed by a CA with SHA1; have it signed with SHA-256"],
    ),
    "signed with MD5": (
        lambda: pair(RSA.leaf(weak="MD5")),
        ["certificate: the certificate is signed by a CA with MD5"],
    ),
    "signed with MD2": (
        lambda: pair(RSA.leaf(weak="MD2")),
        ["certificate: the certificate is signed by a CA with MD2"],
    ),
    "intermediate with SHA1": (
        lambda: below(RSA.authority(weak="SHA1"), RSA),
        ["caCertificate: certificate 1 is signed by a CA with SHA1"],
    ),
    "of its own name, with the key of another": (
        lambda: pair(pki.self_signed(key=pki.rsa_key(), weak="SHA1", extend=authority_key)),
        ["certificate: the certificate is signed by a CA with SHA1"],
    ),
    "RSA of 1024 bits": (
        lambda: pair(ROOT.leaf(key=pki.rsa_key(1024))),
        ["certificate: the certificate has an RSA key of 1024 bits, and HAProxy and its clients"],
    ),
    "CA of 1024 bits": (
        lambda: below(pki.CA.root(key=pki.rsa_key(1024))),
        ["caCertificate: the certificate has an RSA key of 1024 bits"],
    ),
    "DSA": (
        lambda: pair(ROOT.leaf(key=pki.dsa_key())),
        ["certificate: the certificate has a key that is neither RSA, ECDSA nor Ed25519; use"],
    ),
    "curve of another world": (
        lambda: pair(curve(ec.SECP256K1())),
        ["certificate: the certificate has a key of an elliptic curve that TLS does not have"],
    ),
    "too big": (
        lambda: pair(BIG),
        ["certificate: 15"],
    ),
    "too big with its CA": (lambda: pair(LONG.leaf(), caCertificate=LONG.pem), ["certificate: 1"]),
    "everything": (
        lambda: {CERTIFICATE: WEAK.pem, KEY: LEAF.key_pem, CA: pki.block("X509 CRL")},
        [
            "certificate: the certificate is signed by a CA with SHA1",
            "caCertificate: PEM block 1 is a revocation list; remove it",
            "key: the private key does not belong to the certificate",
        ],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_certificate(name: str) -> None:
    make, expected = WRONG[name]
    message = problems(judge_tls(tls(**make())))
    assert message.startswith(f"spec.tls.{expected[0]}")
    assert message.count("spec.tls.") == len(expected)
    for text in expected:
        assert f"spec.tls.{text}" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n", "no certificate in it"),
        (LEAF.key_pem, "no certificate in it"),
        (ROOT.pem + LEAF.key_pem, "a private key has no place here; remove it"),
        (pki.block("CERTIFICATE"), "PEM block 1 is not a valid certificate"),
        (WEAK.pem, "the certificate is signed by a CA with SHA1"),
        (LONG.pem, "2"),
        (EDWARDS.pem, "a CA with an Ed25519 key: HAProxy does not show which one"),
        (ROOT.pem + EDWARDS.pem, "a CA with an Ed25519 key"),
    ],
)
def test_a_wrong_destination_ca(text: str, expected: str) -> None:
    message = problems(judge_tls(tls("reencrypt", destinationCACertificate=text)))
    assert message.startswith(f"spec.tls.destinationCACertificate: {expected}")


@pytest.mark.parametrize(
    ("given_tls", "expected"),
    [
        (
            tls(
                "passthrough",
                **pair(LEAF, caCertificate=ROOT.pem, destinationCACertificate=ROOT.pem),
                external="web",
            ),
            [
                f"{name}: passthrough termination does not support certificates; remove it, or use"
                for name in (CERTIFICATE, KEY, CA, DESTINATION, "externalCertificate")
            ]
            # the API server lets nobody have both
            + ["externalCertificate: cannot stand beside spec.tls.certificate; remove one of"],
        ),
        (
            tls("edge", destinationCACertificate=ROOT.pem),
            ["destinationCACertificate: edge termination does not support destination"],
        ),
        (
            tls("", destinationCACertificate=ROOT.pem),
            ["destinationCACertificate: edge termination does not support destination"],
        ),
        (
            tls("edge", external="web", **pair(LEAF)),
            ["externalCertificate: cannot stand beside spec.tls.certificate; remove one of them"],
        ),
        (tls("edgy"), ["termination: 'edgy' is not a valid termination; use edge, reencrypt or"]),
        (
            tls("edge", "allow"),
            [
                (
                    "insecureEdgeTerminationPolicy: 'allow' is not supported with 'edge'"
                    " termination; use None or Allow or Redirect"
                )
            ],
        ),
        (
            tls("passthrough", "Allow"),
            [
                (
                    "insecureEdgeTerminationPolicy: 'Allow' is not supported with 'passthrough'"
                    " termination; use None or Redirect"
                )
            ],
        ),
    ],
)
def test_what_does_not_go_together(given_tls: RouteTLS, expected: list[str]) -> None:
    message = problems(judge_tls(given_tls))
    assert message.count("spec.tls.") >= len(expected)
    for text in expected:
        assert f"spec.tls.{text}" in message


@pytest.mark.parametrize(
    ("termination", "policies"),
    [("edge", ["None", "Allow", "Redirect", ""]), ("passthrough", ["None", "Redirect", ""])],
)
def test_policies_for_plain_http(termination: str, policies: list[str]) -> None:
    for policy in policies:
        assert judge_tls(tls(termination, policy)) == GoodTLS()


# --- how much HAProxy takes --------------------------------------------------------------------


def test_as_much_as_haproxy_takes_is_taken() -> None:
    def judged(padding_bytes: int) -> GoodTLS | Refusal:
        return judge_tls(tls(**pair(RSA.leaf(key=key, serial=1, padding_bytes=padding_bytes))))

    key = pki.rsa_key(number=1)  # whose signatures all have the same length
    fits, too_big = 5_000, PEM_MAX_BYTES
    while too_big - fits > 1:
        middle = (fits + too_big) // 2
        if isinstance(judged(middle), GoodTLS):
            fits = middle
        else:
            too_big = middle
    size = len(served(judged(fits)).pem)
    assert PEM_MAX_BYTES - 10 < size <= PEM_MAX_BYTES
    name = "/" + "x" * 255
    assert encode(Command(f"set ssl cert {name}", served(judged(fits)).pem))


def test_thousands_of_certificates_are_not_verified() -> None:
    many = "".join(pki.CA.root(f"ca{n}").pem for n in range(60))
    message = problems(judge_tls(tls(**pair(LEAF, caCertificate=many))))
    assert "and HAProxy takes 15500 while it runs; leave out certificates that" in message
    assert "not signed" not in message


# --- nothing of what is given is shown ---------------------------------------------------------

#: What anybody might write, with a fragment that no message may have.
MARK = "xqzjv"
MARKED = st.builds(
    lambda before, label, body, after: f"{before}\n-----BEGIN {label}-----\n{body}\n{after}",
    st.sampled_from(["", MARK, f"-----END {MARK}-----", f"-----BEGIN {MARK}"]),
    st.sampled_from(["CERTIFICATE", "PRIVATE KEY", "EC PARAMETERS", MARK, f"{MARK} KEY", ""]),
    st.sampled_from([MARK, f"{MARK}==", "MAA=", f"Proc-Type: {MARK}\n\nMAA=", f"{MARK}: a"]),
    st.sampled_from(["", f"-----END CERTIFICATE-----\n{MARK}", f"-----END {MARK}-----"]),
)
ANY = st.one_of(st.text(max_size=60), MARKED, st.sampled_from([LEAF.pem, LEAF.key_pem, ROOT.pem]))


@given(ANY, ANY, ANY, ANY, st.sampled_from(["edge", "reencrypt", "passthrough"]))
def test_any_text_is_judged_and_none_is_shown(
    certificate: str, key: str, ca: str, destination: str, termination: str
) -> None:
    texts = {CERTIFICATE: certificate, KEY: key, CA: ca, DESTINATION: destination}
    item = tls(termination, **texts)
    result = judge_tls(item)
    for text in (repr(item), str(item), repr(result), str(result)):
        assert MARK not in text
        assert "-----BEGIN " not in text.replace("-----BEGIN CERTIFICATE-----, as a line", "")


@given(ANY, st.integers(0, 2000), st.integers(1, 255))
def test_any_damage_to_a_good_one_is_judged(more: str, place: int, change: int) -> None:
    def damaged(text: str) -> str:
        der = bytearray(base64.b64decode("".join(text.splitlines()[1:-1])))
        der[place % len(der)] ^= change
        label = text.splitlines()[0][11:-5]
        return pki.block(label, base64.b64encode(der).decode())

    for texts in (
        pair(LEAF) | {CERTIFICATE: damaged(LEAF.pem) + more},
        pair(LEAF) | {KEY: damaged(LEAF.key_pem) + more},
        pair(LEAF, caCertificate=damaged(ROOT.pem)),
        pair(RSA_LEAF) | {KEY: damaged(RSA_LEAF.key_pem)},
    ):
        judge_tls(tls(**texts))
