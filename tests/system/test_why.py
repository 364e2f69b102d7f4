"""`why`: each way in which a port may not work is a link that breaks, and says what to do."""

import json
import socket
from dataclasses import replace

import pytest
from cli import run_cli
from core import DENIED, POOL, units
from parts import routing_for
from stand import (
    ROUTER,
    MakeServer,
    MakeStand,
    app,
    await_,
    changes,
    converged,
    endpoint,
    route,
    running,
    service,
    slice_,
)

from sidecar.common.errors import UsageError
from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.listeners.tcp import TCPPorts, key_of, unit_of
from sidecar.model.desired import Unit
from sidecar.model.objects import EndpointSet, Route, Service, ServicePort
from sidecar.model.pool import PARKED, Address
from sidecar.reporting.explain import explain
from sidecar.reporting.explain_parts import World
from sidecar.reporting.explanation import Link, Why

GOOD = (route(), service(), slice_("web", ["10.0.0.1"]))


def slot(name: str, address: Address, state: str = "ready", *, up: bool = True) -> ObservedServer:
    return ObservedServer(name, address, state, 256, up, 5)  # type: ignore[arg-type]


def haproxy(*slots: ObservedServer, is_open: bool = True) -> dict[Unit, ObservedUnit]:
    unit, keys = unit_of(30000), frozenset({key_of(30000)} if is_open else ())
    return {unit: ObservedUnit(unit, keys, {item.name: item for item in slots})}


SERVED = haproxy(slot("s1", Address("10.0.0.1", 9000)), slot("s2", PARKED, "maint"))


def world(
    *objects: Route | Service | EndpointSet, observed: dict[Unit, ObservedUnit] | None = SERVED
) -> World:
    routing = routing_for(TCPPorts(POOL), denied=DENIED)
    routing.apply(changes(*objects))
    return World(ROUTER, POOL, routing, observed)


def broken(why: Why) -> Link:
    """The first link that breaks."""
    assert not why.works
    return next(link for link in why.links if link.mark == "bad")


@pytest.mark.parametrize("subject", ["30000", "demo/web", "web"])
def test_a_port_that_works(subject: str) -> None:
    why = explain(subject, world(*GOOD))
    assert why.works
    assert why.port == 30000
    assert [link.name for link in why.links] == [
        *("Route", "router", "port", "pool", "claim", "Service", "endpoints", "HAProxy")
    ]
    assert {link.mark for link in why.links} == {"ok"}
    assert why.links[-2].lines[0].text == "10.0.0.1:9000 pod-10.0.0.1: ready, in slot s1 (ready)"


@pytest.mark.parametrize(
    ("objects", "subject", "name", "says"),
    [
        ([], "demo/web", "Route", "no Route demo/web"),
        ([replace(GOOD[0], name="wep")], "demo/web", "Route", "did you mean demo/wep?"),
        ([route(router_name="other")], "demo/web", "router", "router 'other', but this is 'wzh-"),
        ([route(router_name=None)], "demo/web", "router", "it names no router"),
        ([route(port="x")], "demo/web", "port", "annotation is 'x'"),
        ([route(port=None)], "demo/web", "port", "annotation is missing"),
        ([route(port=40000)], "demo/web", "port", "annotation is '40000'"),
        ([], "30000", "claim", "no Route has it"),
        ([], "40000", "pool", "no pool has port 40000; available ports: 30000-30002; 31000-31001"),
        ([route(port=31000)], "31000", "claim", "no Route has it"),
        ([GOOD[0]], "demo/web", "Service", "web: ServiceNotFound"),
        ([GOOD[0], service("web", *(ServicePort(n, 1, "TCP", "") for n in "ab"))],
         "demo/web", "Service", "AmbiguousTargetPort"),
        (GOOD[:2], "30000", "endpoints", "0 of 0 can serve"),
    ],
)  # fmt: skip
def test_where_the_chain_breaks(
    objects: list[Route | Service | EndpointSet], subject: str, name: str, says: str
) -> None:
    link = broken(explain(subject, world(*objects)))
    assert link.name == name
    assert says in link.text


def test_who_else_claims_it() -> None:
    older = route("old", 30000, namespace="other", created_seconds=1.0)
    found = world(older, replace(GOOD[0], created_seconds=100000.0), *GOOD[1:])
    link = broken(explain("demo/web", found))
    assert link.name == "claim"
    assert "an older Route, other/old, has the port; this one is number 2 of 2" in link.text
    assert [line.text for line in link.lines] == [
        "1. other/old, created 1970-01-01 00:00:01 UTC, has the port",
        "2. demo/web, created 1970-01-02 03:46:40 UTC",
    ]
    assert "other/old" in explain("30000", found).links[0].text


def test_a_refused_route_is_told_at_its_port() -> None:
    link = broken(explain("31000", world(route(port=31000))))
    assert link.lines[0].text.startswith("demo/web requests it: NamespaceNotAllowed: ")


def test_each_endpoint_says_why_it_is_no_server() -> None:
    ends = [
        endpoint("10.0.0.1"),
        endpoint("10.0.0.2", ready=False),
        endpoint("10.0.0.3", ready=False, serving=False, terminating=True),
        endpoint("127.0.0.1"),
        endpoint("nonsense"),
        endpoint("10.0.0.4"),
        endpoint("10.0.0.5"),
    ]
    other = slice_("web", ["10.0.0.9"], port_name="admin", name="web-2", port=1)
    seen = haproxy(
        slot("s1", Address("10.0.0.1", 9000)), slot("s2", Address("10.0.0.5", 9000), up=False)
    )
    why = explain("30000", world(*GOOD[:2], slice_("web", ends), other, observed=seen))
    assert why.works
    link = next(link for link in why.links if link.name == "endpoints")
    assert {line.text.partition(": ")[2]: line.mark for line in link.lines} == {
        "ready, in slot s1 (ready)": "ok",
        "not ready": "bad",
        "not ready, terminating": "bad",
        "its network is in endpoints.deny": "bad",
        "not a valid IP address": "bad",
        "ready, and not in HAProxy: over capacity, or not yet programmed": "warn",
        "ready, in slot s2 (ready), but its health check fails": "warn",
        "no port matches; available ports: admin/TCP": "bad",
    }
    assert link.text == "3 of 8 can serve, from 2 EndpointSlices"


def test_what_haproxy_and_the_sidecar_say() -> None:
    def link(**changed: object) -> Link:
        found = replace(world(*GOOD), **changed)  # type: ignore[arg-type]
        return broken(explain("30000", found))

    assert link(observed=None).text == "it does not answer"
    assert "no frontend tcp-30000" in link(observed={}).text
    assert "is closed" in link(observed=haproxy(is_open=False)).text
    down = haproxy(slot("s1", Address("10.0.0.1", 9000), up=False))
    assert "0 of 1 servers take connections" in link(observed=down).text
    assert "health checks" in link(observed=down).remedy
    said = "HAProxy answered 'Frontend was previously shut down, cannot enable.' to it"
    refused = {unit_of(30000): said}
    shut = link(observed=haproxy(is_open=False), failures=refused)
    assert shut.remedy == "only restarting HAProxy restores it"
    other = link(observed=haproxy(is_open=False), failures={unit_of(30000): "no"})
    assert other.remedy.startswith("see the sidecar's error below")
    assert link(failures={unit_of(30000): "no"}).text == "cannot reconcile it: no"
    held = explain("30000", replace(world(*GOOD), held=units(30000)))
    assert held.works
    assert held.links[-1].remedy == "haproxy-sidecar release 30000"


def test_a_port_that_another_process_has(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand, server = make_stand(), make_server()
    with running(stand.daemon()) as daemon, socket.socket() as squatter:
        converged(daemon)
        # A paused port stays bound; only who uses SO_REUSEADDR as HAProxy does can take it.
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind((stand.ip, 30000))
        squatter.listen()
        stand.write("web.yaml", *app("web", 30000, [server]))
        await_(lambda: daemon.reconciler.known.failures, "it cannot be opened")
        told = run_cli("why", "30000", "-c", stand.settings_file)
        assert told.code == 1
        words = " ".join(told.out.split())
        assert "frontend tcp-30000 is closed" in words
        assert "\N{RIGHTWARDS ARROW} HAProxy: another process may be using its address" in words
        assert "as soon as a server is ready" not in words

        def tried_again() -> bool:
            failure = daemon.reconciler.known.failures.get(unit_of(30000))
            assert failure, "it passes for done, and is not"
            return bool(failure.attempts > 2)

        await_(tried_again, "it is tried again")
        squatter.close()
        # As it says: by itself.
        await_(lambda: not stand.is_refused(30000), "it opens")
        await_(lambda: run_cli("why", "30000", "-c", stand.settings_file).code == 0, "it works")


@pytest.mark.parametrize("subject", ["", "nobody", "a/b/c", "/x", "x/", "<b>"])
def test_what_is_no_subject(subject: str) -> None:
    with pytest.raises(UsageError, match="write a port or NAMESPACE/ROUTE"):
        explain(subject, world(*GOOD))


def test_a_name_that_several_routes_have() -> None:
    with pytest.raises(UsageError, match="demo/web, team-a/web"):
        explain("web", world(route(), route(namespace="team-a")))


def test_of_a_running_sidecar_and_without(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand, server = make_stand(), make_server()
    ours = ("-c", stand.settings_file)
    stand.write("web.yaml", *app("web", 30000, [server]))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        good = run_cli("why", "demo/web", *ours)
        assert (good.code, good.err) == (0, "")
        assert "it works" in good.out
        assert "set server be_tcp-30000/s1 state ready" in good.out
        assert "Route demo/web was added" in good.out
        assert max(map(len, good.out.splitlines())) < 300, "nothing is filled up with blanks"
        report = json.loads(run_cli("why", "30000", "--json", *ours).out)
        assert (report["asked"], report["why"]["port"]) == ("sidecar", 30000)
        assert report["operations"][0]["command"] == "set server be_tcp-30000/s1 state ready"
        bad = run_cli("why", "30001", *ours)
        assert bad.code == 1
        assert 'a Route gets it with the port annotation "30001"' in bad.out
        assert run_cli("why", "nobody", *ours).code == 2
        told = run_cli("history", "30000", *ours)
        assert told.out.splitlines()[-1].split()[2:5] == ["set", "server", "be_tcp-30000/s1"]
        assert run_cli("history", "--json", *ours).code == 0
    offline = run_cli("why", "30000", *ours)
    assert offline.code == 0
    assert offline.out.startswith("no running sidecar; read from HAProxy and the source: ")
    assert run_cli("why", "nobody", *ours).code == 2
    assert run_cli("history", *ours).code == 3
    stand.stop_haproxy()
    away = run_cli("why", "30000", *ours)
    assert away.code == 1
    assert "HAProxy's Runtime API at" in away.out
