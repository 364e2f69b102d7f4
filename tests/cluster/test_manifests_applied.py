"""What manifests/ ships, judged by a real API server: fields, admission, the kind Route."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from plane import HERE, MANIFESTS, ControlPlane

WORKLOADS = ("Deployment", "DaemonSet")
EGRESS = "haproxy-sidecar-egress"
PASSTHROUGH, EDGE = {"termination": "passthrough"}, {"termination": "edge"}


def make(plane: ControlPlane, *arguments: str) -> str:
    """What `make` prints, with the test's kubectl."""
    done = subprocess.run(
        ["make", "-s", f"KUBECTL={' '.join(plane.command)}", *arguments],
        cwd=HERE.parent.parent,
        # Without the variables of the `make` that runs the tests. kubectl's cache goes below HOME,
        # and into this repository where there is none.
        env={"HOME": str(plane.folder), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout


def route(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": {"name": "tried", "namespace": "default"},
        "spec": {"to": {"kind": "Service", "name": "web"}, **spec},
    }


def request_header(name: str, action: dict[str, Any]) -> dict[str, Any]:
    return {"httpHeaders": {"actions": {"request": [{"name": name, "action": action}]}}}


@pytest.mark.parametrize("overlay", ["openshift", "hostnetwork"])
def test_an_overlay_of_the_same_router_applies(plane: ControlPlane, overlay: str) -> None:
    plane.apply(*plane.overlay(overlay), options=["--dry-run=server"])


def test_applying_again_changes_nothing(plane: ControlPlane) -> None:
    before = plane.get("deployment", "-n", "haproxy-sidecar", "haproxy-sidecar")
    plane.apply(*plane.overlay("kubernetes"))
    after = plane.get("deployment", "-n", "haproxy-sidecar", "haproxy-sidecar")
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


@pytest.mark.parametrize(
    ("overlay", "level"),
    [
        ("kubernetes", "restricted"),
        ("openshift", "restricted"),
        ("hostnetwork", "privileged"),
        ("demo", "restricted"),
    ],
)
def test_pods_are_what_their_namespace_admits(
    plane: ControlPlane, overlay: str, level: str, request: pytest.FixtureRequest
) -> None:
    objects = plane.overlay(overlay)
    namespace = f"pods-{request.node.callspec.id}"
    enforced = {"pod-security.kubernetes.io/enforce": level}
    plane.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "labels": enforced},
        }
    )
    labels = next(item["metadata"]["labels"] for item in objects if item["kind"] == "Namespace")
    assert labels.items() >= enforced.items()

    workloads = [item for item in objects if item["kind"] in WORKLOADS]
    assert workloads
    for workload in workloads:
        template = workload["spec"]["template"]
        account = template["spec"].get("serviceAccountName", "default")
        plane.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": account, "namespace": namespace},
            }
        )
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "tried", "namespace": namespace, "labels": {}},
            "spec": template["spec"],
        }
        # The admission of Pods judges what a Deployment's never is judged by.
        plane.apply(pod, options=["--dry-run=server"])


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"to": {"kind": "Service", "name": ""}}, "spec.to.name"),
        ({"to": {"kind": "Deployment", "name": "web"}}, 'supported values: "Service"'),
        ({"to": {"kind": "Service", "name": "web", "weight": 257}}, "less than or equal to 256"),
        ({"port": {"targetPort": 0}}, "must be a port from 1 to 65535"),
        ({"port": {"targetPort": 65536}}, "must be a port from 1 to 65535"),
        ({"port": {"targetPort": "No Name"}}, "or the name of a port"),
        ({"tls": {"termination": "Edge"}}, 'supported values: "edge", "reencrypt", "passthrough"'),
        ({"tls": PASSTHROUGH, "path": "/a"}, "path: a passthrough Route has none"),
        ({"tls": {**PASSTHROUGH, "key": "x"}}, "certificates are up to the servers"),
        ({"tls": {**EDGE, "destinationCACertificate": "x"}}, "only for reencrypt"),
        ({"tls": {**EDGE, "certificate": "x", "externalCertificate": {"name": "x"}}}, "only one"),
        ({"tls": {**PASSTHROUGH, "insecureEdgeTerminationPolicy": "Allow"}}, "None or Redirect"),
        ({"path": "a"}, "spec.path"),
        ({"wildcardPolicy": "All"}, 'supported values: "None", "Subdomain"'),
        (request_header("Cookie", {"type": "Delete"}), "may not change"),
        (request_header("X-A", {"type": "Set"}), "set: required with type Set"),
        ({"alternateBackends": [{"name": n} for n in "abcd"]}, "at most 3 items"),
        ({"hosts": "x"}, ".spec.hosts: field not declared"),
    ],
)
def test_a_wrong_route_is_refused(
    plane: ControlPlane, spec: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(AssertionError, match="Route") as refused:
        plane.apply(route(**spec), options=["--dry-run=server"])
    assert complaint in str(refused.value)


def test_routes_of_the_examples_are_taken_as_they_are(plane: ControlPlane) -> None:
    examples = HERE.parent.parent / "examples"
    routes = [
        item
        for path in sorted(examples.glob("*.yaml"))
        for item in yaml.safe_load_all(path.read_text())
        if item["kind"] == "Route"
    ]
    assert routes
    for item in routes:
        item["metadata"]["namespace"] = "default"
        del item["metadata"]["creationTimestamp"]
        plane.apply(item, options=["--dry-run=server"])


def test_defaults_and_columns_are_openshifts(plane: ControlPlane) -> None:
    plane.apply(route(to={"name": "web"}, alternateBackends=[{"name": "other"}]))
    try:
        spec = plane.get("route", "tried")["spec"]
        assert spec["to"] == {"kind": "Service", "name": "web", "weight": 100}
        assert spec["alternateBackends"] == [{"kind": "Service", "name": "other", "weight": 100}]
        head, *_ = plane.kubectl("get", "routes").splitlines()
        columns = "NAME HOST PATH PORT SERVICE TERMINATION ADMITTED REASON AGE"
        assert " ".join(head.split()) == columns
        chosen = plane.kubectl(
            "get", "routes", "-A", "--field-selector=spec.to.name=web", "-o=name"
        )
        assert chosen.count("tried") == 1
    finally:
        plane.kubectl("delete", "route", "tried")


def test_undeploy_leaves_the_kind_route(plane: ControlPlane) -> None:
    said = make(plane, "undeploy", "ARGS=--dry-run=server")
    assert 'deployment.apps "haproxy-sidecar"' in said
    assert "customresourcedefinition" not in said


def test_deploy_sets_the_image_and_undeploy_removes_all(plane: ControlPlane) -> None:
    yaml_made = make(plane, "deploy", "IMAGE=example/ours:1", "ARGS=--dry-run=server -o yaml")
    assert yaml_made.count("image: example/ours:1\n") == 2
    make(plane, "deploy", "OVERLAY=egress")
    assert len(plane.get("routes", "-n", EGRESS)["items"]) == 2
    make(plane, "undeploy", "OVERLAY=egress", "ARGS=--wait=false")
    assert not plane.get("routes,services,endpointslices", "-n", EGRESS)["items"]


def test_deploy_leaves_the_number_of_replicas_to_who_scaled(plane: ControlPlane) -> None:
    where = ("deployment", "haproxy-sidecar", "-n", "haproxy-sidecar")
    try:
        plane.kubectl("scale", "--replicas=3", *where)
        make(plane, "deploy")
        assert plane.get(*where)["spec"]["replicas"] == 3
    finally:
        plane.kubectl("scale", "--replicas=2", *where)
    made = make(plane, "deploy", "NAMESPACE=default", "ARGS=--dry-run=server -o yaml")
    assert made.count("  replicas: 2\n") == 1, "where there are none yet"


def test_components_build_on_the_base(plane: ControlPlane, tmp_path: Path) -> None:
    components = sorted(path.name for path in (MANIFESTS / "components").iterdir())
    kustomization = {
        "resources": ["manifests/overlays/kubernetes"],
        "components": [f"manifests/components/{name}" for name in components],
        "images": [{"name": "haproxy-sidecar", "newName": "example/ours", "newTag": "1"}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    subprocess.run(["cp", "-r", MANIFESTS, tmp_path / "manifests"], check=True)
    built = list(yaml.safe_load_all(plane.kubectl("kustomize", str(tmp_path))))
    kinds = {item["kind"] for item in built}
    assert {"NetworkPolicy", "ServiceMonitor", "PrometheusRule"} <= kinds
    images = {
        container["image"]
        for item in built
        if item["kind"] == "Deployment"
        for group in ("initContainers", "containers")
        for container in item["spec"]["template"]["spec"][group]
    }
    assert images == {"example/ours:1", "haproxy:3.2"}
    # Those of the Prometheus operator are kinds that a bare API server does not know.
    known = [item for item in built if item["kind"] not in {"ServiceMonitor", "PrometheusRule"}]
    plane.apply(*known, options=["--dry-run=server"])
