"""A Route's weights, by Service, turned into HAProxy's, by server.

OpenShift gives each Service of a Route a share of the connections, and each of its endpoints an
equal part of it. HAProxy wants whole numbers up to 256 per server, so the largest becomes 256 and
the smallest that is not 0 at least 1. Pure; see `docs/how-it-works.md` for examples.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from sidecar.model.pool import WEIGHT_MAX

T = TypeVar("T", bound=Hashable)


def server_weights(services: Sequence[tuple[int, Sequence[T]]]) -> Mapping[T, int]:
    """The weight of each endpoint that takes connections.

    ``services``: for each Service its weight (0 to 256) and its endpoints. An endpoint that
    several Services have gets the sum of its parts. A Service without endpoints gives its share
    to the others. Endpoints of weight 0 are weighed 0.
    """
    # In units of which each Service's share is a whole number per endpoint, so that all is exact.
    units = math.lcm(*(len(endpoints) for _, endpoints in services if endpoints))
    parts: dict[T, int] = {}
    for weight, endpoints in services:
        if endpoints:
            part = weight * units // len(endpoints)
            more = dict.fromkeys(endpoints, part)
            sums = {endpoint: parts[endpoint] + part for endpoint in parts.keys() & more.keys()}
            parts |= more
            parts |= sums
    distinct = set(parts.values())
    largest = max(distinct, default=0)
    scaled = {part: _scaled(part, largest) for part in distinct}
    return {endpoint: scaled[part] for endpoint, part in parts.items()}


def _scaled(part: int, largest: int) -> int:
    """``part`` of `WEIGHT_MAX`, rounded, but never to 0."""
    return part and max(1, (2 * WEIGHT_MAX * part + largest) // (2 * largest))
