"""The known state of one collection of the Kubernetes API: what its lists and events mean.

Owns parsing a watch's lines, which objects are known, which are invalid, and what changed. Must not
know how bytes arrive, when to retry, or who else is notified. Pure: no I/O, no clock.

The API's rules (kubernetes.io, "API concepts"): a list is complete, so what it lacks was removed; a
watch from the list's resourceVersion reports everything that happens after it; a resourceVersion is
opaque; 410 means that the history has expired, and a new list is needed.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sidecar.common.errors import ObjectError
from sidecar.common.text import shown
from sidecar.model.change import Change, Problem
from sidecar.model.objects import Key, Object

#: What an API object becomes: one value, or several that stand for parts of it.
Projection = Callable[[Mapping[str, Any]], tuple[Object, ...]]


@dataclass(frozen=True, slots=True)
class Resource:
    """What is listed and watched.

    ``group``: ``v1`` or ``discovery.k8s.io/v1``. ``namespace``: "" for the whole cluster.
    ``labels``, ``fields``: selectors for the server to apply.
    """

    group: str
    kind: str
    plural: str
    namespace: str = ""
    labels: str = ""
    fields: str = ""

    @property
    def path(self) -> str:
        root = f"/apis/{self.group}" if "/" in self.group else f"/api/{self.group}"
        inside = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"{root}{inside}/{self.plural}"

    @property
    def query(self) -> dict[str, str]:
        given = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: value for name, value in given.items() if value}

    @property
    def origin(self) -> str:
        """``routes``, ``routes in demo``."""
        return f"{self.plural} in {self.namespace}" if self.namespace else self.plural

    @property
    def rule(self) -> str:
        """What a Role must have for it."""
        api_group = self.group.rpartition("/")[0]
        role, names = "the Role", ""
        if self.is_secret:
            # Never all of them.
            role = f"a Role of the router in namespace {self.namespace}"
            names = f' resourceNames ["{self.fields.partition("=")[2]}"],'
        return (
            f'{role} needs apiGroups ["{api_group}"], resources ["{self.plural}"],{names}'
            ' verbs ["list", "watch"]'
        )

    @property
    def is_secret(self) -> bool:
        """Whether nothing that the server sends of it may be shown."""
        return self.kind == "Secret"


class Happened(NamedTuple):
    """An object was added or changed, or (``gone``) left the collection."""

    data: Mapping[str, Any]
    gone: bool


class Bookmark(NamedTuple):
    """All until ``version`` has been told."""

    version: str


class Lost(NamedTuple):
    """The watch cannot go on from where it was: list again."""

    problem: str


def read_event(line: bytes, *, is_secret: bool = False) -> Happened | Bookmark | Lost:
    """What a line of a watch means. ``is_secret``: no message shows any of it."""
    beginning = f"a line of {len(line)} bytes" if is_secret else shown(line[:60])
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return Lost(f"{beginning} is not an event")
    match event:
        case {"type": "ERROR", "object": {"code": int(code), "message": str(message)}}:
            return Lost(f"the watch ended with {code}: {shown(message)}")
        case {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}:
            return Bookmark(version)
        case {
            "type": "ADDED" | "MODIFIED" | "DELETED" as kind,
            "object": {"metadata": {"name": str(), "resourceVersion": str()}} as data,
        }:
            return Happened(data, kind == "DELETED")
        case _:
            return Lost(f"{beginning} is not a known event")


#: (namespace, name)
_Place = tuple[str, str]


class Collection:
    """What one `Resource` holds.

    A list is taken page by page, between `begin` and `complete`; until then all that was held
    stays. An object that is wrong counts as its last good version.
    """

    def __init__(self, resource: Resource, project: Projection) -> None:
        self.resource = resource
        self._project = project
        # what is there -> as what it counts; empty for what never was right
        self._held: dict[_Place, tuple[Object, ...]] = {}
        # what is there -> what is wrong with it now
        self._wrong: dict[_Place, Problem] = {}
        # the same of a list that is not complete yet
        self._listed: dict[_Place, tuple[Object, ...]] = {}
        self._listed_wrong: dict[_Place, Problem] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def problems(self) -> list[Problem]:
        """All objects that cannot be used as they are now."""
        return list(self._wrong.values())

    def begin(self) -> None:
        """A list starts, or starts again."""
        self._listed = {}
        self._listed_wrong = {}

    def page(self, items: Iterable[object]) -> None:
        """Some of the list."""
        for item in items:
            place = _place(item)
            objects, problem = self._read(place, item)
            self._listed[place] = objects
            if problem:
                self._listed_wrong[place] = problem

    def complete(self) -> list[Change]:
        """The list is at its end: what it changes, what vanished last."""
        before, self._held, self._wrong = self._held, self._listed, self._listed_wrong
        self.begin()
        changes = []
        for place, objects in self._held.items():
            changes += _changes(before.get(place, ()), objects)
        for place, objects in before.items():
            if place not in self._held:
                changes += _changes(objects, ())
        return changes

    def happened(self, event: Happened) -> list[Change] | None:
        """Take an event; what it changes, or None if neither objects nor problems are others now.

        An event that is told twice changes nothing; one that was missed is made good by the next
        of its object, or by the next list.
        """
        place = _place(event.data)
        old, old_problem = self._held.pop(place, ()), self._wrong.pop(place, None)
        if event.gone:
            return _changes(old, ()) if old or old_problem else None
        self._held[place] = old
        new, problem = self._read(place, event.data)
        self._held[place] = new
        if problem:
            self._wrong[place] = problem
        return _changes(old, new) if (old, old_problem) != (new, problem) else None

    def _read(self, place: _Place, data: Any) -> tuple[tuple[Object, ...], Problem | None]:
        """As what an object counts, and what is wrong with it."""
        last = self._held.get(place, ())
        resource = self.resource
        # The items of a list do not say what goes without saying.
        implied = {"apiVersion": resource.group, "kind": resource.kind}
        try:
            objects = self._project(data | implied if isinstance(data, dict) else data)
        except ObjectError as exc:
            meanwhile = "keeping its last good version" if last else "ignored until fixed"
            key = Key(resource.kind, *place)
            message = f"{exc.problem}; {meanwhile}"
            return last, Problem(resource.path, key, exc.field, message)
        # What is the same is the very same: a list of all shall not double the memory.
        return last if last == objects else objects, None


def _place(item: object) -> _Place:
    match item:
        case {"metadata": {"name": str(name), **metadata}}:
            namespace = metadata.get("namespace")
            return namespace if isinstance(namespace, str) else "", name
    return "", ""


def _changes(old: tuple[Object, ...], new: tuple[Object, ...]) -> list[Change]:
    kept = {item.key for item in new}
    gone = [Change(item.key, None) for item in old if item.key not in kept]
    return [Change(item.key, item) for item in new if item not in old] + gone
