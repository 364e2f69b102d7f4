"""The source `kubernetes` against an API server with bad days."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from follow import PATIENCE_SECONDS, Recorder, World
from kube import GONE, GONE_EVENT, FakeAPI, Fault
from shapes import KEYS
from stand import await_, await_told, route_manifest, service_manifest, slice_manifest

from sidecar.common.errors import SourceError
from sidecar.kube.client import KubeClient
from sidecar.model.objects import Key, ServiceAddresses
from sidecar.sources.kubernetes.source import KubernetesSource, Scope

ROUTES = "/apis/route.openshift.io/v1/routes"


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with FakeAPI() as api:
        api.apply(
            route_manifest("web", 30000),
            service_manifest("web"),
            slice_manifest("web", ["10.0.0.1"]),
        )
        yield api


@pytest.fixture
def world(api: FakeAPI) -> Iterator[World]:
    world = World(api)
    yield world
    world.close()


def briefly(fault: Fault) -> str:
    """What is not as it is without the fault."""
    usual = Fault()
    found = {name: getattr(fault, name) for name in ("status", "drop", "body", "lines", "then")}
    return ",".join(
        f"{name}={str(value)[:30]}"
        for name, value in found.items()
        if value != getattr(usual, name)
    )


def many(count: int) -> list[dict[str, Any]]:
    return [route_manifest(f"r{number:04d}", 30001) for number in range(count)]


def test_follows_what_is_there_and_what_happens(world: World) -> None:
    world.start().synced()
    world.await_names("web")
    world.await_names("web", kind="Service")
    assert len(world.sink.names("EndpointSlice")) == 1
    world.api.apply(route_manifest("other", 30001))
    world.await_names("web", "other")
    world.api.apply(route_manifest("other", 30002))
    world.await_port(30002, "other")
    world.api.delete(route_manifest("web", 30000))
    world.await_names("other")
    world.await_names("other", kind="RouteStatus")
    [watch] = world.api.asked("watch", "routes")
    assert 300 <= int(watch.query["timeoutSeconds"]) <= 600
    assert watch.query["allowWatchBookmarks"] == "true"


def test_lists_page_by_page(world: World) -> None:
    world.api.apply(*many(1100))
    world.start().synced()
    assert len(world.sink.names("Route")) == 1101
    lists = world.api.asked("list", "routes")
    assert [request.query["limit"] for request in lists] == ["500"] * 3
    assert ["continue" in request.query for request in lists] == [False, True, True]


@pytest.mark.parametrize(
    ("times", "limits"),
    [(1, ["500", "500", "500", "500"]), (2, ["500", "500", "500", "500", None])],
)
def test_pages_that_expire_are_listed_anew_at_once(
    world: World, times: int, limits: list[str | None]
) -> None:
    world.api.apply(*many(600))
    world.api.fault(
        GONE, verb="list", plural="routes", times=times, when=lambda r: "continue" in r.query
    )
    world.start().synced()
    assert len(world.sink.names("Route")) == 601
    # All at once only when there is no other way: it is many megabytes.
    lists = world.api.asked("list", "routes")
    assert [request.query.get("limit") for request in lists] == limits


def test_a_watch_that_ends_is_resumed_from_where_it_was(world: World) -> None:
    world.start().synced()
    world.api.apply(route_manifest("web", 30005))
    world.await_port(30005)
    for number, how in enumerate(("eof", "break", "eof")):
        before = len(world.api.asked("watch", "routes"))
        world.api.end_watches("routes", how)
        world.api.apply(route_manifest("web", 30001 + number))
        world.await_port(30001 + number)
        await_(
            lambda before=before: len(world.api.asked("watch", "routes")) > before,
            "resumed",
            PATIENCE_SECONDS,
        )
    assert len(world.api.asked("list", "routes")) == 1
    assert world.sink.removed == []
    assert world.counted("haproxy_sidecar_source_lists_total") == 1
    assert world.counted("haproxy_sidecar_source_watches_total") >= 4
    assert world.counted("haproxy_sidecar_source_watches_total", "services") == 1
    heard = world.counted("haproxy_sidecar_source_heard_timestamp_seconds")
    assert 0 <= time.time() - heard < PATIENCE_SECONDS


def test_silence_is_a_dead_peer(world: World) -> None:
    world.api.fault(Fault(then="silence"), verb="watch", plural="routes")
    world.start(silence_seconds=0.5).synced()
    world.api.apply(route_manifest("web", 30007))
    world.await_port(30007)
    assert len(world.api.asked("list", "routes")) == 1


def test_a_bookmark_moves_the_place_to_resume_from(world: World) -> None:
    world.start().synced()
    world.api.apply(service_manifest("elsewhere"))
    world.await_names("web", "elsewhere", kind="Service")
    world.api.bookmark("routes")
    world.api.compact()
    world.api.apply(route_manifest("other", 30001))
    world.await_names("web", "other")
    world.api.end_watches("routes")
    await_(lambda: len(world.api.asked("watch", "routes")) == 2, "resumed", PATIENCE_SECONDS)
    first, second = world.api.asked("watch", "routes")
    assert int(second.query["resourceVersion"]) > int(first.query["resourceVersion"])
    assert len(world.api.asked("list", "routes")) == 1


@pytest.mark.parametrize("in_stream", [False, True])
def test_410_means_a_new_list_and_what_vanished_goes(world: World, in_stream: bool) -> None:
    world.api.gone_in_stream = in_stream
    world.api.apply(route_manifest("gone", 30001))
    world.start().synced()
    world.await_names("web", "gone")
    # No event of it ever comes: the server was away, and has forgotten when it is back.
    world.api.stop()
    world.api.delete(route_manifest("gone", 30001))
    world.api.apply(route_manifest("new", 30002))
    world.api.compact()
    world.api.start()
    world.await_names("web", "new")
    assert [key for key in world.sink.removed if key.kind == "Route"] == [
        Key("Route", "demo", "gone")
    ]
    assert len(world.api.asked("list", "routes")) == 2


@pytest.mark.parametrize(
    "fault",
    [
        GONE_EVENT,
        Fault(lines=b'{"type":"ADDED","object":{"meta', then="break"),
        Fault(lines=b'{"type":"ADDED","object":{"meta', then="eof"),
        Fault(lines=b'{"type":"ADDED","object":{"meta\n'),
        Fault(lines=b'{"type":"ERROR","object":{"kind":"Status","code":500,"message":"x"}}\n'),
        Fault(then="eof"),
        Fault(then="break"),
        Fault(drop=True),
        Fault(status=500),
        Fault(status=503, headers={"Retry-After": "1"}),
        Fault(status=429, headers={"Retry-After": "1"}),
        Fault(status=403, reason="Forbidden"),
        Fault(status=404, body=b"404 page not found"),
        Fault(status=410),
        Fault(status=200, body=b"<html>"),
        Fault(slow_seconds=0.01, lines=b"\n"),
    ],
    ids=briefly,
)
def test_a_watch_that_fails_costs_no_object(world: World, fault: Fault) -> None:
    world.api.fault(fault, verb="watch", plural="routes", times=2)
    world.start()
    world.await_names("web")
    world.api.apply(route_manifest("web", 30009), route_manifest("other", 30001))
    world.await_port(30009)
    world.await_names("web", "other")
    assert world.sink.removed == []
    await_(lambda: world.sink.told("routes") == "", "no trouble is left", PATIENCE_SECONDS)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(drop=True),
        Fault(status=500),
        Fault(status=429, headers={"Retry-After": "1"}),
        Fault(status=403),
        Fault(status=404, body=b"404 page not found"),
        Fault(status=410),
        Fault(status=200, body=b"<html>"),
        Fault(status=200, body=b'{"kind":"RouteList","metadata":{},"items":[]}'),
        Fault(status=200, body=b'{"metadata":{"resourceVersion":"1"},"items":{"a":1}}'),
        Fault(slow_seconds=0.005),
    ],
    ids=briefly,
)
def test_a_list_that_fails_publishes_nothing(world: World, fault: Fault) -> None:
    world.api.fault(fault, verb="list", plural="routes", times=2)
    world.start()
    await_(lambda: "services" in world.sink.problems, "the others synced", PATIENCE_SECONDS)
    await_(lambda: "routes" in world.sink.problems, "routes synced", PATIENCE_SECONDS)
    assert world.sink.names("Route") == {"web"}


def test_retry_after_is_honoured(world: World) -> None:
    world.api.fault(Fault(status=429, headers={"Retry-After": "600"}), verb="list", plural="routes")
    world.start()
    await_(lambda: len(world.api.asked("watch")) == 2, "the others watch", PATIENCE_SECONDS)
    world.api.apply(service_manifest("later"))
    world.await_names("web", "later", kind="Service")
    assert len(world.api.asked("list", "routes")) == 1


def test_doubled_events_change_nothing_twice(world: World) -> None:
    world.api.repeats = 3
    world.start().synced()
    before = world.sink.changes
    world.api.apply(route_manifest("web", 30003))
    world.await_port(30003)
    world.api.apply(service_manifest("last"))
    world.await_names("web", "last", kind="Service")
    # The Route and its status, whose resourceVersion is new, and the Service.
    assert world.sink.changes == before + 3


def test_missed_events_are_made_good_by_the_next_list(world: World) -> None:
    world.start().synced()
    world.api.apply(route_manifest("unseen", 30001), silently=True)
    world.api.delete(route_manifest("web", 30000), silently=True)
    world.api.apply(route_manifest("seen", 30002))
    world.await_names("web", "seen")
    world.api.apply(service_manifest("elsewhere"))
    world.api.compact()
    world.api.end_watches("routes")
    world.await_names("unseen", "seen")


def test_away_the_last_known_state_stays_and_is_said(world: World) -> None:
    world.start().synced()
    world.api.stop()
    # At first it may be a connection that was broken.
    world.await_told("Connection refused")
    told = world.sink.told("routes")
    assert told.startswith(f"{ROUTES}: cannot be watched since 2")
    assert "keeping the last known state" in told
    assert world.sink.names("Route") == {"web"}
    world.api.apply(route_manifest("web", 30004))
    world.api.start()
    world.await_port(30004)
    await_(lambda: world.sink.told("routes") == "", "mended", PATIENCE_SECONDS)
    assert world.sink.removed == []


def test_a_role_that_lacks_a_verb_is_named(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.api.forbidden.add(("list", "endpointslices"))
    with pytest.raises(SourceError, match="403") as caught:
        world.source().load(Recorder())
    needs = 'apiGroups ["discovery.k8s.io"], resources ["endpointslices"], verbs ["list", "watch"]'
    assert needs in str(caught.value)
    caplog.set_level(logging.WARNING)
    world.start()
    await_told(caplog, needs)
    assert "endpointslices" not in world.sink.problems
    world.api.forbidden.clear()
    world.synced()


def test_without_the_route_api_it_waits_and_says_so_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.api.missing.add("/apis/route.openshift.io/v1")
    with pytest.raises(SourceError, match=r"does not serve route\.openshift\.io/v1: install it"):
        world.source().load(Recorder())
    caplog.set_level(logging.WARNING)
    world.start()
    await_(lambda: len(world.api.asked("list", "routes")) >= 4, "it tries again", PATIENCE_SECONDS)
    # An API that is away for a moment may look the same: this is not "no Routes".
    assert "routes" not in world.sink.problems
    assert len([r for r in caplog.records if "does not serve" in r.getMessage()]) == 1
    world.api.missing.clear()
    world.synced()
    world.await_names("web")


def test_a_route_api_that_vanishes_removes_no_route(world: World) -> None:
    world.start().synced()
    world.api.missing.add("/apis/route.openshift.io/v1")
    world.api.end_watches("routes")
    world.await_told("does not serve")
    assert world.sink.names("Route") == {"web"}


def test_a_wrong_object_is_a_problem_of_its_own(world: World) -> None:
    world.api.apply(route_manifest("bad", 30001) | {"spec": {"to": "x"}})
    world.start().synced()
    world.await_names("web")
    assert f"{ROUTES}: Route demo/bad: spec.to: " in world.sink.told("routes")
    assert "ignored until fixed" in world.sink.told("routes")
    world.api.apply(route_manifest("bad", 30001))
    world.await_names("web", "bad")
    assert world.sink.told("routes") == ""
    world.api.apply(route_manifest("bad", 30001) | {"spec": {"to": "x"}})
    world.await_told("keeping its last good version")
    assert world.sink.names("Route") == {"web", "bad"}
    world.api.delete(route_manifest("bad", 30001))
    world.await_names("web")
    await_(lambda: world.sink.told("routes") == "", "no problem is left")


def test_a_status_comes_with_its_route(world: World) -> None:
    status = {"ingress": [{"routerName": "default", "host": "x"}]}
    world.start().synced()
    world.api.apply(route_manifest("web", 30000) | {"status": status})

    def found() -> bool:
        item = world.sink.objects[Key("RouteStatus", "demo", "web")]
        return [entry.router_name for entry in getattr(item, "ingress", ())] == ["default"]

    await_(found, "the status is known", PATIENCE_SECONDS)


def in_namespace(namespace: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "labels": labels},
    }


def edge_manifest() -> dict[str, Any]:
    """The Service in front of the router."""
    return {
        **service_manifest("edge", namespace="ingress"),
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}},
    }


def test_the_routers_own_service_is_followed_outside_of_the_namespaces(world: World) -> None:
    edge = edge_manifest()
    world.api.apply(
        edge,
        slice_manifest("edge", ["10.0.0.9"], namespace="ingress"),
        service_manifest("other", namespace="ingress"),
        slice_manifest("other", ["10.0.0.8"], namespace="ingress"),
    )
    world.start(namespaces=("demo",), published=("ingress", "edge")).synced(
        *(f"{plural} in demo" for plural in ("routes", "services", "endpointslices")),
        *(f"{plural} in ingress" for plural in ("services", "endpointslices")),
    )
    world.await_names("web", "edge", kind="Service")
    world.await_names("web-1", "edge-1", kind="EndpointSlice")
    key = Key("ServiceAddresses", "ingress", "edge")

    def await_addresses(*expected: str) -> None:
        def are_there() -> bool:
            found = world.sink.objects.get(key)
            return isinstance(found, ServiceAddresses) and found.addresses == expected

        await_(are_there, f"{key}: {expected}", PATIENCE_SECONDS)

    await_addresses("203.0.113.9")
    asked = [request for request in world.api.asked("list") if "/ingress/" in request.path]
    assert {next(iter(request.query.items())) for request in asked} == {
        ("fieldSelector", "metadata.name=edge"),
        ("labelSelector", "kubernetes.io/service-name=edge"),
    }
    world.api.apply({**edge, "spec": {**edge["spec"], "externalIPs": ["192.0.2.9"]}})
    await_addresses("192.0.2.9", "203.0.113.9")
    # The source may program without them: a Role that lacks them is no reason to wait.
    assert all(
        "ingress" not in origin
        for origin in world.source(namespaces=("demo",), published=("ingress", "edge")).origins
    )


def test_the_routers_own_service_among_all_takes_no_watch_of_its_own(world: World) -> None:
    world.api.apply(edge_manifest())
    world.start(published=("ingress", "edge")).synced()
    world.await_names("edge", kind="ServiceAddresses")
    assert world.api.watching() == 3
    world.api.delete(edge_manifest())
    world.await_names(kind="ServiceAddresses")


def test_only_the_namespaces_that_are_named(world: World) -> None:
    for namespace in ("a", "b", "c"):
        world.api.apply(route_manifest(f"in-{namespace}", 30001, namespace=namespace))
    source = world.source(namespaces=("a", "b"))
    assert source.origins[:3] == ("routes in a", "routes in b", "services in a")
    world.start(namespaces=("a", "b")).synced(*source.origins)
    world.await_names("in-a", "in-b")
    world.api.apply(route_manifest("also", 30002, namespace="b"))
    world.await_names("in-a", "in-b", "also")
    assert all("/namespaces/" in request.path for request in world.api.requests)


def test_a_namespace_that_no_longer_matches_loses_its_routes(world: World) -> None:
    world.api.apply(in_namespace("demo", team="edge"), in_namespace("b", team="other"))
    world.api.apply(route_manifest("in-b", 30001, namespace="b"))
    world.start(namespace_labels="team=edge").synced("namespaces", "routes")
    world.await_names("web")
    world.await_names("web", kind="RouteStatus")
    world.api.apply(in_namespace("b", team="edge"))
    world.await_names("web", "in-b")
    world.api.apply(in_namespace("demo", team="x"))
    world.await_names("in-b")
    world.api.apply(route_manifest("unseen", 30002), route_manifest("new", 30003, namespace="b"))
    world.await_names("in-b", "new")
    world.api.delete(in_namespace("b"))
    world.await_names()
    world.await_names("web", kind="Service")


def test_routers_share_the_routes_out_by_selectors(world: World) -> None:
    a, b = route_manifest("a", 30001), route_manifest("b", 30002)
    a["metadata"]["labels"] = {"shard": "1"}
    a["spec"]["host"] = "x"
    world.api.apply(a, b)
    world.start(route_labels="shard in (1, 2)", route_fields="spec.host=x").synced()
    world.await_names("a")
    a["spec"]["host"] = "y"
    world.api.apply(a)
    world.await_names()


def test_v1_endpoints_instead_of_slices(world: World) -> None:
    legacy = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "web", "namespace": "demo"},
        "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}],
    }
    world.api.apply(legacy)
    world.start(endpoints="endpoints").synced("routes", "services", "endpoints")
    world.await_names("web", kind="Endpoints")
    assert world.api.asked(plural="endpointslices") == []


def test_slices_of_no_service_are_not_asked_for(world: World) -> None:
    orphan = slice_manifest("orphan", ["10.0.0.2"])
    del orphan["metadata"]["labels"]
    world.api.apply(orphan)
    world.start().synced()
    assert world.sink.problems["endpointslices"] == []
    assert len(world.sink.names("EndpointSlice")) == 1


@pytest.mark.parametrize("hangs", [False, True])
def test_stops_promptly(world: World, hangs: bool) -> None:
    if hangs:
        world.api.fault(Fault(hang=True), times=3)
    stop, source = threading.Event(), world.source()
    thread = threading.Thread(target=source.run, args=(world.sink, stop), daemon=True)
    thread.start()
    if hangs:
        await_(lambda: len(world.api.requests) == 3, "asked")
    else:
        world.synced()
    stop.set()
    thread.join(15)
    assert not thread.is_alive()
    before = world.sink.changes
    world.api.apply(route_manifest("late", 30001))
    assert world.sink.changes == before


def test_load_reads_everything_once(world: World) -> None:
    sink = Recorder()
    source = world.source()
    source.load(sink)
    assert set(sink.problems) == set(source.origins)
    assert {key.kind for key in sink.objects} == {
        *("Route", "RouteStatus", "Service", "EndpointSlice")
    }
    assert world.api.asked("watch") == []


def test_a_kubeconfig_is_enough(api: FakeAPI, tmp_path: Path) -> None:
    api.token = "secret"
    client = KubeClient.from_environment(api.kubeconfig(tmp_path / "config"), "fake")
    sink = Recorder()
    KubernetesSource(client, KEYS, Scope()).load(sink)
    assert sink.names("Route") == {"web"}
    client.close()
