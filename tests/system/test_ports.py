"""`haproxy-sidecar ports`: who has which port, who waits, what is free."""

import json
from collections.abc import Callable

from cli import run_cli
from stand import MakeServer, Stand, app, await_leads_to, converged, route_manifest, running

POOLS = [
    {"ports": ["30000-30004"], "slots": 2},
    {"ports": ["31000"], "slots": 2, "namespaces": ["team"]},
]


def fill(stand: Stand, *web: object) -> None:
    stand.write(
        "all.yaml",
        *app("web", 30000, web, created="2026-01-01T00:00:00Z"),
        route_manifest("late", 30000, created="2026-01-03T00:00:00Z"),
        route_manifest("early", 30000, created="2026-01-02T00:00:00Z", namespace="b"),
        route_manifest("two", 30002),
        route_manifest("lost", 40000),
    )


def test_the_ledger_of_claims(make_stand: Callable[..., Stand], make_server: MakeServer) -> None:
    stand, server = make_stand(pools=POOLS), make_server()
    fill(stand, server)
    with running(stand.daemon()):
        await_leads_to(stand, 30000, server)
        result = run_cli("ports", "--json", "-c", stand.settings_file)
        told = run_cli("ports", "-c", stand.settings_file)
    assert result.code == told.code == 0, result.err
    ledger = json.loads(result.out)
    assert ledger["ports"] == [
        {
            "port": 30000,
            "pool": "p0",
            "state": "open",
            "owner": "demo/web",
            "waiting": ["b/early", "demo/late"],
            "shared": [],
        },
        {
            "port": 30002,
            "pool": "p0",
            "state": "closed",
            "owner": "demo/two",
            "waiting": [],
            "shared": [],
        },
    ]
    assert ledger["pools"] == [
        {
            "name": "p0",
            "ports_total": 5,
            "free_count": 3,
            "free": "30001, 30003-30004",
            "auto_ports_per_namespace": 1,
        },
        {
            "name": "p1",
            "ports_total": 1,
            "free_count": 1,
            "free": "31000",
            "auto_ports_per_namespace": 1,
        },
    ]
    assert [line.split(":")[:2] for line in ledger["without"]] == [["demo/lost", " PortNotInPool"]]
    for line in (
        "30000: b/early, demo/late",
        'p0: 3 of 5: 30001, 30003-30004; "auto" ports per namespace: at most 1',
        "demo/lost: PortNotInPool",
    ):
        assert line in told.out
    assert told.out.split("\n")[1].split() == ["30000", "p0", "open", "demo/web", "2"]


def test_the_ledger_without_haproxy(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand(start=False, pools=POOLS)
    fill(stand)
    result = run_cli("ports", "--json", "-c", stand.settings_file)
    ledger = json.loads(result.out)
    assert result.code == 3
    assert [item["state"] for item in ledger["ports"]] == ["unknown", "unknown"]
    assert "is HAProxy running" in ledger["problems"][0]


def test_an_empty_ledger(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand(pools=POOLS)
    with running(stand.daemon()) as daemon:
        converged(daemon)
        told = run_cli("ports", "-c", stand.settings_file)
    assert told.code == 0
    assert "no Route claims a port" in told.out
    assert "p0: 5 of 5: 30000-30004" in told.out
