"""`sidecar.reporting.collector`: what became of Routes, as it is handed to whoever passes it on."""

from dataclasses import replace
from pathlib import Path

from core import units
from parts import routing_for
from stand import MakeStand, await_, changes, fresh_ip, pool_of, route, service, slice_

from sidecar.common.metrics import Metrics
from sidecar.common.secret_text import SecretText
from sidecar.control.reconciler import Reconciler
from sidecar.daemon.assembly import make_listeners, make_reconciler, make_routing
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.own_certificates import self_signed
from sidecar.listeners.tcp import TCPPorts
from sidecar.model.objects import RouteTLS
from sidecar.planning.schedule import Timing
from sidecar.reporting.collector import Collector
from sidecar.reporting.outcome import Outcome
from sidecar.routing.claimed import Changed
from sidecar.routing.host_certificates import Shown

WEB = route().key


def test_a_route_has_its_port_while_haproxy_is_away(tmp_path: Path) -> None:
    ports = TCPPorts(pool_of({"ports": ["30000"]}))
    routing = routing_for(ports)
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
    routing = routing_for(stand.ports)
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


def test_who_shares_a_port_has_it_once_both_are_open(make_stand: MakeStand) -> None:
    stand = make_stand(pools=[{"ports": ["30000"], "shared_by_sni": True}])
    listeners = make_listeners(stand.settings)
    routing = make_routing(stand.settings, listeners, {})
    reconciler = make_reconciler(stand.settings, listeners, routing, stand.client, Metrics())
    collector = Collector(routing, reconciler.known)
    hosts = ("one.test", "two.test")
    names = [host.partition(".")[0] for host in hosts]
    items = [
        replace(route(name, termination="passthrough"), host=host)
        for name, host in zip(names, hosts, strict=True)
    ]
    objects = [made for name in names for made in (service(name), slice_(name, ["127.0.0.1"]))]
    changed = routing.apply(changes(*items, *objects))
    # Both units, of the Route and of the port, are what it needs.
    reconciler.hold(units(30000))
    for _ in range(3):
        reconciler.mark(changed.units)
        reconciler.step(routing.claim)
        changed = routing.apply([])
    collector.mark(routing.apply(changes(*items)), reconciler.known.take_touched())
    assert {item.verified for item in collector.take().values() if item} == {False}
    reconciler.hold(frozenset())
    reconciler.step(routing.claim)
    collector.mark(routing.apply([]), reconciler.known.take_touched())
    outcomes = collector.take()
    for item in items:
        outcome = outcomes[item.key]
        assert outcome is not None
        assert (outcome.port, outcome.verified, outcome.open) == (30000, True, True)
        assert outcome.subject == f"host {item.host} on port 30000"
        assert outcome.host == item.host


def test_an_edge_route_is_verified_once_its_certificate_is_served(make_stand: MakeStand) -> None:
    listener = {"name": "tls", "kind": "tls", "bind": [f"{fresh_ip()}:8443"]}
    stand = make_stand(listeners=[listener])
    listeners = make_listeners(stand.settings)
    routing = make_routing(stand.settings, listeners, {})
    reconciler = make_reconciler(stand.settings, listeners, routing, stand.client, Metrics())
    collector = Collector(routing, reconciler.known)
    made = self_signed("a.test", 0.0)
    tls = RouteTLS("edge", certificate=SecretText(made.pem.decode()))
    item = replace(route("a", None, router_name=None), host="a.test", tls=tls)
    routing.apply(changes(item, service("a"), slice_("a", [])))

    def settled() -> bool:
        reconciler.step(routing.claim)
        unit = routing.owned(item.key)
        return unit is not None and reconciler.known.verified(unit)

    def outcome() -> Outcome:
        assert routing.verdict(item.key)
        collector.mark(Changed(frozenset(), frozenset({item.key})), [])
        found = collector.take()[item.key]
        assert found
        return found

    await_(settled, "its backend is as desired")
    assert (outcome().verified, outcome().open) == (False, False)
    reconciler.mark(routing.serve(Shown({"a.test": made.name})).units)
    await_(settled, "its entries are there")
    assert (outcome().verified, outcome().open) == (True, True)
