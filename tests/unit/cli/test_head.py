"""The first lines of `status` and `top`."""

import io
from dataclasses import replace

import pytest
from reported import calm, report, troubled
from rich.console import Console

from sidecar.cli.head import HeadLine, head_lines
from sidecar.cli.look import Look
from sidecar.cli.status import screen
from sidecar.cli.top.desk import Desk
from sidecar.cli.top.memory import Known
from sidecar.cli.top.paint import paint
from sidecar.reporting.reports import Report

AWAY = report(haproxy=None, converged=False, unready="HAProxy is away")
SYNCING = replace(calm(), source=replace(calm().source, missing=("Route", "Service")))


def told(line: HeadLine) -> str:
    return "".join(text for _, text in line.pieces)


def lines_of(found: Report, old_seconds: float = 0.0) -> dict[str, str]:
    return {line.title: told(line) for line in head_lines(found, old_seconds=old_seconds)}


def test_words() -> None:
    assert lines_of(calm()) == {
        "router": "wzh-router-1  converged",
        "HAProxy": "3.2.4, PID 4711, up 3d, 120 connections",
        "source": "kubernetes https://10.96.0.1, changed 12s ago",
        "pool": "5 open, 5 claimed, 9995 free ports; 9 used, 79991 free slots",
    }
    assert lines_of(AWAY)["HAProxy"] == "away"
    assert lines_of(AWAY)["router"] == "wzh-router-1  not converged: HAProxy is away"
    where = "kubernetes https://10.96.0.1"
    assert lines_of(SYNCING)["source"] == f"{where}, not synced yet: Route, Service"
    (first, *_) = head_lines(calm(), no_sidecar="nothing answers")
    assert told(first).endswith(
        "no running sidecar; read from HAProxy and the source: nothing answers"
    )


def test_ages_count_on() -> None:
    later = lines_of(calm(), 50.0)
    assert later["source"].endswith(", changed 1m 2s ago")
    assert ", up 4d, " in lines_of(calm(), 86400.0)["HAProxy"]


@pytest.mark.parametrize("found", [calm(), troubled(), AWAY, SYNCING])
def test_both_have_them(found: Report) -> None:
    desk, text = Desk(), io.StringIO()
    desk.take(Known(found, {}), 0.0)
    console = Console(file=text, width=200, color_system=None)
    console.print(screen(Look(found, ""), console))
    of_top = ["".join(piece for _, piece in line) for line in paint(desk, 120, 40, 0.0)]
    wanted = [f"{title:9}{words}" for title, words in lines_of(found).items()]
    for lines in (of_top, text.getvalue().splitlines()):
        assert [line.rstrip() for line in lines[:4]] == wanted
