"""What the fake API server keeps: objects, resource versions and the log of events.

Owns the API's semantics as far as a router needs them: collections by path, optimistic
concurrency, the status subresource, merge patches, selectors, pages of one consistent list,
compaction. Knows nothing of HTTP. Not thread-safe: `kube` holds the lock.
"""

import base64
import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Object = dict[str, Any]

_PLURALS = {"Endpoints": "endpoints"}

#: Whose status is a subresource: written there, and only there.
_WITH_STATUS = ("routes", "services")


class Place(NamedTuple):
    """A path of the API; ``group``: ``/api/v1`` or ``/apis/GROUP/VERSION``. "": absent."""

    group: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def collection(self) -> tuple[str, str]:
        return self.group, self.plural


class RefusedError(Exception):
    """An answer other than success, as a Status object has it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        super().__init__(message)


class Logged(NamedTuple):
    """One event: ``old`` and ``new`` are None before the object was there, and after."""

    version: int
    collection: tuple[str, str]
    old: Object | None
    new: Object | None


@dataclass(frozen=True)
class Selection:
    """What a list or a watch asks for."""

    namespace: str = ""
    labels: str = ""
    fields: str = ""

    def takes(self, data: Object | None) -> bool:
        if data is None:
            return False
        metadata = data["metadata"]
        if self.namespace and metadata.get("namespace") != self.namespace:
            return False
        labels = metadata.get("labels") or {}
        return all(_label_matches(term, labels) for term in _terms(self.labels)) and all(
            _field_matches(term, data) for term in _terms(self.fields)
        )


def parse_path(path: str) -> Place | None:
    """``/apis/G/V/namespaces/NS/PLURAL/NAME/status`` and its shorter forms."""
    found = re.fullmatch(r"(/api/v1|/apis/[^/]+/[^/]+)/(.+)", path)
    if not found:
        return None
    group, parts = found[1], found[2].split("/")
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2 and parts[2] != "status":
        namespace, parts = parts[1], parts[2:]
    if len(parts) > 3:
        return None
    return Place(group, parts[0], namespace, *parts[1:])


def place_of(data: Object) -> Place:
    """Where an object with apiVersion, kind and metadata lives."""
    version, kind, metadata = data["apiVersion"], data["kind"], data["metadata"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    return Place(group, plural, metadata.get("namespace", ""), metadata["name"])


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class Objects:
    """All objects of a cluster, as of resource version `version`."""

    def __init__(self) -> None:
        self.version = 1000
        #: Watches and pages from before this version are gone.
        self.oldest = 0
        self.log: list[Logged] = []
        self._kinds: dict[tuple[str, str], tuple[str, str]] = {}
        self._objects: dict[tuple[str, str], dict[tuple[str, str], Object]] = {}
        # what was listed page by page, at which version -> all of it, as it was
        self._pages: dict[tuple[tuple[str, str], Selection, str], list[Object]] = {}

    def kind(self, collection: tuple[str, str]) -> tuple[str, str]:
        """(apiVersion, kind) of a collection's objects."""
        group, plural = collection
        version = group.removeprefix("/apis/").removeprefix("/api/")
        return self._kinds.get(collection, (version, plural.removesuffix("s").capitalize()))

    def find(self, place: Place) -> Object:
        found = self._objects.get(place.collection, {}).get((place.namespace, place.name))
        if found is None:
            raise RefusedError(404, "NotFound", f'{place.plural} "{place.name}" not found')
        return found

    def apply(self, data: Object, *, silently: bool = False) -> Object:
        """Create or replace, status and all, as an administrator with magic would. ``silently``:
        no watch is ever told."""
        place = place_of(data)
        old = self._objects.get(place.collection, {}).get((place.namespace, place.name))
        data = copy.deepcopy(data)
        if old is not None:
            data["metadata"].setdefault("uid", old["metadata"]["uid"])
        self._kinds[place.collection] = (data["apiVersion"], data["kind"])
        return self._store(place, old, data, silently=silently)

    def create(self, place: Place, data: Object) -> Object:
        data = copy.deepcopy(data)
        metadata = data["metadata"]
        if "name" not in metadata:
            metadata["name"] = f"{metadata['generateName']}{self.version:05d}"
        if place.namespace:
            metadata.setdefault("namespace", place.namespace)
        place = place._replace(name=metadata["name"])
        if (place.namespace, place.name) in self._objects.get(place.collection, {}):
            raise RefusedError(409, "AlreadyExists", f'{place.plural} "{place.name}" exists')
        self._kinds[place.collection] = (data["apiVersion"], data["kind"])
        if place.plural in _WITH_STATUS:
            data.pop("status", None)
        return self._store(place, None, data)

    def update(self, place: Place, data: Object) -> Object:
        """PUT: the version, where one is given, must be the present one."""
        old = self.find(place)
        given = data.get("metadata", {}).get("resourceVersion")
        if given not in {None, "", old["metadata"]["resourceVersion"]}:
            raise RefusedError(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {place.plural} "{place.name}": the object has'
                " been modified; please apply your changes to the latest version and try again",
            )
        if place.subresource == "status":
            new = {**old, "status": data.get("status")}
        elif place.plural in _WITH_STATUS:
            new = {**data, "status": old.get("status")}
        else:
            new = dict(data)
        if new.get("status") is None:
            new.pop("status", None)
        new["metadata"] = {
            **(old if place.subresource else data)["metadata"],
            **{key: old["metadata"][key] for key in ("uid", "name", "creationTimestamp")},
        }
        return self._store(place, old, copy.deepcopy(new))

    def patch(self, place: Place, patch: Object) -> Object:
        return self.update(place, merged(self.find(place), patch))

    def delete(self, place: Place, *, silently: bool = False) -> Object:
        old = self.find(place)
        del self._objects[place.collection][place.namespace, place.name]
        self.version += 1
        gone = copy.deepcopy(old)
        gone["metadata"]["resourceVersion"] = str(self.version)
        if not silently:
            self.log.append(Logged(self.version, place.collection, gone, None))
        return gone

    def all(self, collection: tuple[str, str], selection: Selection) -> list[Object]:
        held = self._objects.get(collection, {})
        return [held[key] for key in sorted(held) if selection.takes(held[key])]

    def page(
        self, collection: tuple[str, str], selection: Selection, limit: int, token: str
    ) -> tuple[list[Object], str, str]:
        """(items, version of the list, token of the next page or "")."""
        if token:
            version, start = json.loads(base64.b64decode(token))
            items = self._pages.get((collection, selection, version))
            if items is None or int(version) < self.oldest:
                raise RefusedError(
                    410, "Expired", "The provided continue parameter is too old to display"
                )
        else:
            version, start = str(self.version), 0
            items = self.all(collection, selection)
            if limit:
                self._pages[collection, selection, version] = items
        end = start + limit if limit else len(items)
        more = base64.b64encode(json.dumps([version, end]).encode()).decode()
        return items[start:end], version, more if end < len(items) else ""

    def expire_pages(self) -> None:
        self._pages.clear()

    def compact(self) -> None:
        """Forget the past: who was not here until now must list again."""
        self.oldest = self.version
        self.expire_pages()

    def event(self, logged: Logged, selection: Selection) -> Object | None:
        """What a watch with ``selection`` is told of ``logged``; None for nothing."""
        before, now = selection.takes(logged.old), selection.takes(logged.new)
        if now:
            return {"type": "MODIFIED" if before else "ADDED", "object": logged.new}
        if not before or logged.old is None:
            return None
        # An object that no longer matches is as good as gone; it is shown as it was.
        old = copy.deepcopy(logged.old)
        old["metadata"]["resourceVersion"] = str(logged.version)
        return {"type": "DELETED", "object": old}

    def _store(
        self, place: Place, old: Object | None, new: Object, *, silently: bool = False
    ) -> Object:
        metadata = new["metadata"]
        metadata.setdefault("uid", f"uid-{self.version:05d}-{place.name}")
        metadata.setdefault("creationTimestamp", "2024-01-01T00:00:00Z")
        if old is not None:
            metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
            if new == old:
                return old
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        key = place.namespace, place.name
        self._objects.setdefault(place.collection, {})[key] = new
        if not silently:
            self.log.append(Logged(self.version, place.collection, old, new))
        return new


def _terms(selector: str) -> Iterator[str]:
    """Split at the commas that stand outside parentheses."""
    return (term.strip() for term in re.split(r",(?![^(]*\))", selector) if term.strip())


def _label_matches(term: str, labels: Mapping[str, str]) -> bool:
    if found := re.fullmatch(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)", term):
        inside = labels.get(found[1]) in [item.strip() for item in found[3].split(",")]
        return inside is (found[2] == "in")
    if "!=" in term:
        key, value = term.split("!=")
        return labels.get(key.strip()) != value.strip()
    if "=" in term:
        key, value = re.split(r"==?", term)
        return labels.get(key.strip()) == value.strip()
    if term.startswith("!"):
        return term[1:] not in labels
    return term in labels


def _field_matches(term: str, data: Object) -> bool:
    path, wanted = re.split(r"!=|==?", term)
    value: Any = data
    for part in path.strip().split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return (str(value or "") == wanted.strip()) is ("!=" not in term)
