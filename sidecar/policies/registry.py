"""All policies: a new one is a file beside this one, and a line in `POLICIES`. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from sidecar.common.text import shown
from sidecar.model.header_actions import HeaderNames
from sidecar.model.objects import Route
from sidecar.policies.allowed_sources import IP_ALLOWLIST, IP_WHITELIST
from sidecar.policies.balance import BALANCE
from sidecar.policies.base import (
    GUARDING_FLAGS,
    HTTP,
    POLICIES_ATTRIBUTE,
    Policies,
    Policy,
    Way,
    add_letters,
)
from sidecar.policies.cookie_same_site import COOKIE_SAME_SITE
from sidecar.policies.cookies import COOKIE_NAME, DISABLE_COOKIES
from sidecar.policies.drain_deadline import DRAIN_DEADLINE
from sidecar.policies.forwarded_headers import SET_FORWARDED_HEADERS
from sidecar.policies.headers import unheeded as unheeded_headers
from sidecar.policies.headers import with_headers
from sidecar.policies.hsts import HSTS_HEADER
from sidecar.policies.pod_connections import POD_CONCURRENT_CONNECTIONS
from sidecar.policies.rate_limits import RATE_LIMITS, together
from sidecar.policies.rewrite_target import REWRITE_TARGET
from sidecar.policies.timeouts import TIMEOUT, TIMEOUT_TUNNEL
from sidecar.policies.unsupported import with_reason

POLICIES: tuple[Policy[Any], ...] = (
    DRAIN_DEADLINE,
    IP_ALLOWLIST,
    IP_WHITELIST,
    TIMEOUT,
    TIMEOUT_TUNNEL,
    HSTS_HEADER,
    SET_FORWARDED_HEADERS,
    COOKIE_SAME_SITE,
    REWRITE_TARGET,
    *RATE_LIMITS,
    BALANCE,
    DISABLE_COOKIES,
    COOKIE_NAME,
    POD_CONCURRENT_CONNECTIONS,
)

#: Attributes of which several policies have a part; of any other the first one counts.
_LETTERS = frozenset({GUARDING_FLAGS, POLICIES_ATTRIBUTE})

#: What a port's pool says, whatever its Route does: HAProxy has no command for it.
_FIXED_FOR_PORTS = {
    TIMEOUT.annotation: "pools[].timeouts.server",
    TIMEOUT_TUNNEL.annotation: "pools[].timeouts",
    BALANCE.annotation: "pools[].balance",
}

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
        _add(told, policy.tells(value))
    limits, remarks = together(values)
    _add(told, limits)
    notes += remarks
    if way == "port":
        without_effect = [
            f"{key} (the router's setting {fixed} says it)"
            if (fixed := _FIXED_FOR_PORTS.get(key))
            else key
            for key in without_effect
        ]
    if without_effect:
        notes.append(f"without effect here: {', '.join(without_effect)}")
    return Policies(values, tuple(notes), told)


def _add(told: dict[str, str], more: Mapping[str, str]) -> None:
    for attribute, content in more.items():
        if attribute in _LETTERS:
            add_letters(told, attribute, content)
        else:
            told.setdefault(attribute, content)


def policies_of(route: Route, way: Way, header_names: HeaderNames) -> Policies:
    """What ``route`` wishes, which is served that ``way``, by its annotations and fields.
    ``header_names``: those that HAProxy can be told of."""
    unheeded = (*map(with_reason, route.unsupported), *unheeded_headers(route.headers, way))
    found = read(route.wishes, way, unheeded)
    return with_headers(found, route.headers, header_names) if way in HTTP else found
