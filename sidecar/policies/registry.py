"""All policies: a new one is a file beside this one, and a line in `POLICIES`. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from sidecar.common.text import shown
from sidecar.policies.allowed_sources import IP_ALLOWLIST, IP_WHITELIST
from sidecar.policies.base import GUARDING_FLAGS, POLICIES_ATTRIBUTE, Policies, Policy, Way
from sidecar.policies.cookie_same_site import COOKIE_SAME_SITE
from sidecar.policies.drain_deadline import DRAIN_DEADLINE
from sidecar.policies.forwarded_headers import SET_FORWARDED_HEADERS
from sidecar.policies.hsts import HSTS_HEADER
from sidecar.policies.timeouts import TIMEOUT, TIMEOUT_TUNNEL

POLICIES: tuple[Policy[Any], ...] = (
    DRAIN_DEADLINE,
    IP_ALLOWLIST,
    IP_WHITELIST,
    TIMEOUT,
    TIMEOUT_TUNNEL,
    HSTS_HEADER,
    SET_FORWARDED_HEADERS,
    COOKIE_SAME_SITE,
)

#: Attributes of which several policies have a part; of any other the first one counts.
_LETTERS = frozenset({GUARDING_FLAGS, POLICIES_ATTRIBUTE})

_BY_NAME = {policy.name: policy for policy in POLICIES}


def annotation_keys(otherwise: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """(policy's name, annotation's key) of all; ``otherwise``: by name, those that a setting
    names."""
    return tuple(
        (policy.name, otherwise.get(policy.name, policy.annotation)) for policy in POLICIES
    )


def read(wishes: Iterable[tuple[str, str]], way: Way, unheeded: Iterable[str] = ()) -> Policies:
    """What a Route wishes that is served that ``way``, and has these (policy's name, text).
    ``unheeded``: what else it wishes."""
    values: dict[str, Any] = {}
    told: dict[str, str] = {}
    notes: list[str] = []
    without_effect = list(unheeded)
    for name, text in wishes:
        policy = _BY_NAME[name]
        if way not in policy.ways:
            without_effect.append(policy.annotation)
            continue
        try:
            value = values[name] = policy.parse(text)
        except ValueError as exc:
            notes.append(f"{policy.title} {shown(text)}: {exc}; {policy.otherwise}")
            continue
        for attribute, content in policy.tells(value).items():
            if attribute in _LETTERS:
                told[attribute] = "".join(sorted({*told.get(attribute, ""), *content}))
            else:
                told.setdefault(attribute, content)
    if without_effect:
        notes.append(f"without effect here: {', '.join(without_effect)}")
    return Policies(values, tuple(notes), told)
