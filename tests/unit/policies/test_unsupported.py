"""`sidecar.policies.unsupported`: what of OpenShift's router a Route must not count on here."""

from collections.abc import Mapping
from typing import Any

import pytest
import shapes
from core import DENIED, POOL
from parts import routing_for, web_for
from stand import ROUTER, changes, service, slice_

from sidecar.haproxy.naming import web_backend_name
from sidecar.listeners.tcp import TCPPorts
from sidecar.model.objects import Route
from sidecar.model.parsing import project
from sidecar.model.verdicts import Reason, Verdict
from sidecar.policies.unsupported import WITHOUT_EFFECT, unsupported_keys, with_reason
from sidecar.reporting.explain import explain
from sidecar.reporting.explain_parts import World
from sidecar.routing.table import Routing

H, R = "haproxy.router.openshift.io/", "router.openshift.io/"

UNITS = [web_backend_name("http", number) for number in (1, 2)]


def by_host(
    annotations: Mapping[str, Any] | None = None, spec: Mapping[str, Any] | None = None
) -> Route:
    """The Route ``default/web`` for a.test, as it comes from a source."""
    item = project(shapes.route({"host": "a.test", **(spec or {})}, annotations), shapes.KEYS)
    assert isinstance(item, Route)
    return item


def fed(*objects: Any) -> Routing:
    routing = routing_for(TCPPorts(POOL), denied=DENIED, web=web_for({"http": UNITS}))
    routing.apply(changes(*objects))
    routing.adopt({})
    return routing


def verdict(*objects: Any) -> Verdict:
    """That of the first one, whose Service and endpoint are there, too."""
    name = objects[0].name, objects[0].namespace
    others = service(name[0], namespace=name[1]), slice_(name[0], ["10.0.0.1"], namespace=name[1])
    found = fed(*objects, *others).verdict(objects[0].key)
    assert found is not None
    return found


CASE, INTERVAL = f"{H}h1-adjust-case", f"{R}haproxy.health.check.interval"


@pytest.mark.parametrize(
    ("annotations", "spec", "message"),
    [
        ({}, {}, ""),
        ({f"{H}h1-adjust-case": None}, {}, ""),
        (
            {"example.com/h1-adjust-case": "/", f"{H}H1-adjust-case": "/"},
            {},
            "",
        ),
        ({}, {"httpHeaders": {}}, ""),
        (
            {f"{H}h1-adjust-case": "/x"},
            {},
            f"without effect here: {with_reason(CASE)}",
        ),
        (
            {f"{R}haproxy.health.check.interval": "x", f"{H}h1-adjust-case": 5},
            {"httpHeaders": {"actions": {}}},
            f"without effect here: {with_reason(CASE)}, {with_reason(INTERVAL)}",
        ),
        *(({key: "1"}, {}, f"without effect here: {with_reason(key)}") for key in WITHOUT_EFFECT),
    ],
)
def test_what_has_no_effect_is_told(
    annotations: dict[str, Any], spec: dict[str, Any], message: str
) -> None:
    found = verdict(by_host(annotations, spec))
    assert (found.reason, found.message) == (Reason.ADMITTED, message)


def test_it_is_told_beside_what_else_there_is_to_say() -> None:
    item = by_host({f"{H}h1-adjust-case": "5s", f"{H}drain-deadline": "soon"})
    routing = fed(item)
    found = routing.verdict(item.key)
    assert found is not None
    assert found.reason == Reason.SERVICE_NOT_FOUND
    assert "drain deadline 'soon'" in found.message
    assert found.message.endswith(f"; without effect here: {with_reason(CASE)}")
    why = explain("a.test", World(ROUTER, POOL, routing, {}))
    told = [link.text for link in why.links if link.name == "annotations"]
    assert f"without effect here: {with_reason(CASE)}" in told


def test_what_a_setting_gives_a_meaning_has_one() -> None:
    assert f"{H}h1-adjust-case" not in unsupported_keys({f"{H}h1-adjust-case"})
