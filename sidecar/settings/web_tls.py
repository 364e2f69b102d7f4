"""The settings of TLS that ends here: versions, ciphers, curves, and what clients are offered.

Owns these defaults. With a name that its OpenSSL does not know HAProxy would not start, so each is
checked, by Python's OpenSSL where that can.
"""

import ssl
from typing import Annotated, Literal

from pydantic import AfterValidator, StrictBool

from sidecar.common.text import shown
from sidecar.model.pool import TLSOptions
from sidecar.settings.section import Section

Version = Literal["TLSv1.2", "TLSv1.3"]

_SUITES = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_CCM_8_SHA256",
)

#: By both names where there are two; since OpenSSL 3.5 there are hybrids.
_CURVES = ("X25519", "X448", "P-256", "P-384", "P-521", "prime256v1", "secp384r1", "secp521r1")
_HYBRIDS = ("X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024")

_TEXT_MAX = 1500


def _ciphers(value: str) -> str:
    rule = "write ciphers of TLS 1.2 as `openssl ciphers -v` has them, with ':' between them"
    if not value.isascii() or " " in value or len(value) > _TEXT_MAX:
        raise ValueError(f"{rule}, {_TEXT_MAX} characters at most, no blanks")
    if value:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(value)
        except ssl.SSLError:
            raise ValueError(f"OpenSSL knows none of them; {rule}") from None
    return value


def _known(value: str, known: tuple[str, ...]) -> str:
    words = value.split(":") if value else []
    if unknown := [word for word in words if word not in known]:
        raise ValueError(f"{shown(unknown[0])} is none; write {', '.join(known)}, ':' between them")
    if twice := [word for word in words if words.count(word) > 1]:
        raise ValueError(f"has {twice[0]} twice; write each once")
    return value


def _suites(value: str) -> str:
    return _known(value, _SUITES)


def _curves(value: str) -> str:
    hybrids = _HYBRIDS if ssl.OPENSSL_VERSION_INFO >= (3, 5) else ()
    return _known(value, (*_CURVES, *hybrids))


class TLSSettings(Section):
    """Of all hosts whose TLS ends here; passthrough is its servers' affair."""

    min_version: Version = "TLSv1.2"
    #: None: the highest one that HAProxy has.
    max_version: Version | None = None
    #: Of TLS 1.2, and of TLS 1.3; "": HAProxy's, which are OpenSSL's.
    ciphers: Annotated[str, AfterValidator(_ciphers)] = ""
    ciphersuites: Annotated[str, AfterValidator(_suites)] = ""
    curves: Annotated[str, AfterValidator(_curves)] = ""
    #: Whether clients are refused for whose SNI there is no certificate, instead of being shown the
    #: default one.
    strict_sni: StrictBool = False
    #: Whether HTTP/2 is offered to clients of Routes that have a certificate of their own.
    http2: StrictBool = True

    def options(self) -> TLSOptions:
        return TLSOptions(
            self.min_version,
            self.max_version,
            self.ciphers,
            self.ciphersuites,
            self.curves,
            self.strict_sni,
        )


def versions_fit(settings: TLSSettings) -> TLSSettings:
    """Raises ValueError where no version would be left."""
    if settings.max_version and settings.max_version < settings.min_version:
        raise ValueError(
            f"max_version {settings.max_version} is below min_version {settings.min_version}; raise"
            " it, or leave the key out"
        )
    return settings
