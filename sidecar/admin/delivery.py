"""How an answer's body travels: compressed where the client takes that, and not at all where it has
it already. Pure; `sidecar.admin.answers` uses it for what is guarded.
"""

import gzip
import hashlib

#: Shorter bodies are one packet either way.
_GZIP_MIN_BYTES = 1024

#: Of zlib's: a report of 5,000 rows shrinks to a tenth in some hundredths of a second; a higher one
#: takes thrice as long for some percent.
_GZIP_LEVEL = 1


def tag_of(body: bytes) -> str:
    """Its entity-tag, a weak one: compressed or not, it is the same content."""
    return f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def is_known(tag: str, if_none_match: str | None) -> bool:
    """Whether the client says that it has what ``tag`` is of (RFC 9110, 13.1.2)."""
    known = [item.strip() for item in (if_none_match or "").split(",")]
    return "*" in known or tag.removeprefix("W/") in (item.removeprefix("W/") for item in known)


def takes_gzip(accept_encoding: str | None) -> bool:
    """Whether the client names gzip, and does not exclude it (RFC 9110, 12.5.3)."""
    for item in (accept_encoding or "").lower().split(","):
        name, _, weight = item.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return weight.replace(" ", "").rstrip("0").rstrip(".") not in ("q=", "q=0")
    return False


def compressed(body: bytes) -> bytes | None:
    """``body`` as gzip; None where that is not worth it."""
    if len(body) < _GZIP_MIN_BYTES:
        return None
    # Without a time: the same body is the same bytes.
    return gzip.compress(body, _GZIP_LEVEL, mtime=0)
