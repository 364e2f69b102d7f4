"""The main job: manifests in a folder, a stock HAProxy, real bytes through it.

Each test edits YAML files beside a running sidecar, then asks HAProxy itself and its clients.
"""

import contextlib
import logging
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from relay import Relay
from stand import (
    Client,
    MakeServer,
    MakeStand,
    Stand,
    app,
    await_,
    await_leads_to,
    await_ready,
    await_refused,
    await_told,
    converged,
    fresh_ip,
    held,
    leads_to,
    route_manifest,
    running,
    service_manifest,
    slice_manifest,
)

from sidecar.cli.context import make_source
from sidecar.daemon.loop import Daemon
from sidecar.haproxy.state import ObservedServer
from sidecar.model.pool import Address
from sidecar.settings.parsing import parse_settings


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sidecar")


def test_a_folder_of_manifests_drives_the_ports(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a, b, other = make_stand(), make_server("a"), make_server("b"), make_server("other")
    before = stand.info().identity
    stand.write("other.yaml", *app("other", 30001, [other]))
    files.enter_context(running(stand.daemon()))
    await_leads_to(stand, 30001, other)
    unclaimed = [port for port in stand.pool.ports if port != 30001]
    assert all(stand.is_refused(port) for port in unclaimed)
    bystander = held(files, stand, 30001)

    stand.write("web.yaml", *app("web", 30000, [a]))
    await_leads_to(stand, 30000, a)

    stand.write("web.yaml", *app("web", 30000, [a, b]))
    await_ready(stand, 30000, a, b)
    clients = [held(files, stand, 30000) for _ in range(4)]
    assert [client.server for client in clients].count("a") == 2

    stand.write("web.yaml", *app("web", 30000, [b]))
    await_ready(stand, 30000, b)
    assert {held(files, stand, 30000).server for _ in range(4)} == {"b"}

    stand.write("web.yaml", *app("web", 30002, [b]))
    await_leads_to(stand, 30002, b)
    await_refused(stand, 30000)

    stand.remove("web.yaml")
    await_refused(stand, 30002)

    # Connections that were there live on, whatever became of their port and their endpoint.
    for client in (*clients, bystander):
        client.echo()
    assert other.accepted == 2
    assert stand.info().identity == before


def test_an_edit_shows_within_a_second_or_so(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    stand.write("web.yaml", *app("web", 30000, [a]))
    # The source as the commands make it, at its own pace.
    with running(stand.daemon(make_source(stand.settings))):
        await_leads_to(stand, 30000, a)
        stand.write("web.yaml", *app("web", 30000, [b]))
        await_leads_to(stand, 30000, b, seconds=2.5)
        stand.remove("web.yaml")
        await_(lambda: stand.is_refused(30000), "closed", seconds=2.5)


def test_the_oldest_route_has_a_contested_port(
    make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    stand, a, b, c = make_stand(), make_server("a"), make_server("b"), make_server("c")
    stand.write("b.yaml", *app("b", 30000, [b], created="2025-01-01T00:00:00Z"))
    stand.write("c.yaml", *app("c", 30000, [c], created="2026-01-01T00:00:00Z", namespace="other"))
    with running(stand.daemon()):
        await_leads_to(stand, 30000, b)
        await_told(caplog, "Route other/c refused: PortAlreadyClaimed")
        stand.write("a.yaml", *app("a", 30000, [a], created="2024-01-01T00:00:00Z"))
        await_leads_to(stand, 30000, a)
        await_told(caplog, "an older Route")
        stand.remove("a.yaml")
        await_leads_to(stand, 30000, b)
        stand.remove("b.yaml")
        await_leads_to(stand, 30000, c)
        assert stand.ready(30000) == [c.address]
    refusals = [m for m in caplog.messages if m.startswith("Route other/c refused")]
    assert refusals
    assert not any("'a'" in m or "'b'" in m for m in refusals), "names a Route of another namespace"


def test_weights_are_shares_by_service(make_stand: MakeStand) -> None:
    stand = make_stand()
    a1, a2, b1 = (Address(fresh_ip(), 9000) for _ in range(3))
    main = route_manifest("web", 30000, "a", weight=100, also=[("b", 240)])

    def weights() -> dict[Address, int]:
        return {
            server.address: server.weight
            for server in stand.port(30000).servers.values()
            if server.state == "ready"
        }

    stand.write("route.yaml", main, service_manifest("a"), service_manifest("b"))
    stand.write("a.yaml", slice_manifest("a", [a1.ip, a2.ip]))
    stand.write("b.yaml", slice_manifest("b", [b1.ip]))
    with running(stand.daemon()):
        # 50 + 50 to 240
        await_(lambda: weights() == {a1: 53, a2: 53, b1: 256}, "100:240 over 2 and 1")
        # One Service scales: the weights of all are computed anew.
        stand.write("a.yaml", slice_manifest("a", [a1.ip]))
        await_(lambda: weights() == {a1: 107, b1: 256}, "100:240 over 1 and 1")
        main["spec"]["alternateBackends"][0]["weight"] = 0
        stand.write("route.yaml", main, service_manifest("a"), service_manifest("b"))
        await_(lambda: weights() == {a1: 256}, "100:0")
        assert stand.slots(30000, "drain").keys() == {b1}


def test_a_terminating_endpoint_drains(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    stand.write("web.yaml", *app("web", 30000, [a]))
    files.enter_context(running(stand.daemon()))
    await_leads_to(stand, 30000, a)
    session = held(files, stand, 30000)
    leaving = {"ready": False, "serving": True, "terminating": True}
    ending = {"addresses": [a.address.ip], "conditions": leaving}

    stand.write("web.yaml", *app("web", 30000, [ending, b]))
    await_ready(stand, 30000, b)
    await_(lambda: stand.slots(30000, "drain").keys() == {a.address}, "a drains")
    assert {held(files, stand, 30000).server for _ in range(4)} == {"b"}
    session.echo()

    stand.write("web.yaml", *app("web", 30000, [b]))
    await_(lambda: stand.slots(30000, "maint").keys() == {a.address}, "a is in maint")
    session.echo()
    session.close()
    await_(lambda: stand.slots(30000).keys() == {b.address}, "a's slot is parked when idle")


def test_the_last_endpoint_serves_while_it_terminates(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, a = make_stand(), make_server("a")
    leaving = {"ready": False, "serving": True, "terminating": True}
    stand.write(
        "web.yaml", *app("web", 30000, [{"addresses": [a.address.ip], "conditions": leaving}])
    )
    with running(stand.daemon()):
        await_leads_to(stand, 30000, a)


def test_an_endpoint_that_comes_back_finds_its_slot(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a, b, c = make_stand(), make_server("a"), make_server("b"), make_server("c")
    stand.write("web.yaml", *app("web", 30000, [a, b]))
    files.enter_context(running(stand.daemon()))
    await_ready(stand, 30000, a, b)
    before = stand.slots(30000)
    sessions = {client.server: client for client in (held(files, stand, 30000) for _ in "ab")}

    stand.write("web.yaml", *app("web", 30000, [b]))
    await_ready(stand, 30000, b)
    stand.write("web.yaml", *app("web", 30000, [b, c]))
    await_ready(stand, 30000, b, c)
    stand.write("web.yaml", *app("web", 30000, [a, b, c]))
    await_ready(stand, 30000, a, b, c)
    after = stand.slots(30000)
    assert {address: after[address] for address in before} == before
    for client in sessions.values():
        client.echo()


def test_a_port_without_servers_closes_after_a_while_and_opens_again(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, a = make_stand(timing={"close_after": "400ms"}), make_server("a")
    stand.write("web.yaml", *app("web", 30000, [a]))
    with running(stand.daemon()):
        await_leads_to(stand, 30000, a)
        stand.write("web.yaml", *app("web", 30000, []))
        await_ready(stand, 30000)
        assert stand.port(30000).open, "closed at once"
        # Nobody gets through meanwhile: reset, not left hanging.
        with pytest.raises(OSError):  # noqa: PT011  reset or refused
            stand.connect(30000)
        await_refused(stand, 30000)
        stand.write("web.yaml", *app("web", 30000, [a]))
        await_leads_to(stand, 30000, a)


def test_a_flap_does_not_toggle_the_port(
    make_stand: MakeStand,
    make_server: MakeServer,
    files: contextlib.ExitStack,
    tmp_path: Path,
) -> None:
    stand, a = make_stand(timing={"close_after": "30s"}), make_server("a")
    relay = Relay(tmp_path / "relay.sock", stand.settings.haproxy.socket)
    files.callback(relay.close)
    stand.write("web.yaml", *app("web", 30000, [a]))
    files.enter_context(running(stand.daemon(socket=relay.path)))
    await_leads_to(stand, 30000, a)
    seen = len(relay.changing)
    for _ in range(3):
        stand.write("web.yaml", *app("web", 30000, []))
        await_ready(stand, 30000)
        stand.write("web.yaml", *app("web", 30000, [a]))
        await_leads_to(stand, 30000, a)
    assert not [line for line in relay.changing[seen:] if "frontend" in line]


def test_an_endpoint_may_be_ipv6(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand, six = make_stand(), make_server("six", ip="::1", port=0)
    objects = app("web", 30000, ["0:0:0:0:0:0:0:1"])
    objects[2]["ports"][0]["port"] = six.address.port
    stand.write("web.yaml", *objects)
    with running(stand.daemon()):
        await_leads_to(stand, 30000, six)
        assert stand.ready(30000) == [Address("::1", six.address.port)]
        # The same slot leads to IPv4 and back.
        four = make_server("four", port=six.address.port)
        objects[2]["endpoints"] = [{"addresses": [four.address.ip]}]
        stand.write("web.yaml", *objects)
        await_leads_to(stand, 30000, four)
        objects[2]["endpoints"] = [{"addresses": ["::1"]}]
        stand.write("web.yaml", *objects)
        await_leads_to(stand, 30000, six)


def test_a_restarted_sidecar_sends_nothing_to_an_unchanged_world(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, tmp_path: Path
) -> None:
    stand, a, b, c = make_stand(), make_server("a"), make_server("b"), make_server("c")
    stand.write("web.yaml", *app("web", 30000, [a, b, c]))
    stand.write("waits.yaml", *app("waits", 30001, []))
    stand.write("auto.yaml", *app("auto", "auto", [b]))
    with running(stand.daemon()):
        await_ready(stand, 30000, a, b, c)
        # Slots that do not follow the order of addresses.
        stand.write("web.yaml", *app("web", 30000, [c]))
        await_(lambda: stand.slots(30000).keys() == {c.address}, "only c has a slot")
        stand.write("web.yaml", *app("web", 30000, [b, c]))
        await_ready(stand, 30000, b, c)
        await_leads_to(stand, 30002, b)
    session = held(files, stand, 30000)
    before = _timeless(stand)

    relay = Relay(tmp_path / "relay.sock", stand.settings.haproxy.socket)
    files.callback(relay.close)
    with running(stand.daemon(socket=relay.path)) as daemon:
        converged(daemon)
        assert relay.commands[:2] == ["prompt", "show info"]
        assert relay.changing == []
        samples = [s for m in daemon.metrics.operations.collect() for s in m.samples]
        assert not [s for s in samples if s.value and s.name.endswith("_total")]
        assert _timeless(stand) == before
        session.echo()
        # And it is not just asleep:
        stand.write("web.yaml", *app("web", 30000, [c]))
        await_ready(stand, 30000, c)
        assert relay.changing


def _timeless(stand: Stand) -> dict[int, tuple[bool, list[ObservedServer]]]:
    """Everything that HAProxy shows, but for how long it has been so."""
    return {
        port: (seen.open, [s._replace(seconds_since_change=0) for s in seen.servers.values()])
        for port, seen in stand.observed().items()
    }


def test_a_restarted_haproxy_gets_everything_back(
    make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    state_file = stand.settings.haproxy.state_file
    stand.write("web.yaml", *app("web", 30000, [a]))
    stand.write("other.yaml", *app("other", 30001, [b]))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        await_(lambda: a.address.ip in state_file.read_text(), "the state file has the servers")
        stand.stop_haproxy()
        await_(lambda: "Runtime API" in daemon.ready(), "unready while HAProxy is away", 2)
        # It changes while nobody listens.
        stand.write("other.yaml", *app("other", 30002, [b]))
        stand.start_haproxy()
        await_leads_to(stand, 30000, a, seconds=2)
        await_leads_to(stand, 30002, b, seconds=2)
        await_refused(stand, 30001)
        await_refused(stand, 30009)
        converged(daemon)
        assert daemon.metrics.restarts._value.get() == 1
        await_told(caplog, "HAProxy was restarted")
        await_(lambda: "be_tcp-30002 1 s1 " + b.address.ip in _rows(state_file), "saved again")
    # HAProxy alone comes back with its servers, too.
    stand.stop_haproxy()
    stand.start_haproxy()
    assert leads_to(stand, 30000, a)
    assert leads_to(stand, 30002, b)


def _rows(state_file: Path) -> str:
    """The state file without its numbers of backends."""
    return re.sub(r"(?m)^\d+ ", "", state_file.read_text())


def test_a_haproxy_of_other_settings_is_named_and_serves_what_it_has(
    make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    stand = make_stand(pools=[{"ports": ["30000-30002"], "slots": 2}])
    servers = [make_server(name) for name in "abc"]
    stand.settings_data["pools"][0] |= {"ports": ["30000-30005"], "slots": 4}
    settings = parse_settings(yaml.safe_dump(stand.settings_data), {}, "test")
    stand.write("web.yaml", *app("web", 30000, servers))
    stand.write("lost.yaml", *app("lost", 30004, [servers[0]]))
    with running(Daemon(settings, make_source(settings))) as daemon:
        # It has two slots of the four: the third server is added while it runs.
        await_(lambda: len(stand.ready(30000)) == 3, "all three are served")
        held_by = Client((stand.ip, 30000))
        held_by.echo()
        held_by.close()
        await_(lambda: "30004" in daemon.ready(), "says which port fails")
        for text in (
            "HAProxy has no frontend tcp-30003 with backend be_tcp-30003",
            "(missing ports: 30003-30005)",
            "be_tcp-30000 lacks 2 of 4 slots, first s3",
            "render it from these settings and restart HAProxy",
        ):
            await_told(caplog, text)
        # A port that is there is still driven.
        stand.write("web.yaml", *app("web", 30001, servers[:1]))
        await_leads_to(stand, 30001, servers[0])
        await_refused(stand, 30000)


def test_an_auto_port_is_kept(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    stand.write("first.yaml", *app("first", 30000, [a]))
    stand.write("auto.yaml", *app("auto", "auto", [b], created="2025-01-01T00:00:00Z"))
    with running(stand.daemon()):
        await_leads_to(stand, 30001, b)
        # A lower one comes free: the port stays what its users were told.
        stand.remove("first.yaml")
        await_refused(stand, 30000)
        assert leads_to(stand, 30001, b)
    # Changes while no sidecar runs do not move it either.
    stand.write("older.yaml", *app("older", "auto", [a], created="2024-01-01T00:00:00Z"))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        assert leads_to(stand, 30001, b)
        assert leads_to(stand, 30000, a)


def test_more_endpoints_than_slots(
    make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    stand = make_stand(pools=[{"ports": ["30000-30001"], "slots": 16}], limits={"max_servers": 50})
    server, ip = make_server("alive"), fresh_ip().rsplit(".", 2)[0]
    many = [f"{ip}.{200 + number // 250}.{1 + number % 250}" for number in range(1000)]
    stand.write("web.yaml", *app("web", 30000, many))
    stand.write("other.yaml", *app("other", 30001, [server]))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        await_(lambda: len(stand.ready(30000)) == 50, "as many as a Route may have")
        assert leads_to(stand, 30001, server)
        await_told(caplog, "950 endpoints skipped, see limits.max_servers")
        # Those that have a slot keep it while others come and go.
        before = stand.slots(30000)
        stand.write("web.yaml", *app("web", 30000, many[500:] + many[:500]))
        stand.write("other.yaml", *app("other", 30001, [many[0]]))
        await_ready(stand, 30001, Address(many[0], 9000))
        assert stand.slots(30000) == before
        # One that goes makes room for one that waited.
        gone = next(iter(before))
        stand.write("web.yaml", *app("web", 30000, [one for one in many if one != gone.ip]))
        await_(lambda: gone not in stand.ready(30000), "it left")
        await_(lambda: len(stand.ready(30000)) == 50, "another has its slot")
        kept = stand.slots(30000, "ready")
        assert {where: name for where, name in before.items() if where in kept} == {
            where: name for where, name in before.items() if where != gone
        }


def test_idle_costs_nothing(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, tmp_path: Path
) -> None:
    stand = make_stand()
    relay = Relay(tmp_path / "relay.sock", stand.settings.haproxy.socket)
    files.callback(relay.close)
    stand.write("web.yaml", *app("web", 30000, [make_server()]))
    with running(stand.daemon(socket=relay.path)) as daemon:
        converged(daemon)
        saved = stand.settings.haproxy.state_file
        await_(lambda: "be_tcp-30000 1 s1 127.0.0.1" not in _rows(saved), "the state is saved")
        quiet = [0.0, 0.0]  # how many commands there were, and since when

        def for_more_than_a_second() -> bool:
            # Once a second HAProxy is asked whether it is stopping, and nothing else.
            asked = [command for command in relay.commands if command != "show info"]
            if len(asked) != quiet[0]:
                quiet[:] = len(asked), time.monotonic()
            return time.monotonic() > quiet[1] + 1.5

        await_(for_more_than_a_second, "nothing else is asked any more")


def test_what_somebody_else_changes_is_repaired(
    make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    stand, a, stranger = make_stand(timing={"resync": "1s"}), make_server("a"), make_server("x")
    stand.write("web.yaml", *app("web", 30000, [a]))
    with running(stand.daemon()) as daemon:
        await_leads_to(stand, 30000, a)
        where = f"addr {stranger.address.ip} port {stranger.address.port}"
        stand.client.ask(f"set server be_tcp-30000/s2 {where}")
        stand.client.ask("set server be_tcp-30000/s2 state ready")
        stand.client.ask("disable frontend tcp-30000")
        stand.client.ask("enable frontend tcp-30007")
        await_leads_to(stand, 30000, a)
        await_ready(stand, 30000, a)
        await_refused(stand, 30007)
        await_told(caplog, "port 30000: changed by somebody else: ")
        assert daemon.metrics.drift._value.get() >= 2


def test_the_namespaces_of_a_pool(
    make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    stand, a = (
        make_stand(pools=[{"ports": ["30000"], "namespaces": ["payments"]}, {"ports": ["30001"]}]),
        make_server("a"),
    )
    stand.write("web.yaml", *app("web", 30000, [a]), *app("pay", 30001, [a], namespace="payments"))
    with running(stand.daemon()) as daemon:
        await_leads_to(stand, 30001, a)
        converged(daemon)
        await_told(caplog, "Route demo/web refused: NamespaceNotAllowed")
        assert stand.is_refused(30000)


def test_two_ports_of_one_service_follow_it_together(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    objects: list[dict[str, Any]] = [
        route_manifest("one", 30000, "web"),
        route_manifest("two", 30001, "web", target_port=9000),
        route_manifest("three", 30002, "web", target_port="main"),
        service_manifest("web"),
    ]
    objects[3]["spec"]["ports"][0]["name"] = "main"
    stand.write("web.yaml", *objects, slice_manifest("web", [a], port_name="main"))
    with running(stand.daemon()):
        for port in (30000, 30001, 30002):
            await_leads_to(stand, port, a)
        stand.write("web.yaml", *objects, slice_manifest("web", [b], port_name="main"))
        for port in (30000, 30001, 30002):
            await_ready(stand, port, b)
            assert leads_to(stand, port, b)


def test_bytes_of_any_kind_pass_both_ways(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a = make_stand(), make_server("a")
    stand.write("web.yaml", *app("web", 30000, [a]))
    files.enter_context(running(stand.daemon()))
    await_leads_to(stand, 30000, a)
    client = held(files, stand, 30000)
    client.echo(bytes(range(256)) * 200)
    client.socket.shutdown(socket.SHUT_WR)
    assert client.socket.recv(1) == b"", "the end of the stream passes too"


def test_the_pools_of_one_router_differ(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """One pool tells the servers whose connection it is, one checks their health, one listens on
    IPv6; each other thing is as everywhere."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
        free = probe.getsockname()[1]
    stand = make_stand(
        pools=[
            {"ports": ["30000"], "send_proxy": "v1"},
            {"ports": ["30001"], "check": {"enabled": True, "interval": "100ms", "fall": 1}},
            {"ports": [str(free)], "bind": ["::1"]},
        ]
    )
    a, dead = make_server("a"), Address(fresh_ip(), 9000)
    stand.write("proxy.yaml", *app("proxy", 30000, [a]))
    stand.write("checked.yaml", *app("checked", 30001, [dead.ip, a]))
    stand.write("six.yaml", *app("six", free, [a]))
    files.enter_context(running(stand.daemon()))

    await_leads_to(stand, 30000, a)
    with socket.create_connection((stand.ip, 30000), 5) as client, client.makefile() as lines:
        assert lines.readline() == "a\n"
        words = lines.readline().split()  # an echo of what the server was told
    assert words[:2] == ["PROXY", "TCP4"]
    assert words[3:] == [stand.ip, words[4], "30000"]

    await_leads_to(stand, 30001, a)
    await_(lambda: not _server(stand, 30001, dead).up, "the dead one is down")
    assert _server(stand, 30001, dead).state == "ready", "which is no drift"
    reborn = make_server("reborn", ip=dead.ip)
    await_(lambda: _server(stand, 30001, dead).up, "up again")
    await_(lambda: leads_to(stand, 30001, reborn), "it is used")

    await_(lambda: stand.port(free).open, "it listens")
    six = Client(("::1", free))
    files.callback(six.close)
    six.echo()


def _server(stand: Stand, port: int, address: Address) -> ObservedServer:
    return next(s for s in stand.port(port).servers.values() if s.address == address)
