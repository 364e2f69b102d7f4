"""What is wrong with a row, and with the router: the same for `status`, `top` and the page."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from reported import certificate, host, port, report, server, troubled
from rich.console import Console

from sidecar.admin.updates import Updates
from sidecar.cli.look import Look
from sidecar.cli.status import screen
from sidecar.cli.top.memory import Memory, read_update
from sidecar.reporting.certificate_reports import DEFAULT, ENDS_VERY_SOON_DAYS
from sidecar.reporting.problems import Problem, router_problems, row_problems
from sidecar.reporting.reports import AttemptsReport, HostReport, PortReport, WaitingReport

DOWN = server(2, state="down")
DRAIN = server(3, state="drain")
DRIFT = "changed by somebody else: s1 is drained; will be repaired at the next full compare"
HELD = "held: the sidecar does not change it until `haproxy-sidecar release 1`"


@pytest.mark.parametrize(
    ("item", "found"),
    [
        (port(1), []),
        (
            port(1, servers=(), reason="PodsNotReady", message="no ready endpoint"),
            [("bad", "closed", "PodsNotReady: no ready endpoint")],
        ),
        (port(1, servers=(), message="no endpoints"), [("bad", "closed", "no endpoints")]),
        (port(1, servers=()), [("bad", "closed", "no server")]),
        (port(1, servers=(DOWN,)), [("bad", "closed", "its only server is down")]),
        (port(1, servers=(DOWN, DOWN)), [("bad", "closed", "all 2 servers are down")]),
        (port(1, servers=(DOWN, DRAIN)), [("bad", "closed", "no server is ready")]),
        (port(1, message="kept from before"), [("note", "", "kept from before")]),
        (port(1, reason=None, message="unclaimed"), [("note", "", "unclaimed")]),
        (port(1, reason="PodsNotReady", message="x"), [("warn", "", "PodsNotReady: x")]),
        (host("x", reason="PodsNotReady", message="x"), [("warn", "", "PodsNotReady: x")]),
        (
            port(1, attempts=AttemptsReport(41.0, 9, 0, 1, 0)),
            [("warn", "lost", "1 failed attempt to reach a server was retried in the last 41 s")],
        ),
        (
            port(1, left_out=2),
            [("warn", "skipped", "2 endpoints skipped; see limits.max_servers and pools[].slots")],
        ),
        (
            host("x", left_out=1),
            [("warn", "skipped", "1 endpoint skipped; see limits.max_servers and web.slots")],
        ),
        (
            port(1, drift="s1 is drained", message="note", held=True),
            [("bad", "drift", DRIFT), ("warn", "held", HELD), ("note", "", "note")],
        ),
        (
            host("x", certificate=certificate(ENDS_VERY_SOON_DAYS)),
            [("warn", "certificate", "certificate ends in 3 days")],
        ),
        (
            host("x", certificate=certificate(ENDS_VERY_SOON_DAYS - 1)),
            [("bad", "certificate", "certificate ends in 2 days")],
        ),
        (host("x", certificate=certificate(14)), []),
        # That the default one ends is the router's, and said once.
        (host("x", certificate=certificate(5, source=DEFAULT)), []),
        (
            host("x", certificate=certificate(5, source=DEFAULT, served=False)),
            [("bad", "certificate", "certificate not served: it is being loaded")],
        ),
    ],
)
def test_of_a_row(
    item: PortReport | HostReport | WaitingReport, found: list[tuple[str, str, str]]
) -> None:
    assert [tuple(problem) for problem in row_problems(item)] == found


@pytest.mark.parametrize(
    ("others", "found"),
    [
        ({"problems": ("torn.yaml: invalid",)}, [("bad", "", "torn.yaml: invalid")]),
        ({"ports_total": 100, "ports_claimed": 89}, []),
        (
            {"ports_total": 100, "ports_claimed": 90},
            [("warn", "pool", "only 10 ports of 100 are free")],
        ),
        ({"ports_total": 10, "ports_claimed": 9}, [("warn", "pool", "only 1 port of 10 is free")]),
        ({"ports_total": 10, "ports_claimed": 10}, [("warn", "pool", "no port is free")]),
        ({"ports_total": 9, "ports_claimed": 9}, []),
        (
            {"default_certificate": certificate(5, source=DEFAULT)},
            [("warn", "certificate", "the default certificate ends in 5 days")],
        ),
        (
            {"default_certificate": certificate(-1, source=DEFAULT)},
            [
                (
                    "bad",
                    "certificate",
                    "the default certificate expired on 2027-01-31T00:00:00Z",
                )
            ],
        ),
        ({"default_certificate": certificate(90, source=DEFAULT)}, []),
    ],
)
def test_of_the_router(others: dict[str, Any], found: list[tuple[str, str, str]]) -> None:
    assert [tuple(problem) for problem in router_problems(report(**others))] == found


def test_all_that_show_a_report_say_the_same() -> None:
    """The page is handed what `top` makes of it, and `status` prints it."""
    found = replace(troubled(), ports_total=10, ports_claimed=10)
    data = json.loads(json.dumps(Updates("a").since(found, "")))
    handed = {row["key"]: [Problem(*item) for item in row["problems"]] for row in data["rows"]}
    known = Memory().take(read_update(data), 0.0)
    for key, row in known.rows.items():
        assert [item for item in handed[key] if item.level != "note"] == list(row.problems)
    assert [tuple(item) for item in data["problems"]] == [tuple(i) for i in router_problems(found)]
    text = io.StringIO()
    console = Console(file=text, width=1000, color_system=None)
    console.print(screen(Look(found, ""), console))
    said = text.getvalue()
    # What columns show is not said again.
    left = [item for items in handed.values() for item in items if item.group != "down"]
    assert len({item.group for item in left}) >= 8
    left += router_problems(found)
    assert {item.group for item in left} >= {"pool"}
    assert [item.text for item in left if item.text not in said] == []
