"""Which Routes lead to a Service, and to a name outside the cluster that a Service leads to. Pure.

Only of Routes that own something: for those that wait, it does not matter where they lead.
"""

from sidecar.model.objects import Key, Route
from sidecar.routing.external_names import outside_name
from sidecar.routing.store import Store

#: Namespace and name of a Service.
_Service = tuple[str, str]


class Users:
    """Kept up to date with ``store`` by those who call."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._users: dict[_Service, set[Key]] = {}
        self._targets: dict[Key, frozenset[_Service]] = {}
        # Service -> the name outside that it leads to; and the other way round
        self._outside: dict[_Service, str] = {}
        self._leading: dict[str, set[_Service]] = {}
        self._names: frozenset[str] | None = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """The names outside the cluster. The same object for as long as they are the same."""
        if self._names is None:
            self._names = frozenset(self._leading)
        return self._names

    def place(self, key: Key, route: Route | None) -> None:
        """Where a Route leads now; None: it is gone, or owns nothing."""
        for service in self._targets.pop(key, frozenset()):
            self._users[service].discard(key)
            if not self._users[service]:
                del self._users[service]
            self._follow(service)
        if route is not None:
            targets = frozenset((route.namespace, target.name) for target in route.targets)
            self._targets[key] = targets
            for service in targets:
                self._users.setdefault(service, set()).add(key)
                self._follow(service)

    def of(self, key: Key) -> set[Key]:
        """The Routes that lead to a Service, or by one to a name, that changed."""
        if key.kind == "Service":
            self._follow((key.namespace, key.name))
            return set(self._users.get((key.namespace, key.name), ()))
        return self.of_name(key.name) if key.kind == "DNSName" else set()

    def of_name(self, name: str) -> set[Key]:
        services = self._leading.get(name, ())
        return {user for service in services for user in self._users.get(service, ())}

    def _follow(self, service: _Service) -> None:
        """A Service, or who uses it, changed: keep up with the name that it leads to."""
        found = self._store.service(*service) if service in self._users else None
        now = outside_name(found) if found else None
        before = self._outside.pop(service, None)
        if now is not None:
            self._outside[service] = now
        if before == now:
            return
        if before is not None:
            self._leading[before].discard(service)
            if not self._leading[before]:
                del self._leading[before]
        if now is not None:
            self._leading.setdefault(now, set()).add(service)
        self._names = None
