"""The servers of Routes by host: which endpoints they are, and how requests find them."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from by_host import NamedServer, WebStand, host_app
from stand import MakeStand, await_, converged, fresh_ip, running

MakeNamed = Callable[..., NamedServer]


@pytest.fixture
def named(files: contextlib.ExitStack) -> MakeNamed:
    def make(name: str, *address: Any) -> NamedServer:
        server = NamedServer(name, *address)
        files.callback(server.close)
        return server

    return make


def with_ports(app: tuple[dict[str, Any], ...], *ports: tuple[str, int]) -> tuple[Any, ...]:
    """``app``, whose Service and endpoints have these ports."""
    route, service, ends = app
    listed = [{"name": name, "port": number, "protocol": "TCP"} for name, number in ports]
    return route, {**service, "spec": {"ports": listed}}, {**ends, "ports": listed}


def test_without_a_target_port_every_tcp_port_serves(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web, ip = WebStand.make(make_stand), fresh_ip()
    servers = [named(name, ip, port) for name, port in (("one", 9000), ("two", 9001))]
    app = with_ports(host_app("web", "a.example", servers[:1]), ("one", 9000), ("two", 9001))
    web.stand.write("web.yaml", *app)
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "one")
        converged(daemon)
        assert {web.served("a.example") for _ in range(10)} == {"one", "two"}
        route, *others = app
        spec = {**route["spec"], "port": {"targetPort": "two"}}
        web.stand.write("web.yaml", {**route, "spec": spec}, *others)
        await_(lambda: {web.served("a.example") for _ in range(4)} == {"two"}, "just two serves")
