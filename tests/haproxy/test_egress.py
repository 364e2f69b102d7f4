"""Ports that lead out of the cluster: Services without selector, and names that DNS resolves."""

import contextlib
import http.client
from collections.abc import Iterator
from dataclasses import replace

import pytest
import yaml
from cli import ROOT, Start, command, run_cli
from core import DENIED
from nameserver import SERVFAIL, NameServer
from stand import (
    EchoServer,
    MakeServer,
    MakeStand,
    Stand,
    app,
    await_,
    await_leads_to,
    await_ready,
    await_refused,
    changes,
    converged,
    external,
    free_port,
    held,
    route,
    route_manifest,
    running,
)

from sidecar.model.objects import DNSAnswer, Object, Route, ServicePort
from sidecar.model.verdicts import Reason
from sidecar.routing.endpoints import Resolution, resolve
from sidecar.routing.own_addresses import Denied
from sidecar.routing.store import Store


def resolved(item: Route, *objects: Object) -> Resolution:
    store = Store()
    store.apply(changes(*objects))
    return resolve(item, store, Denied(DENIED))


ANSWER = DNSAnswer("db.example", ("10.0.0.1", "fd00::1"), "")
SMTP, IMAP = ServicePort("smtp", 25, "TCP", "2525"), ServicePort("imap", 143, "TCP", "143")


def test_a_name_leads_to_what_dns_says_of_it() -> None:
    found = resolved(route(), external(), ANSWER)
    assert found.reason == Reason.ADMITTED
    assert [str(server.address) for server in found.servers] == ["10.0.0.1:9000", "[fd00::1]:9000"]
    assert {server.pod for server in found.servers} == {"db.example"}
    assert {server.state for server in found.servers} == {"ready"}


@pytest.mark.parametrize(
    ("target_port", "ports", "expected"),
    [
        # `targetPort` is the cluster's own business: outside, the port is the Service's.
        (None, (SMTP,), 25),
        ("smtp", (SMTP, IMAP), 25),
        ("143", (SMTP, IMAP), 143),
        # A number needs no Service port.
        ("5432", (SMTP, IMAP), 5432),
        ("2525", (SMTP,), 2525),
    ],
)
def test_the_port_outside(
    target_port: str | None, ports: tuple[ServicePort, ...], expected: int
) -> None:
    found = resolved(route(target_port=target_port), external("web", "db.example", *ports), ANSWER)
    assert {server.address.port for server in found.servers} == {expected}


def test_a_service_without_ports_needs_a_number() -> None:
    bare = replace(external(), ports=())
    assert resolved(route(target_port="5432"), bare, ANSWER).servers
    refused = resolved(route(), bare, ANSWER)
    assert refused.reason == Reason.TARGET_PORT_NOT_FOUND
    assert "set spec.port.targetPort to the port's number" in refused.message
    for number in ("0", "65536", "99999"):
        assert resolved(route(target_port=number), bare, ANSWER).servers == ()


def test_an_ambiguous_or_unknown_port_is_refused_as_of_any_service() -> None:
    both = external("web", "db.example", SMTP, IMAP)
    assert resolved(route(), both, ANSWER).reason == Reason.AMBIGUOUS_TARGET_PORT
    assert resolved(route(target_port="pop"), both, ANSWER).reason == Reason.TARGET_PORT_NOT_FOUND
    udp = external("web", "db.example", ServicePort("dns", 53, "UDP", "53"))
    assert resolved(route(), udp, ANSWER).reason == Reason.UNSUPPORTED_PROTOCOL


def test_a_name_that_is_not_known_yet_says_so() -> None:
    found = resolved(route(), external())
    assert (found.servers, found.reason) == ((), Reason.NAME_NOT_RESOLVED)
    assert found.message == ("external name 'db.example' of Service 'web': it is being resolved")
    failed = resolved(route(), external(), DNSAnswer("db.example", (), "DNS failed (SERVFAIL)"))
    assert failed.reason == Reason.NAME_NOT_RESOLVED
    assert failed.message.endswith("'web': DNS failed (SERVFAIL)")


def test_last_addresses_are_used_and_spoken_of() -> None:
    found = resolved(route(), external(), replace(ANSWER, problem="DNS failed (SERVFAIL)"))
    assert len(found.servers) == 2
    assert found.message == (
        "external name 'db.example' keeps its last addresses: DNS failed (SERVFAIL)"
    )


def test_denied_networks_are_denied_to_names_too() -> None:
    rebound = DNSAnswer("db.example", ("127.0.0.1", "169.254.169.254"), "")
    found = resolved(route(), external(), rebound)
    assert (found.servers, found.reason) == ((), Reason.ENDPOINTS_DENIED)
    mixed = resolved(route(), external(), replace(rebound, addresses=("10.0.0.1", "127.0.0.1")))
    assert [str(server.address) for server in mixed.servers] == ["10.0.0.1:9000"]
    literal = resolved(route(), external("web", "127.0.0.1"))
    assert literal.reason == Reason.ENDPOINTS_DENIED


def test_an_address_for_a_name_is_used_as_it_is() -> None:
    found = resolved(route(), external("web", "10.0.0.5"))
    assert [str(server.address) for server in found.servers] == ["10.0.0.5:9000"]


# With HAProxy, DNS and traffic


@pytest.fixture
def dns_server() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.close()


@pytest.fixture
def stand(make_stand: MakeStand, dns_server: NameServer) -> Stand:
    return make_stand(dns={"servers": [dns_server.address], "timeout": "1s"})


def external_manifest(name: str = "web", to: str = "db.example") -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {"type": "ExternalName", "externalName": to, "ports": [{"port": 9000}]},
    }


def a(server: EchoServer) -> str:
    return f"A {server.address.ip}"


def test_a_port_follows_a_name(
    stand: Stand, dns_server: NameServer, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    one, two, three = map(make_server, ("one", "two", "three"))
    dns_server.zone["db.example"] = [a(one)]
    stand.write("web.yaml", route_manifest("web", 30000), external_manifest())
    # Two Routes on one name, and one by another port.
    stand.write("too.yaml", route_manifest("too", 30001, "web"))
    daemon = files.enter_context(running(stand.daemon()))
    await_leads_to(stand, 30000, one)
    await_leads_to(stand, 30001, one)
    session = held(files, stand, 30000)

    dns_server.zone["db.example"] = [a(two), a(three)]
    await_ready(stand, 30000, two, three)
    await_ready(stand, 30001, two, three)
    session.echo()

    dns_server.zone["db.example"] = ["CNAME other.example."]
    dns_server.zone["other.example"] = [a(one)]
    await_ready(stand, 30000, one)

    asked = dns_server.looks("db.example")
    dns_server.zone["db.example"] = SERVFAIL
    await_(lambda: dns_server.looks("db.example") > asked + 2, "it fails", 20)
    converged(daemon)
    assert stand.ready(30000) == [one.address]
    stand.connect(30000).close()


def test_a_name_that_nobody_knows_holds_up_nobody(
    stand: Stand,
    dns_server: NameServer,
    make_server: MakeServer,
    files: contextlib.ExitStack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    one, two = make_server(), make_server()
    stand.write("ext.yaml", route_manifest("ext", 30000), external_manifest("ext"))
    stand.write("web.yaml", *app("web", 30001, [one]))
    daemon = files.enter_context(running(stand.daemon()))
    converged(daemon)
    await_leads_to(stand, 30001, one)
    await_refused(stand, 30000)
    await_(lambda: "the name does not exist in DNS (NXDOMAIN)" in caplog.text, "it is told why")
    dns_server.zone["db.example"] = [a(two)]
    await_leads_to(stand, 30000, two)


def test_a_restart_without_dns_changes_nothing(
    stand: Stand, dns_server: NameServer, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    server = make_server()
    dns_server.zone["db.example"] = [a(server)]
    stand.write("web.yaml", route_manifest("web", 30000), external_manifest())
    with running(stand.daemon()):
        await_leads_to(stand, 30000, server)
    dns_server.zone["db.example"] = SERVFAIL
    session = held(files, stand, 30000)
    daemon = files.enter_context(running(stand.daemon()))
    converged(daemon)
    await_(lambda: dns_server.looks("db.example") > 4, "it was asked, in vain")
    assert daemon.reconciler.changes == 0
    await_leads_to(stand, 30000, server)
    session.echo()

    # The commands that only look go by the same answers.
    status = run_cli("status", "-c", stand.settings_file)
    assert str(server.address) in status.out
    assert "external name 'db.example' keeps its last addresses: DNS failed" in status.out
    assert run_cli("plan", "-c", stand.settings_file).out == ""
    check = run_cli("check", "-c", stand.settings_file, stand.manifests)
    assert check.code == 0
    assert "NameNotResolved" in check.out


def test_what_import_egress_writes_leads_there(
    stand: Stand,
    dns_server: NameServer,
    make_server: MakeServer,
    files: contextlib.ExitStack,
) -> None:
    """All of OpenShift's ways at once: what comes out of it is accepted, and connections arrive."""
    one, two, six, named = (
        make_server("one"),
        make_server("two"),
        make_server("six", ip="::1", port=free_port("::1")),
        make_server("named"),
    )
    dns_server.zone["db.example"] = [a(named)]
    redirect = f"""
        # Egress routes
        30000 tcp {one.address.ip} 9000
        30001 tcp ::1 {six.address.port}
        30009 udp {one.address.ip}
        {one.address.ip}
    """
    by_name = f"30002 db.example 9000\n30003 {two.address.ip} 9000\n30003 x.example"
    source = {
        "kind": "Pod",
        "metadata": {"name": "out", "namespace": "demo"},
        "spec": {
            "initContainers": [
                {
                    "env": [
                        {
                            "name": "EGRESS_DESTINATION",
                            "valueFrom": {
                                "configMapKeyRef": {"name": "routes", "key": "destination"}
                            },
                        }
                    ]
                }
            ],
            "containers": [
                {"env": [{"name": "EGRESS_DNS_PROXY_DESTINATION", "value": by_name}]},
                {
                    "env": [
                        {"name": "SERVICE_TCP_PORT", "value": "30004"},
                        {"name": "SERVICE_DEST", "value": f"{one.address.ip};db.example"},
                        {"name": "SERVICE_DEST_PORT", "value": "9000"},
                    ]
                },
            ],
        },
    }
    config_map = {
        "kind": "ConfigMap",
        "metadata": {"name": "routes", "namespace": "demo"},
        "data": {"destination": redirect},
    }
    egress_router = {
        "apiVersion": "network.operator.openshift.io/v1",
        "kind": "EgressRouter",
        "metadata": {"name": "redirects", "namespace": "demo"},
        "spec": {
            "redirect": {
                "redirectRules": [
                    {"destinationIP": two.address.ip, "port": 30005, "targetPort": 9000}
                ]
            }
        },
    }
    path = stand.folder / "egress.yaml"
    path.write_text(yaml.safe_dump_all([source, config_map, egress_router]))
    done = run_cli("import", "egress", path, "-c", stand.settings_file)
    assert done.code == 1, "udp, the fallback and a second 30003 are not carried over"
    routes = stand.manifests / "egress.yaml"
    routes.write_text(done.out)
    check = run_cli("check", "-c", stand.settings_file, stand.manifests)
    assert (check.code, check.out.count("NameNotResolved")) == (0, 1), check.out

    converged(files.enter_context(running(stand.daemon())))
    wanted = {30000: one, 30001: six, 30002: named, 30003: two, 30005: two}
    for port, server in wanted.items():
        await_leads_to(stand, port, server)
    await_ready(stand, 30004, one, named)
    await_refused(stand, 30009)

    # Once more says the same, in the same order; in a folder it is a file for each port.
    assert run_cli("import", "egress", path, "-c", stand.settings_file) == done
    folder = stand.folder / "written"
    run_cli("import", "egress", path, "-c", stand.settings_file, "-o", folder)
    assert len(list(folder.iterdir())) == 6
    assert run_cli("check", "-c", stand.settings_file, folder).out == check.out


def test_the_example(stand: Stand, make_server: MakeServer, start: Start) -> None:
    """examples/egress.yaml, on addresses of this test's own."""
    fixed, named = make_server("fixed", port=28080), make_server("named", port=23306)
    text = (ROOT / "examples" / "egress.yaml").read_text()
    text = text.replace('"127.0.0.1"', f'"{fixed.address.ip}"')
    text = text.replace("externalName: 127.0.0.1", f"externalName: {named.address.ip}")
    (stand.manifests / "egress.yaml").write_text(text)
    start(command("run", "-c", stand.settings_file))
    await_leads_to(stand, 30001, fixed, 30)
    await_leads_to(stand, 30002, named)
    connection = http.client.HTTPConnection(stand.ip, 8405, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 200
