"""The servers of Routes by host: which endpoints they are, and how requests find them."""

import contextlib
import threading
from typing import Any, Self

import pytest
from by_host import MakeNamed, NamedServer, WebStand, host_app
from stand import MakeServer, MakeStand, await_, converged, fresh_ip, running

from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.state import parse_servers_state


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

    def __init__(self, web: WebStand, host: str, cookie: str = "") -> None:
        self.bodies: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(web, host, cookie), daemon=True)

    def _ask(self, web: WebStand, host: str, cookie: str) -> None:
        while not self._over.is_set():
            try:
                self.bodies.append(web.served(host, cookie=cookie))
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


# Cookies


def weighed(name: str, host: str, servers: dict[NamedServer, int], **route_: Any) -> list[Any]:
    """A Route to a Service for each of ``servers``, with its weight."""
    route, *_ = host_app(name, host, [], **route_)
    services = [f"{name}-{server.name}" for server in servers]
    to, *others = (
        {"kind": "Service", "name": service, "weight": weight}
        for service, weight in zip(services, servers.values(), strict=True)
    )
    spec = {**route["spec"], "to": to, "alternateBackends": others}
    objects: list[Any] = [{**route, "spec": spec}]
    for service, server in zip(services, servers, strict=True):
        objects += host_app(service, host, [server])[1:]
    return objects


def cookies(web: WebStand, host: str, *servers: NamedServer) -> dict[str, str]:
    """Name of a server -> the cookie of a client that it served."""
    wanted, found = {server.name for server in servers}, dict[str, str]()

    def all_found() -> bool:
        who, cookie = web.kept(host)
        found[who] = cookie
        return wanted <= found.keys()

    await_(all_found, f"{wanted} serve {host}")
    return {name: found[name] for name in wanted}


def stays(web: WebStand, host: str, kept: dict[str, str]) -> None:
    """Each client is served where it was, by the cookie that it had."""
    for name, cookie in kept.items():
        assert cookie.startswith("haproxy-sidecar=")
        assert {web.kept(host, cookie) for _ in range(6)} == {(name, cookie)}


@pytest.mark.parametrize("balance", ["roundrobin", "leastconn", "random", "source"])
def test_a_client_stays_at_its_server_whatever_the_balance(
    make_stand: MakeStand, named: MakeNamed, balance: str
) -> None:
    """Also at those beyond the slots, and after a HAProxy that restarts."""
    web = WebStand.make(make_stand, slots=1, balance={"http": balance, "passthrough": balance})
    servers = [named(name) for name in "abc"]
    with running(web.stand.daemon()) as daemon:
        kept = dict[str, str]()
        # One after the other, since `source` gives all clients of an address to one.
        for server in servers:
            web.stand.write("web.yaml", *host_app("web", "a.example", [server]))
            web.await_served("a.example", server.name)
            kept |= cookies(web, "a.example", server)
        web.stand.write("web.yaml", *host_app("web", "a.example", servers))
        await_(lambda: len(servers_of(web)) == 3, "all are servers")
        converged(daemon)
        stays(web, "a.example", kept)
        assert not any("haproxy-sidecar" in head for server in servers for head in server.heads)
        web.stand.stop_haproxy()
        web.stand.start_haproxy()
        await_(lambda: len(servers_of(web)) == 3, "all are servers again")
        converged(daemon)
        stays(web, "a.example", kept)


def test_a_cookie_follows_its_pod_to_another_slot(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    a, b, c = (named(name) for name in "abc")
    with running(web.stand.daemon()) as daemon:
        web.stand.write("web.yaml", *host_app("web", "a.example", [a, b]))
        kept = cookies(web, "a.example", a, b)
        where = servers_of(web)
        web.stand.write("web.yaml", *host_app("web", "a.example", [c]))
        await_(lambda: [ip for ip, _ in servers_of(web).values()] == [c.address.ip], "just c")
        # Whose pod is gone goes elsewhere, and stays there.
        assert {web.kept("a.example", cookie)[0] for cookie in kept.values()} == {"c"}
        web.stand.write("web.yaml", *host_app("web", "a.example", [c, b]))
        await_(lambda: len(servers_of(web)) == 2, "b is back")
        web.stand.write("web.yaml", *host_app("web", "a.example", [c, b, a]))
        await_(lambda: len(servers_of(web)) == 3, "a is back")
        converged(daemon)
        assert servers_of(web) != where
        stays(web, "a.example", kept)


def test_a_cookie_is_nothing_where_another_route_has_the_backend(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand, backends={"http": 1})
    a, b, c, d = (named(name) for name in "abcd")
    with running(web.stand.daemon()) as daemon:
        web.stand.write("web.yaml", *host_app("one", "one.example", [a, b]))
        kept = cookies(web, "one.example", a, b)
        web.stand.write("web.yaml", *host_app("two", "two.example", [c, d]))
        web.await_served("two.example", "c")
        converged(daemon)
        asked = len(a.heads), len(b.heads)
        for cookie in kept.values():
            for _ in range(4):
                who, other = web.kept("two.example", cookie)
                assert who in "cd"
                assert other != cookie
                assert web.served("one.example", cookie=cookie) == "503"
        assert (len(a.heads), len(b.heads)) == asked


def test_while_a_backend_changes_hands_no_cookie_leads_astray(
    make_stand: MakeStand, named: MakeNamed
) -> None:
    web = WebStand.make(make_stand, backends={"http": 1}, slots=2)
    servers = {host: [named(f"{host}-{n}") for n in range(2)] for host in ("one", "two")}
    apps = {host: host_app(host, f"{host}.example", ends) for host, ends in servers.items()}
    kept: dict[str, dict[str, str]] = {}
    with running(web.stand.daemon()):
        for host in ("one", "two"):
            web.stand.write("web.yaml", *apps[host])
            kept[host] = cookies(web, f"{host}.example", *servers[host])
        held = [cookie for found in kept.values() for cookie in found.values()]
        with contextlib.ExitStack() as asking:
            clients = [
                (host, asking.enter_context(Asking(web, f"{host}.example", cookie)))
                for host in servers
                for cookie in held
            ]
            for host in ("one", "two") * 4:
                web.stand.write("web.yaml", *apps[host])
                cookie = kept[host][f"{host}-0"]
                await_(
                    lambda at=f"{host}.example", by=f"{host}-0", with_=cookie: (
                        web.served(at, cookie=with_) == by
                    ),
                    f"{host} is served",
                )
    for host, client in clients:
        assert set(client.bodies) <= {f"{host}-0", f"{host}-1", "503"}


def test_weight_0_keeps_whom_it_has(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand)
    a, b = named("a"), named("b")
    with running(web.stand.daemon()) as daemon:
        web.stand.write("web.yaml", *weighed("web", "a.example", {a: 100, b: 100}))
        kept = cookies(web, "a.example", a, b)
        web.stand.write("web.yaml", *weighed("web", "a.example", {a: 100, b: 0}))
        await_(lambda: (b.address.ip, "drain") in servers_of(web).values(), "b gets no new clients")
        converged(daemon)
        assert {web.served("a.example") for _ in range(10)} == {"a"}
        stays(web, "a.example", kept)


def test_who_is_leaving_keeps_nobody(make_stand: MakeStand, named: MakeNamed) -> None:
    """Whom a cookie leads to a pod that is stopping would get an error in the end."""
    web = WebStand.make(make_stand)
    a, b = named("a"), named("b")
    both = host_app("web", "a.example", [a, b])
    route, service, ends = both
    conditions = {"ready": False, "serving": True, "terminating": True}
    leaving = [{**end, "conditions": conditions} for end in ends["endpoints"]]
    with running(web.stand.daemon()):
        web.stand.write("web.yaml", *both)
        kept = cookies(web, "a.example", a, b)
        some = {**ends, "endpoints": [ends["endpoints"][0], leaving[1]]}
        web.stand.write("web.yaml", route, service, some)
        await_(lambda: web.served("a.example", cookie=kept["b"]) == "a", "a serves b's client")
        assert web.kept("a.example", kept["b"]) == ("a", kept["a"])
        # Where nobody else is left they serve.
        web.stand.write("web.yaml", route, service, {**ends, "endpoints": leaving})
        await_(lambda: web.served("a.example", cookie=kept["b"]) == "b", "b serves again")


def test_passthrough_leaves_out_what_has_weight_0(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    web = WebStand.make(make_stand, balance={"passthrough": "roundrobin"})
    a, b = make_server("a"), make_server("b")

    def objects(weights: tuple[int, int]) -> list[Any]:
        shares = dict(zip((a, b), weights, strict=True))
        return weighed("web", "a.example", shares, termination="passthrough")  # type: ignore[arg-type]

    with running(web.stand.daemon()):
        web.stand.write("web.yaml", *objects((100, 100)))
        await_(lambda: {web.passed_to("a.example") for _ in range(4)} == {"a", "b"}, "both serve")
        web.stand.write("web.yaml", *objects((100, 0)))
        await_(lambda: {web.passed_to("a.example") for _ in range(4)} == {"a"}, "a alone serves")


def test_whom_a_dead_pod_had_is_served_by_another(make_stand: MakeStand, named: MakeNamed) -> None:
    """At once, before its endpoint is gone."""
    web = WebStand.make(make_stand)
    a, b = named("a"), named("b")
    with running(web.stand.daemon()):
        web.stand.write("web.yaml", *host_app("web", "a.example", [a, b]))
        kept = cookies(web, "a.example", a, b)
        b.close()
        assert {web.kept("a.example", kept["b"]) for _ in range(6)} == {("a", kept["a"])}
