"""What a unit should be, and what a change may touch. Pure values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.model.desired import Attributes, ClaimKey, Unit
from sidecar.model.objects import Cause, Key, Route
from sidecar.policies.base import NO_POLICIES, Policies
from sidecar.routing.endpoints import Resolution


@dataclass(frozen=True, slots=True)
class Claimed:
    """A unit that a Route owns: the servers that it should have, what else the Route wishes, the
    keys that should lead to it, and what HAProxy is to know of it. ``shared``: it is the own
    backend of a port that Routes share by SNI, each with a backend beside it; without servers, and
    ``route`` is the oldest of them."""

    unit: Unit
    route: Route
    resolution: Resolution
    policies: Policies = NO_POLICIES
    keys: frozenset[ClaimKey] = frozenset()
    attributes: Attributes = field(default_factory=dict)
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change may touch: ``units`` to compare, ``routes`` whose verdict may be new.
    ``causes``: unit -> one of the objects that made it so."""

    units: frozenset[Unit]
    routes: frozenset[Key]
    causes: Mapping[Unit, Cause] = field(default_factory=dict, compare=False)
