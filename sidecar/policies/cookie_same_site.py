"""Whether browsers send a Route's session cookie with requests of other sites. Pure.

It is said only where the cookie is for TLS alone, since browsers heed it only there; that it is,
the Route's termination says (`sidecar.routing.web_places`).
"""

from collections.abc import Mapping

from sidecar.policies.base import OTHER_PREFIX, POLICIES_ATTRIBUTE, TLS_ENDED, Policy

#: ``None``, the default, needs no letter.
LETTERS: Mapping[str, str] = {"Lax": "l", "Strict": "t", "None": ""}


def _parse(text: str) -> str:
    if text not in LETTERS:
        raise ValueError(f"write one of {', '.join(LETTERS)}")
    return text


def _tells(value: str) -> Mapping[str, str]:
    letter = LETTERS[value]
    return {POLICIES_ATTRIBUTE: letter} if letter else {}


COOKIE_SAME_SITE = Policy(
    "cookie-same-site",
    "SameSite of the cookie",
    _parse,
    "using None until fixed",
    TLS_ENDED,
    _tells,
    OTHER_PREFIX,
)
