"""Whether a Route's servers are told of the client: X-Forwarded-For and the like. Pure."""

from collections.abc import Mapping
from typing import Literal

from sidecar.policies.base import HTTP, POLICIES_ATTRIBUTE, Policy

#: ``append``: beside what the client says; ``replace``: instead of it; ``if-none``: where it says
#: nothing; ``never``: what the client says is left.
ForwardedHeaders = Literal["append", "replace", "if-none", "never"]

LETTERS: Mapping[ForwardedHeaders, str] = {
    "append": "a",
    "replace": "p",
    "if-none": "i",
    "never": "n",
}


def _parse(text: str) -> ForwardedHeaders:
    for mode in LETTERS:
        if text == mode:
            return mode
    raise ValueError(f"write one of {', '.join(LETTERS)}")


def _tells(mode: ForwardedHeaders) -> Mapping[str, str]:
    return {POLICIES_ATTRIBUTE: LETTERS[mode]}


SET_FORWARDED_HEADERS: Policy[ForwardedHeaders] = Policy(
    "set-forwarded-headers",
    "forwarded headers",
    _parse,
    "using web.forwarded_headers until fixed",
    HTTP,
    _tells,
)
