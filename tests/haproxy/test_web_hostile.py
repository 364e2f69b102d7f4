"""Routes by host where somebody else was at HAProxy, or it runs on another haproxy.cfg."""

import socket
import time
from collections.abc import Iterator

import pytest
from by_host import NamedServer, WebStand, host_app, named_servers
from stand import MakeServer, MakeStand, Stand, app, await_, await_leads_to, converged, running

from sidecar.common.metrics import Metrics
from sidecar.control.applier import Applier
from sidecar.control.history import History
from sidecar.control.observer import Observer
from sidecar.daemon.assembly import make_listeners
from sidecar.haproxy.maps import AddEntry
from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.operations import SetAddress
from sidecar.model.desired import ClaimKey
from sidecar.model.pool import PARKED
from sidecar.planning.planner import Plan
from sidecar.planning.slots import Assignment
from sidecar.routing.web_places import HOSTS


@pytest.fixture
def a() -> Iterator[NamedServer]:
    with named_servers(["a"]) as (server,):
        yield server


def hosts_map(stand: Stand) -> str:
    return str(stand.settings.haproxy.state_file.parent / "maps" / "hosts.map")


def shown(stand: Stand) -> list[str]:
    lines = stand.client.ask(f"show map {hosts_map(stand)}").splitlines()
    return sorted(line.partition(" ")[2] for line in lines if line)


def test_a_haproxy_without_listeners_still_serves_its_ports(
    make_stand: MakeStand, make_server: MakeServer, a: NamedServer
) -> None:
    web, server = WebStand.make(make_stand), make_server("tcp")
    config = web.stand.settings.haproxy.config
    web.stand.stop_haproxy()
    # Each listener's and each web backend's section, and what belongs to it.
    sections = config.read_text().split("\n\n")
    words = ("web-", "be_http", "be_pass", "tls-end")
    kept = [part for part in sections if not any(word in part for word in words)]
    config.write_text("\n\n".join(kept) + "\n")
    web.stand.start_haproxy()
    web.stand.write("port.yaml", *app("db", 30000, [server]))
    web.stand.write("web.yaml", *host_app("a", "a.example", [a]))
    with running(web.stand.daemon()) as daemon:
        await_leads_to(web.stand, 30000, server)
        converged(daemon)
        (verdict,) = (item for item in daemon._routing.verdicts() if item.route.name == "a")
        assert verdict.reason == "PoolExhausted"
        assert "HAProxy lacks 6 of 6" in verdict.message
        assert any("lacks" in line for line in daemon.reconciler.known.pool_problems)


def test_an_entry_that_leads_elsewhere_goes_and_a_wanted_one_comes_back_once(
    make_stand: MakeStand, a: NamedServer
) -> None:
    web = WebStand.make(make_stand)
    file = hosts_map(web.stand)
    web.stand.client.ask(f"add map {file} 0a.example? be_other")
    web.stand.client.ask(f"add map {file} 0b.example? be_other")
    web.stand.write("web.yaml", *host_app("a", "a.example", [a]))
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "a")
        converged(daemon)
        web.stand.client.ask(f"set map {file} 0a.example/ be_other")
        wanted = ["0a.example/ be_http_2", "0a.example? be_http_2"]
        await_(lambda: shown(web.stand) == wanted, "it is as it was", 30)


def test_what_a_refused_plan_did_to_the_map_is_seen(make_stand: MakeStand) -> None:
    stand = WebStand.make(make_stand).stand
    unit, key = web_backend_name("http", 1), ClaimKey(HOSTS, "0a.example/")
    stand.client.ask(f"add map {hosts_map(stand)} {key.name} {unit}")
    kind = make_listeners(stand.settings).kind
    observer = Observer(stand.client, kind)
    _, units = observer.look(kind.classes)
    assert units[unit].exposed == {key}
    refused = SetAddress(unit, "no-such-server", PARKED)
    gone = (kind.conceal(key, unit),)
    nobody = Assignment({}, {}, (), ())
    plan = Plan(unit, gone, (refused,), {}, (), (), (), (), None, nobody)
    history = History(kind, time.time)
    applier = Applier(stand.client, observer, history, Metrics(), time.monotonic)
    assert applier.apply({unit: plan}).failed.keys() == {unit}
    assert shown(stand) == []
    assert isinstance(kind.expose(key, unit), AddEntry)
    _, units = observer.look([unit])
    assert units[unit].exposed == frozenset()


def test_a_key_that_no_command_can_carry_stops_nobody(
    make_stand: MakeStand, a: NamedServer
) -> None:
    web = WebStand.make(make_stand)
    file = hosts_map(web.stand)
    with socket.socket(socket.AF_UNIX) as by_hand:
        by_hand.connect(web.stand.settings.haproxy.socket)
        lines = "0odd.example/a;b be_http_1\n#x be_http_1"
        by_hand.sendall(f"add map {file} <<\n{lines}\n\n".encode())
        assert by_hand.recv(4096).strip() == b""
    assert len(shown(web.stand)) == 2
    web.stand.write("web.yaml", *host_app("a", "a.example", [a]))
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "a")
        converged(daemon)
        path = web.stand.settings.haproxy.state_file.parent / "maps" / "hosts.map"
        await_(lambda: "a.example" in path.read_text(), "the map is saved")
        assert "odd" not in path.read_text()


def test_backends_that_the_settings_have_no_more_are_nobodys(
    make_stand: MakeStand, a: NamedServer
) -> None:
    web = WebStand.make(make_stand)
    gone = web_backend_name("http", 99)
    for entry in ("0a.example?", "0a.example/"):
        web.stand.client.ask(f"add map {hosts_map(web.stand)} {entry} {gone}")
    web.stand.write("web.yaml", *host_app("a", "a.example", [a]))
    with running(web.stand.daemon()):
        web.await_served("a.example", "a")
        # The first backend has to get rid of them first.
        assert shown(web.stand) == ["0a.example/ be_http_2", "0a.example? be_http_2"]


def test_a_backend_that_a_saved_map_leads_to_is_not_another_routes_before_it_is_saved_anew(
    make_stand: MakeStand, a: NamedServer
) -> None:
    """The former sidecar was killed before it saved that the host is gone."""
    web = WebStand.make(make_stand)
    saved = web.stand.settings.haproxy.state_file.parent / "maps" / "hosts.map"
    saved.write_text("0gone.example/ be_http_1\n")
    web.stand.write("web.yaml", *host_app("a", "a.example", [a]))
    with running(web.stand.daemon()):
        web.await_served("a.example", "a")
        assert shown(web.stand) == ["0a.example/ be_http_2", "0a.example? be_http_2"]
        await_(lambda: "gone" not in saved.read_text(), "it is saved anew")
        web.stand.write("more.yaml", *host_app("b", "b.example", [a]))
        web.await_served("b.example", "a")
        assert "0b.example/ be_http_1" in shown(web.stand)


def test_a_route_with_a_path_that_haproxy_cannot_be_told_is_refused_alone(
    make_stand: MakeStand, a: NamedServer
) -> None:
    web = WebStand.make(make_stand)
    bad = ["/a;b", "/a'b", '/a"b', "/a\\b", "/ä", "/a<<b", "/a?b", "/" + "x" * 3000]
    for number, path in enumerate(bad):
        web.stand.write(f"bad{number}.yaml", *host_app(f"bad{number}", "a.example", [a], path=path))
    web.stand.write("web.yaml", *host_app("a", "a.example", [a]))
    with running(web.stand.daemon()) as daemon:
        web.await_served("a.example", "a")
        converged(daemon)
        reasons = {item.route.name: item.reason for item in daemon._routing.verdicts()}
        assert reasons == {"a": "Admitted", **{f"bad{n}": "InvalidPath" for n in range(len(bad))}}


def test_the_neighbour_of_a_route_that_goes_serves_what_it_left(make_stand: MakeStand) -> None:
    with named_servers(["plain", "slash"]) as (plain, slash):
        web = WebStand.make(make_stand)
        web.stand.write("plain.yaml", *host_app("plain", "a.example", [plain], path="/a"))
        web.stand.write("slash.yaml", *host_app("slash", "a.example", [slash], path="/a/"))
        with running(web.stand.daemon()):
            web.await_served("a.example", "slash", "/a/x")
            web.await_served("a.example", "plain", "/a")
            web.stand.remove("slash.yaml")
            web.await_served("a.example", "plain", "/a/x")
            assert web.served("a.example", "/a") == "plain"
