"""What all importers write: a Route that has a port, and what its router lacks for it.

Owns the form of such a Route. Must not know what it was converted from. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sidecar.listeners.tcp import judge
from sidecar.model.objects import Route
from sidecar.model.parsing import AnnotationKeys, project
from sidecar.model.pool import Pool
from sidecar.model.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Router:
    """For which router the Routes are."""

    name: str
    annotations: AnnotationKeys
    pool: Pool


def annotated_route(
    namespace: str,
    name: str,
    port: int,
    targets: Iterable[Mapping[str, Any]],
    router: Router,
    target_port: int | str | None = None,
) -> dict[str, Any]:
    """The Route of ``port`` to these Services: ``spec.to``, then ``alternateBackends``."""
    to, *others = targets
    spec: dict[str, Any] = {"to": to}
    if others:
        spec["alternateBackends"] = others
    if target_port is not None:
        spec["port"] = {"targetPort": target_port}
    # Without it OpenShift's own router would take the Route for HTTP.
    spec["tls"] = {"termination": "passthrough"}
    annotations = {
        router.annotations.port: str(port),
        router.annotations.router_name: router.name,
    }
    return {
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": spec,
    }


def no_port(route: Mapping[str, Any], router: Router) -> str:
    """Why the router has no port for ``route``, and where to add it; "" if it has."""
    verdict = judge(cast("Route", project(route, router.annotations)), router.pool)
    if not isinstance(verdict, Verdict):
        return ""
    return f"{verdict.message}; add it to a pool in the settings (pools[].ports)"
