"""That browsers are to use TLS only for a Route's host (RFC 6797). Pure."""

import re
from collections.abc import Mapping

from sidecar.policies.base import TLS_ENDED, Policy

#: The attribute: the header's value.
HSTS = "hsts"

_MAX_AGE = re.compile(r'max-age *= *(?:([0-9]{1,19})|"([0-9]{1,19})")', re.IGNORECASE)
_OTHERS = {"includesubdomains": "includeSubDomains", "preload": "preload"}


def _parse(text: str) -> str:
    """Written anew: a map's value has no blanks, and the header means the same without them."""
    directives: dict[str, None] = {}
    ages: list[str] = []
    for part in filter(None, (part.strip(" ") for part in text.split(";"))):
        if found := _MAX_AGE.fullmatch(part):
            ages.append(found[1] or found[2])
        elif other := _OTHERS.get(part.lower()):
            directives[other] = None
        else:
            raise ValueError("write max-age=SECONDS, and ;includeSubDomains or ;preload behind it")
    if len(ages) != 1:
        raise ValueError("write max-age=SECONDS once")
    return ";".join((f"max-age={ages[0]}", *directives))


def _tells(value: str) -> Mapping[str, str]:
    return {HSTS: value}


HSTS_HEADER = Policy(
    "hsts_header", "HSTS header", _parse, "sending none until fixed", TLS_ENDED, _tells
)
