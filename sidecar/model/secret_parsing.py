"""What of an object may hold a private key: a Route's ``spec.tls``, and a Secret.

Owns which of their fields are used. Its errors name the place and what would be right, and show
nothing of any value. Must not judge certificates (`sidecar.model.certificate_rules`). Pure.
"""

import base64
import binascii

from sidecar.common.secret_text import NO_TEXT, SecretText
from sidecar.model.fields import Field
from sidecar.model.objects import TLS_SECRET, Key, RouteTLS, Secret

#: What a Secret is that does not say it.
_OPAQUE = "Opaque"


def route_tls(tls: Field) -> RouteTLS | None:
    """A Route's ``spec.tls``, which is hidden."""
    if tls.value is None:
        return None

    def text(field: Field, rule: str) -> str:
        return field.optional_text(rule) or ""

    def pem(name: str) -> SecretText:
        return tls.at(name).secret_text("write it as PEM, in a string")

    external = tls.at("externalCertificate").at("name")
    return RouteTLS(
        termination=text(tls.at("termination"), "a termination must be a string"),
        insecure_policy=text(tls.at("insecureEdgeTerminationPolicy"), "None, Allow or Redirect"),
        certificate=pem("certificate"),
        key=pem("key"),
        ca_certificate=pem("caCertificate"),
        destination_ca_certificate=pem("destinationCACertificate"),
        # A name, since the API server is asked for it in a selector, where it could ask for more.
        external_certificate=text(external, "a name of a Secret must be a string")
        and external.name(),
    )


def secret(key: Key, root: Field) -> Secret:
    """Of one that is no certificate, only the type is kept."""
    root = root.hidden()
    kind = root.at("type").optional_text("a type must be a string") or _OPAQUE
    if kind != TLS_SECRET:
        return Secret(key.namespace, key.name, kind)
    return Secret(key.namespace, key.name, kind, _entry(root, "tls.crt"), _entry(root, "tls.key"))


def _entry(root: Field, name: str) -> SecretText:
    # As the API server stores it, what is written as text replaces what is in base64.
    plain = root.at("stringData").at(name)
    if plain.value is not None:
        return plain.secret_text("write it as PEM, in a string")
    field = root.at("data").at(name)
    encoded = field.optional_text("write it in base64, in a string")
    if not encoded:
        return NO_TEXT
    try:
        # Line breaks are for people, and mean nothing to the API server either.
        raw = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        # What is at fault there may be a piece of the key.
        raise field.wrong(
            "write it in base64, or as it is under stringData", "is not base64"
        ) from None
    # What is not text is no PEM either, which is said where it is judged.
    return SecretText(raw.decode("utf-8", errors="replace"))
