"""A port that Routes share by SNI, as people and programs are shown it."""

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from parts import routing_for, web_for
from rich.console import Console
from stand import ROUTER, changes, pool_of, route, service, slice_

from sidecar.cli.look import Look
from sidecar.cli.status import screen
from sidecar.common.errors import UsageError
from sidecar.haproxy.naming import web_backend_names
from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.listeners.tcp import TCPPorts, key_of, unit_of
from sidecar.model.desired import ClaimKey, Unit
from sidecar.model.objects import Route
from sidecar.model.pool import Address
from sidecar.reporting.explain import explain
from sidecar.reporting.explain_parts import World
from sidecar.reporting.explanation import Why
from sidecar.reporting.gauges import Gauges
from sidecar.reporting.port_usage import ClaimedPort, build_register
from sidecar.reporting.reading import narrowed, report_json
from sidecar.reporting.reports import SourceReport
from sidecar.reporting.status import Facts, build_report
from sidecar.routing.table import Routing
from sidecar.routing.web_places import PORTS

POOL = pool_of({"ports": ["30000-30003"], "shared_by_sni": True})
ONE, TWO = web_backend_names("passthrough", 2)


def for_host(name: str, host: str, age: float, **rest: Any) -> Route:
    item = route(name, 30000, termination="passthrough", created_seconds=age, **rest)
    return replace(item, host=host)


ROUTES = (
    for_host("one", "one.test", 1),
    for_host("two", "two.test", 2),
    for_host("rival", "one.test", 3, namespace="other"),
    for_host("third", "third.test", 4),
    route("whole", 30000, created_seconds=5),
    route("db", 30001),
)


def routing_of() -> Routing:
    web = web_for({"passthrough": (ONE, TWO)}, listeners=())
    routing = routing_for(TCPPorts(POOL), web=web)
    routing.adopt({})
    servers = [service(item.name) for item in ROUTES[:2]]
    slices = [slice_(item.name, [f"10.0.0.{n}"]) for n, item in enumerate(ROUTES[:2], 1)]
    routing.apply(changes(*ROUTES, *servers, *slices))
    return routing


def observed(*, is_open: bool = True) -> Mapping[Unit, ObservedUnit]:
    own = unit_of(30000)
    exposed = frozenset({key_of(30000)} if is_open else ())
    found = {own: ObservedUnit(own, exposed, {})}
    for number, unit in enumerate((ONE, TWO), 1):
        address = Address(f"10.0.0.{number}", 9000)
        server = ObservedServer("s1", address, "ready", 1, True, 5, 0, "none")
        entry = ClaimKey(PORTS, f"30000/{'one' if unit == ONE else 'two'}.test")
        found[unit] = ObservedUnit(unit, frozenset({entry}), {"s1": server})
    return found


def facts() -> Facts:
    routing = routing_of()
    return Facts(
        ROUTER,
        "sidecar",
        "admin.sock",
        POOL,
        SourceReport("directory", "x", (), None),
        routing.claimed,
        routing.verdicts(),
        observed(),
        (),
        frozenset(),
        {},
        {},
        web=routing.by_host,
    )


def why(subject: str, **options: Any) -> Why:
    return explain(subject, World(ROUTER, POOL, routing_of(), observed(**options)))


def lines(found: Why, title: str) -> list[str]:
    return [line.text for link in found.links if link.name == title for line in link.lines]


def test_status() -> None:
    report = build_report(facts())
    (shared, db) = report.ports
    assert (shared.port, shared.state, shared.route, shared.shared) == (30000, "open", None, True)
    assert (shared.owner, shared.message) == ("by SNI", "")
    assert (db.route, db.shared) == ("demo/db", False)
    assert [(item.title, item.route, item.port) for item in report.hosts] == [
        ("one.test:30000", "demo/one", 30000),
        ("two.test:30000", "demo/two", 30000),
    ]
    assert {item.route: item.reason for item in report.waiting} == {
        "demo/third": "PoolExhausted",
        "demo/whole": "PortAlreadyClaimed",
        "other/rival": "HostAlreadyClaimed",
    }
    assert report_json(report)["ports"][0]["shared"] is True
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(screen(Look(report, ""), console))
    (row,) = (line for line in capture.get().splitlines() if line.startswith("30000"))
    assert row.split()[:4] == ["30000", "open", "by", "SNI"]
    assert "none" not in row
    few = narrowed(report, None, ["30000"])
    assert len(few.hosts) == 2
    assert [item.port for item in few.ports] == [30000]
    assert narrowed(report, None, ["one.test"]).hosts == report.hosts[:1]


def test_ports() -> None:
    register = build_register(POOL, routing_of(), observed(), ())
    shared, db = register.ports
    assert shared == ClaimedPort(
        30000,
        "p0",
        "open",
        None,
        ("demo/whole",),
        ("one.test demo/one", "two.test demo/two"),
    )
    assert (db.owner, db.shared) == ("demo/db", ())
    assert register.pools[0].free == "30002-30003"
    assert [line.split(":")[0] for line in register.without] == ["demo/third", "other/rival"]


def test_gauges() -> None:
    report = build_report(facts())
    families = {item.name: item for item in Gauges(lambda: report, POOL).collect()}
    claims = {
        item.labels["state"]: item.value for item in families["haproxy_sidecar_claims"].samples
    }
    # One of a whole port has no Service.
    assert claims == {"serving": 2, "empty": 1, "waiting": 3, "refused": 0}
    ports = {
        item.labels["state"]: item.value for item in families["haproxy_sidecar_pool_ports"].samples
    }
    assert ports == {"claimed": 2, "free": 2}


def test_why_a_port() -> None:
    found = why("30000")
    assert found.works
    assert lines(found, "claim")[:2] == ["one.test: demo/one", "two.test: demo/two"]
    assert [line.split(":")[0] for line in lines(found, "claim")[2:]] == [
        "other/rival waits",
        "demo/third waits",
        "demo/whole waits",
    ]
    assert not why("30000", is_open=False).works


def test_why_a_route() -> None:
    for subject in ("demo/one", "https://one.test:30000/", "one.test:30000"):
        found = why(subject)
        assert (found.works, found.port) == (True, 30000)
        texts = [link.text for link in found.links]
        assert "it has one.test on port 30000, TLS passthrough" in texts
        assert "frontend tcp-30000 listens, shared by SNI" in texts
    assert not why("demo/one", is_open=False).works
    for subject in ("other/rival", "demo/third", "demo/whole"):
        assert not why(subject).works


def test_a_host_of_a_port_is_none_of_the_listeners() -> None:
    with pytest.raises(UsageError, match=r"one\.test"):
        why("one.test")
