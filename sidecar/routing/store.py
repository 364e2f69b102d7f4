"""The objects as they are now, and which of them changed.

Owned by the reconciler's thread alone. Pure.
"""

from collections.abc import Iterable, Sequence

from sidecar.model.change import Change
from sidecar.model.objects import (
    LOCAL_ADDRESSES,
    Cause,
    DNSAnswer,
    EndpointSet,
    Key,
    LocalAddresses,
    Object,
    Route,
    RouteStatus,
    Secret,
    Service,
    ServiceAddresses,
    answer_key,
    secret_key,
)


class Store:
    """Objects by key, with the endpoint sets of each Service at hand."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        # (namespace, Service name) -> the keys of its EndpointSlices and Endpoints
        self._sets: dict[tuple[str, str], set[Key]] = {}

    def apply(self, changes: Iterable[Change]) -> dict[Key, Cause]:
        """Take ``changes``; the keys of what really is different now, with what made it so."""
        dirty: dict[Key, Cause] = {}
        for key, new in changes:
            old = self._objects.get(key)
            if old == new:
                continue
            cause = Cause(key, "added" if old is None else "removed" if new is None else "changed")
            dirty[key] = cause
            if isinstance(old, EndpointSet):
                # An EndpointSlice may be relabelled to another Service: both are dirty.
                dirty[Key("Service", old.namespace, old.service)] = cause
                siblings = self._sets[old.namespace, old.service]
                siblings.discard(key)
                if not siblings:
                    del self._sets[old.namespace, old.service]
            if new is None:
                del self._objects[key]
                continue
            self._objects[key] = new
            if isinstance(new, EndpointSet):
                dirty[Key("Service", new.namespace, new.service)] = cause
                self._sets.setdefault((new.namespace, new.service), set()).add(key)
        return dirty

    def route(self, key: Key) -> Route | None:
        found = self._objects.get(key)
        return found if isinstance(found, Route) else None

    def route_status(self, namespace: str, name: str) -> RouteStatus | None:
        """What routers say of a Route; None where the source has none to say."""
        found = self._objects.get(Key("RouteStatus", namespace, name))
        return found if isinstance(found, RouteStatus) else None

    def routes(self) -> Iterable[Route]:
        return (item for item in self._objects.values() if isinstance(item, Route))

    def service(self, namespace: str, name: str) -> Service | None:
        found = self._objects.get(Key("Service", namespace, name))
        return found if isinstance(found, Service) else None

    def secret(self, namespace: str, name: str) -> Secret | None:
        """A Secret that a Route refers to; None where there is none."""
        found = self._objects.get(secret_key(namespace, name))
        return found if isinstance(found, Secret) else None

    def answer(self, name: str) -> DNSAnswer | None:
        """What DNS says of ``name``; None before its first answer."""
        found = self._objects.get(answer_key(name))
        return found if isinstance(found, DNSAnswer) else None

    @property
    def local_addresses(self) -> LocalAddresses:
        """Of nowhere before they are known."""
        found = self._objects.get(LOCAL_ADDRESSES)
        return found if isinstance(found, LocalAddresses) else LocalAddresses()

    def service_addresses(self, namespace: str, name: str) -> ServiceAddresses | None:
        """Where the router's own Service is reached; None where the source has none to say."""
        found = self._objects.get(Key("ServiceAddresses", namespace, name))
        return found if isinstance(found, ServiceAddresses) else None

    def endpoint_sets(self, namespace: str, service: str) -> Sequence[EndpointSet]:
        """The Service's EndpointSlices, or its v1 Endpoints where it has no slices (the API
        server mirrors the latter into the former); in a stable order."""
        keys = sorted(self._sets.get((namespace, service), ()))
        sets = [item for key in keys if isinstance(item := self._objects[key], EndpointSet)]
        return [item for item in sets if not item.legacy] or sets

    def __len__(self) -> int:
        return len(self._objects)
