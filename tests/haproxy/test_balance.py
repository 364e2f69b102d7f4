"""How the servers of a Route are chosen, by annotation: as it changes on one HAProxy."""

import contextlib
import socket
from collections import Counter
from typing import Any

import pytest
from by_host import NO_FURTHER, MakeNamed, NamedServer, WebStand, client_hello, host_app
from stand import MakeServer, MakeStand, await_, converged, running

from sidecar.daemon.loop import Daemon
from sidecar.haproxy.naming import backends_of
from sidecar.haproxy.state import parse_servers_state, stat_rows
from sidecar.model.pool import PARKED
from sidecar.policies.balance import BALANCE
from sidecar.policies.rewrite_target import REWRITE_TARGET

HOST = "a.example"
FEW = {name: dict.fromkeys(balances, 2) for name, balances in NO_FURTHER.items()}


def write(web: WebStand, servers: Any, balance: str | None, name: str = "web", **more: Any) -> None:
    wish = {BALANCE.annotation: balance} if balance else {}
    host = {"web": HOST}.get(name, f"{name}.example")
    app = host_app(name, host, servers, annotations=wish, **more)
    web.stand.write(f"{name}.yaml", *app)


def algorithms(web: WebStand) -> dict[str, str]:
    """Backend -> the algorithm that HAProxy says it has; of "random" it says that it is unknown."""
    rows = stat_rows(web.stand.client.ask("show stat -1 2 -1"), ("pxname", "algo"))
    return {row["pxname"]: row["algo"].replace("unknown", "random") for row in rows}


def in_use(web: WebStand) -> set[str]:
    """The backends with servers that have an address."""
    found = parse_servers_state(web.stand.client.ask("show servers state"))
    return {
        unit
        for unit, servers in found.items()
        if any(server.address != PARKED for server in servers.values())
    }


def backend(daemon: Daemon) -> str:
    """Of the only Route, "" while it has none."""
    return next(iter(daemon._routing.by_host), "")


def message(daemon: Daemon, name: str = "web") -> str:
    (found,) = (item for item in daemon._routing.verdicts() if item.route.name == name)
    return found.message


def test_haproxy_has_backends_of_each(make_stand: MakeStand) -> None:
    web = WebStand.make(make_stand, further_backends=FEW)
    pool, shown = web.stand.pool.web, algorithms(web)
    assert pool is not None
    wanted = {unit: item.balance for item in pool.all_classes for unit in backends_of(item)}
    assert wanted == {name: shown[name] for name in wanted}
    # The balance of a class itself needs none.
    assert len(pool.further) == 9


@pytest.mark.parametrize("termination", ["", "edge", "passthrough"])
def test_a_route_has_the_balance_that_it_wants(
    make_stand: MakeStand, named: MakeNamed, make_server: MakeServer, termination: str
) -> None:
    web = WebStand.make(make_stand, further_backends=FEW)
    passes = termination == "passthrough"
    servers = [make_server(name) if passes else named(name) for name in ("one", "two", "three")]

    def who() -> str:
        if passes:
            return web.passed_to(HOST).split()[-1]
        return web.ended(HOST) if termination else web.served(HOST)

    def spread() -> list[int]:
        return sorted(Counter(who() for _ in range(30)).values())

    write(web, servers, "source", termination=termination)
    with running(web.stand.daemon()) as daemon:
        for balance in ("source", "roundrobin", "random", "leastconn", "source", None):
            write(web, servers, balance, termination=termination)
            wanted = balance or ("source" if passes else "roundrobin")
            await_(lambda w=wanted: algorithms(web).get(backend(daemon)) == w, f"{wanted} it is")
            converged(daemon)
            await_(who, "it is served")
            if wanted in ("roundrobin", "source"):
                assert spread() == {"roundrobin": [10, 10, 10], "source": [30]}[wanted]
            assert message(daemon) == ""


@pytest.mark.parametrize("balance", ["leastconn", "random", "source"])
def test_what_else_a_route_says_holds_with_it(
    make_stand: MakeStand, named: MakeNamed, balance: str
) -> None:
    web, server = WebStand.make(make_stand, further_backends=FEW), named("one")
    wishes = {BALANCE.annotation: balance, REWRITE_TARGET.annotation: "/v2"}
    web.stand.write("web.yaml", *host_app("web", HOST, [server], annotations=wishes))
    with running(web.stand.daemon()) as daemon:
        web.await_served(HOST, "one", "/x")
        converged(daemon)
        assert algorithms(web)[backend(daemon)] == balance
        assert web.served(HOST, "/x") == "one"
    assert server.heads[-1].startswith("GET /v2/x ")


def test_it_changes_without_a_failed_request(make_stand: MakeStand, named: MakeNamed) -> None:
    web = WebStand.make(make_stand, further_backends=FEW)
    servers = [named("one"), named("two")]
    write(web, servers, None)
    with running(web.stand.daemon()) as daemon:
        web.await_served(HOST, "one")
        answers: list[str] = []
        for balance in ("source", "leastconn", None, "random", "roundrobin", "source"):
            write(web, servers, balance)
            wanted = balance or "roundrobin"

            def changed(wanted: str = wanted) -> bool:
                answers.append(web.served(HOST))
                return algorithms(web).get(backend(daemon)) == wanted

            await_(changed, f"{wanted} it is")
            answers.extend(web.served(HOST) for _ in range(20))
        assert set(answers) <= {"one", "two"}
        converged(daemon)
        total, unit = daemon.reconciler.history.total, backend(daemon)
        await_(lambda: in_use(web) == {unit}, "the slots of the former ones are parked", 30)
    # Whoever restarts, nothing changes.
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        assert daemon.reconciler.history.total == 0 < total
        assert backend(daemon) == unit
        web.stand.stop_haproxy()
        web.stand.start_haproxy()
        assert web.served(HOST) in ("one", "two")
        converged(daemon)
        assert backend(daemon) == unit


def test_what_runs_goes_on(make_stand: MakeStand, make_server: MakeServer) -> None:
    web = WebStand.make(make_stand, further_backends=FEW)
    server = make_server("one")
    write(web, [server], None, termination="passthrough")
    with running(web.stand.daemon()) as daemon, contextlib.ExitStack() as files:
        await_(lambda: web.passed_to(HOST), "it is served")
        held = files.enter_context(socket.create_connection(web.tls, 5))
        held.sendall(client_hello(HOST))
        assert held.recv(100)
        former = backend(daemon)
        write(web, [server], "leastconn", termination="passthrough")
        await_(lambda: backend(daemon) != former, "it has another backend")
        converged(daemon)
        await_(lambda: web.passed_to(HOST), "it is served")
        held.sendall(b"on")
        assert held.recv(100)
        # And so nobody else gets the former one.
        assert daemon.reconciler.known.is_clean(former) is False


def test_more_routes_than_backends(make_stand: MakeStand, named: MakeNamed) -> None:
    one_source = {**NO_FURTHER, "http": {**NO_FURTHER["http"], "source": 1}}
    web = WebStand.make(make_stand, further_backends=one_source)
    servers: dict[str, NamedServer] = {name: named(name) for name in ("old", "young", "least")}
    for age, name in enumerate(servers):
        wish = "leastconn" if name == "least" else "source"
        write(web, [servers[name]], wish, name, created=f"2026-01-0{age + 1}T00:00:00Z")
    with running(web.stand.daemon()) as daemon:
        for name in servers:
            web.await_served(f"{name}.example", name)
        converged(daemon)
        assert message(daemon, "old") == ""
        assert message(daemon, "young").startswith(
            "balance source: none of the 1 backends for it is free (web.further_backends.http."
        )
        assert message(daemon, "least").startswith("balance leastconn: no backend is for it")
        web.stand.remove("old.yaml")
        await_(lambda: message(daemon, "young") == "", "it gets the one that is free")
        web.await_served("young.example", "young")
        converged(daemon)
        assert algorithms(web)["be_http_source_1"] == "source"


def test_several_services_get_their_shares(make_stand: MakeStand, make_server: MakeServer) -> None:
    web = WebStand.make(make_stand, further_backends=FEW)
    one, two = make_server("one"), make_server("two")
    route, *rest = host_app("web", HOST, [one], termination="passthrough")
    _, *others = host_app("two", "two.example", [two], termination="passthrough")
    both = [{"kind": "Service", "name": "two", "weight": 100}]
    web.stand.write("web.yaml", route, *rest, *others)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: web.passed_to(HOST), "it is served")
        converged(daemon)
        assert algorithms(web)[backend(daemon)] == "source"
        spec = {**route["spec"], "alternateBackends": both}
        web.stand.write("web.yaml", {**route, "spec": spec}, *rest, *others)
        await_(lambda: algorithms(web).get(backend(daemon)) == "roundrobin", "they take turns")
        converged(daemon)
        assert sorted(Counter(web.passed_to(HOST) for _ in range(20)).values()) == [10, 10]
