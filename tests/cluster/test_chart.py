"""The chart makes what manifests/ has, and says which values are wrong; without an API server."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart import CHART, Helm, identities
from plane import MANIFESTS, ControlPlane

from sidecar.settings.parsing import parse_settings

TAGGED = {"image": {"tag": "latest"}}
OPENSHIFT = "--api-versions=security.openshift.io/v1"

#: Which the chart adds.
HELMS_LABELS = (
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
)

ALL_COMPONENTS = {
    "autoPorts": True,
    "networkPolicy": True,
    "monitoring": {"serviceMonitor": True, "alerts": True, "dashboard": True},
}


@pytest.fixture
def helm(tmp_path: Path) -> Helm:
    return Helm(tmp_path)


@pytest.fixture
def kustomize(tmp_path: Path) -> ControlPlane:
    """For its kustomize alone: it is never started."""
    (tmp_path / "plane").mkdir()
    return ControlPlane(tmp_path / "plane")


def alike(made: Sequence[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name, without what only tells helm's objects from kustomize's."""
    found = {}
    for item in copy.deepcopy(list(made)):
        kind, metadata = item["kind"], item["metadata"]
        if kind == "Namespace":
            continue  # helm's --create-namespace
        assert metadata.pop("namespace", "haproxy-sidecar") == "haproxy-sidecar"
        without(item, *HELMS_LABELS)
        labels = metadata.get("labels", {})
        # kustomize labels what is in the base, helm everything.
        labels.pop("app.kubernetes.io/name", None)
        metadata["labels"] = labels
        assert metadata.pop("annotations", None) in (None, {"helm.sh/resource-policy": "keep"})
        metadata["name"] = plain(metadata["name"])
        if "roleRef" in item:
            item["roleRef"]["name"] = plain(item["roleRef"]["name"])
        if kind in ("Deployment", "DaemonSet"):
            for volume in item["spec"]["template"]["spec"]["volumes"]:
                if volume["name"] == "settings":
                    volume["configMap"]["name"] = plain(volume["configMap"]["name"])
        if "sidecar.yaml" in item.get("data", {}):
            item["data"] = yaml.safe_load(item["data"]["sidecar.yaml"])
        assert (kind, metadata["name"]) not in found
        found[kind, metadata["name"]] = item
    return found


def plain(name: str) -> str:
    """Without the hash of the settings, and the namespace of what is in none."""
    head, settings, _ = name.partition("-settings-")
    return (head + settings).removeprefix("haproxy-sidecar:").removesuffix("-")


def without(data: Any, *keys: str) -> None:
    """Takes these keys out of all mappings."""
    if isinstance(data, dict):
        for key in keys:
            data.pop(key, None)
    for item in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        without(item, *keys)


@pytest.mark.parametrize(
    ("overlay", "components", "values", "options"),
    [
        ("kubernetes", (), {}, ()),
        (
            "kubernetes",
            ("auto-ports", "networkpolicy", "servicemonitor", "alerts", "dashboard"),
            ALL_COMPONENTS,
            (),
        ),
        ("openshift", (), {}, (OPENSHIFT,)),
        (
            "hostnetwork",
            (),
            {
                "hostNetwork": True,
                "routeCRD": False,
                "nodeSelector": {"haproxy-sidecar": "edge"},
                "settings": {
                    "pools": yaml.safe_load(
                        (MANIFESTS / "overlays/hostnetwork/sidecar.yaml").read_text()
                    )["pools"]
                },
            },
            (),
        ),
    ],
    ids=["kubernetes", "components", "openshift", "hostnetwork"],
)
def test_the_chart_is_what_the_overlay_is(
    helm: Helm,
    kustomize: ControlPlane,
    overlay: str,
    components: tuple[str, ...],
    values: dict[str, Any],
    options: tuple[str, ...],
) -> None:
    by_helm = alike(helm.template({"sidecar": TAGGED, **values}, *options))
    by_kustomize = alike(kustomize.overlay(overlay, *components))
    assert by_helm.keys() == by_kustomize.keys()
    for key, item in by_kustomize.items():
        assert by_helm[key] == item, key


def test_the_kind_route_outlives_its_release(helm: Helm) -> None:
    (crd,) = (item for item in helm.template({}) if item["kind"] == "CustomResourceDefinition")
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_external_certificates_are_the_components(helm: Helm) -> None:
    wanted = list(
        yaml.safe_load_all((MANIFESTS / "components/external-certificates/role.yaml").read_text())
    )
    made = helm.template(
        {
            "externalCertificates": [{"namespace": "demo", "secrets": ["web-tls"]}],
            "settings": {"listeners": [{"name": "https", "kind": "tls", "bind": ["[::]:8443"]}]},
        }
    )
    found = [item for item in made if item["metadata"].get("namespace") == "demo"]
    for item in found:
        del item["metadata"]["namespace"], item["metadata"]["labels"]
    assert found == wanted
    assert settings_of(made)["web"] == {"external_certificates": True}


def settings_of(made: Sequence[dict[str, Any]]) -> dict[str, Any]:
    (text,) = (
        item["data"]["sidecar.yaml"] for item in made if "sidecar.yaml" in item.get("data", {})
    )
    parse_settings(text, {}, "sidecar.yaml")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


LISTENERS: dict[str, Any] = {
    "settings": {
        "listeners": [
            {"name": "http", "kind": "http", "bind": ["0.0.0.0:8080"]},
            {"name": "https", "kind": "tls", "bind": ["0.0.0.0:443"]},
            {"name": "inside", "kind": "tls", "bind": ["[::]:9443"]},
        ],
        # A whole number that YAML writes with an exponent if it is taken for another.
        "haproxy": {"maxconn": 1000000},
    },
    "tls": {"secretName": "router-tls"},
    "networkPolicy": True,
}


def test_listeners_are_reached_by_the_service_and_through_the_policy(helm: Helm) -> None:
    made = helm.template(LISTENERS)
    settings = settings_of(made)
    assert settings["haproxy"]["maxconn"] == 1000000
    assert settings["web"]["default_certificate"] == "/etc/haproxy-sidecar-tls"
    found = {
        (item["kind"], item["metadata"]["name"]): item["spec"] for item in made if "spec" in item
    }
    service = found["Service", "haproxy-sidecar"]
    assert [tuple(entry.values()) for entry in service["ports"]] == [
        ("tcp-6620", 6620),
        ("http", 80, 8080),
        ("https", 443, 443),
        ("inside", 9443, 9443),
    ]
    (clients, _) = found["NetworkPolicy", "haproxy-sidecar"]["ingress"]
    assert [entry["port"] for entry in clients["ports"]] == [
        6620,
        13306,
        18080,
        30000,
        8080,
        443,
        9443,
    ]
    pod = found["Deployment", "haproxy-sidecar"]["template"]["spec"]
    assert pod["securityContext"]["sysctls"], "443 is below 1024"
    assert {"name": "tls", "secret": {"secretName": "router-tls"}} in pod["volumes"]
    for container in pod["initContainers"]:
        assert "tls" in {mount["name"] for mount in container["volumeMounts"]}


def test_what_pods_are_given(helm: Helm) -> None:
    made = helm.template(
        {
            "replicas": None,
            "sidecar": {"image": {"repository": "registry/ours", "digest": f"sha256:{'a' * 64}"}},
            "imagePullSecrets": [{"name": "registry"}],
            "priorityClassName": "system-cluster-critical",
            "nodeSelector": {"edge": "true"},
            "tolerations": [{"key": "edge", "operator": "Exists"}],
            "topologySpread": {
                "kubernetes.io/hostname": None,
                "topology.kubernetes.io/zone": "DoNotSchedule",
            },
            "volumes": [{"name": "token", "secret": {"secretName": "page"}}],
            "volumeMounts": [{"name": "token", "mountPath": "/token", "readOnly": True}],
            "terminationGracePeriodSeconds": 3600,
            "preStopSeconds": 30,
            "service": {"spec": {"externalTrafficPolicy": "Local"}},
            "podDisruptionBudget": False,
        }
    )
    assert "PodDisruptionBudget" not in {item["kind"] for item in made}
    (service,) = (item for item in made if item["kind"] == "Service" and "type" in item["spec"])
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    (deployment,) = (item["spec"] for item in made if item["kind"] == "Deployment")
    assert "replicas" not in deployment
    pod = deployment["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert pod["nodeSelector"] == {"edge": "true"}
    assert pod["tolerations"] == [{"key": "edge", "operator": "Exists"}]
    (spread,) = pod["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == (
        "topology.kubernetes.io/zone",
        "DoNotSchedule",
    )
    assert pod["terminationGracePeriodSeconds"] == 3600
    assert settings_of(made)["timing"] == {"grace": "3600s"}
    render, sidecar = pod["initContainers"]
    assert render["image"] == sidecar["image"] == f"registry/ours@sha256:{'a' * 64}"
    for container in (render, sidecar):
        assert container["volumeMounts"][2]["mountPath"] == "/token"
    (haproxy,) = pod["containers"]
    assert haproxy["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "30"]


def test_permissions_are_those_that_the_settings_take(helm: Helm) -> None:
    narrow = helm.template(
        {"settings": {"source": {"namespaces": ["a", "b"], "endpoints": "endpoints"}}}
    )
    kinds = {(item["kind"], item["metadata"].get("namespace")) for item in narrow}
    assert not {kind for kind, _ in kinds} & {"ClusterRole", "ClusterRoleBinding"}
    assert {("Role", "a"), ("RoleBinding", "a"), ("Role", "b"), ("RoleBinding", "b")} <= kinds
    (role,) = (
        item for item in narrow if item["metadata"].get("namespace") == "a" and "rules" in item
    )
    assert "endpoints" in [rule["resources"][0] for rule in role["rules"]]
    wide = helm.template({"settings": {"source": {"namespace_labels": "edge=b"}}})
    (role,) = (item for item in wide if item["kind"] == "ClusterRole")
    assert ["namespaces"] in [rule["resources"] for rule in role["rules"]]


def test_a_section_whose_keys_are_all_commented_out_is_as_if_it_were_not_there(helm: Helm) -> None:
    plain = helm.template({})
    sections = ("source", "web", "timing", "kubernetes", "drain")
    made = helm.template({"settings": dict.fromkeys(sections)})

    def but_for_the_settings(objects: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Of what null is, both have a file of their own."""
        kinds = ("ConfigMap", "Deployment")
        return [item for item in objects if item["kind"] not in kinds]

    assert but_for_the_settings(made) == but_for_the_settings(plain)
    found = {key: value for key, value in settings_of(made).items() if value is not None}
    assert found == settings_of(plain)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replica": 3}, "additional properties 'replica' not allowed"),
        ({"replicas": "3"}, "'/replicas': got string, want null or integer"),
        ({"runVolumeSize": 128}, "'/runVolumeSize': got number, want string"),
        ({"sidecar": {"image": "ours:1"}}, "'/sidecar/image': got string, want object"),
        ({"haproxy": {"image": {"digest": "1"}}}, "'/haproxy/image/digest': '1' does not match"),
        ({"haproxy": {"image": {"tag": ""}}}, "'/haproxy/image/tag': '' does not match"),
        ({"topologySpread": {"zone": "x"}}, "one of 'ScheduleAnyway', 'DoNotSchedule'"),
        ({"externalCertificates": [{"namespace": "a"}]}, "missing property 'secrets'"),
        (
            {"settings": {"haproxy": {"maxcon": 1}}},
            "'/settings/haproxy': additional properties 'maxcon' not allowed",
        ),
        ({"settings": {"http": {"listen": False}}}, "settings.http.listen: false is not"),
        # What the templates read: null takes away what the chart has by default.
        ({"settings": {"http": None}}, "settings.http.listen: null is not an address with a port"),
        ({"settings": {"haproxy": None}}, "settings.haproxy.metrics_listen: null is not"),
        ({"settings": None}, "missing property 'settings'"),
        ({"settings": {"pools": None}}, "'/settings': missing property 'pools'"),
        ({"settings": {"pools": [None]}}, "'/settings/pools/0': got null, want object"),
        ({"settings": {"pools": [{}]}}, "'/settings/pools/0': missing property 'ports'"),
        (
            {"settings": {"pools": [{"ports": None}]}},
            "'/settings/pools/0/ports': got null, want integer or string or array",
        ),
        ({"settings": {"listeners": [None]}}, "'/settings/listeners/0': got null, want object"),
        (
            {"settings": {"listeners": [{"name": "https", "kind": "tls"}]}},
            "'/settings/listeners/0': missing property 'bind'",
        ),
        (
            {"settings": {"listeners": [{"name": "a", "kind": "tls", "bind": "0.0.0.0:8443"}]}},
            "'/settings/listeners/0/bind': got string, want array",
        ),
        (
            {"settings": {"listeners": [{"name": "a", "kind": "tls", "bind": []}]}},
            "'/settings/listeners/0/bind': minItems: got 0, want 1",
        ),
        (
            {"settings": {"source": {"namespaces": "team-a"}}},
            "'/settings/source/namespaces': got string, want array",
        ),
        *(
            ({key: None}, f"missing property '{key}'")
            for key in (
                *("hostNetwork", "sidecar", "haproxy", "service", "tls", "monitoring"),
                *("runVolumeSize", "terminationGracePeriodSeconds", "preStopSeconds"),
            )
        ),
        *(
            ({key: {"image": None}}, f"'/{key}': missing property")
            for key in ("sidecar", "haproxy")
        ),
        ({"haproxy": {"image": {"tag": None}}}, "'/haproxy/image': missing property 'tag'"),
        (
            {"settings": {"pools": [{"ports": ["1"], "balance": "best"}]}},
            "'/settings/pools/0/balance': value must be one of 'leastconn'",
        ),
        ({"settings": {"pools": []}}, "'/settings/pools': minItems: got 0, want 1"),
        (
            {"settings": {"haproxy": {"socket": "/admin"}}},
            'settings.haproxy.socket: the chart sets it to "/run/haproxy/admin.sock"; leave it out',
        ),
        (
            {"settings": {"timing": {"grace": "1h"}}},
            "leave it out, and set terminationGracePeriodSeconds",
        ),
        ({"service": {"spec": {"ports": []}}}, "service.spec.ports: the chart sets it"),
        ({"service": {"spec": {"selector": {}}}}, "service.spec.selector: the chart sets it"),
    ],
)
def test_a_wrong_value_is_named(helm: Helm, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AssertionError) as refused:
        helm.template(values)
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        *(
            {key: None}
            for key in (
                *("replicas", "imagePullSecrets", "volumes", "volumeMounts", "podDisruptionBudget"),
                *("priorityClassName", "nodeSelector", "tolerations", "topologySpread", "routeCRD"),
                *("autoPorts", "externalCertificates", "networkPolicy"),
            )
        ),
        {"service": {"spec": None, "annotations": None}},
        {"tls": {"secretName": None}},
        {"sidecar": {"resources": None, "image": {"tag": None, "digest": None}}},
        {"settings": {"pools": [{"ports": 6620}]}},
        {"settings": {"pools": [{"ports": "6620"}]}},
    ],
    ids=str,
)
def test_a_value_that_may_be_missing(helm: Helm, values: dict[str, Any]) -> None:
    made = helm.template(values)
    assert settings_of(made)
    assert {"Service", "Deployment", "Role"} <= {item["kind"] for item in made}


def test_a_name_that_is_too_long_is_refused(helm: Helm) -> None:
    assert helm.template({}, release="a" * 28)
    with pytest.raises(AssertionError, match="choose one of at most 28 characters"):
        helm.template({}, release="a" * 29)


def test_releases_have_nothing_in_common(helm: Helm) -> None:
    where = [("a", "edge-a"), ("b", "edge-a"), ("a", "edge-b"), ("haproxy-sidecar", "edge-a")]
    seen: set[tuple[str, str, str]] = set()
    for release, namespace in where:
        made = identities(
            helm.template(
                {"routeCRD": False, **ALL_COMPONENTS}, release=release, namespace=namespace
            )
        )
        assert {place for _, place, _ in made} == {"", namespace}
        assert not seen & made
        seen |= made


def test_lint_finds_nothing(helm: Helm) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), values=LISTENERS)
