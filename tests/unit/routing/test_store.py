"""`sidecar.routing.store`: what is there, what changed, and what waits to be taken."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand import changes, route, service, slice_

from sidecar.model.change import Change, Problem
from sidecar.model.objects import EndpointSet, Key, Object
from sidecar.routing.store import Store
from sidecar.sources.inbox import Inbox

WEB_SERVICE = Key("Service", "demo", "web")
API_SERVICE = Key("Service", "demo", "api")


def store_of(*objects: Object) -> Store:
    store = Store()
    store.apply(changes(*objects))
    return store


# Store


@pytest.mark.parametrize(
    ("before", "change", "dirty"),
    [
        ([], route(), {route().key}),
        ([route()], route(), set()),
        ([route()], route(port=30001), {route().key}),
        ([], service(), {WEB_SERVICE}),
        ([], slice_("web"), {slice_("web").key, WEB_SERVICE}),
        ([slice_("web")], slice_("web"), set()),
        # Labelled anew: the Service that it left is as dirty as the one that it came to.
        (
            [slice_("web", name="x")],
            slice_("api", name="x"),
            {slice_(name="x").key, WEB_SERVICE, API_SERVICE},
        ),
        (
            [],
            slice_("web", name="web", legacy=True),
            {Key("Endpoints", "demo", "web"), WEB_SERVICE},
        ),
    ],
)
def test_what_is_dirty(before: list[Object], change: Object, dirty: set[Key]) -> None:
    assert store_of(*before).apply(changes(change)).keys() == dirty


@pytest.mark.parametrize("item", [route(), service(), slice_(), slice_(name="web", legacy=True)])
def test_what_is_gone_is_dirty_once(item: Object) -> None:
    store = store_of(item)
    assert len(store) == 1
    dirty = {item.key, WEB_SERVICE} if isinstance(item, EndpointSet) else {item.key}
    assert store.apply([Change(item.key, None)]).keys() == dirty
    assert len(store) == 0
    assert not store.apply([Change(item.key, None)])


def test_objects_are_found_by_kind_namespace_and_name() -> None:
    store = store_of(route(), service(), slice_())
    assert store.route(route().key) == route()
    assert list(store.routes()) == [route()]
    assert store.service("demo", "web") == service()
    assert store.route(WEB_SERVICE) is None
    assert store.service("other", "web") is None
    assert store.endpoint_sets("other", "web") == []


def test_slices_stand_before_v1_endpoints_in_the_order_of_their_names() -> None:
    legacy = slice_("web", ["10.0.0.9"], name="web", legacy=True)
    two, one = slice_("web", name="b"), slice_("web", name="a")
    store = store_of(legacy, slice_("api"))
    assert store.endpoint_sets("demo", "web") == [legacy]
    store.apply(changes(two, one))
    assert store.endpoint_sets("demo", "web") == [one, two]
    store.apply([Change(two.key, None), Change(one.key, None)])
    assert store.endpoint_sets("demo", "web") == [legacy]


@given(
    st.lists(
        st.builds(
            lambda item, alive: Change(item.key, item if alive else None),
            st.builds(
                slice_,
                st.sampled_from(["web", "api"]),
                st.sampled_from([(), ("10.0.0.1",)]),
                name=st.sampled_from("abc"),
                legacy=st.booleans(),
            ),
            st.booleans(),
        )
    )
)
def test_a_service_has_just_the_sets_that_name_it(history: list[Change]) -> None:
    store = Store()
    for change in history:
        store.apply([change])
    now = {change.key: change.object for change in history}
    for name in ("web", "api"):
        sets = [
            item for item in now.values() if isinstance(item, EndpointSet) and item.service == name
        ]
        wanted = [item for item in sets if not item.legacy] or sets
        assert store.endpoint_sets("demo", name) == sorted(wanted, key=lambda item: item.key)


# Inbox


def test_the_newest_of_each_object_is_taken_once() -> None:
    inbox = Inbox(["manifests"], lambda: None)
    for port in range(100):
        inbox.publish("manifests", changes(route(port=port), service()), [])
    inbox.publish("manifests", [Change(WEB_SERVICE, None)], [])
    assert sorted(inbox.take()) == [Change(route().key, route(port=99)), Change(WEB_SERVICE, None)]
    assert inbox.take() == []


def test_an_origin_is_missing_until_it_published_even_if_nothing() -> None:
    inbox = Inbox(["routes", "services"], lambda: None)
    assert inbox.missing() == {"routes", "services"}
    inbox.publish("routes", [], [])
    inbox.publish("routes", [], [])
    assert inbox.missing() == {"services"}
    inbox.publish("services", [], [])
    assert inbox.missing() == frozenset()


def test_problems_are_those_of_the_last_publication_of_each_origin() -> None:
    inbox = Inbox(["a", "b"], lambda: None)
    first, second = (Problem(where, None, "", "broken") for where in ("one", "two"))
    inbox.publish("a", [], [first])
    inbox.publish("b", [], [second])
    before = inbox.problems()
    assert before == {"a": (first,), "b": (second,)}
    inbox.publish("a", [], [])
    assert inbox.problems() == {"a": (), "b": (second,)}
    assert before["a"] == (first,)
    # Who has looked need not look again at thousands of them.
    same = inbox.problems()
    inbox.publish("b", changes(route()), [second])
    assert inbox.problems() is same


def test_every_publication_wakes_and_has_everything_in_place_by_then() -> None:
    seen: list[tuple[int, frozenset[str]]] = []
    inbox = Inbox(["a"], lambda: seen.append((len(inbox.take()), inbox.missing())))
    inbox.publish("a", changes(route(), service()), [])
    inbox.publish("a", [], [])
    assert seen == [(2, frozenset()), (0, frozenset())]


def test_nothing_is_lost_between_a_source_and_a_reader() -> None:
    inbox = Inbox(["a"], lambda: None)
    names = [f"r{number}" for number in range(2000)]

    def publish() -> None:
        for name in names:
            inbox.publish("a", changes(route(name)), [])

    thread = threading.Thread(target=publish)
    thread.start()
    taken = []
    while thread.is_alive():
        taken += inbox.take()
    thread.join()
    taken += inbox.take()
    assert [change.key.name for change in taken] == names
