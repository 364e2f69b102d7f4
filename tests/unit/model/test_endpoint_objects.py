"""`sidecar.model.parsing`: EndpointSlice and v1 Endpoints."""

from typing import Any

import pytest
from shapes import KEYS, endpoint_slice, legacy_endpoints, refused

from sidecar.model.objects import (
    Endpoint,
    EndpointGroup,
    EndpointPort,
    EndpointSet,
)
from sidecar.model.parsing import project


def test_an_endpoint_slice_as_it_is_found() -> None:
    data = endpoint_slice(
        {
            "addresses": ["10.1.2.3"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "node-1",
            "targetRef": {"kind": "Pod", "name": "web-abc", "namespace": "default"},
        },
        ports=[{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "h2c"}],
    )
    assert project(data, KEYS) == EndpointSet(
        "default",
        "web-1",
        "web",
        (
            EndpointGroup(
                (EndpointPort("http", 8080, "TCP", "h2c"),),
                (Endpoint(("10.1.2.3",), True, True, False, "web-abc", "node-1"),),
            ),
        ),
        legacy=False,
    )


@pytest.mark.parametrize(
    ("conditions", "ready", "serving", "terminating"),
    [
        (None, True, True, False),
        ({}, True, True, False),
        ({"ready": None, "serving": None, "terminating": None}, True, True, False),
        ({"ready": False}, False, False, False),
        ({"ready": False, "serving": True, "terminating": True}, False, True, True),
        ({"ready": True, "serving": False}, True, False, False),
    ],
)
def test_null_conditions(conditions: object, ready: bool, serving: bool, terminating: bool) -> None:
    found = project(endpoint_slice({"addresses": ["::1"], "conditions": conditions}), KEYS)
    assert isinstance(found, EndpointSet)
    (endpoint,) = found.groups[0].endpoints
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == (ready, serving, terminating)


@pytest.mark.parametrize(
    ("endpoint", "pod"),
    [
        ({"targetRef": {"kind": "Pod", "name": "web-abc"}, "hostname": "h"}, "web-abc"),
        ({"targetRef": {"kind": "VirtualMachine", "name": "vm"}, "hostname": "h"}, None),
        ({"hostname": "web-0"}, "web-0"),
        ({}, None),
        # Only shown, so never worth losing an endpoint for.
        ({"hostname": "web\n0"}, None),
        ({"hostname": "w" * 300}, None),
    ],
)
def test_who_an_endpoint_is(endpoint: dict[str, Any], pod: str | None) -> None:
    found = project(endpoint_slice({"addresses": ["10.0.0.1"], **endpoint}), KEYS)
    assert isinstance(found, EndpointSet)
    assert found.groups[0].endpoints[0].pod == pod


def test_addresses_are_kept_as_they_are() -> None:
    data = endpoint_slice({"addresses": ["db.example.com", "10.0.0.1"]}) | {"addressType": "FQDN"}
    found = project(data, KEYS)
    assert isinstance(found, EndpointSet)
    assert found.groups[0].endpoints[0].addresses == ("db.example.com", "10.0.0.1")


def test_null_in_an_endpoint_port() -> None:
    found = project(endpoint_slice(ports=[{"name": None, "port": None, "protocol": None}]), KEYS)
    assert isinstance(found, EndpointSet)
    assert found.groups == (EndpointGroup((EndpointPort("", None, "TCP"),), ()),)


def test_a_slice_without_endpoints_or_ports_is_an_empty_one() -> None:
    found = project(endpoint_slice() | {"endpoints": None}, KEYS)
    assert isinstance(found, EndpointSet)
    assert found.groups == (EndpointGroup((), ()),)


def test_each_subset_of_v1_endpoints_is_a_group() -> None:
    data = legacy_endpoints(
        {
            "addresses": [
                {"ip": "10.0.0.1", "nodeName": "n", "targetRef": {"kind": "Pod", "name": "p"}}
            ],
            "notReadyAddresses": [{"ip": "10.0.0.2"}],
            "ports": [{"name": "db", "port": 3306}],
        },
        {"addresses": [{"ip": "192.0.2.9"}], "ports": [{"port": 80}]},
    )
    assert project(data, KEYS) == EndpointSet(
        "default",
        "web",
        "web",
        (
            EndpointGroup(
                (EndpointPort("db", 3306, "TCP"),),
                (
                    Endpoint(("10.0.0.1",), True, True, False, "p", "n"),
                    Endpoint(("10.0.0.2",), False, False, False, None, None),
                ),
            ),
            EndpointGroup(
                (EndpointPort("", 80, "TCP"),),
                (Endpoint(("192.0.2.9",), True, True, False, None, None),),
            ),
        ),
        legacy=True,
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            endpoint_slice() | {"metadata": {"name": "web-1"}},
            (
                'metadata.labels["kubernetes.io/service-name"]: missing; add the label'
                " kubernetes.io/service-name with the name of the Service"
            ),
        ),
        (endpoint_slice("10.0.0.1"), "endpoints[0]: '10.0.0.1' is text; write a mapping"),
        (endpoint_slice({}), "endpoints[0].addresses: missing; write a list of at least one"),
        (endpoint_slice({"addresses": []}), "endpoints[0].addresses: [] is empty; write a list"),
        (endpoint_slice({"addresses": "10.0.0.1"}), "endpoints[0].addresses: '10.0.0.1' is text;"),
        (endpoint_slice({"addresses": [10.1]}), "endpoints[0].addresses[0]: 10.1 is a number;"),
        (endpoint_slice({"addresses": [""]}), "endpoints[0].addresses[0]: '' is empty;"),
        (
            endpoint_slice({"addresses": ["10.0.0.1"], "conditions": {"ready": "yes"}}),
            "endpoints[0].conditions.ready: 'yes' is text; write true or false",
        ),
        (endpoint_slice(ports=[{"port": 70000}]), "ports[0].port: 70000 is out of range;"),
        (endpoint_slice(ports=[{"port": 80, "protocol": 6}]), "ports[0].protocol: 6 is a number;"),
        (
            legacy_endpoints({"addresses": [{"hostname": "a"}]}),
            "subsets[0].addresses[0].ip: missing; an address must be a non-empty string",
        ),
        (legacy_endpoints({"ports": [{"port": 0}]}), "subsets[0].ports[0].port: 0 is out of range"),
    ],
)
def test_wrong_endpoints_are_refused(data: object, message: str) -> None:
    assert refused(data).startswith(message)
