"""`sidecar.planning.schedule`: whose turn it is, and what a port with thousands of servers may
take."""

import pytest
from stand import pool_of, route

from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.listeners.tcp import TCPPorts, key_of, unit_of
from sidecar.model.desired import Unit
from sidecar.model.pool import PARKED, Address
from sidecar.planning.schedule import (
    CALM_MAX,
    CALM_SECONDS,
    COSTLY_SERVERS,
    REST_SECONDS_PER_SERVER,
    TIDY_SECONDS,
    Schedule,
    Timing,
)
from sidecar.routing.claimed import Claimed
from sidecar.routing.endpoints import resolve
from sidecar.routing.own_addresses import Denied, denier
from sidecar.routing.store import Store

PORTS = range(30000, 30005)

#: A slot whose endpoint left.
LEFT = ObservedServer(
    "s1", Address("10.0.0.1", 9000), "maint", 256, up=False, seconds_since_change=0
)


def units(*ports: int) -> set[Unit]:
    return set(map(unit_of, ports))


def schedule_of(*costly: int) -> Schedule:
    """All ports due at 100.0, one after the other by a second; ``costly`` ones are known to be."""
    schedule = Schedule(TCPPorts(pool_of({"ports": ["30000-30004"]})), Timing())
    for port in PORTS:
        compare(schedule, port, COSTLY_SERVERS if port in costly else 10, 0.0)
        schedule.look_at(unit_of(port), 100.0 - port + PORTS[0])
    return schedule


def compare(schedule: Schedule, port: int, servers: int, now: float) -> None:
    """A look at a port with so many servers in HAProxy, that somebody claims without endpoints."""
    slots = {
        f"s{number}": ObservedServer(f"s{number}", PARKED, "maint", 256, up=False,
                                     seconds_since_change=0)
        for number in range(servers)
    }  # fmt: skip
    item = route("web", port)
    claimed = Claimed(
        unit_of(port),
        item,
        resolve(item, Store(), Denied(denier([]))),
        keys=frozenset({key_of(port)}),
    )
    schedule.desired(claimed, ObservedUnit(unit_of(port), frozenset(), slots), now)


def test_costly_ports_come_after_the_others_and_one_at_a_time() -> None:
    schedule = schedule_of(30001, 30003, 30004)
    assert schedule.take_due(50.0) == (set(), set())
    # The longest due of the costly ones first.
    assert schedule.take_due(100.0) == (units(30000, 30002), units(30004))
    assert schedule.next_at() == 97.0
    schedule.mark(unit_of(30000), 100.0)
    assert schedule.take_due(100.0) == (units(30000), units(30003))
    assert schedule.take_due(100.0) == (set(), units(30001))
    assert schedule.take_due(100.0) == (set(), set())
    assert schedule.next_at() == float("inf")


def test_a_port_is_costly_for_as_long_as_it_has_its_servers() -> None:
    schedule = schedule_of(30001)
    assert schedule.take_due(100.0) == (units(*PORTS) - units(30001), units(30001))
    compare(schedule, 30001, 10, 100.0)
    schedule.mark(unit_of(30001), 200.0)
    assert schedule.take_due(200.0) == (units(30001), set())


@pytest.mark.parametrize("servers", [10, 100, 6000])
def test_the_more_servers_the_longer_a_port_rests(servers: int) -> None:
    schedule = Schedule(TCPPorts(pool_of({"ports": ["30000"]})), Timing())
    compare(schedule, 30000, servers, 100.0)
    schedule.mark(unit_of(30000), 100.0)
    assert schedule.next_at() == pytest.approx(100.0 + servers * REST_SECONDS_PER_SERVER)
    # Once it has rested, it is compared at once.
    schedule.take_due(200.0)
    schedule.mark(unit_of(30000), 200.0)
    assert schedule.next_at() <= 200.0


def test_what_nobody_waits_for_comes_a_few_at_a_time_and_what_changed_at_once() -> None:
    ports = range(30000, 30000 + 2 * CALM_MAX + 1)
    schedule = Schedule(TCPPorts(pool_of({"ports": [f"{ports[0]}-{ports[-1]}"]})), Timing())
    # Somebody may wait for one that is due for another reason, too.
    schedule.look_at(unit_of(ports[-2]), 300.0)
    for port in ports:
        seen = ObservedUnit(unit_of(port), frozenset({key_of(port)}), {"s1": LEFT})
        schedule.settled(None, seen, 100.0 + port - ports[0] - TIDY_SECONDS)
    schedule.mark(unit_of(ports[-1]), 300.0)
    schedule.mark(unit_of(ports[0]), 300.0)
    schedule.look_at(unit_of(ports[-3]), 300.0)
    # Those that are due for longest first.
    assert schedule.take_due(300.0) == (
        units(*ports[: CALM_MAX + 1], *ports[-3:]),
        set(),
    )
    assert schedule.next_at() <= 300.0
    assert schedule.take_due(300.0) == (units(*ports[CALM_MAX + 1 : -3]), set())
    assert schedule.next_at() == float("inf")


def test_those_that_nobody_waits_for_come_with_the_first_of_them() -> None:
    ports = range(30000, 30004)
    schedule = Schedule(TCPPorts(pool_of({"ports": [f"{ports[0]}-{ports[-1]}"]})), Timing())
    soon = (0.0, CALM_SECONDS, CALM_SECONDS + 0.01)
    for port, later in zip(ports, soon, strict=False):
        seen = ObservedUnit(unit_of(port), frozenset({key_of(port)}), {"s1": LEFT})
        schedule.settled(None, seen, 100.0 - TIDY_SECONDS + later)
    # What somebody waits for has its time.
    schedule.look_at(unit_of(ports[3]), 100.1)
    assert schedule.take_due(99.9) == (set(), set())
    assert schedule.take_due(100.0) == (units(*ports[:2]), set())
    assert schedule.next_at() == 100.1
    assert schedule.take_due(100.1) == (units(ports[3]), set())
    assert schedule.next_at() == pytest.approx(100.0 + soon[2])
