"""Where egress routers are configured, and what becomes of each."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand import ROUTER, pool_of

from sidecar.importers.annotated import Router
from sidecar.importers.egress import Converted, convert
from sidecar.importers.egress_sources import (
    Configured,
    from_environment,
    from_objects,
)
from sidecar.importers.egress_values import Leads, Skipped
from sidecar.importers.environment import is_environment
from sidecar.model.parsing import project
from sidecar.settings.schema import Settings

KEYS = Settings().annotations.keys()


def env(**values: object) -> list[dict[str, Any]]:
    """A container's variables: a text, or what ``valueFrom`` has."""
    return [
        {"name": name, "value" if isinstance(value, str) else "valueFrom": value}
        for name, value in values.items()
    ]


def pod(name: str = "out", *containers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "demo", **more}
    spec = {"containers": [{"name": "c", "env": variables} for variables in containers]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def config_map(name: str, namespace: str = "demo", **data: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def key(name: str, of: str = "destination", **more: Any) -> dict[str, Any]:
    return {"configMapKeyRef": {"name": name, "key": of, **more}}


def one(*objects: Any) -> Configured:
    (found,) = from_objects(objects)
    assert isinstance(found, Configured)
    return found


def ports(found: Configured) -> list[int]:
    return [item.port for item in found.items if isinstance(item, Leads)]


def skipped(found: Configured) -> list[str]:
    return [str(item) for item in found.items if isinstance(item, Skipped)]


TO_80 = env(EGRESS_DESTINATION="80 tcp 1.2.3.4")


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("Pod", ["spec"]),
        *((kind, ["spec", "template", "spec"]) for kind in ("Deployment", "DaemonSet", "Job")),
        ("DeploymentConfig", ["spec", "template", "spec"]),
        ("CronJob", ["spec", "jobTemplate", "spec", "template", "spec"]),
    ],
)
@pytest.mark.parametrize("of", ["containers", "initContainers"])
def test_containers_of_pods_and_templates(kind: str, steps: list[str], of: str) -> None:
    data: dict[str, Any] = {of: [{"name": "a"}, {"name": "b", "env": TO_80}]}
    for step in reversed(steps):
        data = {step: data}
    found = one({"kind": kind, "metadata": {"name": "out", "namespace": "demo"}, **data})
    assert (found.title, found.namespace, found.name) == (f"{kind} demo/out", "demo", "out")
    assert ports(found) == [80]


def test_what_an_owner_says_is_said_once() -> None:
    def owned(data: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
        data["metadata"]["ownerReferences"] = [{"kind": kind, "name": name, "controller": True}]
        return data

    pods = [pod("out-1-x", TO_80), pod("out-1-y", TO_80)]
    pods = [owned(item, "ReplicaSet", "out-1") for item in pods]
    template = {"template": {"spec": pods[0]["spec"]}}
    metadata = {"name": "out-1", "namespace": "demo"}
    replicas = owned(
        {"kind": "ReplicaSet", "metadata": metadata, "spec": template}, "Deployment", "out"
    )
    made = {
        "kind": "Deployment",
        "metadata": {"name": "out", "namespace": "demo"},
        "spec": template,
    }
    assert one(*pods, replicas, made).title == "Deployment demo/out"
    assert one(*pods, replicas).title == "ReplicaSet demo/out-1"
    # Alone, both are converted, into the same port of the first.
    first, second = converted(*pods)
    assert (len(first.ports), len(second.ports), second.problems) == (1, 0, ())
    assert "as in Pod demo/out-1-x, which is converted" in second.doubts[0]


def test_who_looks_after_an_object_without_having_made_it_says_nothing_for_it() -> None:
    here = pod("out-1", TO_80)
    owner = {"kind": "Pod", "name": "out", "controller": False}
    here["metadata"]["ownerReferences"] = [owner]
    titles = [
        item.title for item in from_objects([pod("out", []), here]) if isinstance(item, Configured)
    ]
    assert titles == ["Pod demo/out-1"]


def test_values_in_config_maps() -> None:
    routes = config_map("routes", destination="80 tcp 1.2.3.4\n81 udp 1.2.3.4")
    found = one(pod("out", env(EGRESS_DESTINATION=key("routes"))), routes)
    assert ports(found) == [80]
    place = "EGRESS_DESTINATION (ConfigMap demo/routes, key destination), line 2"
    assert skipped(found)[0].startswith(f"{place}: '81 udp 1.2.3.4': ")

    whole = pod("out", [])
    whole["spec"]["containers"][0]["envFrom"] = [
        {"configMapRef": {"name": "all"}, "prefix": "EGRESS_"},
        {"secretRef": {"name": "s"}},
    ]
    found = one(whole, config_map("all", DESTINATION="82 tcp 1.2.3.4", other="x"))
    assert ports(found) == [82]
    # A ConfigMap that would be an egress router, if none here referred to it.
    whole = from_whole({"configMapRef": {"name": "all"}})
    found = one(whole, config_map("all", EGRESS_DESTINATION="82 tcp 1.2.3.4"))
    assert (found.title, ports(found)) == ("Pod demo/out", [82])


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (key("none"), "there is no ConfigMap demo/none in the files; pass it, too"),
        (key("routes", "x"), "ConfigMap demo/routes has no key x; available: a, b"),
        ({"secretKeyRef": {"name": "s", "key": "k"}}, "its value is not in a ConfigMap"),
    ],
)
def test_values_that_are_elsewhere(source: dict[str, Any], problem: str) -> None:
    here = pod("out", env(EGRESS_DESTINATION=source), TO_80)
    found = one(here, config_map("routes", a="1", b="2"), config_map("none", namespace="other"))
    assert problem in skipped(found)[0]
    assert ports(found) == [80]


@pytest.mark.parametrize(
    ("of", "data", "problem"),
    [
        ("k" * 90, {}, f"no key {'k' * 79}…; available: none"),
        ("x", {f"k{at}": "" for at in range(12)}, "k6, k7, and 2 more"),
        ("x", {letter * 200: "" for letter in "ab"}, f"available: {'a' * 200}, {'b' * 37}…"),
    ],
)
def test_keys_that_are_there_instead_fill_no_screen(
    of: str, data: dict[str, str], problem: str
) -> None:
    here = pod("out", env(EGRESS_DESTINATION=key("routes", of)))
    (line,) = skipped(one(here, config_map("routes", **data)))
    assert line.endswith(problem)


def from_whole(*references: dict[str, Any], **variables: str) -> dict[str, Any]:
    here = pod("out", env(**variables))
    here["spec"]["containers"][0]["envFrom"] = list(references)
    return here


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ({"secretKeyRef": {"name": "s", "key": "k"}}, []),
        (key("none"), []),
        # Kubernetes leaves out what it need not have, and no more.
        (key("none", optional=True), [80]),
    ],
)
def test_a_value_that_is_elsewhere_comes_before_those_of_whole_config_maps(
    source: dict[str, Any], left: list[int]
) -> None:
    here = from_whole({"configMapRef": {"name": "all"}})
    here["spec"]["containers"][0]["env"] = env(EGRESS_DESTINATION=source)
    found = one(here, config_map("all", EGRESS_DESTINATION="80 tcp 203.0.113.9"))
    assert ports(found) == left
    assert len(skipped(found)) == (not left)


def test_whole_config_maps_and_secrets_that_are_not_there() -> None:
    references: list[dict[str, Any]] = [
        {"configMapRef": {"name": "none"}},
        {"configMapRef": {"name": "maybe", "optional": True}},
        {"secretRef": {"name": "s"}, "prefix": "EGRESS_"},
        {"secretRef": {"name": "maybe", "optional": True}},
        {"configMapRef": {"name": "No\n"}},
        {"configMapRef": {"name": "empty"}},
    ]
    empty = {"kind": "ConfigMap", "metadata": {"name": "empty", "namespace": "demo"}}
    found = one(from_whole(*references, EGRESS_DESTINATION="80 tcp 1.2.3.4"), empty)
    assert ports(found) == [80]
    config_map, secret, name = skipped(found)
    assert config_map == (
        "envFrom: 'ConfigMap demo/none': there is no ConfigMap demo/none in the files; pass it, too"
    )
    assert secret == (
        "envFrom: 'Secret demo/s': Secret demo/s is not read; write those of its variables that are"
        " for an egress router as values"
    )
    assert name.startswith("envFrom: 'ConfigMap': ")
    assert "configMapRef.name: 'No\\n' is not a valid name" in name


def test_whose_config_map_is_missed() -> None:
    """A dump of a cluster has many containers, of which most are none of this."""
    missing = {"configMapRef": {"name": "none"}}
    assert list(from_objects([from_whole(missing, CONFIG_FILE="/etc/app", A="b")])) == []
    found = one(from_whole(missing, EGRESS_SOURCE="192.168.12.99/24"))
    assert skipped(found)[0].startswith("envFrom: 'ConfigMap demo/none': ")
    beside = pod("out", TO_80, [])
    beside["spec"]["containers"][1]["envFrom"] = [missing]
    assert skipped(one(beside)) == []


def test_values_that_need_not_be_there_or_are_no_text() -> None:
    optional = pod("out", env(EGRESS_DESTINATION=key("none", optional=True)), TO_80)
    assert (skipped(one(optional)), ports(one(optional))) == ([], [80])
    # Kubernetes asks neither for the ConfigMap nor for the key.
    routes = config_map("routes", other="x")
    no_key = pod("out", env(EGRESS_DESTINATION=key("routes", optional=True)), TO_80)
    assert (skipped(one(no_key, routes)), ports(one(no_key, routes))) == ([], [80])
    number = pod("out", TO_80)
    number["spec"]["containers"].append({"env": [{"name": "EGRESS_SOURCE", "value": 5}]})
    assert skipped(one(number)) == [
        "EGRESS_SOURCE: '5': 5 is a number; write the value as text, write \"5\""
    ]


def test_a_config_map_that_no_pod_refers_to() -> None:
    found = one(config_map("routes", destination="80 www.example.com", other="x"))
    assert (found.title, ports(found)) == ("ConfigMap demo/routes", [80])
    assert (
        "taken for EGRESS_DNS_PROXY_DESTINATION, since no Pod here refers to it" in found.notes[0]
    )
    assert ports(one(config_map("routes", EGRESS_DESTINATION="81 tcp 1.2.3.4"))) == [81]
    assert list(from_objects([config_map("app", key="80 tcp 1.2.3.4"), {"kind": "Service"}])) == []


def test_an_egress_router() -> None:
    found = one(
        {
            "apiVersion": "network.operator.openshift.io/v1",
            "kind": "EgressRouter",
            "metadata": {"name": "out", "namespace": "demo"},
            "spec": {
                "mode": "Redirect",
                "addresses": [{"ip": "192.168.12.99/24", "gateway": "192.168.12.1"}],
                "redirect": {
                    "redirectRules": [
                        {"destinationIP": "10.0.0.9", "port": 80, "protocol": "UDP"},
                        {"destinationIP": "10.0.0.9", "port": 80, "protocol": "TCP"},
                        {"destinationIP": "10.0.0.8", "port": 80, "protocol": "TCP"},
                        "nonsense",
                        {"destinationIP": "10.0.0.9", "port": 8080, "targetPort": 80},
                    ],
                    "fallbackIP": "10.0.0.7",
                },
            },
        }
    )
    assert (found.title, ports(found)) == ("EgressRouter demo/out", [80, 8080])
    assert found.sources == [("spec.addresses[0].ip", "192.168.12.99")]
    rules = "spec.redirect.redirectRules"
    starts = [f"{rules}[0]: '80 UDP 10.0.0.9': stock", f"{rules}[2]: '80 TCP 10.0.0.8': port 80 is"]
    starts += [f"{rules}[3]: 'nonsense': ", "spec.redirect.fallbackIP: '10.0.0.7': a port"]
    for line, start in zip(skipped(found), starts, strict=True):
        assert line.startswith(start)
    assert "spec.addresses[0].gateway: '192.168.12.1': connections go by" in found.notes[0]


@pytest.mark.parametrize(
    ("values", "items", "notes"),
    [
        ({"EGRESS_SOURCE": "192.168.12.99/24"}, "", ""),
        ({"EGRESS_SOURCE": "192.168.12"}, "EGRESS_SOURCE: '192.168.12': write an IP address", ""),
        ({"EGRESS_SOURCE": "1.2.3.4/x"}, "EGRESS_SOURCE: '1.2.3.4/x': write an IP address", ""),
        ({"EGRESS_GATEWAY": "1.2.3.1"}, "", "EGRESS_GATEWAY: '1.2.3.1': connections go by the"),
        ({"EGRESS_ROUTER_MODE": "init"}, "", ""),
        ({"EGRESS_ROUTER_MODE": "x"}, "EGRESS_ROUTER_MODE: 'x': write one of legacy, init,", ""),
        ({"EGRESS_ROUTER_MODE": "dns-proxy"}, "", "EGRESS_DESTINATION: has no effect in mode dns-"),
        ({"CONFIG_FILE": "/my.cfg"}, "CONFIG_FILE: '/my.cfg': what it says is not converted", ""),
        ({"SYSLOG_ADDRESS": "x:514"}, "", "SYSLOG_ADDRESS: 'x:514': HAProxy's log goes to stdout"),
        ({"EGRESS_DNS_PROXY_DESTINATION": "81 1.2.3.4"}, "", ": HAProxy checked the destinations"),
    ],
)
def test_what_else_they_say(values: dict[str, str], items: str, notes: str) -> None:
    found = one(pod("out", env(EGRESS_DESTINATION="80 tcp 1.2.3.4", **values)))
    assert bool(items) == bool(skipped(found))
    assert items in "".join(skipped(found))
    assert bool(notes) == bool(found.notes)
    assert notes in "".join(found.notes)


ENVIRONMENT = """\
# of docker run --env-file
export EGRESS_SOURCE=192.168.12.99
TZ=Europe/Vienna
EGRESS_DESTINATION="
  80 tcp 1.2.3.4

  81 tcp 1.2.3.4 443
"
nonsense
SERVICE_NAME='my_name'
"""


def test_a_file_of_assignments() -> None:
    assert is_environment(ENVIRONMENT)
    assert not is_environment("kind: Pod\nA=b: c\n")
    assert not is_environment("")
    found = from_environment(ENVIRONMENT, "egress.env", "demo", "egress")
    assert found
    assert (found.title, found.namespace, found.name) == ("egress.env", "demo", "my_name")
    assert ports(found) == [80, 81]
    assert found.sources == [("EGRESS_SOURCE", "192.168.12.99")]
    assert skipped(found) == [
        "line 9: 'nonsense': write KEY=VALUE, with quotes around a value of several lines"
    ]
    assert from_environment("A=b\n", "x.env", "demo", "x") is None
    text = "EGRESS_SOURCE='1.2.3.4\nEGRESS_DESTINATION=80 tcp 1.2.3.4\n"
    found = from_environment(text, "x.env", "demo", "x")
    assert found
    assert ports(found) == [80]
    assert skipped(found)[0].startswith(
        "line 1: \"EGRESS_SOURCE='1.2.3.4\": the quote ' has no end"
    )


def router(**pool: Any) -> Router:
    return Router(ROUTER, KEYS, pool_of({"ports": ["80-90", "30000"], **pool}))


def converted(*objects: Any, **pool: Any) -> list[Converted]:
    found = [item for item in from_objects(objects) if isinstance(item, Configured)]
    return convert(found, router(**pool))


def test_a_port_that_two_have() -> None:
    """Each egress router has an address of its own; this one has each port once."""
    other = pod("other", env(EGRESS_DESTINATION="80 tcp 1.2.3.5\n81 tcp 1.2.3.5"))
    first, second = converted(pod("out", TO_80), other)
    assert [item.route["metadata"]["name"] for item in first.ports] == ["out-80"]
    assert [item.route["metadata"]["name"] for item in second.ports] == ["other-81"]
    (problem,) = second.problems
    assert "line 1: '80 tcp 1.2.3.5': port 80 is that of Pod demo/out; give it another" in problem
    # Another namespace's Service leads there, too, but not for its Routes.
    _, alike = converted(pod("out", TO_80), pod("out", TO_80, namespace="other"))
    assert (alike.ports, alike.doubts) == ((), ())
    assert "port 80 is that of Pod demo/out; give it another" in alike.problems[0]


def test_of_two_objects_of_one_name_the_first_counts() -> None:
    assert ports(one(pod("out", TO_80), pod("out", env(EGRESS_DESTINATION="81 tcp ::1")))) == [80]
    maps = [config_map("to", destination=f"{port} tcp 1.2.3.4") for port in (80, 81)]
    assert ports(one(pod("out", env(EGRESS_DESTINATION=key("to"))), *maps)) == [80]


def test_what_the_router_has_to_have() -> None:
    here = pod(
        "out", env(EGRESS_SOURCE="192.0.2.7", EGRESS_DESTINATION="80 tcp 1.2.3.4\n99 tcp ::1")
    )
    (done,) = converted(here)
    outside, source = done.problems
    assert "line 2: '99 tcp ::1': port 99 is in no pool of this router" in outside
    assert "EGRESS_SOURCE: connections came from 192.0.2.7; on a machine that has this" in source
    assert "set source: '192.0.2.7' in pool 'p0', or in one of their own for the ports 80" in source
    (done,) = converted(here, source="192.0.2.7", ports=["80", "99"])
    assert done.problems == ()
    # A pool that none of its ports is in has nothing to do with it.
    two = Router(ROUTER, KEYS, pool_of({"ports": ["80"]}, {"ports": ["99"]}))
    (done,) = convert([one(pod("out", env(EGRESS_SOURCE="192.0.2.7"), TO_80))], two)
    (problem,) = done.problems
    assert "in pool 'p0'" in problem
    alone = env(EGRESS_SOURCE="192.0.2.7", EGRESS_HTTP_PROXY_DESTINATION="*")
    (done,) = converted(pod("out", alone))
    assert "connections came from 192.0.2.7; pools[].source is the same here" in done.doubts[0]


def test_several_destinations_are_alike() -> None:
    """Addresses are in one Service, each name in one of its own, and each gets as much."""
    dest = "1.2.3.4;1.2.3.5;fd00::1;a.example.com;b.example.com"
    variables = env(SERVICE_TCP_PORT="30000", SERVICE_DEST=dest, SERVICE_DEST_PORT="5432")
    (done,) = converted(pod("db.main", variables))
    (port,) = done.ports
    spec = port.route["spec"]
    weights = [(item["name"], item["weight"]) for item in (spec["to"], *spec["alternateBackends"])]
    assert weights == [("db-main-30000", 3), ("db-main-30000-2", 1), ("db-main-30000-3", 1)]
    slices = [item for item in port.objects if item["kind"] == "EndpointSlice"]
    assert [(item["addressType"], len(item["endpoints"])) for item in slices] == [
        ("IPv4", 2),
        ("IPv6", 1),
    ]
    many = ";".join(f"{letter}.example.com" for letter in "abcde")
    variables = env(SERVICE_TCP_PORT="30000", SERVICE_DEST=many, SERVICE_DEST_PORT="5432")
    (done,) = converted(pod("db", variables))
    assert done.ports == ()
    assert "5 Services, one for each name, and a Route has 4 at most" in done.problems[0]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("out", "out-80"),
        ("7.out", "egress-7-out-80"),
        ("My_Name", "my-name-80"),
        ("\n", "egress-80"),
        ("a" * 80, f"{'a' * 60}-80"),
        (f"{'a' * 59}.b", f"{'a' * 59}-80"),
    ],
)
def test_names_are_those_of_services(name: str, made: str) -> None:
    found = from_environment("EGRESS_DESTINATION=80 tcp 1.2.3.4", "x", "demo", name)
    assert found
    (done,) = convert([found], router())
    assert [item["metadata"]["name"] for item in done.ports[0].objects[:2]] == [made, made]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.sampled_from(["Pod", "Deployment", "ConfigMap", "EgressRouter"]), st.data())
def test_any_object_is_understood_or_refused_in_a_line(kind: str, data: st.DataObject) -> None:
    """One value in an object that is good is replaced by any other."""
    good = {
        "kind": kind,
        "metadata": {"name": "out", "namespace": "demo", "ownerReferences": []},
        "data": {"destination": "80 tcp 1.2.3.4"},
        "spec": {
            "containers": [{"env": [{"name": "EGRESS_DESTINATION", "value": "80 tcp 1.2.3.4"}]}],
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "x"}, "prefix": "E"}]}],
            "redirect": {"redirectRules": [{"destinationIP": "1.2.3.4", "port": 80}]},
            "addresses": [{"ip": "1.2.3.4", "gateway": "1.2.3.1"}],
        },
    }
    inner: Any = good
    while True:
        step = data.draw(st.sampled_from(list(inner) if isinstance(inner, dict) else [0]))
        if not inner[step] or not isinstance(inner[step], dict | list) or data.draw(st.booleans()):
            inner[step] = data.draw(_JSON)
            break
        inner = inner[step]
    found = list(from_objects([good, good]))
    lines = [item for item in found if isinstance(item, str)]
    for done in convert([item for item in found if isinstance(item, Configured)], router()):
        lines += [*done.problems, *done.doubts]
        for item in (item for port in done.ports for item in port.objects):
            assert project(json.loads(json.dumps(item)), KEYS)
    assert all("\n" not in line and len(line) < 500 for line in lines)


@given(st.text(), st.text(max_size=20))
def test_any_file_is_understood_or_refused_in_a_line(text: str, name: str) -> None:
    found = from_environment(f"{text}\nEGRESS_DESTINATION=80 tcp 1.2.3.4", "x", "demo", name)
    is_environment(text)
    for done in convert([found] if found else [], router()):
        assert all("\n" not in line for line in (*done.problems, *done.doubts))
        assert all(project(item, KEYS) for port in done.ports for item in port.objects)
