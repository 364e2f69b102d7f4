"""All policies: a new one is a file beside this one, and a line in `POLICIES`. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from sidecar.common.text import shown
from sidecar.policies.base import Policies, Policy
from sidecar.policies.drain_deadline import DRAIN_DEADLINE

POLICIES: tuple[Policy[Any], ...] = (DRAIN_DEADLINE,)

_BY_NAME = {policy.name: policy for policy in POLICIES}


def annotation_keys(otherwise: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """(policy's name, annotation's key) of all; ``otherwise``: by name, those that a setting
    names."""
    return tuple(
        (policy.name, otherwise.get(policy.name, policy.annotation)) for policy in POLICIES
    )


def read(wishes: Iterable[tuple[str, str]], more_notes: Iterable[str] = ()) -> Policies:
    """What a Route wishes that has these (policy's name, text). ``more_notes``: for its author,
    beside those of the policies."""
    values: dict[str, Any] = {}
    notes: list[str] = []
    for name, text in wishes:
        policy = _BY_NAME[name]
        try:
            values[name] = policy.parse(text)
        except ValueError as exc:
            notes.append(f"{policy.title} {shown(text)}: {exc}; {policy.otherwise}")
    return Policies(values, (*notes, *more_notes))
