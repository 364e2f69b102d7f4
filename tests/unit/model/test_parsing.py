"""`sidecar.model.parsing`: what of an object is used, and the words for what cannot be."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import KEYS, PORT, ROUTER, endpoint_slice, legacy_endpoints, refused, route, service

from sidecar.common.errors import ObjectError
from sidecar.common.secret_text import SecretText
from sidecar.model.objects import (
    AGE_UNKNOWN,
    Key,
    Route,
    RouteTarget,
    RouteTLS,
    Service,
    ServicePort,
)
from sidecar.model.parsing import identify, project

# --- which object ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("route.openshift.io/v1", "Route"),
        ("v1", "Service"),
        ("v1", "Endpoints"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
    ],
)
def test_our_kinds_have_keys(api_version: str, kind: str) -> None:
    data = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "namespace": "b"}}
    assert identify(data) == Key(kind, "b", "a")


@pytest.mark.parametrize("metadata", [{"name": "a"}, {"name": "a", "namespace": None}])
def test_the_namespace_is_default_when_absent(metadata: object) -> None:
    data = {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
    assert identify(data) == Key("Service", "default", "a")


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("apps/v1", "Deployment"),
        ("v1", "ConfigMap"),
        # Vendors have kinds of the same name.
        ("serving.knative.dev/v1", "Service"),
        ("serving.knative.dev/v1", "Route"),
        ("ec2.aws.upbound.io/v1beta1", "Route"),
    ],
)
def test_other_kinds_are_nothing_to_us(api_version: str, kind: str) -> None:
    assert identify({"apiVersion": api_version, "kind": kind}) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "kind: missing: this is empty; a Kubernetes object is a mapping with"),
        ("hello", "kind: missing: this is text; a Kubernetes object is a mapping with"),
        ([1], "kind: missing: this is a list; a Kubernetes object is a mapping with"),
        ({}, "kind: missing; a kind must be a non-empty string, like Route"),
        ({"kind": ""}, "kind: '' is empty; a kind must be a non-empty string, like Route"),
        ({"kind": "Deployment"}, "apiVersion: missing; an apiVersion must be a non-empty string"),
        (
            {"kind": "Service", "apiVersion": 1},
            "apiVersion: 1 is a number; an apiVersion must be a non-empty string",
        ),
        (
            {"kind": "Route", "apiVersion": "v1"},
            (
                "apiVersion: 'v1' is not a supported apiVersion of Route; write"
                " route.openshift.io/v1"
            ),
        ),
        (
            {"kind": "Route", "apiVersion": "route.openshift.io/v1beta1"},
            "apiVersion: 'route.openshift.io/v1beta1' is not a supported apiVersion of Route;",
        ),
        (
            {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1beta1"},
            (
                "apiVersion: 'discovery.k8s.io/v1beta1' is not a supported apiVersion of"
                " EndpointSlice; write discovery.k8s.io/v1"
            ),
        ),
        (
            {"kind": "Service", "apiVersion": "apps/v1"},
            "apiVersion: 'apps/v1' is not a supported apiVersion of Service",
        ),
    ],
)
def test_what_is_no_object_is_refused(data: object, message: str) -> None:
    with pytest.raises(ObjectError) as caught:
        identify(data)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "metadata.name: missing; a name is lower-case letters"),
        ({}, "metadata.name: missing; a name is lower-case letters"),
        ([], "metadata: [] is a list; write a mapping"),
        ({"generateName": "web-"}, "metadata.name: missing;"),
        ({"name": 5}, "metadata.name: 5 is a number; a name is lower-case letters, digits,"),
        ({"name": True}, "metadata.name: True is a boolean;"),
        ({"name": "Web"}, "metadata.name: 'Web' is not a valid name; a name is lower-case letters"),
        ({"name": ""}, "metadata.name: '' is not a valid name;"),
        ({"name": "web; shutdown"}, "metadata.name: 'web; shutdown' is not a valid name;"),
        ({"name": "web\nset server"}, "metadata.name: 'web\\nset server' is not a valid name;"),
        ({"name": "web\n"}, "metadata.name: 'web\\n' is not a valid name;"),
        ({"name": "-web"}, "metadata.name: '-web' is not a valid name;"),
        ({"name": "a" * 254}, "metadata.name: 'aaaa"),
        ({"name": "web", "namespace": "A"}, "metadata.namespace: 'A' is not a valid name;"),
        ({"name": "web", "namespace": 1}, "metadata.namespace: 1 is a number;"),
    ],
)
def test_an_object_of_ours_needs_a_usable_name(metadata: object, message: str) -> None:
    data = {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
    with pytest.raises(ObjectError) as caught:
        identify(data)
    assert str(caught.value).startswith(message)


def test_a_message_shows_only_the_beginning_of_a_long_value() -> None:
    message = refused(service() | {"metadata": {"name": "x" * 10_000}})
    assert len(message) < 250


def test_a_message_shows_only_the_outside_of_a_deep_value() -> None:
    bomb: list[Any] = []
    for _ in range(60):
        bomb = [bomb, bomb]  # 2**60 lists, as YAML aliases can make
    assert len(refused(route({"to": bomb}))) < 250


# --- Route ----------------------------------------------------------------------------------


def test_an_annotated_route_as_it_is_found() -> None:
    data = route(
        {
            "to": {"kind": "Service", "name": "mysql", "weight": 100},
            "port": {"targetPort": 3306},
            "tls": {"termination": "passthrough"},
            "wildcardPolicy": "None",
        },
        {PORT: "13306", ROUTER: "wzh-router-1"},
        name="mysql",
        namespace="shop",
        uid="0b1c",
        creationTimestamp="2024-01-31T12:00:00Z",
    )
    assert project(data, KEYS) == Route(
        namespace="shop",
        name="mysql",
        uid="0b1c",
        created_seconds=1706702400.0,
        router_name="wzh-router-1",
        port="13306",
        kept_port=None,
        target_port="3306",
        targets=(RouteTarget("Service", "mysql", 100),),
        tls=RouteTLS("passthrough"),
        wildcard_policy="None",
    )


def test_what_a_route_need_not_say() -> None:
    assert project(route(), KEYS) == Route(
        namespace="default",
        name="web",
        uid="default/web",
        created_seconds=AGE_UNKNOWN,
        router_name=None,
        port=None,
        kept_port=None,
        target_port=None,
        targets=(RouteTarget("Service", "web", 100),),
        tls=None,
    )


def test_alternate_backends_follow_the_first() -> None:
    data = route(
        {
            "to": {"name": "a", "weight": 0},
            "alternateBackends": [
                {"kind": "Service", "name": "b", "weight": 256},
                {"kind": "Service", "name": "c"},
            ],
        }
    )
    found = project(data, KEYS)
    assert isinstance(found, Route)
    assert [(target.name, target.weight) for target in found.targets] == [
        ("a", 0),
        ("b", 256),
        ("c", 100),
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T00:00:10.5Z", 10.5),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01T00:00:00.123456789Z", 0.123456),
    ],
)
def test_creation_times_are_unix_seconds(text: str, seconds: float) -> None:
    found = project(route(creationTimestamp=text), KEYS)
    assert isinstance(found, Route)
    assert math.isclose(found.created_seconds, seconds)


@pytest.mark.parametrize(
    ("target_port", "text"), [(6620, "6620"), ("6620", "6620"), ("http", "http"), (None, None)]
)
def test_a_target_port_is_a_number_or_a_name(target_port: object, text: str | None) -> None:
    found = project(route({"port": {"targetPort": target_port}}), KEYS)
    assert isinstance(found, Route)
    assert found.target_port == text


def test_only_our_annotations_must_be_right() -> None:
    found = project(route(annotations={"example.com/count": 5, PORT: "6620"}), KEYS)
    assert isinstance(found, Route)
    assert found.port == "6620"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            route(annotations={PORT: 13306}),
            (
                f'metadata.annotations["{PORT}"]: 13306 is a number;'
                ' annotations must be strings, write "13306"'
            ),
        ),
        (
            route(annotations={ROUTER: True}),
            (
                f'metadata.annotations["{ROUTER}"]: True is a boolean;'
                ' annotations must be strings, write "true"'
            ),
        ),
        (
            route(annotations={PORT: ["6620"]}),
            f"metadata.annotations[\"{PORT}\"]: ['6620'] is a list; annotations must be strings",
        ),
        (route(annotations=[PORT]), f"metadata.annotations: ['{PORT}'] is a list; write a mapping"),
        (
            route() | {"spec": None},
            "spec.to: missing; name the Service to publish, {kind: Service, name: …}",
        ),
        (route() | {"spec": 5}, "spec: 5 is a number; write a mapping"),
        (route({"to": None}), "spec.to: missing; name the Service to publish"),
        (route({"to": "web"}), "spec.to: 'web' is text; write a mapping"),
        (route({"to": {}}), "spec.to.name: missing; a name is lower-case letters"),
        (route({"to": {"name": "web 1"}}), "spec.to.name: 'web 1' is not a valid name;"),
        (
            route({"to": {"name": "web", "weight": 257}}),
            "spec.to.weight: 257 is out of range; write a whole number from 0 to 256",
        ),
        (
            route({"to": {"name": "web", "weight": -1}}),
            "spec.to.weight: -1 is out of range; write a whole number from 0 to 256",
        ),
        (
            route({"to": {"name": "web", "weight": True}}),
            "spec.to.weight: True is a boolean; write a whole number from 0 to 256",
        ),
        (route({"to": {"name": "web", "weight": "5"}}), "spec.to.weight: '5' is text;"),
        (route({"to": {"name": "web", "weight": 1.5}}), "spec.to.weight: 1.5 is a number;"),
        (
            route({"alternateBackends": [{"name": "b"}, {"name": "c", "weight": 300}]}),
            "spec.alternateBackends[1].weight: 300 is out of range;",
        ),
        (route({"alternateBackends": {}}), "spec.alternateBackends: {} is a mapping; write a list"),
        (
            route({"alternateBackends": [None]}),
            "spec.alternateBackends[0]: missing; name the Service to publish",
        ),
        (
            route({"port": {"targetPort": ["http"]}}),
            "spec.port.targetPort: ['http'] is a list; write a port's number or name",
        ),
        (route({"port": {"targetPort": ""}}), "spec.port.targetPort: '' is text;"),
        (route({"port": {"targetPort": True}}), "spec.port.targetPort: True is a boolean;"),
        (route({"port": {"targetPort": 65536}}), "spec.port.targetPort: 65536 is out of range;"),
        (route({"port": {"targetPort": 80.5}}), "spec.port.targetPort: 80.5 is a number;"),
        (route({"tls": {"termination": 5}}), "spec.tls.termination: the value is a number;"),
        (
            route({"tls": {"termination": "edge", "key": 12345}}),
            "spec.tls.key: the value is a number; write it as PEM, in a string",
        ),
        (
            route({"tls": {"externalCertificate": {"name": 5}}}),
            "spec.tls.externalCertificate.name: the value is a number; a name of a Secret",
        ),
        (route({"tls": "edge"}), "spec.tls: the value is text; write a mapping"),
        (route(uid=7), 'metadata.uid: 7 is a number; a uid must be a string, write "7"'),
        (
            route(creationTimestamp="yesterday"),
            (
                "metadata.creationTimestamp: 'yesterday' is not a valid time;"
                " write a time like 2024-01-31T12:00:00Z"
            ),
        ),
        (route(creationTimestamp="2024-13-01T00:00:00Z"), "metadata.creationTimestamp:"),
        (route(creationTimestamp="2024-01-31T12:00:00"), "metadata.creationTimestamp:"),
        (route(creationTimestamp="2024-01-31"), "metadata.creationTimestamp:"),
        (route(creationTimestamp=1706702400), "metadata.creationTimestamp: 1706702400 is a number"),
    ],
)
def test_a_wrong_route_is_refused(data: object, message: str) -> None:
    assert refused(data).startswith(message)


# --- spec.tls, which may hold a private key ---------------------------------------------------

#: As a private key might look; nothing but `SecretText.text` may show any of it.
SECRET = "-----BEGIN PRIVATE KEY-----\nmarkedmarkedmarked\n-----END PRIVATE KEY-----\n"
PEM_FIELDS = ("certificate", "key", "caCertificate", "destinationCACertificate")


def test_a_route_has_its_tls_as_it_is_written() -> None:
    data = {
        "termination": "Edge",
        "insecureEdgeTerminationPolicy": "Redirect",
        "certificate": "a",
        "key": "b",
        "caCertificate": "c",
        "destinationCACertificate": "d",
        "externalCertificate": {"name": "e"},
    }
    found = project(route({"tls": data}), KEYS)
    assert isinstance(found, Route)
    assert found.tls == RouteTLS(
        "Edge", "Redirect", SecretText("a"), SecretText("b"), SecretText("c"), SecretText("d"), "e"
    )
    assert found.tls.key.text == "b"


@pytest.mark.parametrize(("tls", "found"), [(None, None), ({}, RouteTLS())])
def test_a_route_with_empty_tls_has_some(tls: object, found: RouteTLS | None) -> None:
    item = project(route({"tls": tls}), KEYS)
    assert isinstance(item, Route)
    assert item.tls == found


@pytest.mark.parametrize("name", PEM_FIELDS)
def test_nothing_shows_a_private_key(name: str) -> None:
    one, other = (
        project(route({"tls": {name: text}}), KEYS) for text in (SECRET, SECRET + "other")
    )
    with pytest.raises(AssertionError) as failure:
        # what pytest shows of a difference, field by field
        assert one == other
    for text in (repr(one), str(one), str(failure.value)):
        assert "RouteTLS" in text
        assert "marked" not in text


@pytest.mark.parametrize(
    "wrap", [lambda text: [text], lambda text: {text: text}, lambda text: {"a": [text]}]
)
@pytest.mark.parametrize("name", PEM_FIELDS)
def test_no_error_shows_a_private_key(name: str, wrap: Any) -> None:
    message = refused(route({"tls": {name: wrap(SECRET)}}))
    assert message.startswith(f"spec.tls.{name}: the value is a ")
    assert "marked" not in message


@pytest.mark.parametrize(
    "data",
    [
        route({"tls": SECRET}),
        route({"tls": [SECRET]}),
        route({"tls": {"termination": [SECRET]}}),
        # The base64 of a key without its BEGIN line, which nothing tells from other text.
        route({"tls": {"externalCertificate": "MIGHmarked"}}),
        route({"tls": {"externalCertificate": {"name": ["MIGHmarked"]}}}),
        route({"host": [SECRET]}),
        route() | {"spec": SECRET},
        route({"to": {"name": f"x: {SECRET}"}}),
    ],
    ids=["tls", "list", "termination", "external", "external name", "host", "spec", "name"],
)
def test_nor_of_one_in_the_wrong_place(data: dict[str, Any]) -> None:
    assert "marked" not in refused(data)


# --- Service --------------------------------------------------------------------------------


def test_a_service_and_its_defaults() -> None:
    data = service(
        clusterIP="10.0.0.1",
        ports=[
            {"port": 80},
            {"name": "db", "port": 3306, "targetPort": "mysql", "protocol": "UDP"},
            {"name": "alt", "port": 8080, "targetPort": 80},
        ],
    )
    assert project(data, KEYS) == Service(
        "default",
        "web",
        (
            ServicePort("", 80, "TCP", "80"),
            ServicePort("db", 3306, "UDP", "mysql"),
            ServicePort("alt", 8080, "TCP", "80"),
        ),
        None,
    )


def test_an_external_name_is_one_by_its_type() -> None:
    named = service(type="ExternalName", externalName="db.example.com")
    assert project(named, KEYS) == Service("default", "web", (), "db.example.com")
    rooted = service(type="ExternalName", externalName="db.example.com.")
    assert project(rooted, KEYS) == project(named, KEYS)
    other = service(type="ClusterIP", externalName="db.example.com")
    assert project(other, KEYS) == Service("default", "web", (), None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (service(ports=[{}]), "spec.ports[0].port: missing; write a whole number from 1 to 65535"),
        (service(ports=[{"port": 0}]), "spec.ports[0].port: 0 is out of range;"),
        (service(ports=[{"port": 65536}]), "spec.ports[0].port: 65536 is out of range;"),
        (service(ports=[{"port": "80"}]), "spec.ports[0].port: '80' is text; write a whole number"),
        (
            service(ports=[{"port": 80, "protocol": "tcp"}]),
            "spec.ports[0].protocol: 'tcp' is not a valid protocol; a protocol is one of TCP,",
        ),
        (service(ports=[{"port": 80, "targetPort": 0}]), "spec.ports[0].targetPort: 0 is out of"),
        (service(ports=[{"port": 80, "name": 80}]), "spec.ports[0].name: 80 is a number;"),
        (service(ports="80"), "spec.ports: '80' is text; write a list"),
        (service(type="ExternalName"), "spec.externalName: missing;"),
        (
            service(type="ExternalName", externalName="a b"),
            "spec.externalName: 'a b' is not a valid name;",
        ),
    ],
)
def test_a_wrong_service_is_refused(data: object, message: str) -> None:
    assert refused(data).startswith(message)


def test_a_kind_that_we_do_not_read_is_refused() -> None:
    message = refused({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}})
    assert message == (
        "kind: 'Pod' is not supported; supported: Route, Service, EndpointSlice, Endpoints, Secret"
    )


# --- anything -------------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def nearly(data: Any) -> st.SearchStrategy[Any]:
    """``data`` with any of its parts replaced by anything."""
    if isinstance(data, dict):
        whole: st.SearchStrategy[Any] = st.fixed_dictionaries(
            {key: nearly(value) for key, value in data.items()}
        )
    elif isinstance(data, list):
        whole = st.tuples(*(nearly(value) for value in data)).map(list)
    else:
        whole = st.just(data)
    # Mostly left as it is, so that what is deep inside is reached too.
    return st.integers(0, 15).flatmap(lambda pick: ANYTHING if pick == 0 else whole)


WHOLE = [
    route(
        {"alternateBackends": [{"name": "b", "weight": 1}], "port": {"targetPort": 80}},
        {PORT: "6620"},
        uid="1",
        creationTimestamp="2024-01-31T12:00:00Z",
    ),
    service(ports=[{"name": "a", "port": 80, "targetPort": "a", "protocol": "TCP"}]),
    endpoint_slice(
        {
            "addresses": ["10.0.0.1"],
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "name": "a"},
        },
        ports=[{"name": "a", "port": 80, "protocol": "TCP"}],
    ),
    legacy_endpoints({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}),
]


def refusal(data: Any) -> ObjectError | None:
    try:
        key = identify(data)
        assert key is None or project(data, KEYS).key == key
    except ObjectError as exc:
        return exc
    return None


@settings(deadline=None)  # a busy machine is no fault
@given(st.sampled_from(WHOLE).flatmap(nearly))
def test_whatever_comes_it_is_used_or_refused(data: object) -> None:
    error = refusal(data)
    assert error is None or (error.field and str(error).isprintable())
