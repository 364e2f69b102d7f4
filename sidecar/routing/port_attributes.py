"""What HAProxy is to know of a Route's port: who may come, and how much each client may ask. Pure.

Must not know which port it is, nor how HAProxy is told (`sidecar.listeners.port_maps`).
"""

from sidecar.listeners.port_maps import PORT_GUARDS, PORT_LIMITS, PORT_SOURCES
from sidecar.model.desired import Attributes
from sidecar.model.objects import Key
from sidecar.policies.allowed_sources import ALLOWED_SOURCES
from sidecar.policies.base import Policies
from sidecar.policies.rate_limits import LIMITS, limits_of, mark_of


def port_attributes(route: Key, policies: Policies) -> Attributes:
    """Of a port that is all of ``route``'s, with these ``policies``."""
    found: dict[str, str] = {}
    if sources := policies.told.get(ALLOWED_SOURCES):
        mark = mark_of(route)
        parts = (f"{mark}/{part}" for part in sources.split(","))
        found |= {PORT_SOURCES: ",".join(sorted(parts)), PORT_GUARDS: mark}
    if limits := policies.told.get(LIMITS):
        found[PORT_LIMITS] = limits_of(route, limits)
    return found
