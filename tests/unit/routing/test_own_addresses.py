"""`sidecar.routing.own_addresses`: which addresses are the router itself, and no other."""

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from core import units
from hypothesis import given
from hypothesis import strategies as st
from parts import routing_for
from stand import ROUTER as NAME
from stand import changes, endpoint, external, pool_of, route, service, slice_

from sidecar.common.hostport import canonical_ip
from sidecar.listeners.tcp import TCPPorts, unit_of
from sidecar.model.change import Change
from sidecar.model.objects import DNSAnswer, Key, LocalAddresses, Object, ServiceAddresses
from sidecar.model.parsing import project_addresses
from sidecar.model.pool import Address
from sidecar.model.verdicts import Reason
from sidecar.routing.claimed import Changed
from sidecar.routing.own_addresses import Listener, Listening, OwnAddresses, own_addresses
from sidecar.routing.store import Store
from sidecar.routing.table import Routing
from sidecar.settings.parsing import parse_settings
from sidecar.sources.inbox import Inbox
from sidecar.sources.interfaces import Interfaces, local_addresses

PORT = 6620
LOCAL = LocalAddresses(("10.1.0.5", "127.0.0.1", "192.0.2.2", "::1", "fd00::2"))
FRONT = ServiceAddresses(
    "ingress", "edge", ("10.96.0.7", "203.0.113.9"), ("lb.example",), frozenset({80}), frozenset()
)


def listening(*hosts: str, **more: object) -> Listening:
    listeners = tuple(Listener(host, frozenset({PORT})) for host in hosts)
    return replace(Listening(listeners), **more)  # type: ignore[arg-type]


def own(where: Listening, *objects: Object) -> OwnAddresses:
    store = Store()
    store.apply(changes(LOCAL, *objects))
    return own_addresses(where, store)


def at(address: str) -> Address:
    ip, _, port = address.rpartition(":")
    canonical = canonical_ip(ip.strip("[]"))
    assert canonical
    return Address(canonical, int(port))


@pytest.mark.parametrize(
    ("hosts", "address", "expected"),
    [
        # A wildcard is every address of this machine.
        (["0.0.0.0"], "10.1.0.5:6620", True),
        (["0.0.0.0"], "127.0.0.1:6620", True),
        (["0.0.0.0"], "127.9.8.7:6620", True),
        (["0.0.0.0"], "0.0.0.0:6620", True),
        (["0.0.0.0"], "[::ffff:10.1.0.5]:6620", True),
        (["0.0.0.0"], "10.1.0.6:6620", False),
        (["0.0.0.0"], "10.1.0.5:6621", False),
        (["0.0.0.0"], "[fd00::2]:6620", False),
        (["::"], "[fd00::2]:6620", True),
        (["::"], "[::1]:6620", True),
        # Whether it takes IPv4, too, is said elsewhere.
        (["::"], "10.1.0.5:6620", True),
        (["::"], "127.0.0.2:6620", True),
        (["::"], "[fd00::3]:6620", False),
        # One address is that one.
        (["127.0.0.1"], "127.0.0.1:6620", True),
        (["127.0.0.1"], "127.0.0.2:6620", False),
        (["127.0.0.1"], "10.1.0.5:6620", False),
        (["10.1.0.5", "::1"], "10.1.0.5:6620", True),
        (["10.1.0.5", "::1"], "[::1]:6620", True),
        (["10.1.0.5", "::1"], "127.0.0.1:6620", False),
        # HAProxy takes them for whatever the client connected to.
        (["10.1.0.5"], "0.0.0.0:6620", True),
        (["10.1.0.5"], "[::]:6620", True),
        (["10.1.0.5"], "0.0.0.0:6621", False),
        ([], "127.0.0.1:6620", False),
    ],
)
def test_what_listens(hosts: list[str], address: str, expected: bool) -> None:
    assert (at(address) in own(listening(*hosts))) is expected


IPS = ["0.0.0.0", "::", "127.0.0.1", "127.0.0.2", "10.1.0.5", "10.1.0.6", "::1", "fd00::2"]


@given(
    st.lists(st.tuples(st.sampled_from(IPS), st.frozensets(st.integers(1, 4))), max_size=4),
    st.frozensets(st.sampled_from(IPS[2:])),
    st.builds(Address, st.sampled_from([*IPS, "127.3.3.3", "192.0.2.9"]), st.integers(1, 5)),
)
def test_by_its_definition(
    hosts: list[tuple[str, frozenset[int]]], local: frozenset[str], address: Address
) -> None:
    here = local | {"127.0.0.1", "::1"}

    def listens(host: str, ports: frozenset[int]) -> bool:
        is_here = address.ip in here or address.ip.startswith("127.")
        return address.port in ports and (
            host == address.ip
            or address.ip in ("0.0.0.0", "::")
            or (host == "::" and is_here)
            or (host == "0.0.0.0" and is_here and ":" not in address.ip)
        )

    store = Store()
    store.apply(changes(LocalAddresses(tuple(sorted(here)))))
    found = own_addresses(Listening(tuple(Listener(*item) for item in hosts)), store)
    assert (address in found) == any(listens(*item) for item in hosts)


def test_haproxy_on_another_machine() -> None:
    where = listening("0.0.0.0", haproxy_host="192.0.2.77")
    assert Address("192.0.2.77", PORT) in own(where)
    named = replace(where, haproxy_host="haproxy")
    assert named.names == {"haproxy"}
    resolved = replace(LOCAL, names=(("haproxy", ("192.0.2.78", "fd00::78")),))
    assert Address("192.0.2.78", PORT) in own(named, resolved)
    assert Address("fd00::78", PORT) not in own(named, resolved)


def test_a_listener_by_name() -> None:
    where = listening("localhost")
    resolved = replace(LOCAL, names=(("localhost", ("127.0.0.1", "::1")),))
    assert [at(ip) in own(where, resolved) for ip in ("127.0.0.1:6620", "[::1]:6620")] == [True] * 2
    assert Address("127.0.0.2", PORT) not in own(where, resolved)


PUBLISHED = listening("0.0.0.0", published=("ingress", "edge"))
REPLICAS = slice_(
    "edge",
    ["10.1.0.5", endpoint("10.1.0.9", ready=False), "nonsense"],
    port=7000,
    namespace="ingress",
)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        # The Service in front, at its ports and ours.
        ("10.96.0.7:80", True),
        ("203.0.113.9:6620", True),
        ("203.0.113.9:81", False),
        # What its load balancer's name stands for.
        ("198.51.100.4:80", True),
        ("198.51.100.5:80", False),
        # Replicas, ready or not, at our ports and those that the Service leads to.
        ("10.1.0.9:6620", True),
        ("10.1.0.9:7000", True),
        ("10.1.0.9:80", False),
        # A port of every node, and so of this one.
        ("10.1.0.5:32001", True),
        ("127.0.0.1:32001", True),
        ("203.0.113.9:32001", True),
        ("10.1.0.9:32001", False),
    ],
)
def test_the_service_in_front_and_its_replicas(address: str, expected: bool) -> None:
    front = replace(FRONT, node_ports=frozenset({32001}), names=("LB.example",))
    answer = DNSAnswer("lb.example", ("198.51.100.4",), "")
    found = own(PUBLISHED, front, REPLICAS, answer)
    assert (at(address) in found) is expected
    assert at(address) not in own(replace(PUBLISHED, published=None), front, REPLICAS, answer)
    assert found.has_name("lb.example")
    assert found.has_name("Lb.Example.")


def test_what_the_settings_say() -> None:
    text = """
haproxy: {socket: "haproxy.example:9999", metrics_listen: "0.0.0.0:8404"}
http: {listen: "localhost:8405"}
pools:
  - {name: a, ports: ["6620"], bind: ["0.0.0.0", "::"]}
  - {name: b, ports: ["7000-7001"], bind: ["10.1.0.5"]}
source: {kind: kubernetes}
kubernetes: {publish_service: ingress/edge}
"""
    found = parse_settings(text, {}, "test").listening()
    assert {listener.host: sorted(listener.ports) for listener in found.listeners} == {
        "::": [6620],
        "10.1.0.5": [7000, 7001],
        "localhost": [8405],
        "0.0.0.0": [8404],
        "haproxy.example": [9999],
    }
    assert found.listeners[0] == Listener("0.0.0.0", frozenset({6620}))
    assert (found.haproxy_host, found.published) == ("haproxy.example", ("ingress", "edge"))
    assert found.names == {"haproxy.example", "localhost"}
    plain = parse_settings("kubernetes: {publish_service: ingress/edge}", {}, "test").listening()
    assert (plain.haproxy_host, plain.published, plain.names) == (None, None, frozenset())


def test_where_a_service_is_reached() -> None:
    found = project_addresses(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "edge", "namespace": "ingress"},
            "spec": {
                "clusterIP": "10.96.0.7",
                "clusterIPs": ["10.96.0.7", "fd00::0:7"],
                "externalIPs": ["192.0.2.9"],
                "ports": [{"port": 80, "nodePort": 32001}, {"port": 443}],
            },
            "status": {
                "loadBalancer": {
                    "ingress": [{"ip": "203.0.113.9"}, {"hostname": "lb.example"}, "odd", {"ip": 5}]
                }
            },
        }
    )
    assert found == ServiceAddresses(
        "ingress",
        "edge",
        ("10.96.0.7", "192.0.2.9", "203.0.113.9", "fd00::7"),
        ("lb.example",),
        frozenset({80, 443}),
        frozenset({32001}),
    )


@pytest.mark.parametrize("status", [None, {}, [], {"loadBalancer": "x"}], ids=str)
def test_a_service_that_is_reached_nowhere(status: object) -> None:
    data = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "edge", "namespace": "ingress"},
        "spec": {"clusterIP": "None"},
        "status": status,
    }
    nothing = frozenset[int]()
    assert project_addresses(data) == ServiceAddresses("ingress", "edge", (), (), nothing, nothing)


# Where it is found out


def test_this_machines_addresses() -> None:
    found = local_addresses(["localhost", "no-such-name.invalid"])
    assert "127.0.0.1" in found.addresses
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pass  # no route, no such address
        else:
            assert probe.getsockname()[0] in found.addresses
    names = dict(found.names)
    assert "127.0.0.1" in names["localhost"]
    assert names["no-such-name.invalid"] == ()


def test_they_are_there_before_anything_else() -> None:
    inbox = Inbox(["source"], lambda: None)
    with Interfaces(inbox, []):
        (change,) = inbox.take()
        assert isinstance(change.object, LocalAddresses)
        assert inbox.missing() == {"source"}


# What Routes are told, as it changes


def routing_of(*objects: Object) -> Routing:
    routing = routing_for(
        TCPPorts(pool_of({"ports": ["30000-30002"]})), router_name=NAME, listening=PUBLISHED
    )
    routing.apply(changes(LOCAL, *objects))
    assert routing.claimed
    return routing


def told(routing: Routing, name: str) -> tuple[Reason, str]:
    verdict = routing.verdict(Key("Route", "demo", name))
    assert verdict
    return verdict.reason, verdict.message


def leading(name: str, port: int, *ips: str) -> Iterator[Object]:
    yield from (route(name, port), service(name), slice_(name, ips, port=PORT))


def test_a_replica_that_appears_touches_those_that_lead_to_it_and_no_others() -> None:
    routing = routing_of(
        FRONT, *leading("web", 30000, "10.1.0.8"), *leading("self", 30001, "10.1.0.9", "10.1.0.8")
    )
    assert told(routing, "self") == (Reason.ADMITTED, "")
    changed = routing.apply(changes(REPLICAS))
    assert changed == Changed(units(30001), frozenset({Key("Route", "demo", "self")}))
    assert str(changed.causes[unit_of(30001)].key) == "EndpointSlice ingress/edge-1"
    refused = "1 endpoint skipped: 10.1.0.9:6620 is this router itself"
    assert told(routing, "self") == (Reason.ADMITTED, refused)
    (server,) = routing.claimed[unit_of(30001)].resolution.servers
    assert str(server.address) == "10.1.0.8:6620"
    # One that is ready now, or not any more, is the same address.
    ready = slice_("edge", ["10.1.0.5", "10.1.0.9"], port=7000, namespace="ingress")
    assert routing.apply(changes(ready)).units == frozenset()
    changed = routing.apply([Change(REPLICAS.key, None)])
    assert changed.units == units(30001)
    assert told(routing, "self") == (Reason.ADMITTED, "")


def test_a_replica_that_appears_before_a_change_of_the_route_was_looked_at() -> None:
    routing = routing_of(*leading("self", 30000, "10.1.0.9"))
    assert told(routing, "self") == (Reason.ADMITTED, "")
    routing.apply(changes(route("self", 30000, weight=50)))
    routing.apply(changes(REPLICAS))
    assert told(routing, "self")[0] == Reason.ENDPOINTS_DENIED


def test_a_denied_address_that_becomes_the_routers_is_told_as_that() -> None:
    routing = routing_for(
        TCPPorts(pool_of({"ports": ["30000"]})),
        router_name=NAME,
        denied=lambda ip: ip == "10.1.0.9",
        listening=PUBLISHED,
    )
    routing.apply(changes(LOCAL, *leading("self", 30000, "10.1.0.9")))
    denied = "1 endpoint skipped: 10.1.0.9 is in a network denied by endpoints.deny"
    assert told(routing, "self") == (Reason.ENDPOINTS_DENIED, denied)
    assert routing.apply(changes(REPLICAS)).units == units(30000)
    assert told(routing, "self")[1] == "1 endpoint skipped: 10.1.0.9:6620 is this router itself"


def test_the_name_of_the_load_balancer_is_denied_by_name() -> None:
    routing = routing_of(
        *(route("self", 30000), external("self", "LB.example")),
        *(route("other", 30001), external("other", "db.example")),
        DNSAnswer("db.example", ("198.51.100.4",), ""),
        DNSAnswer("LB.example", ("198.51.100.9",), ""),
    )
    assert routing.names == {"db.example", "LB.example"}
    assert told(routing, "self") == (Reason.ADMITTED, "")
    changed = routing.apply(changes(FRONT))
    assert changed.units == units(30000)
    assert told(routing, "self") == (
        Reason.ENDPOINTS_DENIED,
        "external name 'LB.example' of Service 'self' is this router itself",
    )
    assert routing.names == {"db.example", "LB.example", "lb.example"}
    # Its addresses are denied to others, at the ports that it has.
    changed = routing.apply(changes(external("other", "db.example", *service("x").ports)))
    assert told(routing, "other") == (Reason.ADMITTED, "")
    changed = routing.apply(changes(DNSAnswer("lb.example", ("198.51.100.4",), "")))
    assert changed.units == units(30001)
    assert told(routing, "other") == (
        Reason.ENDPOINTS_DENIED,
        "1 endpoint skipped: 198.51.100.4:80 is this router itself",
    )
    assert routing.apply([Change(FRONT.key, None)]).units == units(30000, 30001)
    assert told(routing, "self") == (Reason.ADMITTED, "")
