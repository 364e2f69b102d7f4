"""The router never connects to itself, on a real HAProxy: one connection would take them all."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli import run_cli
from kube import FakeAPI, Fault
from nameserver import NameServer
from stand import (
    EchoServer,
    MakeServer,
    MakeStand,
    Stand,
    app,
    await_,
    await_leads_to,
    await_refused,
    await_told,
    converged,
    free_port,
    fresh_ip,
    route_manifest,
    running,
    service_manifest,
    slice_manifest,
)

from sidecar.cli.context import make_source
from sidecar.daemon.loop import Daemon
from sidecar.model.objects import Key

#: Small, so that a loop would have them all at once.
MAXCONN = 400


def looping(make_stand: MakeStand, **settings: Any) -> Stand:
    stand: Stand = make_stand(start=False, timing={"close_after": "0s"}, **settings)
    haproxy = stand.settings.haproxy.model_copy(update={"maxconn": MAXCONN})
    stand.settings = stand.settings.model_copy(update={"haproxy": haproxy})
    return stand.start()


def leading(name: str, port: int, ip: str, to: int) -> tuple[dict[str, Any], ...]:
    """A Route for ``port`` whose endpoint is ``ip:to``."""
    return (
        route_manifest(name, port),
        service_manifest(name),
        slice_manifest(name, [ip], port=to),
    )


def knock(files: contextlib.ExitStack, stand: Stand, port: int) -> None:
    """A client that connects, if it can, and stays."""
    with contextlib.suppress(OSError):
        files.enter_context(socket.create_connection((stand.ip, port), 2))


def said(daemon: Daemon, name: str) -> tuple[str, str]:
    """Reason and message of a Route; "" before there is one."""
    verdict = daemon._routing.verdict(Key("Route", "demo", name))
    return (verdict.reason, verdict.message) if verdict else ("", "")


def itself(address: str) -> str:
    return f"1 endpoint skipped: {address} is this router itself"


def assert_calm(stand: Stand, port: int, server: EchoServer) -> None:
    """Other ports answer, and nobody took HAProxy's connections."""
    await_leads_to(stand, port, server)
    assert stand.info().current_connections < 20


def test_a_route_to_the_router_itself_is_refused_and_others_go_on(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, server = looping(make_stand), make_server()
    stand.write("web.yaml", *app("web", 30001, [server]))
    stand.write("self.yaml", *leading("self", 30000, stand.ip, 30000))
    stand.write(
        "two.yaml",
        *leading("there", 30002, stand.ip, 30003),
        *leading("back", 30003, stand.ip, 30002),
    )
    daemon = files.enter_context(running(stand.daemon()))
    converged(daemon)
    for port in (30000, 30002, 30003):
        knock(files, stand, port)
    assert_calm(stand, 30001, server)
    for name, to in (("self", 30000), ("there", 30003), ("back", 30002)):
        assert said(daemon, name) == ("EndpointsDenied", itself(f"{stand.ip}:{to}"))
    assert all(stand.is_refused(port) for port in (30000, 30002, 30003))
    why = run_cli("why", "demo/self", "-c", stand.settings_file)
    assert why.code == 1
    assert f"{stand.ip}:30000 self-1: it is this router itself" in why.out
    check = run_cli("check", "-c", stand.settings_file, stand.manifests)
    assert itself(f"{stand.ip}:30000") in check.out


@pytest.mark.parametrize("ip", ["0.0.0.0", "::", "::ffff:127.0.0.1", "127.77.77.77"])
def test_a_port_on_all_addresses_is_reached_by_none(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, ip: str
) -> None:
    # On all of them tests would meet on its ports.
    port = free_port("0.0.0.0")
    pool = {"ports": [str(port)], "bind": ["0.0.0.0"]}
    stand = looping(make_stand, pools=[pool, {"ports": ["30001"]}])
    server = make_server()
    stand.write("a.yaml", *leading("self", port, ip, port), *app("web", 30001, [server]))
    daemon = files.enter_context(running(stand.daemon()))
    converged(daemon)
    knock(files, stand, port)
    assert_calm(stand, 30001, server)
    assert said(daemon, "self")[0] == "EndpointsDenied"


def test_what_else_listens_is_no_server_but_what_is_beside_it_is(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = looping(make_stand)
    server = make_server(port=30001)
    stand.write("web.yaml", *leading("web", 30001, server.address.ip, 30001))
    stand.write("http.yaml", *leading("http", 30000, stand.ip, 8405))
    daemon = files.enter_context(running(stand.daemon()))
    await_leads_to(stand, 30001, server)
    converged(daemon)
    assert said(daemon, "http") == ("EndpointsDenied", itself(f"{stand.ip}:8405"))


def test_a_name_that_leads_to_the_router(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    dns = NameServer()
    files.callback(dns.close)
    stand = looping(make_stand, dns={"servers": [dns.address], "timeout": "1s"})
    server = make_server(port=30000)
    dns.zone["db.example"] = [f"A {server.address.ip}"]
    service = service_manifest()
    service["spec"] = {
        "type": "ExternalName",
        "externalName": "db.example",
        "ports": [{"port": 30000}],
    }
    stand.write("web.yaml", route_manifest(), service)
    other = make_server()
    stand.write("other.yaml", *app("other", 30001, [other]))
    daemon = files.enter_context(running(stand.daemon()))
    await_leads_to(stand, 30000, server)
    dns.zone["db.example"] = [f"A {stand.ip}"]
    await_refused(stand, 30000)
    knock(files, stand, 30000)
    assert_calm(stand, 30001, other)
    assert said(daemon, "web") == ("EndpointsDenied", itself(f"{stand.ip}:30000"))


# In a cluster


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with FakeAPI() as server:
        yield server


def in_cluster(make_stand: MakeStand, api: FakeAPI, folder: Path, **source: Any) -> Stand:
    config = str(api.kubeconfig(folder / "kubeconfig"))
    return looping(
        make_stand,
        source={"kind": "kubernetes", "kubeconfig": config, **source},
        kubernetes={"publish_service": "ingress/edge"},
    )


def front(ip: str) -> dict[str, Any]:
    """The Service in front of the router."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "edge", "namespace": "ingress"},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 30005}]},
    }


@pytest.mark.parametrize("namespaces", [[], ["demo"]], ids=["all", "without its own"])
@pytest.mark.parametrize("endpoints", ["slices", "endpoints"])
def test_the_service_in_front_and_the_replicas_are_the_router(
    make_stand: MakeStand,
    make_server: MakeServer,
    api: FakeAPI,
    tmp_path: Path,
    files: contextlib.ExitStack,
    namespaces: list[str],
    endpoints: str,
) -> None:
    stand = in_cluster(make_stand, api, tmp_path, namespaces=namespaces, endpoints=endpoints)

    def ends(name: str, ip: str, port: int, namespace: str = "demo") -> dict[str, Any]:
        if endpoints == "slices":
            return slice_manifest(name, [ip], port=port, namespace=namespace)
        return {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": name, "namespace": namespace},
            "subsets": [{"addresses": [{"ip": ip}], "ports": [{"port": port}]}],
        }

    cluster_ip, replica = fresh_ip(), make_server("replica", port=30001)
    api.apply(front(cluster_ip))
    for name, port, ip, to in (
        ("self", 30000, cluster_ip, 30005),
        ("twin", 30001, replica.address.ip, 30001),
    ):
        api.apply(route_manifest(name, port), service_manifest(name), ends(name, ip, to))
    daemon = files.enter_context(running(Daemon(stand.settings, make_source(stand.settings))))
    await_(
        lambda: said(daemon, "self") == ("EndpointsDenied", itself(f"{cluster_ip}:30005")),
        "the Service is the router",
    )
    # Somebody's server, until a replica has its address.
    await_leads_to(stand, 30001, replica)
    api.apply(ends("edge", replica.address.ip, 30005, "ingress"))
    await_refused(stand, 30001)
    assert said(daemon, "twin") == ("EndpointsDenied", itself(f"{replica.address.ip}:30001"))
    await_(lambda: not stand.slots(30001), "its slot is parked")
    plan = run_cli("plan", "-c", stand.settings_file)
    assert (plan.code, plan.out) == (0, "")


def test_a_role_without_the_service_in_front_holds_up_nobody(
    make_stand: MakeStand,
    make_server: MakeServer,
    api: FakeAPI,
    tmp_path: Path,
    files: contextlib.ExitStack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stand, server = in_cluster(make_stand, api, tmp_path, namespaces=["demo"]), make_server()
    api.apply(*app("web", 30000, [server]))
    refused = Fault(status=403, reason="Forbidden")
    api.fault(refused, times=1000, when=lambda request: "/ingress/" in request.path)
    daemon = files.enter_context(running(Daemon(stand.settings, make_source(stand.settings))))
    converged(daemon)
    await_leads_to(stand, 30000, server)
    await_told(caplog, "waiting for /api/v1/namespaces/ingress/services")
    status = run_cli("ports", "-c", stand.settings_file)
    assert status.code == 0


def test_a_loop_that_was_there_is_over_when_it_is_known(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """As when a replica gets an address that a Route leads to; here, by a sidecar that knows less
    of itself. The client stays, and would keep the loop."""
    pool = {"ports": ["30000-30009"], "slots": 4, "maxconn": MAXCONN}
    stand, server = looping(make_stand, pools=[pool]), make_server()
    stand.write("a.yaml", *leading("self", 30000, stand.ip, 30000), *app("web", 30001, [server]))
    pools = tuple(item.model_copy(update={"bind": (fresh_ip(),)}) for item in stand.settings.pools)
    settings, elsewhere = stand.settings, stand.settings.model_copy(update={"pools": pools})
    stand.settings = elsewhere
    with running(stand.daemon()) as daemon:
        converged(daemon)
        knock(files, stand, 30000)
        await_(lambda: stand.info().current_connections > MAXCONN / 2, "it is in a loop")
    stand.settings = settings
    daemon = files.enter_context(running(stand.daemon()))
    await_leads_to(stand, 30001, server, 20)
    await_(lambda: stand.info().current_connections < 20, "the loop is over", 20)
    converged(daemon)
