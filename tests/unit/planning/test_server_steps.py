"""What is done to a server that is where it should be already."""

import itertools
from typing import get_args

from sidecar.haproxy.operations import SetWeight, State
from sidecar.haproxy.state import Checks, ObservedServer
from sidecar.model.desired import BackendName, DesiredServer
from sidecar.model.pool import Address
from sidecar.planning import server_steps
from sidecar.planning.server_steps import keep_ready

UNIT = BackendName("be_tcp-30000")
WHERE = Address("10.0.0.1", 9000)


def test_nothing_is_left_undone_where_a_server_is_taken_for_fit() -> None:
    weights = (None, 1, 256)
    ways = itertools.product(get_args(State), (True, False), get_args(Checks), (1, 256), weights)
    for state, up, checks, weight, wanted in ways:
        slot = ObservedServer("s1", WHERE, state, weight, up, 0, None, checks)
        server = DesiredServer(WHERE, "ready", wanted, "web", None, None)
        for waits in (True, False):
            done = list(keep_ready(UNIT, slot, server, waits=waits))
            assert done == list(server_steps._mend(UNIT, slot, server, waits=waits)), slot


def test_a_weight_is_changed_alone() -> None:
    slot = ObservedServer("s1", WHERE, "ready", 1, True, 0)
    server = DesiredServer(WHERE, "ready", 256, "web", None, None)
    assert list(keep_ready(UNIT, slot, server, waits=True)) == [SetWeight(UNIT, "s1", 256)]
