"""A cluster's Routes through a real HAProxy and back to their authors."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from by_host import WebStand, host_app
from drive import Intercept
from kube import FakeAPI, Fault, Request
from stand import (
    EchoServer,
    MakeServer,
    MakeStand,
    app,
    await_,
    await_leads_to,
    route_manifest,
    running,
)

from sidecar.cli.context import make_source
from sidecar.cli.reporting import make_reporter
from sidecar.common.metrics import Metrics
from sidecar.daemon.loop import Daemon
from sidecar.settings.schema import Settings

PORT = 30000
WAIT_SECONDS = 40.0
UNSAID = ("", "", "")
KEPT_PORT = "haproxy-sidecar/port"


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with FakeAPI() as server:
        yield server


@pytest.fixture
def cluster(api: FakeAPI, tmp_path: Path) -> dict[str, Any]:
    """The settings of a sidecar of this cluster."""
    config = api.kubeconfig(tmp_path / "kubeconfig")
    return {
        "source": {"kind": "kubernetes", "kubeconfig": str(config)},
        "http": {"listen": None},
    }


@contextlib.contextmanager
def sidecar(settings: Settings) -> Iterator[Daemon]:
    """As `run` makes it, in a pod of the namespace ``ingress``."""
    metrics = Metrics()
    reporter = make_reporter(settings, metrics, {"POD_NAMESPACE": "ingress"})
    daemon = Daemon(settings, make_source(settings), reporter=reporter, metrics=metrics)
    with running(daemon):
        yield daemon


def web(server: EchoServer, port: object = PORT, **more: Any) -> tuple[dict[str, Any], ...]:
    return app("web", port, [server], created="2026-01-02T00:00:00Z", **more)


def says(api: FakeAPI, name: str = "web") -> tuple[str, str, str] | None:
    """Status, reason and message of the only entry."""
    entries = api.get(route_manifest(name)).get("status", {}).get("ingress", [])
    if not entries:
        return None
    assert len(entries) == 1
    condition = entries[0]["conditions"][0]
    return condition["status"], condition["reason"], condition["message"]


def await_says(api: FakeAPI, expected: tuple[str, str, str] | None, name: str = "web") -> None:
    def is_said() -> bool:
        return says(api, name) == expected

    await_(is_said, f"{name}: {expected}, not {says(api, name)}", WAIT_SECONDS)


def await_event(api: FakeAPI, reason: str, name: str = "web") -> None:
    def is_told() -> bool:
        return any(
            item["reason"] == reason and item["involvedObject"]["name"] == name
            for item in api.all("/api/v1", "events")
        )

    await_(is_told, f"{name}: the Event {reason}", WAIT_SECONDS)


def admitted(port: int = PORT) -> tuple[str, str, str]:
    return "True", "Admitted", f"port {port}"


def test_a_route_is_admitted_only_after_haproxy_was_read_back(
    make_stand: MakeStand,
    make_server: MakeServer,
    api: FakeAPI,
    cluster: dict[str, Any],
    files: contextlib.ExitStack,
) -> None:
    stand, server = make_stand(**cluster), make_server()
    api.apply(*web(server))
    held, go = threading.Event(), threading.Event()
    files.callback(go.set)

    def before(command: str) -> None:
        if command.startswith(f"set server be_tcp-{PORT}/"):
            held.set()
            go.wait(30)

    relay = Intercept(stand.folder / "relay.sock", stand.settings.haproxy.socket, before)
    files.callback(relay.close)
    # What HAProxy shows when it is said that it does.
    shown: list[bool] = []

    def look(request: Request) -> bool:
        if request.path.endswith("/status"):
            shown.append(stand.port(PORT).open and stand.ready(PORT) == [server.address])
        return False

    api.fault(Fault(), when=look)
    haproxy = stand.settings.haproxy.model_copy(update={"socket": relay.path, "timeout": 40.0})
    with sidecar(stand.settings.model_copy(update={"haproxy": haproxy})):
        await_(held.is_set, "its servers are about to be set", WAIT_SECONDS)
        await_(lambda: api.all("/apis/coordination.k8s.io/v1", "leases"), "it leads", WAIT_SECONDS)
        assert says(api) is None
        assert not api.asked("patch")
        go.set()
        await_says(api, admitted())
        await_event(api, "PortOpened")
    assert shown == [True]


def test_nothing_is_admitted_while_haproxy_is_away(
    make_stand: MakeStand, make_server: MakeServer, api: FakeAPI, cluster: dict[str, Any]
) -> None:
    stand, server = make_stand(**cluster), make_server()
    stand.stop_haproxy()
    api.apply(*web(server), route_manifest("bad", "x"))
    with sidecar(stand.settings):
        await_(
            lambda: (says(api, "bad") or UNSAID)[1] == "InvalidPort", "bad is told", WAIT_SECONDS
        )
        assert says(api) is None
        stand.start_haproxy()
        await_says(api, admitted())
        stand.stop_haproxy()
        # What was said stays: nothing is known of it, and it will be back.
        # The Route last, or it would be refused for its Service.
        api.apply(*reversed(app("second", PORT + 1, [server])), route_manifest("bad", "y"))
        await_(lambda: "'y'" in (says(api, "bad") or UNSAID)[2], "bad is told anew", WAIT_SECONDS)
        assert says(api) == admitted()
        assert says(api, "second") is None
        stand.start_haproxy()
        await_says(api, admitted(PORT + 1), "second")


def test_what_becomes_of_a_route_is_told_as_it_changes(
    make_stand: MakeStand, make_server: MakeServer, api: FakeAPI, cluster: dict[str, Any]
) -> None:
    stand, server = make_stand(**cluster), make_server()
    route, *rest = web(server)
    api.apply(route, *rest)
    with sidecar(stand.settings):
        await_says(api, admitted())
        await_leads_to(stand, PORT, server)
        old = app("old", PORT, [server], created="2026-01-01T00:00:00Z")
        api.apply(*old)
        await_says(api, admitted(), "old")
        await_(lambda: (says(api) or UNSAID)[0] == "False", "it lost its port", WAIT_SECONDS)
        told = says(api)
        assert told is not None
        assert told[1] == "PortAlreadyClaimed"
        assert "an older Route" in told[2]
        await_event(api, "PortDisplaced")
        api.delete(old[0])
        await_says(api, admitted())
        status = api.get(route)["status"]
        api.apply({**route_manifest("web", PORT, router_name="another"), "status": status})
        await_says(api, None)
        await_(lambda: stand.is_refused(PORT), "the port is closed", WAIT_SECONDS)


def test_a_route_without_servers_and_one_with_too_many(
    make_stand: MakeStand, make_server: MakeServer, api: FakeAPI, cluster: dict[str, Any]
) -> None:
    stand = make_stand(limits={"max_servers": 1}, **cluster)
    a, b = make_server(), make_server()
    route, service, slice_ = app("web", PORT, [a, b])
    api.apply(route, service, slice_)
    with sidecar(stand.settings):
        crowded = "port 30000: 1 endpoint skipped: over the router's capacity"
        await_says(api, ("True", "OverCapacity", crowded))
        await_event(api, "PortOpened")
        await_event(api, "OverCapacity")
        api.apply({**slice_, "endpoints": []})
        await_(lambda: (says(api) or UNSAID)[:2] == ("True", "NoEndpoints"), "closed", WAIT_SECONDS)


def test_a_port_that_haproxy_cannot_do_is_not_admitted(
    make_stand: MakeStand, make_server: MakeServer, api: FakeAPI, cluster: dict[str, Any]
) -> None:
    stand, server = make_stand(**cluster), make_server()
    api.apply(*web(server, 31000))
    # HAProxy runs on a haproxy.cfg of before.
    pools = [item.model_copy(update={"ports": (30000, 31000)}) for item in stand.settings.pools]
    with sidecar(stand.settings.model_copy(update={"pools": tuple(pools)})):
        await_(
            lambda: (says(api) or UNSAID)[:2] == ("False", "NotProgrammed"), "said", WAIT_SECONDS
        )
        told = says(api)
        assert told is not None
        assert "HAProxy has no frontend tcp-31000" in told[2]


def test_replicas_agree_on_auto_ports_and_one_of_them_writes(
    make_stand: MakeStand,
    make_server: MakeServer,
    api: FakeAPI,
    cluster: dict[str, Any],
    files: contextlib.ExitStack,
) -> None:
    one, two, server = make_stand(**cluster), make_stand(**cluster), make_server()
    with contextlib.ExitStack() as life:
        first = life.enter_context(sidecar(one.settings))
        second = files.enter_context(sidecar(two.settings))
        await_(lambda: leads(first) + leads(second) == 1, "one of them leads", WAIT_SECONDS)
        api.apply(*web(server, "auto"))
        for stand in (one, two):
            await_leads_to(stand, PORT, server, WAIT_SECONDS)
        await_says(api, admitted())
        assert api.get(route_manifest())["metadata"]["annotations"][KEPT_PORT] == str(PORT)
        assert len([r for r in api.asked("patch") if not r.path.endswith("/status")]) == 1
        assert leads(first) + leads(second) == 1
    # The first is gone, whichever led: an older claim moves the port, and it is written.
    await_(lambda: leads(second), "the second leads", WAIT_SECONDS)
    old = app("old", PORT, [make_server("old")], created="2026-01-01T00:00:00Z")
    api.apply(*old)
    await_leads_to(two, PORT + 1, server, WAIT_SECONDS)
    await_says(api, admitted(PORT + 1))
    await_says(api, admitted(), "old")


def leads(daemon: Daemon) -> bool:
    return daemon.metrics.registry.get_sample_value("haproxy_sidecar_leader") == 1.0


def test_a_leader_that_drives_on_through_its_grace_time_writes_no_more(
    make_stand: MakeStand,
    make_server: MakeServer,
    api: FakeAPI,
    cluster: dict[str, Any],
    files: contextlib.ExitStack,
) -> None:
    one, two, server = make_stand(**cluster), make_stand(**cluster), make_server()
    api.apply(*web(server))
    first = files.enter_context(sidecar(one.settings))
    await_(lambda: leads(first), "the first leads", WAIT_SECONDS)
    await_says(api, admitted())
    second = files.enter_context(sidecar(two.settings))
    await_leads_to(two, PORT, server, WAIT_SECONDS)
    first.leave()
    api.apply(*app("next", PORT + 1, [server]))
    # A candidate looks every 2 s and some; the rest is for a busy machine.
    await_(lambda: says(api, "next") == admitted(PORT + 1), "the other writes", 6.0)
    assert leads(second)
    assert not leads(first)
    # It still follows what happens, for as long as its HAProxy has sessions.
    await_leads_to(one, PORT + 1, server, WAIT_SECONDS)


def test_a_restarted_sidecar_writes_nothing_that_stands_there(
    make_stand: MakeStand, make_server: MakeServer, api: FakeAPI, cluster: dict[str, Any]
) -> None:
    stand, server = make_stand(**cluster), make_server()
    # What it needs is there before: its Service may be heard of later than the Route, and said.
    last, *needed = app("last", PORT + 5, [server])
    api.apply(*web(server, "auto"), *app("bad", "x", []), *needed)
    with sidecar(stand.settings):
        await_says(api, admitted())
        await_event(api, "PortOpened")
        await_event(api, "InvalidPort", "bad")
    written = len(api.asked("patch") + api.asked("create", "events"))
    with sidecar(stand.settings) as daemon:
        await_(lambda: leads(daemon), "it leads", WAIT_SECONDS)
        # Whatever else there was to say would have been said before this.
        api.apply(last)
        await_says(api, admitted(PORT + 5), "last")
        await_event(api, "PortOpened", "last")
    assert len(api.asked("patch") + api.asked("create", "events")) == written + 2


def test_a_route_by_host_is_told_its_effective_host(
    make_stand: MakeStand, make_server: MakeServer, api: FakeAPI, cluster: dict[str, Any]
) -> None:
    by_host = WebStand.make(make_stand, cluster, wildcards=True, domain="apps.example")
    server = make_server()
    route, *rest = host_app("web", "", [server])
    route["spec"] = {"subdomain": "shop", "to": {"kind": "Service", "name": "web"}}
    route["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    young = host_app("young", "shop.apps.example", [server], created="2026-01-03T00:00:00Z")
    wide = host_app("wide", "www.wide.example", [server], wildcard=True)
    api.apply(route, *rest, *young, *wide)
    with sidecar(by_host.stand.settings):
        await_says(api, ("True", "Admitted", "host shop.apps.example"))
        await_says(api, ("True", "Admitted", "host *.wide.example"), "wide")
        await_(lambda: (says(api, "young") or UNSAID)[1] == "HostAlreadyClaimed", "young is told")
        await_event(api, "HostServed")
        for name, host, policy in (
            ("web", "shop.apps.example", "None"),
            ("wide", "www.wide.example", "Subdomain"),
        ):
            (entry,) = api.get(route_manifest(name))["status"]["ingress"]
            assert (entry["host"], entry["wildcardPolicy"]) == (host, policy)
