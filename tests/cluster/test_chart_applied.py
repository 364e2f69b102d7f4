"""Releases of the chart on a real API server: routers that serve, change and go, side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from book import to_type
from chart import CHART, Helm, block
from plane import ControlPlane
from planes import MakePod, Serve
from pod import Deployed
from reports import admission, await_admission, await_published
from stand import app

#: (release, namespace): two in one, and two of one name.
RELEASES = [("inner", "edges"), ("outer", "edges"), ("inner", "edges-too")]


def router_of(release: str, namespace: str) -> str:
    return f"{release}.{namespace}"


def values_of(release: str, namespace: str) -> dict[str, Any]:
    return {"settings": {"router_name": router_of(release, namespace)}, "autoPorts": True}


@pytest.fixture
def helm(plane: ControlPlane, tmp_path: Path) -> Helm:
    for name in ("edges", "edges-too"):
        enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": name, "labels": enforced}
        plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return Helm(tmp_path, plane.folder / "admin.kubeconfig")


def test_releases_serve_are_upgraded_and_go_side_by_side(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str, helm: Helm
) -> None:
    server = serve("web-0")
    pods, ports = {}, {}
    for number, (release, where) in enumerate(RELEASES):
        told = helm("install", release, str(CHART), "-n", where, values=values_of(release, where))
        assert f'The router "{router_of(release, where)}" starts' in told
        name, port = f"{release}-{where}", 30060 + number
        plane.apply(
            *app(name, port, [server], namespace=namespace, router_name=router_of(release, where))
        )
        deployed = Deployed.by(helm.installed(release, where))
        pods[release, where] = make_pod(name, deployed).await_ready()
        ports[release, where] = port
        pods[release, where].await_leads_to(port, "web-0")
        await_admission(plane, namespace, name, "Admitted", router_name=router_of(release, where))
        await_published(plane, where, f"{release}-haproxy-sidecar", port)
    for at, pod in pods.items():
        assert [pod.is_refused(port) for port in ports.values()] == [at != of for of in ports]

    # An upgrade adds a port to the pool: the Service keeps what the router has written into it.
    values = values_of("inner", "edges")
    more = {"pools": [{"name": "default", "ports": ["6620", "30060-30070"], "bind": ["0.0.0.0"]}]}
    before = helm.installed("inner", "edges")
    values["settings"] |= more
    helm("upgrade", "inner", str(CHART), "-n", "edges", values=values)
    spec = plane.get("service", "inner-haproxy-sidecar", "-n", "edges")["spec"]
    assert 30060 in {entry["port"] for entry in spec["ports"]}
    after = helm.installed("inner", "edges")
    assert settings_named(before) != settings_named(after), (
        "pods that run keep what they began with"
    )
    pods["inner", "edges"].await_leads_to(30060, "web-0")
    successor = make_pod("successor", Deployed.by(after)).await_ready()
    successor.await_leads_to(30060, "web-0")

    # One goes; those with its name, or in its namespace, do not notice.
    client = pods["outer", "edges"].connect(ports["outer", "edges"])
    said = helm("uninstall", "inner", "-n", "edges")
    assert "routes.route.openshift.io" not in said
    assert plane.kubectl("get", "crd", "routes.route.openshift.io", "-o=name")
    left = plane.get("all,leases,roles,configmaps", "-n", "edges", "-l=app.kubernetes.io/instance")
    assert {item["metadata"]["labels"]["app.kubernetes.io/instance"] for item in left["items"]} == {
        "outer"
    }
    for number, (release, where) in enumerate(RELEASES[1:]):
        name, port = f"late-{number}", 30065 + number
        router_name = router_of(release, where)
        plane.apply(*app(name, port, [server], namespace=namespace, router_name=router_name))
        pods[release, where].await_leads_to(port, "web-0")
        await_admission(plane, namespace, name, "Admitted", router_name=router_name)
        await_published(plane, where, f"{release}-haproxy-sidecar", ports[release, where], port)
        assert "forbidden" not in pods[release, where].said()
    client.echo(b"still here")
    client.close()
    assert not admission(plane, namespace, "late-0", router_of("inner", "edges"))


def settings_named(made: Sequence[dict[str, Any]]) -> set[str]:
    """The ConfigMaps with settings files."""
    return {item["metadata"]["name"] for item in made if "sidecar.yaml" in item.get("data", {})}


def test_the_commands_of_deploy_md(plane: ControlPlane, helm: Helm, tmp_path: Path) -> None:
    """Word for word, from a folder that has the chart and the values."""
    deploy = (CHART.parents[1] / "docs/deploy.md").read_text()
    by_helm = deploy.partition("## Install by helm")[2]
    (tmp_path / "values.yaml").write_text(block(by_helm, "yaml"))
    (tmp_path / "charts").symlink_to(CHART.parent)
    first = to_type("docs/deploy.md", "helm install edge ")
    second = to_type("docs/deploy.md", "helm install edge-b ")
    for commands, namespace in ((first, "edge"), (second, "edge-b")):
        helm.run_shell(commands.text, tmp_path)
        everything = "all,leases,roles,configmaps"
        chosen = f"-l=app.kubernetes.io/instance={namespace}"
        assert not plane.get(everything, "-n", namespace, chosen)["items"], "it is uninstalled"
        assert plane.get("namespace", namespace)


def test_a_rollback_takes_image_and_settings_back(plane: ControlPlane, helm: Helm) -> None:
    def there() -> tuple[str, str, str]:
        """The images of the sidecar and of what renders, and the settings that they are given."""
        deployment = plane.get("deployment", "fifth-haproxy-sidecar", "-n", "edges")
        spec = deployment["spec"]["template"]["spec"]
        named = {item["name"]: item for item in spec["volumes"]}["settings"]["configMap"]["name"]
        settings = plane.get("configmap", named, "-n", "edges")["data"]["sidecar.yaml"]
        render, sidecar = (item["image"] for item in spec["initContainers"])
        return render, sidecar, settings

    old = {"sidecar": {"image": {"tag": "1"}}, "routeCRD": False}
    helm("install", "fifth", str(CHART), "-n", "edges", values=old)
    before = there()
    new = {"sidecar": {"image": {"tag": "2"}}, "settings": {"log": {"level": "debug"}}}
    helm("upgrade", "fifth", str(CHART), "-n", "edges", values=old | new)
    assert all(one != other for one, other in zip(before, there(), strict=True))
    helm("rollback", "fifth", "-n", "edges")
    assert there() == before
    helm("uninstall", "fifth", "-n", "edges")


@pytest.mark.usefixtures("plane")
def test_the_kind_route_belongs_to_the_first_who_installs_it(helm: Helm) -> None:
    """Here kustomize has; helm would refuse to install what somebody else owns."""
    helm("install", "third", str(CHART), "-n", "edges")
    made = {item["kind"] for item in helm.installed("third", "edges")}
    assert "CustomResourceDefinition" not in made
    helm("uninstall", "third", "-n", "edges")


def test_who_installed_the_kind_route_upgrades_it_and_leaves_it(
    plane: ControlPlane, helm: Helm
) -> None:
    crd = "crd/routes.route.openshift.io"
    owner = {"release-name": "fourth", "release-namespace": "edges"}
    managed = "app.kubernetes.io/managed-by"
    plane.kubectl("annotate", crd, *(f"meta.helm.sh/{key}={owner[key]}" for key in owner))
    plane.kubectl("label", crd, f"{managed}=Helm")
    before = plane.get(crd)["metadata"]["uid"]
    try:
        helm("install", "fourth", str(CHART), "-n", "edges")
        made = {item["kind"] for item in helm.installed("fourth", "edges")}
        assert "CustomResourceDefinition" in made
        helm("upgrade", "fourth", str(CHART), "-n", "edges", values={"routeCRD": False})
        assert plane.get(crd)["metadata"]["uid"] == before
        helm("upgrade", "fourth", str(CHART), "-n", "edges", values={"routeCRD": True})
        helm("uninstall", "fourth", "-n", "edges")
        assert plane.get(crd)["metadata"]["uid"] == before
    finally:
        plane.kubectl("annotate", crd, *(f"meta.helm.sh/{key}-" for key in owner))
        plane.kubectl("label", crd, f"{managed}-")


def test_what_the_chart_makes_is_admitted_by_a_restricted_namespace(
    plane: ControlPlane, helm: Helm
) -> None:
    values = {
        "settings": {"pools": [{"ports": ["80"]}]},
        "tls": {"secretName": "router-tls"},
        "networkPolicy": True,
    }
    made = helm.template(values, namespace="edges")
    deployed = Deployed.by(made)
    plane.apply(
        *(item for item in made if item["kind"] != "CustomResourceDefinition"),
        options=["--dry-run=server"],
    )
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tried", "namespace": "edges"},
        "spec": {**deployed.pod_spec, "serviceAccountName": "default"},
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    plane.apply({**account, "metadata": {"name": "default", "namespace": "edges"}})
    plane.apply(pod, options=["--dry-run=server"])
