"""What a page gets that has an older report: rows that are different, and those that are gone."""

import json
from dataclasses import replace
from typing import Any

import pytest
from reported import certificate, host, port, refused, report, server, traffic, troubled

from sidecar.admin import updates as module
from sidecar.admin.updates import Updates
from sidecar.reporting.reading import report_json
from sidecar.reporting.reports import AttemptsReport

DAY = 86400


def keys(found: dict[str, Any]) -> set[str]:
    return {row["key"] for row in found["rows"]}


def test_all_of_it_first() -> None:
    updates, late = Updates("a"), refused("demo/bad", "InvalidPort", "no")
    given = report(port(1), hosts=(host("x"),), waiting=(late,), problems=("something",))
    found = updates.since(given, "")
    assert found["whole"] is True
    assert keys(found) == {"port:1", "edge:x", "route:demo/bad"}
    assert found["gone"] == []
    assert found["head"]["problems"] == ["something"]
    assert not {"ports", "hosts", "waiting"} & found["head"].keys()
    assert json.loads(json.dumps(found))["head"]["source"]["kind"] == "kubernetes"


def test_only_what_is_different() -> None:
    updates = Updates("a")
    version = updates.since(report(port(1), port(2), port(3)), "")["version"]
    found = updates.since(report(port(1), port(2, sessions=4)), version)
    assert (found["whole"], keys(found), found["gone"]) == (False, {"port:2"}, ["port:3"])
    assert updates.since(report(port(1), port(2, sessions=4)), found["version"])["rows"] == []
    again = updates.since(report(port(1), port(2, sessions=4), port(3)), found["version"])
    assert (keys(again), again["gone"]) == ({"port:3"}, [])
    # Who was away longer gets all that it missed.
    late = updates.since(report(port(1), port(2, sessions=4)), version)
    assert (keys(late), late["gone"]) == ({"port:2"}, ["port:3"])


def test_rows_are_as_in_the_report() -> None:
    made = troubled()
    rows = Updates("a").since(made, "")["rows"]
    of_report = json.loads(json.dumps(report_json(made)))
    found = {row["key"]: {**row} for row in json.loads(json.dumps(rows))}
    for row in found.values():
        del row["key"], row["problems"]
    assert list(found.values()) == [
        *of_report["ports"],
        *of_report["hosts"],
        *of_report["waiting"],
    ]


def test_ages_are_no_difference() -> None:
    updates = Updates("a")
    seconds = AttemptsReport(1.0, 1, 0, 0, 0)
    first = report(
        port(1, attempts=seconds, servers=(server(attempts=seconds),)),
        hosts=(host("x", certificate=certificate(9), traffic=traffic(0, 0, 5)),),
    )
    version = updates.since(first, "")["version"]
    seconds = replace(seconds, seconds=9.0)
    older = report(
        port(
            1,
            changed_seconds_ago=8.0,
            attempts=seconds,
            servers=(server(seconds_since_change=8, attempts=seconds),),
        ),
        hosts=(
            host(
                "x",
                changed_seconds_ago=8.0,
                certificate=replace(certificate(9), seconds_left=9 * DAY, served_seconds_ago=9.0),
                traffic=replace(traffic(0, 0, 5), seconds=900.0),
            ),
        ),
    )
    found = updates.since(older, version)
    assert found["rows"] == []
    changed = report(port(1, changed_seconds_ago=0.5), hosts=older.hosts)
    assert keys(updates.since(changed, found["version"])) == {"port:1"}


def test_a_certificate_that_has_a_day_less_is_told() -> None:
    """Nothing else of it changes until it is over."""
    updates, version = Updates("a"), ""
    for seconds_left, told in [(10 * DAY, True), (10 * DAY - 1, True), (9 * DAY, False)]:
        item = host("x", certificate=certificate(10, seconds_left=seconds_left))
        found = updates.since(report(hosts=(item, host("y"))), version)
        assert ("edge:x" in keys(found)) is told
        version = found["version"]
    over = host("x", certificate=certificate(10, seconds_left=-1))
    assert keys(updates.since(report(hosts=(over, host("y"))), version)) == {"edge:x"}


def test_how_old_its_figures_are() -> None:
    updates = Updates("a")
    first, later = report(port(1)), report(port(1, sessions=4))
    assert updates.since(first, "", 5.0, 5.25)["age_seconds"] == 0.25
    found = updates.since(first, "", 5.0, 6.5)
    assert (found["age_seconds"], found["version"]) == (1.5, "a.1")
    found = updates.since(later, "", 7.0, 7.5)
    assert (found["age_seconds"], found["version"]) == (0.5, "a.2")
    # An answer that was on its way longer has the newer one.
    found = updates.since(first, "", 5.0, 8.0)
    assert (found["age_seconds"], found["version"]) == (1.0, "a.2")
    assert found["rows"][0]["sessions"] == 4


@pytest.mark.parametrize("version", ["b.1", "a.7", "a.-1", "a.x", "a", "1", "a." + "9" * 99])
def test_another_runs_numbers_mean_nothing(version: str) -> None:
    updates = Updates("a")
    updates.since(report(port(1)), "")
    found = updates.since(report(port(1)), version)
    assert found["whole"] is True
    assert keys(found) == {"port:1"}


def test_what_is_forgotten_is_told_whole() -> None:
    updates = Updates("a")
    many = [port(number) for number in range(module.GONE_MAX + 2)]
    version = updates.since(report(*many), "")["version"]
    found = updates.since(report(many[0]), version)
    assert found["whole"] is True
    assert keys(found) == {"port:0"}
    assert updates.since(report(many[0]), found["version"])["whole"] is False
