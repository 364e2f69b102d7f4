"""What HAProxy is told of ports beside their servers: by whose list of allowed clients they are
judged, and how much each client may ask of them.

Owns the names of these attributes. A port of which nothing is said has no entry, in any map. Who is
allowed stands under the mark of the Route that says so, so that the lists of two Routes never mix,
and one entry of the port says whose list counts. Does no I/O.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from sidecar.listeners.attributes import AttributeMap, AttributeSet, PartsMap
from sidecar.model.desired import Attributes, ClaimKey, Unit

#: The attributes. What asks for another one is told after it, and forgotten before, both in the
#: order of names.
PORT_SOURCES, PORT_GUARDS, PORT_LIMITS = "port_allowed_sources", "port_guards", "port_limits"

#: By which clients are judged.
_JUDGING = frozenset({PORT_SOURCES, PORT_GUARDS})

#: As a port's guard: no mark is like this, and so nobody is in its list.
NOBODY = "-"


class PortMaps(AttributeSet):
    """The maps of all ports. ``sources``, ``guards``, ``limits``: their files, as haproxy.cfg has
    them. ``is_known``: whether it can have them."""

    def __init__(
        self,
        units: Iterable[Unit] = (),
        sources: str = "",
        guards: str = "",
        limits: str = "",
        *,
        is_known: bool = False,
    ) -> None:
        self.is_known = is_known
        self.sources = PartsMap(PORT_SOURCES, sources, units, needed=True)
        self.guards = AttributeMap(PORT_GUARDS, guards, needed=True)
        self.limits = AttributeMap(PORT_LIMITS, limits, needed=False)
        self.maps: Sequence[AttributeMap] = (self.sources, self.guards, self.limits)
        for item in self.maps:
            item.exists = is_known
        super().__init__(self.maps)

    def questions(self, touched: Collection[ClaimKey] | None) -> list[str]:
        return super().questions(touched) if self.is_known else []

    def parse(self, answers: Mapping[str, str]) -> None:
        if self.is_known:
            super().parse(answers)


def judges(attribute: str) -> bool:
    return attribute in _JUDGING


def judged_by(attributes: Attributes) -> str:
    """The mark of the Route by whose list clients are judged; "" where all may come."""
    return attributes.get(PORT_GUARDS, "")


def between(saved: Mapping[str, str], now: Mapping[str, str]) -> Mapping[str, str]:
    """What guards ports while a file may still have the servers as they were ``saved``, or has them
    as they are ``now``: one that had another Route's list lets nobody in."""
    changed = {unit for unit in saved.keys() & now.keys() if saved[unit] != now[unit]}
    return {**saved, **now, **dict.fromkeys(changed, NOBODY)}
