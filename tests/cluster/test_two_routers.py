"""A second router beside the first one by the recipe of docs/deploy.md, and what its end leaves."""

import subprocess
from pathlib import Path

import yaml
from book import to_type
from chart import block, identities
from plane import MANIFESTS, ControlPlane
from planes import MakePod, Serve
from pod import Deployed
from reports import await_admission, await_published
from stand import app

RECIPE = (MANIFESTS.parent / "docs/deploy.md").read_text().partition("## Several routers")[2]


def folder_by_the_recipe(tmp_path: Path, name: str) -> Path:
    """The recipe's kustomization, for a router of another name than edge-b."""
    (tmp_path / "haproxy-sidecar").mkdir(exist_ok=True)
    there = tmp_path / "haproxy-sidecar/manifests"
    if not there.exists():
        subprocess.run(["cp", "-r", MANIFESTS, there], check=True)
    commands = to_type("docs/deploy.md", "mkdir edge-b\n").text.replace("edge-b", name)
    subprocess.run(["sh", "-euc", commands], cwd=tmp_path, check=True)
    kustomization = tmp_path / name / "kustomization.yaml"
    kustomization.write_text(block(RECIPE, "yaml").replace("edge-b", name))
    return kustomization.parent


def test_routers_by_the_recipe_have_nothing_in_common(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str, tmp_path: Path
) -> None:
    server = serve("web-0")
    first = plane.overlay("kubernetes")
    pods, folders = {}, {}
    for name, port in (("edge-b", 30050), ("edge-c", 30051)):
        folders[name] = folder_by_the_recipe(tmp_path, name)
        made = list(yaml.safe_load_all(plane.kubectl("kustomize", str(folders[name]))))
        assert not identities(made) & identities(first)
        assert {item["metadata"].get("namespace", name) for item in made} == {name}
        for binding in (item for item in made if item["kind"].endswith("RoleBinding")):
            (subject,) = binding["subjects"]
            assert subject["namespace"] == name
        plane.kubectl("apply", "--server-side", "-k", str(folders[name]))
        deployed = Deployed.by(made)
        plane.apply(*app(name, port, [server], namespace=namespace, router_name=name))
        pods[name] = make_pod(name, deployed).await_ready()
        pods[name].await_leads_to(port, "web-0")
        await_admission(plane, namespace, name, "Admitted", router_name=name)
        await_published(plane, name, "haproxy-sidecar", port)
    assert pods["edge-b"].is_refused(30051), "a Route is served by the router that it names"
    own = make_pod("own").await_ready()

    # No controller removes what is in a namespace here, but each object is named.
    plane.kubectl("delete", "--wait=false", "-k", str(folders["edge-c"]))
    client = pods["edge-b"].connect(30050)
    assert_kept(plane, "edge-b", "haproxy-sidecar-edge-b")
    assert_kept(plane, "haproxy-sidecar", "haproxy-sidecar")
    plane.apply(
        *app("late", 30052, [server], namespace=namespace, router_name="edge-b"),
        *app("first", 30053, [server], namespace=namespace),
    )
    pods["edge-b"].await_leads_to(30052, "web-0")
    own.await_leads_to(30053, "web-0")
    await_admission(plane, namespace, "late", "Admitted", router_name="edge-b")
    await_admission(plane, namespace, "first", "Admitted")
    await_published(plane, "edge-b", "haproxy-sidecar", 30050, 30052)
    client.echo(b"still here")
    client.close()
    for pod in (pods["edge-b"], own):
        assert "forbidden" not in pod.said()


def assert_kept(plane: ControlPlane, namespace: str, cluster_role: str) -> None:
    """The other one's end took nothing of this router."""
    account = f"--as=system:serviceaccount:{namespace}:haproxy-sidecar"
    for verb, what in (("list", "routes.route.openshift.io"), ("list", "services")):
        assert plane.kubectl("auth", "can-i", verb, what, "-A", account) == "yes"
    assert plane.kubectl("get", "clusterrole", cluster_role, "-o=name")
