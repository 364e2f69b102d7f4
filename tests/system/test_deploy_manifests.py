"""What manifests/ ships agrees with the program, without a cluster. Whether an API server takes it
is `make test-cluster`'s to say.
"""

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli import run_cli
from stand import HAPROXY, MakeStand

from sidecar.common import supervisor
from sidecar.common.hostport import split_host_port
from sidecar.common.metrics import Metrics
from sidecar.haproxy.web_files import WebFiles
from sidecar.reporting.gauges import Gauges
from sidecar.reporting.reports import SourceReport
from sidecar.reporting.status import Facts, build_report
from sidecar.settings.parsing import parse_settings
from sidecar.settings.schema import Settings

MANIFESTS = Path(__file__).parents[2] / "manifests"
SETTINGS = [
    MANIFESTS / "base/sidecar.yaml",
    MANIFESTS / "overlays/hostnetwork/sidecar.yaml",
]


VERBS = {"get", "list", "watch", "create", "update", "patch", "delete"}


def documents(*paths: str) -> list[dict[str, Any]]:
    return [
        item
        for path in paths
        for item in yaml.safe_load_all((MANIFESTS / path).read_text())
        if item
    ]


def settings(path: Path = SETTINGS[0]) -> Settings:
    return parse_settings(path.read_text(), {}, str(path))


@pytest.fixture
def pod() -> dict[str, Any]:
    (deployment,) = documents("base/deployment.yaml")
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def containers(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in (*pod["initContainers"], *pod["containers"])}


def test_every_file_is_named_by_a_kustomization_and_is_there() -> None:
    for kustomization in MANIFESTS.rglob("kustomization.yaml"):
        data = yaml.safe_load(kustomization.read_text())
        named = {*data.get("resources", ())}
        for generator in data.get("configMapGenerator", ()):
            named.update(generator["files"])
        for name in named:
            assert (kustomization.parent / name).exists(), f"{kustomization}: {name}"
        there = {path.name for path in kustomization.parent.iterdir()} - {"kustomization.yaml"}
        assert there <= named, kustomization


@pytest.mark.parametrize("path", SETTINGS, ids=["base", "hostnetwork"])
def test_the_settings_are_ours_and_haproxy_starts_on_them(path: Path, tmp_path: Path) -> None:
    found = settings(path)
    assert found.source.kind == "kubernetes"
    shared = Path("/run/haproxy")
    assert Path(found.haproxy.socket).parent == shared
    assert found.haproxy.config.parent == found.haproxy.state_file.parent == shared

    rendered = run_cli("render", "-c", path, "-o", "-")
    assert rendered.code == 0, rendered.err
    config = tmp_path / "haproxy.cfg"
    (tmp_path / "maps").mkdir()
    # Its maps, which `render` writes beside a file, are in a folder that is not here.
    for path_of_map in WebFiles.beside(found.haproxy.state_file).port_maps:
        (tmp_path / "maps" / path_of_map.name).touch()
    config.write_text(rendered.out.replace(str(shared / "maps"), str(tmp_path / "maps")))
    checked = subprocess.run(
        [HAPROXY, "-c", "-f", config], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_routers_of_the_host_differ_only_where_they_must() -> None:
    base, host = (settings(path).model_dump() for path in SETTINGS)
    published = {"publish_service": None}
    assert {**base, "pools": host["pools"], "kubernetes": base["kubernetes"] | published} == host
    (pool,), (hosts,) = base["pools"], host["pools"]
    assert pool == {**hosts, "ports": pool["ports"]}


def test_the_role_names_what_the_settings_name() -> None:
    found = settings().kubernetes
    (role,) = (item for item in documents("base/rbac.yaml") if item["kind"] == "Role")
    named = {
        rule["resources"][0]: rule["resourceNames"]
        for rule in role["rules"]
        if "resourceNames" in rule
    }
    (namespace,) = documents("base/namespace.yaml")
    assert found.publish_service
    assert found.publish_service.split("/") == [namespace["metadata"]["name"], *named["services"]]
    assert [found.lease.name] == named["leases"]
    assert found.lease.namespace is None


def test_the_reference_lists_the_rights_that_the_roles_grant() -> None:
    granted = {
        (resource, verb)
        for rule in (
            *(rule for item in documents("base/rbac.yaml") for rule in item.get("rules", ())),
            auto_ports_rule(),
            certificates_rule(),
        )
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    reference = (MANIFESTS.parent / "docs/reference.md").read_text()
    table = reference.partition("## Permissions")[2].partition("\n## ")[0]
    listed, resource = set(), ""
    for row in re.findall(r"^\| (.*?) ?\| (.+?) \| ", table, re.MULTILINE)[1:]:
        resource = row[0].split("`")[1] if "`" in row[0] else resource
        listed |= {(resource, verb) for verb in re.findall("[a-z]+", row[1]) if verb in VERBS}
    # What only other settings than the shipped ones take.
    listed -= {(kind, verb) for kind in ("endpoints", "namespaces") for verb in VERBS}
    assert listed == granted


def auto_ports_rule() -> dict[str, Any]:
    """What the component of that name adds to the ClusterRole."""
    (component,) = documents("components/auto-ports/kustomization.yaml")
    (patch,) = component["patches"]
    assert patch["target"] == {"kind": "ClusterRole", "name": "haproxy-sidecar"}
    (operation,) = yaml.safe_load(patch["patch"])
    assert (operation["op"], operation["path"]) == ("add", "/rules/-")
    rule: dict[str, Any] = operation["value"]
    return rule


def certificates_rule() -> dict[str, Any]:
    """What the component external-certificates grants."""
    role, binding = documents("components/external-certificates/role.yaml")
    assert (role["kind"], binding["roleRef"]["name"]) == ("Role", role["metadata"]["name"])
    (account,) = (item for item in documents("base/rbac.yaml") if item["kind"] == "ServiceAccount")
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]
    (rule,) = role["rules"]
    found: dict[str, Any] = rule
    return found


def test_secrets_may_be_read_by_name_only_and_where_it_is_wanted() -> None:
    granted = [
        resource
        for item in documents("base/rbac.yaml")
        for rule in item.get("rules", ())
        for resource in rule["resources"]
    ]
    assert "secrets" not in granted
    rule = certificates_rule()
    assert (rule["resources"], rule["verbs"]) == (["secrets"], ["list", "watch"])
    assert rule["resourceNames"] == ["web-tls"]


def test_routes_may_be_changed_only_where_auto_ports_are_wanted() -> None:
    granted = [
        (resource, verb)
        for item in documents("base/rbac.yaml")
        for rule in item.get("rules", ())
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
    assert ("routes", "patch") not in granted
    assert ("routes/status", "patch") in granted
    assert (auto_ports_rule()["resources"], auto_ports_rule()["verbs"]) == (["routes"], ["patch"])


def test_only_ports_an_unprivileged_user_may_bind() -> None:
    for path in SETTINGS:
        assert min(settings(path).pool().by_port) >= 1024


def test_containers_run_commands_that_exist(pod: dict[str, Any]) -> None:
    ours = {name: item for name, item in containers(pod).items() if name != "haproxy"}
    assert {name: item["args"] for name, item in ours.items()} == {
        "render": ["render"],
        "sidecar": ["run"],
    }
    for item in ours.values():
        assert run_cli(*item["args"], "--help").code == 0
    mounts = {
        mount["name"]: mount["mountPath"]
        for item in ours.values()
        for mount in item["volumeMounts"]
    }
    for item in ours.values():
        variables = {entry["name"]: entry.get("value") for entry in item["env"]}
        assert variables["SIDECAR_CONFIG"] == f"{mounts['settings']}/sidecar.yaml"


def test_haproxy_is_stock_and_starts_on_what_render_wrote(pod: dict[str, Any]) -> None:
    haproxy = containers(pod)["haproxy"]
    assert haproxy["image"] == "haproxy"
    assert "command" not in haproxy
    assert haproxy["args"] == ["-f", str(settings().haproxy.config)]
    assert haproxy["volumeMounts"] == [{"name": "run", "mountPath": "/run/haproxy"}]


def test_the_sidecar_is_native_and_alone_has_a_token(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert containers(pod)["sidecar"]["restartPolicy"] == "Always"
    with_token = [
        name
        for name, item in containers(pod).items()
        if any(mount["name"] == "token" for mount in item["volumeMounts"])
    ]
    assert with_token == ["sidecar"]


def test_the_sidecar_drives_for_as_long_as_the_pod_may_end(pod: dict[str, Any]) -> None:
    for path in SETTINGS:
        assert settings(path).timing.grace == pod["terminationGracePeriodSeconds"]


def test_probes_ask_where_something_answers(pod: dict[str, Any]) -> None:
    found = settings()
    assert found.http.listen
    assert found.haproxy.metrics_listen
    listens = {
        "sidecar": (split_host_port(found.http.listen)[1], {"/healthz", "/readyz"}),
        "haproxy": (split_host_port(found.haproxy.metrics_listen)[1], {"/metrics?scope=global"}),
    }
    asked = 0
    for name, item in containers(pod).items():
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in item:
                port, paths = listens[name]
                ports = {entry["name"]: entry["containerPort"] for entry in item["ports"]}
                assert ports[item[probe]["httpGet"]["port"]] == port
                assert item[probe]["httpGet"]["path"] in paths
                asked += 1
    assert asked == 5
    metrics = documents("base/service.yaml")[1]
    assert {port["name"]: port["port"] for port in metrics["spec"]["ports"]} == {
        name: port for name, (port, _) in listens.items()
    }


def test_a_stuck_container_is_restarted_long_before_the_pod_would_have_to_end(
    pod: dict[str, Any],
) -> None:
    for name in ("sidecar", "haproxy"):
        probe = containers(pod)[name]["livenessProbe"]
        seconds = probe["periodSeconds"] * probe["failureThreshold"]
        assert seconds + probe["terminationGracePeriodSeconds"] <= 90


def test_a_sidecar_that_is_replaced_does_not_make_its_pod_unready(pod: dict[str, Any]) -> None:
    """Its start, and the longest pause before it, are within what the probe forgives."""
    probe = containers(pod)["sidecar"]["readinessProbe"]
    forgiven = probe["periodSeconds"] * (probe["failureThreshold"] - 1)
    assert forgiven >= supervisor.LONGEST_PAUSE_SECONDS + 2.0


def test_the_network_policy_lets_the_pools_ports_in() -> None:
    (policy,) = documents("components/networkpolicy/networkpolicy.yaml")
    clients, _ = policy["spec"]["ingress"]
    allowed = {
        port
        for entry in clients["ports"]
        for port in range(entry["port"], entry.get("endPort", entry["port"]) + 1)
    }
    assert allowed == set(settings().pool().by_port)


def test_make_shell_goes_into_the_sidecar_of_a_pod(pod: dict[str, Any]) -> None:
    asked = ["make", "-s", "-n", "shell", "POD=router-a"]
    said = subprocess.run(asked, cwd=MANIFESTS.parent, capture_output=True, text=True, check=True)
    container = "sidecar"
    assert container in containers(pod)
    assert f"router-a -c {container} -- haproxy-sidecar shell" in said.stdout


def test_the_demo_and_the_egress_example_get_their_ports() -> None:
    overlays = [MANIFESTS / "overlays" / name for name in ("demo", "egress")]
    checked = run_cli("check", "-c", SETTINGS[0], *overlays)
    assert checked.code == 0, checked.out + checked.err
    for port in ("18080", "13306", "30001", "30002"):
        assert port in checked.out


def test_dashboard_and_alerts_use_metrics_that_exist() -> None:
    pool = Settings().pool()
    source = SourceReport("directory", "", (), 1.0)
    facts = Facts("", "sidecar", "", pool, source, {}, (), {}, (), frozenset(), {}, {})
    metrics = Metrics().registry
    metrics.register(Gauges(lambda: build_report(facts), pool))
    samples = {
        f"{family.name}{suffix}"
        for family in metrics.collect()
        for suffix in {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(
            family.type, [""]
        )
    }
    dashboard = json.loads((MANIFESTS / "components/dashboard/haproxy-sidecar.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    (rules,) = documents("components/alerts/alerts.yaml")
    expressions += [rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]]
    used = {name for text in expressions for name in re.findall(r"haproxy_sidecar_\w+", text)}
    assert used
    assert used <= samples


def test_alerts_of_certificates_come_14_and_3_days_before_their_end() -> None:
    (rules,) = documents("components/alerts/alerts.yaml")
    alerts = {
        rule["alert"].removeprefix("HAProxySidecar"): rule
        for group in rules["spec"]["groups"]
        for rule in group["rules"]
    }
    ends = (
        "min by (namespace, host) (haproxy_sidecar_certificate_remaining_seconds or"
        " haproxy_sidecar_default_certificate_remaining_seconds) <"
    )
    soon, very_soon = alerts["CertificateEnds"], alerts["CertificateEndsVerySoon"]
    assert soon["expr"] == f"{ends} 14 * 86400"
    assert very_soon["expr"] == f"{ends} 3 * 86400"
    assert soon["annotations"] == very_soon["annotations"]
    assert [rule["labels"]["severity"] for rule in (soon, very_soon)] == ["warning", "critical"]
    lacking = alerts["HostsWithoutCertificate"]
    assert lacking["expr"] == "haproxy_sidecar_hosts_without_certificate > 0"


def test_haproxys_own_metrics_are_there_and_the_probes_are_few(make_stand: MakeStand) -> None:
    stand = make_stand(start=False, pools=[{"ports": ["30000-30099"], "slots": 16}])
    listen = f"{stand.ip}:8404"
    section = stand.settings.haproxy.model_copy(update={"metrics_listen": listen})
    stand.settings = stand.settings.model_copy(update={"haproxy": section})
    stand.start()

    def scrape(query: str) -> str:
        with urllib.request.urlopen(f"http://{listen}/metrics?{query}", timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    assert len(scrape("scope=global")) < 50_000
    (monitor,) = documents("components/servicemonitor/servicemonitor.yaml")
    scopes = monitor["spec"]["endpoints"][1]["params"]["scope"]
    scraped = scrape("&".join(f"scope={scope}" for scope in scopes))
    dashboard = (MANIFESTS / "components/dashboard/haproxy-sidecar.json").read_text()
    used = set(re.findall(r"haproxy_frontend_\w+", dashboard))
    assert used
    for name in used:
        assert f"{name}{{" in scraped
