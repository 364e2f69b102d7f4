"""`sidecar.sources.kubernetes.collection`: what lists and events mean, without any server."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import KEYS

from sidecar.model.change import Change
from sidecar.model.objects import Key, Object
from sidecar.model.parsing import project
from sidecar.sources.kubernetes.collection import (
    Bookmark,
    Collection,
    Happened,
    Lost,
    Resource,
    read_event,
)

SERVICES = Resource("v1", "Service", "services", labels="a=b")


def read(data: Mapping[str, Any]) -> tuple[Object, ...]:
    return (project(data, KEYS),)


def service(name: str = "web", port: object = 80, version: int = 1) -> dict[str, Any]:
    """As an item of a list: without apiVersion and kind."""
    metadata = {"namespace": "demo", "name": name, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"ports": [{"port": port}]}}


def listed(*items: Any) -> tuple[Collection, list[Change]]:
    collection = Collection(SERVICES, read)
    return collection, relisted(collection, *items)


def relisted(collection: Collection, *items: Any) -> list[Change]:
    collection.begin()
    for item in items:
        collection.page([item])
    return collection.complete()


def summary(changes: list[Change] | None) -> dict[str, int | None]:
    """name -> its port now, None when it is gone."""
    return {
        key.name: None if item is None else getattr(item, "ports")[0].port  # noqa: B009
        for key, item in changes or []
    }


def test_paths_and_words() -> None:
    assert SERVICES.path == "/api/v1/services"
    assert SERVICES.query == {"labelSelector": "a=b"}
    routes = Resource("route.openshift.io/v1", "Route", "routes", "demo", fields="x=y")
    assert routes.path == "/apis/route.openshift.io/v1/namespaces/demo/routes"
    assert routes.query == {"fieldSelector": "x=y"}
    assert (SERVICES.origin, routes.origin) == ("services", "routes in demo")
    assert 'apiGroups ["route.openshift.io"], resources ["routes"]' in routes.rule
    assert 'apiGroups [""]' in SERVICES.rule


def test_a_list_holds_all_there_is() -> None:
    collection, changes = listed(service("a"), service("b"), service("c"))
    assert summary(changes) == {"a": 80, "b": 80, "c": 80}
    changes = relisted(collection, service("b", version=9), service("c", 81), service("d"))
    assert summary(changes) == {"c": 81, "d": 80, "a": None}
    assert len(collection) == 3


def test_a_list_that_was_not_completed_changes_nothing() -> None:
    collection, _ = listed(service("a"), service("b"))
    collection.begin()
    collection.page([service("c")])
    assert summary(relisted(collection, service("a"), service("b"))) == {}


def test_events_may_be_doubled_missing_and_late() -> None:
    collection, _ = listed(service("a"))
    changed = Happened(service("a", 81), gone=False)
    assert summary(collection.happened(changed)) == {"a": 81}
    assert collection.happened(changed) is None
    # Nobody told that b was added.
    assert summary(collection.happened(Happened(service("b", 82), gone=False))) == {"b": 82}
    assert summary(collection.happened(Happened(service("b"), gone=True))) == {"b": None}
    assert collection.happened(Happened(service("b"), gone=True)) is None


def test_a_wrong_object_counts_as_its_last_good_version() -> None:
    collection, _ = listed(service("a"), service("b"))
    assert collection.happened(Happened(service("a", "x"), gone=False)) == []
    [problem] = collection.problems
    assert (problem.where, problem.key) == ("/api/v1/services", Key("Service", "demo", "a"))
    assert problem.field == "spec.ports[0].port"
    assert "keeping its last good version" in problem.message
    # The same again, by an event and by a list.
    assert collection.happened(Happened(service("a", "x"), gone=False)) is None
    assert relisted(collection, service("a", "x"), service("b", 81)) == [
        *listed(service("b", 81))[1]
    ]
    assert len(collection.problems) == 1
    assert summary(collection.happened(Happened(service("a"), gone=False))) == {}
    assert collection.problems == []


def test_an_object_that_never_was_right_is_left_out() -> None:
    collection, changes = listed(service("a", "x"), service("b"), {"metadata": 7}, "odd", None)
    assert summary(changes) == {"b": 80}
    assert "ignored until fixed" in collection.problems[0].message
    assert len(collection.problems) == 2  # what has no name is one
    assert collection.happened(Happened(service("a", "x"), gone=True)) == []
    relisted(collection, service("b"))
    assert collection.problems == []


def event(kind: str, data: object) -> bytes:
    return json.dumps({"type": kind, "object": data}).encode()


def test_what_lines_mean() -> None:
    data = service()
    assert read_event(event("ADDED", data)) == Happened(data, gone=False)
    assert read_event(event("MODIFIED", data)) == Happened(data, gone=False)
    assert read_event(event("DELETED", data)) == Happened(data, gone=True)
    bookmark = {"kind": "Service", "metadata": {"resourceVersion": "12"}}
    assert read_event(event("BOOKMARK", bookmark)) == Bookmark("12")
    gone = read_event(event("ERROR", {"code": 410, "message": "too old"}))
    assert isinstance(gone, Lost)
    assert "410" in gone.problem


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"ADDED","obj',
        b"[]",
        b"\xff",
        b"[" * 100_000,
        event("ADDED", {"metadata": {"name": "x"}}),
        event("ADDED", None),
        event("BOOKMARK", {}),
        event("NEWS", service()),
        event("ERROR", {"code": "410"}),
    ],
)
def test_what_is_no_event_means_a_new_list(line: bytes) -> None:
    found = read_event(line)
    assert isinstance(found, Lost)
    assert len(found.problem) < 200


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["event", "gone", "list"]),
        st.sampled_from("abc"),
        st.sampled_from([80, 81, "x"]),
    ),
    max_size=30,
)


@given(_STEPS)
def test_changes_add_up_to_what_is_there(steps: list[tuple[str, str, Any]]) -> None:
    """Whoever applies all changes has the last good version of all that exists."""
    collection = Collection(SERVICES, read)
    exists: dict[str, dict[str, Any]] = {}
    good: dict[str, int] = {}
    followed: dict[str, int | None] = {}
    for step, name, port in steps:
        if step == "gone":
            exists.pop(name, None)
            good.pop(name, None)
        else:
            exists[name] = service(name, port)
            if isinstance(port, int):
                good[name] = port
        if step == "list":
            changes: list[Change] | None = relisted(collection, *exists.values())
        else:
            happened = Happened(service(name, port), gone=step == "gone")
            changes = collection.happened(happened)
        followed |= summary(changes)
    assert {name: port for name, port in followed.items() if port} == good
    wrong = {key.name for problem in collection.problems if (key := problem.key)}
    assert wrong == {n for n, data in exists.items() if data["spec"]["ports"][0]["port"] == "x"}
