"""What a chaos run leans on, where it once gave way; and that it sees what it looks for."""

import re
import threading
import time
from collections.abc import Iterator

import pytest
import stand
from crowds import COMING_AND_GOING
from rig import Promise
from sources import Feed
from stand import MakeServer, MakeStand
from test_chaos import Run
from world import DEAD, ITSELF, MARK_PORT, PORTS, SERVERS, Route, Service, Slice

#: What HAProxy has for one port; the crowd knows of more.
ROOM = 10


@pytest.fixture
def run(make_stand: MakeStand, make_server: MakeServer) -> Iterator[Run]:
    """One in which the first port has a server."""
    its_stand = make_stand(pools=[{"ports": [*PORTS, MARK_PORT], "slots": 2, "maxconn": ROOM}])
    ips = {SERVERS[0]: make_server(SERVERS[0]).address.ip, DEAD: stand.fresh_ip()}
    ips[ITSELF[0]] = its_stand.ip
    run = Run(its_stand, ips, Feed(its_stand.folder, ips))
    run.tell([Service("a", exists=True), Slice("a", 0, ((SERVERS[0], "ready"),))])
    run.tell([Route("r0", 0, True, True, str(PORTS[0]), 1, (("a", 1),))])
    yield run
    run.close()


def test_somebodys_commands_pass_while_others_take_all_connections(run: Run) -> None:
    """Also of those who had a connection to a HAProxy that is gone."""
    run.kill_haproxy(gently=False)
    run.relay.fault("full")
    run.drift(PORTS[0], f"enable frontend tcp-{PORTS[0]}")


def test_a_port_that_is_full_too_soon_is_seen(run: Run) -> None:
    run.be_quiet(thorough=True)
    run.full_port.come(PORTS[0])
    (fault,) = run.clients.faults
    seen = re.fullmatch(r".* at ([0-9]+) connections", fault)
    assert seen, fault
    # The one that made it full may have left before HAProxy is asked.
    assert ROOM - COMING_AND_GOING <= int(seen[1]) <= ROOM, fault


def test_a_router_that_was_its_own_server_for_a_moment_is_seen(run: Run) -> None:
    run.be_quiet(thorough=True)
    run.check_loops(0)
    ip = run.stand.ip
    for command in (
        f"set server be_tcp-30001/s1 addr {ip} port {PORTS[0]}",
        f"add server be_tcp-30001/x1 {ip}:{PORTS[0]} weight 1",
    ):
        run.relay.addressed.clear()
        run.relay._note(command)
        with pytest.raises(AssertionError, match="the router itself was to be a server"):
            run.check_loops(0)


def test_whoever_is_killed_in_mid_batch_is_dead_once_the_trip_is_off(run: Run) -> None:
    """Else it would be thought alive, and be killed after that."""
    going = threading.Event()

    def slowly() -> None:
        going.set()
        time.sleep(0.2)
        run.sidecar.kill()

    run.relay.trip(1, slowly)
    run.sidecar.start()
    assert going.wait(20)
    run.be_quiet(thorough=False)


def test_a_haproxy_that_is_stopped_goes_on_and_nothing_is_lost(run: Run) -> None:
    run.be_quiet(thorough=True)
    run.freeze_haproxy(1.2)
    run.tell([Route("r0", 0, True, True, str(PORTS[1]), 1, (("a", 1),))])
    run.be_quiet(thorough=True)
    assert run.clients.frozen == 2
    run.clients.look_after(0.0)
    assert not run.clients.faults


def test_a_haproxy_that_comes_back_may_be_as_somebody_made_it() -> None:
    """Its state was saved after somebody changed it, and before the sidecar repaired it."""
    for then, tampered in ((5.0, False), (15.0, True), (25.0, False)):
        promise = Promise()
        promise.tamper(10.0)
        promise.be_right(20.0)
        assert not promise.tampered
        promise.go_back(then)
        assert promise.tampered == tampered, then
