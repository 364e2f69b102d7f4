"""API-shaped mappings of the kinds that we read, for tests of `sidecar.model.parsing`."""

from collections.abc import Mapping
from typing import Any

import pytest

from sidecar.common.errors import ObjectError
from sidecar.model.parsing import AnnotationKeys, project
from sidecar.policies.registry import annotation_keys
from sidecar.policies.unsupported import unsupported_keys

PORT = "haproxy.router.openshift.io/external-tcp-port"
ROUTER = "haproxy.router.openshift.io/wzh-router-name"
KEYS = AnnotationKeys(ROUTER, PORT, "haproxy-sidecar/port", annotation_keys({}), unsupported_keys())


def route(
    spec: Mapping[str, Any] | None = None, annotations: object = None, **metadata: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": {"name": "web", "annotations": annotations, **metadata},
        "spec": {"to": {"name": "web"}, **(spec or {})},
    }


def service(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}


def endpoint_slice(*endpoints: Any, ports: Any = None) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": list(endpoints),
        "ports": ports,
    }


def legacy_endpoints(*subsets: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "web"},
        "subsets": list(subsets),
    }


def refused(data: object) -> str:
    with pytest.raises(ObjectError) as caught:
        project(data, KEYS)  # type: ignore[arg-type]  # what a file holds may be anything
    return str(caught.value)
