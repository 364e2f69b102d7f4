"""What a policy is: an annotation's name, and how its text is read. Pure.

A policy does not know who heeds it. A text that cannot be used is no reason to refuse a Route:
what the settings say holds, and the Route's author is told.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")

#: Where OpenShift's router, and we, have such annotations.
PREFIX = "haproxy.router.openshift.io/"


@dataclass(frozen=True, slots=True)
class Policy(Generic[T]):
    """One annotation. ``name``: its key without the prefix. ``parse``: its value, of the text;
    raises ValueError, which says what would be right. ``otherwise``: what holds where it cannot be
    used."""

    name: str
    title: str
    parse: Callable[[str], T]
    otherwise: str

    @property
    def annotation(self) -> str:
        """The annotation's key, unless a setting says otherwise."""
        return PREFIX + self.name


@dataclass(frozen=True, slots=True)
class Policies:
    """What one Route wishes. ``notes``: what of it cannot be used, for its author."""

    values: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def get(self, policy: Policy[T]) -> T | None:
        """None where the Route does not say, or nothing that can be used: then the settings do."""
        return cast("T | None", self.values.get(policy.name))


#: Of a Route that wishes nothing.
NO_POLICIES = Policies()
