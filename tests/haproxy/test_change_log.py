"""`sidecar.reporting.change_log`: what is logged, and how little of it when there is too much to
say."""

import logging
import re

import pytest
from core import units
from parts import routing_for
from stand import MakeStand, Stand, changes, route, service, slice_

from sidecar.common.metrics import Metrics
from sidecar.control.reconciler import Reconciler
from sidecar.listeners.tcp import unit_of
from sidecar.model.change import Change
from sidecar.model.objects import Object
from sidecar.planning.schedule import Timing
from sidecar.reporting.change_log import LINES_AT_ONCE, LINES_PER_SECOND, LOOKS, ChangeLog

PORT = 30000


class Told:
    """A loop on a real HAProxy, at a time of the test's own, and what it logs."""

    def __init__(self, stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "sidecar.reporting.change_log")
        self.routing = routing_for(stand.ports)
        self.reconciler = Reconciler(
            stand.client, stand.ports, Metrics(), Timing(), lambda: self.now
        )
        self.change_log = ChangeLog(stand.ports, self.routing, self.reconciler.known)
        self.now = 1000.0
        self._caplog = caplog

    def said(self) -> list[str]:
        """By the change log; others log too, at whatever level an earlier test left."""
        records = self._caplog.records
        return [r.getMessage() for r in records if r.name == "sidecar.reporting.change_log"]

    def change(self, *objects: Object, gone: tuple[Object, ...] = ()) -> None:
        """One round of the daemon."""
        changed = self.routing.apply([*changes(*objects), *(Change(o.key, None) for o in gone)])
        self.reconciler.mark(changed.units)
        self.reconciler.step(self.routing.claim)
        self.change_log.mark(changed, self.reconciler.known.take_touched())

    def lines(self, seconds: float = 0.0) -> list[str]:
        """What is said ``seconds`` later."""
        self.now += seconds
        self._caplog.clear()
        self.reconciler.step(self.routing.claim)
        self.change_log.mark(self.routing.apply([]), self.reconciler.known.take_touched())
        while self.change_log.tell(self.now):
            pass
        return self.said()


@pytest.fixture
def told(make_stand: MakeStand, caplog: pytest.LogCaptureFixture) -> Told:
    return Told(make_stand(), caplog)


def test_a_line_for_each_port_that_is_not_as_it_was(told: Told) -> None:
    told.change(route(), service(), slice_(endpoints=[f"10.0.0.{n}" for n in range(1, 7)]))
    addresses = "10.0.0.1:9000, 10.0.0.2:9000, 10.0.0.3:9000, 10.0.0.4:9000 and 2 more"
    assert told.lines() == [f"port {PORT}: open -> Route demo/web -> {addresses}"]
    told.change(slice_(endpoints=["10.0.0.1"]))
    assert told.lines() == []
    assert told.lines(1.0) == [f"port {PORT}: open -> Route demo/web -> 10.0.0.1:9000"]
    told.change(service())
    assert told.lines(1.0) == []
    told.change(gone=(route(),))
    assert told.lines(1.0) == [f"port {PORT}: closed"]


def test_a_refused_route_is_told_why_and_again_when_that_changes(told: Told) -> None:
    told.change(route(port="x"))
    assert [line[:41] for line in told.lines()] == ["Route demo/web refused: InvalidPort: 'x' "]
    assert told.lines(5.0) == []
    told.change(route(port="443"))
    assert [line[:37] for line in told.lines()] == ["Route demo/web refused: PortNotInPool"]


def test_a_route_that_flaps_has_a_line_a_second_which_says_how_often(told: Told) -> None:
    said = []
    for number in range(1000):
        told.change(route(port="xyz"[number % 3]))
        said += told.lines(0.01)
    assert len(said) == pytest.approx(10, abs=1)
    assert "(changed" not in said[0]
    counts = [re.findall(r"[(]changed ([0-9]+) times since last logged[)]$", x) for x in said]
    assert [int(count) for found in counts[1:] for count in found] == pytest.approx(
        [100] * (len(said) - 1), abs=2
    )
    # It is said how it is at last, and no more.
    told.change(route(port="w"))
    assert "'w' is not a valid port" in told.lines(1.0)[0]
    assert told.lines(1.0) == []


def test_a_route_made_anew_again_and_again_flaps_too(told: Told) -> None:
    said = []
    for _ in range(500):
        told.change(route(port="x"))
        said += told.lines(0.01)
        told.change(gone=(route(),))
        said += told.lines(0.01)
    assert len(said) == pytest.approx(10, abs=1)


def test_a_namespace_with_thousands_of_refused_routes_takes_its_turns(told: Told) -> None:
    crowd = [route(f"r{number}", "x", namespace="crowd") for number in range(2000)]
    told.change(*crowd, route("mine", "x"))
    said = told.lines()
    assert sum(line.startswith("Route crowd/") for line in said) == LINES_AT_ONCE
    assert sum(line.startswith("Route demo/mine") for line in said) == 1
    more = [line for line in said if line.startswith("namespace crowd: ")]
    assert [line.split("; `")[0] for line in more] == [
        f"namespace crowd: {2000 - LINES_AT_ONCE} more Routes changed; logging 20 per second"
    ]
    # As long as that goes on, others are heard at once.
    told.change(route("other", "x"))
    said = told.lines(1.0)
    assert sum(line.startswith("Route crowd/") for line in said) == LINES_PER_SECOND
    assert sum(line.startswith("Route demo/other") for line in said) == 1
    assert len(said) == LINES_PER_SECOND + 1
    # Who is gone has nothing to say any more, and all others have their line in the end.
    told.change(gone=tuple(crowd[:1000]))
    rest = [line for _ in range(200) for line in told.lines(1.0)]
    assert len({line.split(" refused")[0] for line in rest}) == len(rest)
    assert {line.split()[1] for line in rest} <= {item.title for item in crowd[1000:]}


def test_one_go_looks_at_so_many_and_no_more(
    make_stand: MakeStand, caplog: pytest.LogCaptureFixture
) -> None:
    ports = range(31000, 31000 + 2 * LOOKS)
    told = Told(make_stand(pools=[{"ports": [f"{ports[0]}-{ports[-1]}"], "slots": 1}]), caplog)
    told.change(*(route(f"r{port}", port) for port in ports))
    assert told.change_log.tell(told.now)
    first = told.said()
    assert len(first) - 1 <= LOOKS, "beside the one that says so"
    rest = [line for _ in range(10) for line in told.lines(1.0)]
    assert len(first) - 1 + len(rest) == 2 * len(ports), "of each Route, and of its port"


def test_what_waits_to_be_compared_is_resolved_for_no_line(told: Told) -> None:
    told.change(route(), service(), slice_(endpoints=["10.0.0.1"]))
    told.lines()
    told.now += 1.0
    told.change(slice_(endpoints=["10.0.0.2"]))
    told.change(slice_(endpoints=["10.0.0.3"]))
    # It was compared a moment ago, and rests.
    assert not told.routing.knows(unit_of(PORT))
    told.change_log.tell(told.now)
    assert not told.routing.knows(unit_of(PORT))
    (line,) = told.lines(1.0)
    assert "10.0.0.3:9000 (changed 2 times since" in line


def test_a_held_port_is_told_of_though_nobody_compares_it(told: Told) -> None:
    told.change()
    told.reconciler.hold(units(PORT))
    told.change(route())
    assert {line.split(": ")[1] for line in told.lines()} == {
        "ServiceNotFound",
        "closed, waiting for servers of Route demo/web",
    }
