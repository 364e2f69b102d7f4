"""The router's Roles hold what it uses, and nothing else."""

import os
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from by_host import host_app, secret_manifest
from handshake import shake_hands
from pki import CA, Issued
from plane import MANIFESTS, ControlPlane
from planes import MakePod, Serve, apply_router
from pod import ACCOUNT, NAMESPACE, PATIENCE_SECONDS
from reports import admission, await_admission
from stand import app, await_, fresh_ip

#: API group, resource with its subresource, verb.
Right = tuple[str, str, str]


def granted(plane: ControlPlane) -> set[Right]:
    """By all of the Roles that the manifests bind to the ServiceAccount."""
    return {
        (group, resource, verb)
        for item in plane.overlay("kubernetes", "auto-ports")
        if item["kind"] in ("Role", "ClusterRole")
        for rule in item["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(plane: ControlPlane) -> Iterator[tuple[Right, int]]:
    """What the ServiceAccount asked for, with HTTP's status of the answer."""
    account = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
    for event in plane.audit():
        reference = event.get("objectRef")
        if reference and event["user"]["username"] == account and "resource" in reference:
            parts = (reference["resource"], reference.get("subresource"))
            right = (
                reference.get("apiGroup", ""),
                "/".join(part for part in parts if part),
                event["verb"],
            )
            yield right, event.get("responseStatus", {}).get("code", 0)


@pytest.mark.usefixtures("auto_ports")
def test_what_is_granted_is_what_is_used(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    # A first router makes its Lease.
    plane.kubectl("delete", "leases", "--all", "-n", NAMESPACE)
    server = serve("web-0")
    plane.apply(
        *app("web", 30020, [server], namespace=namespace),
        *app("any", "auto", [server], namespace=namespace),
    )
    pod = make_pod().await_ready()
    await_admission(plane, namespace, "web", "Admitted")
    await_admission(plane, namespace, "any", "Admitted")

    def unused() -> set[Right]:
        return granted(plane) - {right for right, _ in used(plane)}

    await_(
        lambda: not unused(),
        f"all rights are used; not so: {sorted(unused())}",
        PATIENCE_SECONDS,
        every_seconds=0.5,
    )
    # By any test that ran before, too.
    everything = dict(used(plane))
    assert set(everything) == granted(plane)
    assert 403 not in everything.values()
    assert "403" not in pod.said()


def test_without_the_component_an_auto_route_is_told_what_is_missing(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    server = serve("web-0")
    plane.apply(
        *app("web", 30021, [server], namespace=namespace),
        *app("any", "auto", [server], namespace=namespace),
    )
    # Server-side apply takes away what the base does without.
    apply_router(plane)
    pod = make_pod().await_ready()
    await_admission(plane, namespace, "web", "Admitted")
    told = await_admission(plane, namespace, "any", "PortPending", "False")
    assert "forbidden to patch routes" in told["message"]
    assert "component auto-ports" in told["message"]
    assert "missing permission to patch routes" in pod.said()
    apply_router(plane, "auto-ports")
    # It is tried again after a minute.
    await_(
        lambda: admission(plane, namespace, "any").get("status") == "True",
        "it gets its port",
        2 * PATIENCE_SECONDS,
        every_seconds=0.5,
    )


def test_a_certificate_is_read_once_the_router_may_read_its_secret(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    issued, other = CA.root().leaf("web.example"), CA.root().leaf("web.example")
    server = serve("web-0")
    tls: Any = {"externalCertificate": {"name": "web-tls"}}
    plane.apply(
        *host_app("web", "web.example", [server], namespace=namespace, termination="edge", tls=tls),
        secret_manifest("web-tls", issued, namespace=namespace),
        secret_manifest("other-tls", other, namespace=namespace),
    )
    ip = fresh_ip()
    pod = make_pod(
        listeners=[{"name": "tls", "kind": "tls", "bind": [f"{ip}:8443"]}],
        web={"external_certificates": True},
    ).await_ready()
    reason = "ExternalCertificateValidationFailed"
    told = await_admission(plane, namespace, "web", reason, "False")
    assert f"a Role of the router in namespace {namespace} needs" in told["message"]
    assert 'resourceNames ["web-tls"]' in told["message"]
    assert "is forbidden" in pod.said()
    plane.apply(*certificates_component(plane, namespace))
    await_admission(plane, namespace, "web", "Admitted")

    def is_shown(wanted: Issued) -> bool:
        with shake_hands((ip, 8443), "web.example") as secured:
            return secured.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(wanted.pem)

    assert is_shown(issued)
    plane.apply(secret_manifest("web-tls", other, namespace=namespace))
    await_(lambda: is_shown(other), "it is renewed", PATIENCE_SECONDS)
    account = f"--as=system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
    for verb, name, wanted in (("list", "", "no"), ("get", "other-tls", "no")):
        asked = "auth", "can-i", verb, f"secrets/{name}".rstrip("/"), "-n", namespace, account
        assert plane.kubectl(*asked, check=False) == wanted
    assert "PRIVATE KEY" not in pod.said()


def certificates_component(plane: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    """As in the kustomization of an application."""
    folder = plane.folder / "application"
    folder.mkdir(exist_ok=True)
    component = MANIFESTS / "components/external-certificates"
    made = {"namespace": namespace, "components": [os.path.relpath(component, folder)]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(made))
    return list(yaml.safe_load_all(plane.kubectl("kustomize", str(folder))))


def test_the_role_alone_lets_the_router_follow_its_own_service(plane: ControlPlane) -> None:
    """As where `source.namespaces` makes do without the ClusterRole."""
    plane.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "narrow", "namespace": NAMESPACE},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "narrow", "namespace": NAMESPACE},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": ACCOUNT,
            },
            "subjects": [{"kind": "ServiceAccount", "name": "narrow", "namespace": NAMESPACE}],
        },
    )

    def listed(group: str, resource: str) -> bool:
        path = f"{group}/namespaces/{NAMESPACE}/{resource}"
        who = f"--as=system:serviceaccount:{NAMESPACE}:narrow"
        return bool(plane.kubectl("get", "--raw", path, who, check=False))

    assert listed("/api/v1", "services?fieldSelector=metadata.name%3Dhaproxy-sidecar")
    assert listed("/apis/discovery.k8s.io/v1", "endpointslices")
    assert not listed("/api/v1", "services")
    assert not listed("/api/v1", "pods")
