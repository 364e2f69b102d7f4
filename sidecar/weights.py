"""A Route's weights, by Service, turned into HAProxy's, by server.

OpenShift gives each Service of a Route a share of the connections, and each of its endpoints an
equal part of it. HAProxy wants whole numbers up to 256 per server, so the largest becomes 256 and
the smallest that is not 0 at least 1. Pure; see `docs/how-it-works.md` for examples.
"""

from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

from sidecar.pool import WEIGHT_MAX

T = TypeVar("T", bound=Hashable)


def server_weights(services: Sequence[tuple[int, Sequence[T]]]) -> Mapping[T, int]:
    """The weight of each endpoint that takes connections.

    ``services``: for each Service its weight (0 to 256) and its endpoints. An endpoint that
    several Services have gets the sum of its parts. A Service without endpoints gives its share
    to the others. Endpoints of weight 0 are weighed 0.
    """
    parts: dict[T, Fraction] = {}
    for weight, endpoints in services:
        if endpoints:
            part = Fraction(weight, len(endpoints))
            for endpoint in endpoints:
                parts[endpoint] = parts[endpoint] + part if endpoint in parts else part
    # Few parts are distinct, and fractions are slow.
    distinct = set(parts.values())
    largest = max(distinct, default=Fraction(0))
    scaled = {part: _scaled(part, largest) for part in distinct}
    return {endpoint: scaled[part] for endpoint, part in parts.items()}


def _scaled(part: Fraction, largest: Fraction) -> int:
    if not part:
        return 0
    return max(1, int(WEIGHT_MAX * part / largest + Fraction(1, 2)))
