"""What is kept of a Route's status, apart from the Route."""

import json
from typing import Any

import pytest
from parts import routing_for
from shapes import KEYS, route
from stand import ROUTER, changes, pool_of
from stand import route as model_route

from sidecar.listeners.tcp import TCPPorts, unit_of
from sidecar.model.objects import IngressCondition, Route, RouteIngress, RouteStatus
from sidecar.model.parsing import INGRESS_MAX_CHARACTERS, project, project_status
from sidecar.routing.store import Store

THEIRS = {"routerName": "default", "host": "web.example.com", "wildcardPolicy": "None"}
OURS = {
    "routerName": ROUTER,
    "conditions": [
        {
            "type": "Admitted",
            "status": "True",
            "reason": "Admitted",
            "message": "port 30000",
            "lastTransitionTime": "2024-01-01T00:00:00Z",
        }
    ],
}


def route_with(status: Any) -> dict[str, Any]:
    return {
        **route(namespace="demo", uid="u1", resourceVersion="7"),
        "status": status,
    }


def test_a_status_is_kept_whole_and_can_be_read() -> None:
    status = project_status(route_with({"ingress": [THEIRS, OURS]}))
    assert (status.uid, status.resource_version) == ("u1", "7")
    assert status.ingress_json is not None
    assert json.loads(status.ingress_json) == [THEIRS, OURS]
    condition = IngressCondition(
        "Admitted", "True", "Admitted", "port 30000", "2024-01-01T00:00:00Z"
    )
    assert status.ingress == (
        RouteIngress("default", "web.example.com", ()),
        RouteIngress(ROUTER, "", (condition,)),
    )


@pytest.mark.parametrize("status", [None, [], "x", {}, {"ingress": None}, {"ingress": {"a": 1}}])
def test_an_odd_status_is_an_empty_one(status: Any) -> None:
    assert project_status(route_with(status)).ingress_json == "[]"


def test_odd_entries_are_kept_and_not_read() -> None:
    odd = [1, {"routerName": 2, "conditions": [3, {"type": None}]}]
    status = project_status(route_with({"ingress": odd}))
    assert json.loads(status.ingress_json or "") == odd
    assert status.ingress == (RouteIngress("", "", (IngressCondition("", "", "", "", ""),)),)


def test_a_huge_status_is_not_kept() -> None:
    huge = [{"routerName": "x" * INGRESS_MAX_CHARACTERS}]
    status = project_status(route_with({"ingress": huge}))
    assert status.ingress_json is None
    assert status.ingress == ()


def test_the_port_that_was_given_is_an_annotation() -> None:
    kept = project(route(annotations={"haproxy-sidecar/port": "30001"}), KEYS)
    assert isinstance(kept, Route)
    assert kept.kept_port == "30001"


def test_a_status_is_found_and_touches_no_port() -> None:
    status = RouteStatus("demo", "web", "u1", "7", "", "[]")
    store = Store()
    store.apply(changes(status))
    assert store.route_status("demo", "web") == status
    assert store.route_status("demo", "other") is None
    routing = routing_for(TCPPorts(pool_of({"ports": ["30000"]})))
    assert routing.apply(changes(model_route(), status)).units == {unit_of(30000)}
    changed = routing.apply(changes(RouteStatus("demo", "web", "u1", "8", "", "[1]")))
    assert (changed.units, changed.routes) == (frozenset(), frozenset())
