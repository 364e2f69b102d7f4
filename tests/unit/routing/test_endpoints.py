"""`sidecar.routing.endpoints`: which servers a Route has, in which state, and what is said when
none."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from core import resolved, servers, web
from hypothesis import given
from hypothesis import strategies as st
from stand import endpoint, route, service, slice_

from sidecar.model.objects import Endpoint, EndpointPort, EndpointSet, Service, ServicePort
from sidecar.model.verdicts import ADMITTED_REASONS, Reason
from sidecar.routing.endpoints import Resolution

#: KEP-1672's conditions, for short.
READY = {"ready": True}
LEAVING = {"ready": False, "serving": True, "terminating": True}
DEAD = {"ready": False, "serving": False, "terminating": True}
STARTING = {"ready": False, "serving": False}


def with_ports(endpoint_set: EndpointSet, *ports: EndpointPort) -> EndpointSet:
    return replace(
        endpoint_set, groups=tuple(replace(group, ports=ports) for group in endpoint_set.groups)
    )


# Which port

TWO_PORTS = with_ports(
    slice_(endpoints=["10.0.0.1"]),
    EndpointPort("http", 8080, "TCP"),
    EndpointPort("admin", 9090, "TCP"),
)
TWO_PORT_SERVICE = service(
    "web", ServicePort("http", 80, "TCP", "8080"), ServicePort("admin", 90, "TCP", "9090")
)


@pytest.mark.parametrize(("wanted", "port"), [("http", 8080), ("9090", 9090), ("admin", 9090)])
def test_a_target_port_is_a_name_or_a_number_of_an_endpoint_port(wanted: str, port: int) -> None:
    found = resolved(route(target_port=wanted), TWO_PORT_SERVICE, TWO_PORTS)
    assert servers(found) == {f"10.0.0.1:{port}": ("ready", 256)}
    assert (found.reason, found.message) == (Reason.ADMITTED, "")


def test_without_a_target_port_a_route_by_host_uses_every_tcp_port() -> None:
    by_host = route(port=None)
    log = EndpointPort("log", 514, "UDP")
    http, admin = TWO_PORTS.groups[0].ports
    ends = with_ports(slice_(endpoints=["10.0.0.1", "10.0.0.2"]), http, admin, log)
    found = resolved(by_host, TWO_PORT_SERVICE, ends)
    assert servers(found) == {
        f"10.0.0.{n}:{port}": ("ready", 256) for n in (1, 2) for port in (8080, 9090)
    }
    assert (found.reason, found.message) == (Reason.ADMITTED, "")
    # Ports of endpoints that the Service does not have count, too, as where people write both.
    assert servers(resolved(by_host, service(), ends)) == servers(found)
    assert resolved(route(), TWO_PORT_SERVICE, ends).reason is Reason.AMBIGUOUS_TARGET_PORT
    # A weight is a Service's, divided over all of its servers.
    other = slice_("other", endpoints=["10.0.1.1"])
    both = resolved(
        route(port=None, also=[("other", 100)]), TWO_PORT_SERVICE, ends, service("other"), other
    )
    assert servers(both) == {
        **dict.fromkeys(servers(found), ("ready", 64)),
        "10.0.1.1:9000": ("ready", 256),
    }


def test_a_route_by_host_without_a_tcp_port() -> None:
    no_port = Service("demo", "web", (), None)
    udp = with_ports(slice_(endpoints=["10.0.0.1"]), EndpointPort("log", 514, "UDP"))
    found = resolved(route(port=None), no_port, udp)
    assert found.reason is Reason.UNSUPPORTED_PROTOCOL
    assert "the endpoints' port is not TCP" in found.message
    nothing = resolved(route(port=None), no_port, slice_(endpoints=[]))
    assert nothing.reason is Reason.NO_ENDPOINTS


@pytest.mark.parametrize(
    ("app_protocol", "port", "termination", "proto"),
    [
        ("h2c", None, None, "h2"),
        ("kubernetes.io/h2c", None, None, "h2"),
        ("kubernetes.io/h2c", None, "Edge", "h2"),
        ("kubernetes.io/h2c", None, "", "h2"),
        ("kubernetes.io/h2c", None, "passthrough", ""),
        ("kubernetes.io/h2c", None, "reencrypt", ""),
        ("kubernetes.io/h2c", "30000", None, ""),
        ("kubernetes.io/H2C", None, None, ""),
        ("kubernetes.io/ws", None, None, ""),
        ("http", None, None, ""),
        ("", None, None, ""),
    ],
)
def test_what_is_spoken_to_a_server(
    app_protocol: str, port: str | None, termination: str | None, proto: str
) -> None:
    item = route(port=port, termination=termination)
    ends = with_ports(slice_(endpoints=["10.0.0.1"]), EndpointPort("", 9000, "TCP", app_protocol))
    (server,) = resolved(item, service(), ends).servers
    assert server.proto == proto


def test_the_only_tcp_port_needs_no_target_port() -> None:
    both = service("web", ServicePort("log", 514, "UDP", "514"), ServicePort("t", 1, "TCP", "2"))
    ends = with_ports(
        slice_(endpoints=["10.0.0.1"]), EndpointPort("log", 514, "UDP"), EndpointPort("t", 2, "TCP")
    )
    assert servers(resolved(route(), both, ends)) == {"10.0.0.1:2": ("ready", 256)}


def test_each_slice_may_have_its_own_number_for_a_name() -> None:
    slices = [
        slice_(endpoints=[f"10.0.0.{n}"], port=8000 + n, port_name="x", name=str(n)) for n in (1, 2)
    ]
    assert list(servers(resolved(route(target_port="x"), service(), *slices))) == [
        "10.0.0.1:8001",
        "10.0.0.2:8002",
    ]


DNS = service("web", ServicePort("dns", 53, "UDP", "53"))
DNS_BOTH = service("web", *DNS.ports, ServicePort("dns-tcp", 53, "TCP", "53"))
DNS_PORTS = EndpointPort("dns", 53, "UDP"), EndpointPort("dns-tcp", 53, "TCP")
DNS_ENDS = with_ports(slice_(endpoints=["10.0.0.1"]), *DNS_PORTS)
DNS_STARTING = with_ports(slice_(endpoints=[endpoint("10.0.0.1", **STARTING)]), *DNS_PORTS)


@pytest.mark.parametrize(
    ("wanted", "objects", "reason", "words"),
    [
        (None, [], Reason.SERVICE_NOT_FOUND, ["'web'", "'demo'", "spec.to.name"]),
        (None, [service(namespace="other")], Reason.SERVICE_NOT_FOUND, ["'web'"]),
        (None, [service()], Reason.NO_ENDPOINTS, ["'web'", "no ready endpoint"]),
        (None, [service(), slice_()], Reason.NO_ENDPOINTS, ["'web'"]),
        (
            None,
            [TWO_PORT_SERVICE, TWO_PORTS],
            Reason.AMBIGUOUS_TARGET_PORT,
            ["'web'", "http, admin", "spec.port.targetPort"],
        ),
        (
            "mysql",
            [TWO_PORT_SERVICE, TWO_PORTS],
            Reason.TARGET_PORT_NOT_FOUND,
            ["spec.port.targetPort 'mysql'", "available ports: admin (9090), http (8080)"],
        ),
        # A Service's own port is none of its endpoints'.
        ("80", [TWO_PORT_SERVICE, TWO_PORTS], Reason.TARGET_PORT_NOT_FOUND, ["'80'", "8080"]),
        (
            None,
            [service("web", ServicePort("http", 80, "TCP", "x")), slice_(endpoints=["10.0.0.1"])],
            Reason.TARGET_PORT_NOT_FOUND,
            ["another name", "available ports: 9000"],
        ),
        (None, [DNS, DNS_ENDS], Reason.UNSUPPORTED_PROTOCOL, ["Service 'web' is not TCP"]),
        ("53", [DNS], Reason.UNSUPPORTED_PROTOCOL, ["Service 'web' is not TCP"]),
        ("dns", [DNS_BOTH, DNS_ENDS], Reason.UNSUPPORTED_PROTOCOL, ["port 'dns' is not TCP"]),
        # The same number for UDP is no reason to refuse TCP.
        ("53", [DNS_BOTH, DNS_STARTING], Reason.NO_ENDPOINTS, ["no ready endpoint"]),
    ],
)
def test_why_there_is_none(
    wanted: str | None, objects: list[Service | EndpointSet], reason: Reason, words: list[str]
) -> None:
    found = resolved(route(target_port=wanted), *objects)
    assert (found.servers, found.reason) == ((), reason)
    for word in words:
        assert word in found.message


def test_a_route_may_only_lead_to_services() -> None:
    item = route()
    odd = replace(item, targets=(replace(item.targets[0], kind="DeploymentConfig"),))
    found = resolved(odd, service(), slice_(endpoints=["10.0.0.1"]))
    assert (found.servers, found.reason) == ((), Reason.UNSUPPORTED_TARGET)
    assert "DeploymentConfig" in found.message


def test_waiting_for_endpoints_leaves_a_route_admitted() -> None:
    assert resolved(route(), service()).reason in ADMITTED_REASONS
    assert web("127.0.0.1").reason in ADMITTED_REASONS


# Which state


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ({"ready": True, "serving": True, "terminating": False}, "ready"),
        # A Service that publishes addresses that are not ready says `ready` whatever they do.
        ({"ready": True, "serving": True, "terminating": True}, "ready"),
        ({"ready": True, "serving": False, "terminating": False}, "ready"),
        ({"ready": False, "serving": True, "terminating": True}, "drain"),
        ({"ready": False, "serving": True, "terminating": False}, None),
        ({"ready": False, "serving": False, "terminating": True}, None),
        ({"ready": False, "serving": False, "terminating": False}, None),
    ],
)
def test_states_beside_a_ready_endpoint(conditions: dict[str, bool], state: str | None) -> None:
    found = servers(web("10.0.0.1", endpoint("10.0.0.2", **conditions)))
    assert found.pop("10.0.0.1:9000") == ("ready", 256)
    weight = 256 if state == "ready" else None
    assert found == ({"10.0.0.2:9000": (state, weight)} if state else {})


def test_leaving_endpoints_are_used_when_nothing_else_is_left() -> None:
    ends = [endpoint("10.0.0.1", **LEAVING), endpoint("10.0.0.2", **DEAD)]
    assert servers(web(*ends, endpoint("10.0.0.3", **STARTING))) == {
        "10.0.0.1:9000": ("ready", 256)
    }


def test_ready_wins_over_a_double_that_is_leaving() -> None:
    for ends in itertools.permutations([endpoint("10.0.0.1"), endpoint("10.0.0.1", **LEAVING)]):
        assert servers(web("10.0.0.2", *ends)) == {
            "10.0.0.1:9000": ("ready", 256),
            "10.0.0.2:9000": ("ready", 256),
        }


# Several Services


def split(weights: Sequence[int], *objects: Service | EndpointSet) -> Resolution:
    """A Route over Services a, b, … with these weights, and what exists of them."""
    first, *others = zip("abc", weights, strict=False)
    return resolved(route("web", service=first[0], weight=first[1], also=others), *objects)


A, B = service("a"), service("b")
A_ENDS, B_ENDS = slice_("a", ["10.0.0.1", "10.0.0.2"]), slice_("b", ["10.0.1.1"])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((50, 50), {"10.0.0.1": 128, "10.0.0.2": 128, "10.0.1.1": 256}),
        ((200, 100), {"10.0.0.1": 256, "10.0.0.2": 256, "10.0.1.1": 256}),
        ((100, 0), {"10.0.0.1": 256, "10.0.0.2": 256, "10.0.1.1": None}),
        ((0, 1), {"10.0.0.1": None, "10.0.0.2": None, "10.0.1.1": 256}),
    ],
)
def test_weights_are_shared_and_zero_drains(
    weights: tuple[int, int], expected: dict[str, int | None]
) -> None:
    found = split(weights, A, A_ENDS, B, B_ENDS)
    assert {item.address.ip: item.weight for item in found.servers} == expected
    assert {item.address.ip for item in found.servers if item.state == "drain"} == {
        ip for ip, weight in expected.items() if weight is None
    }
    assert (found.reason, found.message) == (Reason.ADMITTED, "")


@pytest.mark.parametrize("without_a", [False, True])
def test_weight_zero_takes_no_traffic_even_when_nothing_else_could(without_a: bool) -> None:
    weights = (100, 0) if without_a else (0, 0)
    found = split(weights, A, slice_("a") if without_a else A_ENDS, B, B_ENDS)
    assert {item.state for item in found.servers} == {"drain"}
    assert found.reason == Reason.ADMITTED
    assert "weight 0" in found.message


def test_leaving_endpoints_are_used_before_weight_zero_is() -> None:
    leaving = slice_("a", [endpoint("10.0.0.1", **LEAVING)])
    assert servers(split((100, 0), A, leaving, B, B_ENDS)) == {
        "10.0.0.1:9000": ("ready", 256),
        "10.0.1.1:9000": ("drain", None),
    }


def test_leaving_endpoints_of_one_service_drain_beside_ready_ones_of_another() -> None:
    leaving = slice_("a", [endpoint("10.0.0.1", **LEAVING)])
    assert servers(split((100, 1), A, leaving, B, B_ENDS)) == {
        "10.0.0.1:9000": ("drain", None),
        "10.0.1.1:9000": ("ready", 256),
    }


def test_an_endpoint_of_two_services_is_one_server_with_both_shares() -> None:
    found = split((50, 50), A, A_ENDS, B, slice_("b", ["10.0.0.2"]))
    assert servers(found) == {"10.0.0.1:9000": ("ready", 85), "10.0.0.2:9000": ("ready", 256)}


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ([A, A_ENDS], "Service 'b' does not exist"),
        ([A, A_ENDS, replace(TWO_PORT_SERVICE, name="b")], "several TCP ports"),
        ([A, A_ENDS, replace(DNS, name="b")], "not TCP"),
    ],
)
def test_a_service_that_cannot_be_used_does_not_take_the_others_away(
    objects: list[Service | EndpointSet], words: str
) -> None:
    found = split((50, 50), *objects)
    assert [str(item.address) for item in found.servers] == ["10.0.0.1:9000", "10.0.0.2:9000"]
    assert found.reason == Reason.ADMITTED
    assert words in found.message


def test_slices_are_preferred_to_v1_endpoints() -> None:
    old = slice_(endpoints=["10.0.0.9"], name="web", legacy=True)
    assert list(servers(resolved(route(), service(), old))) == ["10.0.0.9:9000"]
    new = slice_(endpoints=["10.0.0.1"])
    assert list(servers(resolved(route(), service(), old, new))) == ["10.0.0.1:9000"]


# Any order

IPS = ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8:0::1"]
ENDPOINTS = st.builds(
    lambda ip, conditions, pod: replace(endpoint(ip, **conditions), pod=pod),
    st.sampled_from([*IPS, "127.0.0.1", "127.0.0.2", "169.254.1.1", "::1", "db.example.com"]),
    st.sampled_from([READY, LEAVING, DEAD]),
    st.sampled_from(["pod-1", "pod-2", None]),
)


@given(
    ends=st.lists(st.lists(ENDPOINTS, max_size=6), max_size=3),
    weights=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    data=st.data(),
)
def test_no_order_of_slices_or_endpoints_changes_the_result(
    ends: list[list[Endpoint]], weights: tuple[int, int], data: st.DataObject
) -> None:
    other = slice_("b", ["10.0.0.1", endpoint("10.0.0.7", **LEAVING)])
    slices = [slice_("a", items, name=f"a-{n}") for n, items in enumerate(ends)]
    found = split(weights, A, B, other, *slices)
    mixed = [
        slice_("a", data.draw(st.permutations(items)), name=f"a-{n}")
        for n, items in enumerate(data.draw(st.permutations(ends)))
    ]
    assert split(weights, A, B, *mixed, other) == found
    addresses = [item.address for item in found.servers]
    assert addresses == sorted(set(addresses))
    assert all((item.state == "ready") == bool(item.weight) for item in found.servers)
