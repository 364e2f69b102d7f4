"""Who owns which host, where the same one may stand in several places: at the listeners, which are
one place together, and at each port that is shared by SNI.

Who has a host in one place has no say in the others: there, whoever gets the port gets its clients,
whatever name they use. Must not know when a port is shared (`sidecar.routing.ledger`). Pure.
"""

from collections.abc import Mapping

from sidecar.listeners.host_rules import Asked, HostRules, WebClaim, asked
from sidecar.listeners.hosts import HostIndex
from sidecar.listeners.tcp import port_number
from sidecar.model.objects import Key, Route
from sidecar.model.verdicts import Refusal


class HostSpaces:
    """A `HostIndex` for each place. A Route stands at the port of its annotation, or else at the
    listeners."""

    def __init__(self, rules: HostRules) -> None:
        self._rules = rules
        self._indexes: dict[int | None, HostIndex] = {}
        #: Route -> where it stands; None: at the listeners.
        self._ports: dict[Key, int | None] = {}

    def update(self, changed: Mapping[Key, Route | None]) -> set[Key]:
        """See `HostIndex.update`."""
        places: dict[int | None, dict[Key, Route | None]] = {}
        for key, route in changed.items():
            if key in self._ports:
                places.setdefault(self._ports.pop(key), {})[key] = None
            if route is not None:
                port = self._ports[key] = port_number((route.port or "").strip())
                places.setdefault(port, {})[key] = route
        restated: set[Key] = set()
        for port, routes in places.items():
            index = self._indexes.setdefault(port, HostIndex(self._rules))
            restated |= index.update(routes)
        return restated

    def port(self, route: Key) -> int | None:
        """The one that the Route shares; None for one at the listeners."""
        return self._ports.get(route)

    def asked(self, route: Route) -> Asked:
        """The host and path that the Route names, be it refused."""
        return asked(route, self._rules)

    def verdict(self, route: Key) -> WebClaim | Refusal | None:
        """See `HostIndex.verdict`."""
        index = self._indexes.get(self._ports[route]) if route in self._ports else None
        return index.verdict(route) if index else None

    def active(self, route: Key) -> WebClaim | None:
        """What the Route has."""
        found = self.verdict(route)
        return found if isinstance(found, WebClaim) else None
