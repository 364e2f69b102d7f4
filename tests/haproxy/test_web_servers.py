"""The servers of Routes by host: which endpoints they are, and how requests find them."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any, Self

import pytest
from by_host import NamedServer, WebStand, host_app
from stand import MakeStand, await_, converged, fresh_ip, running

from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.state import parse_servers_state

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


def speaking(app: tuple[dict[str, Any], ...], app_protocol: str | None) -> tuple[Any, ...]:
    """``app``, whose endpoints' port has this appProtocol."""
    *others, ends = app
    (port,) = ends["ports"]
    return *others, {**ends, "ports": [{**port, "appProtocol": app_protocol}]}


def servers_of(web: WebStand, number: int = 1) -> dict[str, tuple[str, str]]:
    """Name -> address and state, of the servers in use of a backend."""
    backend = web_backend_name("http", number)
    found = parse_servers_state(web.stand.client.ask(f"show servers state {backend}"))[backend]
    return {
        name: (item.address.ip, item.state)
        for name, item in found.items()
        if item.address.port != 1
    }


class Asking:
    """Requests one after the other, until it is left. ``bodies``: who answered, or the status."""

    def __init__(self, web: WebStand, host: str) -> None:
        self.bodies: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(web, host), daemon=True)

    def _ask(self, web: WebStand, host: str) -> None:
        while not self._over.is_set():
            try:
                self.bodies.append(web.served(host))
            except (OSError, IndexError) as exc:
                self.bodies.append(repr(exc))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_http_2_is_spoken_to_who_says_so(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    clear, other = named("clear"), named("other")
    both = host_app("web", "a.example", [clear, other])
    h2c = speaking(both, "kubernetes.io/h2c")
    web.stand.write("web.yaml", *h2c)
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "clear")
        converged(daemon)
        assert {web.served("a.example") for _ in range(10)} == {"clear", "other"}
        assert {*clear.protos, *other.protos} == {"h2"}
        before = servers_of(web)
        assert before == {
            f"h2-{n}": (server.address.ip, "ready")
            for n, server in enumerate((clear, other), start=1)
        }
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert daemon.reconciler.history.total == 0
        assert servers_of(web) == before
        # One goes, and with it its server.
        web.stand.write("web.yaml", *speaking(host_app("web", "a.example", [other]), "h2c"))
        await_(lambda: servers_of(web) == {"h2-2": before["h2-2"]}, "it is deleted")
        # After a HAProxy that restarts they come back.
        web.stand.stop_haproxy()
        web.stand.start_haproxy()
        web.await_served("a.example", "other")
        assert {*clear.protos, *other.protos} == {"h2"}


def test_another_protocol_costs_no_request(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    servers = [named("a"), named("b")]
    app = host_app("web", "a.example", servers)
    web.stand.write("web.yaml", *speaking(app, None))
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "a")
        for app_protocol, proto in (("h2c", "h2"), ("http", "h1")) * 3:
            with Asking(web, "a.example") as asking:
                web.stand.write("web.yaml", *speaking(app, app_protocol))
                await_(
                    lambda p=proto: all(one.protos[-3:] == [p] * 3 for one in servers),
                    f"{proto} is spoken",
                )
            assert set(asking.bodies) <= {"a", "b"}
            converged(daemon)
            await_(lambda: len(servers_of(web)) == 2, "the former ones are gone")
        assert all(name.startswith("s") for name in servers_of(web))


def test_what_a_route_with_http_2_had_is_not_the_next_ones(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand, backends={"http": 1})
    one, two = named("one"), named("two")
    web.stand.write("web.yaml", *speaking(host_app("one", "one.example", [one]), "h2c"))
    with running(web.stand.daemon()) as daemon:
        web.await_served("one.example", "one")
        web.stand.write("web.yaml", *host_app("two", "two.example", [two]))
        web.await_served("two.example", "two")
        assert web.served("one.example") == "503"
        converged(daemon)
        assert servers_of(web) == {"s1": (two.address.ip, "ready")}
        assert set(two.protos) == {"h1"}


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
