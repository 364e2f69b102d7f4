"""`sidecar.reporting.collector`: what became of Routes, as it is handed to whoever passes it on."""

from pathlib import Path

from core import units
from stand import ROUTER, MakeStand, changes, pool_of, route, service, slice_

from sidecar.common.metrics import Metrics
from sidecar.control.reconciler import Reconciler
from sidecar.haproxy.client import RuntimeClient
from sidecar.listeners.tcp import TCPPorts
from sidecar.planning.schedule import Timing
from sidecar.reporting.collector import Collector
from sidecar.routing.endpoints import denier
from sidecar.routing.table import Routing

WEB = route().key


def test_a_route_has_its_port_while_haproxy_is_away(tmp_path: Path) -> None:
    ports = TCPPorts(pool_of({"ports": ["30000"]}))
    routing = Routing(ports, ROUTER, denier(()), {})
    client = RuntimeClient(str(tmp_path / "nobody.sock"), 1.0)
    reconciler = Reconciler(client, ports, Metrics(), Timing())
    collector = Collector(routing, reconciler.known)
    changed = routing.apply(changes(route(), service(), slice_()))
    reconciler.mark(changed.units)
    reconciler.step(routing.claim)
    collector.mark(changed, reconciler.known.take_touched())
    outcome = collector.take()[WEB]
    assert outcome is not None
    assert (outcome.port, outcome.verified, outcome.open) == (30000, False, False)
    assert outcome.verdict.admitted


def test_a_route_has_its_port_while_an_operator_holds_it(make_stand: MakeStand) -> None:
    stand = make_stand()
    routing = Routing(stand.ports, ROUTER, denier(()), {})
    reconciler = Reconciler(stand.client, stand.ports, Metrics(), Timing())
    collector = Collector(routing, reconciler.known)
    changed = routing.apply(changes(route(), service(), slice_()))
    reconciler.hold(units(30000))
    reconciler.mark(changed.units)
    reconciler.step(routing.claim)
    collector.mark(changed, reconciler.known.take_touched())
    outcome = collector.take()[WEB]
    assert outcome is not None
    # As HAProxy has it from its start: nobody has closed it.
    assert (outcome.port, outcome.verified, outcome.open) == (30000, False, True)
