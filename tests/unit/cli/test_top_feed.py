"""How `top` asks a sidecar: what comes of its answers, and of its failures."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from reported import Told, page_of, port, report
from stand import ROUTER, await_

from sidecar.cli.top.feed import Feed
from sidecar.cli.top.memory import Known
from sidecar.cli.whom import Sidecar, sidecar_at

SOCKET = "/run/haproxy.sock"


@dataclass
class Watcher:
    """Who is told."""

    known: list[Known] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)


@contextlib.contextmanager
def feeding(sidecar: Sidecar, watcher: Watcher, **others: Any) -> Iterator[Feed]:
    called = {
        "take": watcher.known.append,
        "miss": watcher.missed.append,
        "fail": watcher.failures.append,
        **others,
    }
    feed = Feed(sidecar, **called)
    feed.start()
    try:
        yield feed
    finally:
        feed.stop()
        await_(lambda: "feed" not in [one.name for one in threading.enumerate()], "it has ended")


@pytest.fixture
def told() -> Told:
    return Told(report(port(1, bytes_in=0)))


@pytest.fixture
def sidecar(told: Told) -> Iterator[Sidecar]:
    with page_of(told) as url:
        yield sidecar_at(url, None)


def test_rates_are_by_when_the_figures_were_counted(told: Told, sidecar: Sidecar) -> None:
    watcher = Watcher()
    told.age_seconds = 50.0
    began = time.monotonic()
    with feeding(sidecar, watcher) as feed:
        await_(lambda: watcher.known, "the first one came")
        at = watcher.known[0].rows["port:1"].at
        assert began <= at + 50.0 <= time.monotonic()
        told.found, told.age_seconds = report(port(1, bytes_in=4000)), 10.0
        feed.hurry()
        later = await_(lambda: watcher.known[1:], "the second one came")[0].rows["port:1"]
    # 40 seconds, and the moment that has passed since.
    assert later.rates.bytes_in == pytest.approx(4000 / (later.at - at))
    assert 40.0 <= later.at - at < 45.0


def test_one_of_another_haproxy_is_refused(sidecar: Sidecar) -> None:
    """`K` would end sessions of the settings' HAProxy, by what is known of another one's."""
    watcher = Watcher()
    with feeding(replace(sidecar, serves=(ROUTER, "/run/another.sock")), watcher):
        await_(lambda: watcher.missed, "it is told")
    assert "is -c right?" in watcher.missed[0]
    assert watcher.known == []
    ours = Watcher()
    with feeding(replace(sidecar, serves=(ROUTER, SOCKET)), ours):
        await_(lambda: ours.known, "it came")
    assert ours.missed == []


def test_an_error_of_ours_is_told(sidecar: Sidecar) -> None:
    """Else the screen would stay as it was, and nobody would know."""
    watcher, wrong = Watcher(), ZeroDivisionError("ours")

    def take(_: Known) -> None:
        raise wrong

    with feeding(sidecar, watcher, take=take):
        await_(lambda: watcher.failures, "it is told")
    assert watcher.failures == [wrong]
