"""What somebody else does to HAProxy is found and repaired, unless an operator holds the port."""

import contextlib
import json
import logging
import socket
import time
from collections.abc import Sequence

import pytest
from cli import run_cli
from drive import PORT, ByHand, World, app, await_parked, operations
from relay import Mode, Relay
from stand import (
    MakeServer,
    MakeStand,
    Stand,
    await_,
    await_leads_to,
    await_ready,
    await_refused,
    await_told,
    converged,
    fresh_ip,
    held,
    route,
    running,
    service,
    slice_,
)
from stand import app as manifests

from sidecar.control.holds import holds_file
from sidecar.daemon.loop import Daemon
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.operations import Outcome, Request, SetAddress
from sidecar.listeners.tcp import unit_of
from sidecar.model.pool import PARKED, Address
from sidecar.planning.schedule import REST_SECONDS, TIDY_SECONDS, Timing

ALL_OF_IT = (
    "s1 is in maint, was ready; s2 is of weight 1, was of weight 256; s3 is of weight 2, was of"
    " weight 256; stranger was added, is in maint and at {foreign}:9000; and 1 more; repairing"
)

#: What is done by hand -> its commands, on a port of one endpoint in slot s1 of three, and what
#: the log must say of it.
BY_HAND: dict[str, tuple[tuple[str, ...], str]] = {
    "to maint": (("set server {be}/s1 state maint",), "s1 is in maint, was ready; repairing"),
    "to drain": (("set server {be}/s1 state drain",), "s1 is in drain, was ready; repairing"),
    "weight": (
        ("set server {be}/s1 weight 7",),
        "s1 is of weight 7, was of weight 256; repairing",
    ),
    "weight 0": (
        ("set server {be}/s1 weight 0",),
        "s1 is of weight 0, was of weight 256; repairing",
    ),
    "called unhealthy": (
        ("set server {be}/s1 health down",),
        "s1 is down, was up; repairing",
    ),
    "re-addressed": (
        ("set server {be}/s1 addr {foreign} port 9000",),
        "s1 is at {foreign}:9000, was at {mine}:9000; repairing",
    ),
    "re-addressed and drained": (
        (
            "set server {be}/s1 state drain",
            "set server {be}/s1 addr {foreign} port 9000",
        ),
        "s1 is in drain and at {foreign}:9000, was ready and at {mine}:9000; repairing",
    ),
    "another port of its address": (
        ("set server {be}/s1 addr {mine} port 9001",),
        "s1 is at {mine}:9001, was at {mine}:9000; repairing",
    ),
    "deleted": (
        ("set server {be}/s1 state maint", "del server {be}/s1"),
        "s1 was deleted, was ready and at {mine}:9000; repairing",
    ),
    "free slot used": (
        (
            "set server {be}/s2 addr {foreign} port 9000",
            "set server {be}/s2 state ready",
        ),
        "s2 is ready and at {foreign}:9000, was in maint and parked; repairing",
    ),
    "free slot addressed": (
        ("set server {be}/s2 addr {foreign} port 9000",),
        "s2 is at {foreign}:9000, was parked; repairing",
    ),
    "free slot deleted": (
        ("del server {be}/s3",),
        "s3 was deleted, was in maint and parked; it needs no repair",
    ),
    "foreign server": (
        ("add server {be}/stranger {foreign}:9000", "set server {be}/stranger state ready"),
        "stranger was added, is ready and at {foreign}:9000; repairing",
    ),
    "foreign server in maint": (
        ("add server {be}/stranger {foreign}:9000",),
        "stranger was added, is in maint and at {foreign}:9000; repairing",
    ),
    "closed": (("disable frontend {fe}",), "it is closed to clients, was not; repairing"),
    "unclaimed opened": (("enable frontend {fe}",), "it is open to clients, was not; repairing"),
    "everything": (
        (
            "set server {be}/s1 state maint",
            "set server {be}/s2 weight 1",
            "set server {be}/s3 weight 2",
            "add server {be}/stranger {foreign}:9000",
            "disable frontend {fe}",
        ),
        ALL_OF_IT,
    ),
}


def drift(daemon: Daemon) -> int:
    return int(daemon.metrics.drift._value.get())


def test_each_way_to_change_a_port_by_hand(
    make_stand: MakeStand,
    make_server: MakeServer,
    files: contextlib.ExitStack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All at once, each on a port of its own: none is missed, and none costs another port."""
    caplog.set_level(logging.INFO, "sidecar")
    ports = dict(zip(BY_HAND, range(PORT, PORT + len(BY_HAND)), strict=True))
    untouched = max(ports.values()) + 1
    stand = make_stand(
        pools=[{"ports": [f"{PORT}-{untouched + 1}"], "slots": 3}], timing={"resync": "1s"}
    )
    mine, foreign = make_server("mine"), make_server("foreign")
    claimed = [port for what, port in ports.items() if what != "unclaimed opened"]
    world = World(stand)
    for port in (*claimed, untouched):
        world.put(*app(f"web-{port}", port, mine))
    daemon = files.enter_context(world.sidecar())
    world.settle()
    before = operations(daemon)
    assert drift(daemon) == 0

    def fill(text: str, port: int) -> str:
        return text.format(
            be=f"be_tcp-{port}", fe=f"tcp-{port}", mine=mine.address.ip, foreign=foreign.address.ip
        )

    somebody = [
        fill(command, ports[what])
        for what, (commands, _) in BY_HAND.items()
        for command in commands
    ]
    await_resync(daemon)  # so that none falls into the middle
    stand.client.ask_all(somebody)
    repaired = len(ports) - 1  # all but the free slot that was deleted
    await_(lambda: drift(daemon) >= repaired, f"all are found, not {drift(daemon)}")
    for port in claimed:
        await_ready(stand, port, mine)
        await_leads_to(stand, port, mine)
    await_refused(stand, ports["unclaimed opened"])
    for port in claimed:
        # Nothing of it is left behind either.
        await_(lambda port=port: stand.slots(port).keys() == {mine.address}, f"{port} is clean")
        await_(lambda port=port: "stranger" not in stand.port(port).servers, f"{port} is clean")
    converged(daemon)
    assert drift(daemon) == repaired, "each is counted once"
    found = {m for m in caplog.messages if "changed by somebody else" in m}
    assert found == {
        f"port {ports[what]}: changed by somebody else: {fill(told, ports[what])}"
        for what, (_, told) in BY_HAND.items()
    }
    # And then it is quiet.
    done = operations(daemon)
    assert done != before
    await_resync(daemon)
    assert operations(daemon) == done
    assert drift(daemon) == repaired


def await_resync(daemon: Daemon) -> None:
    """Until everything was compared once more."""
    last = daemon.reconciler._resync_at
    await_(lambda: daemon.reconciler._resync_at > last, "a whole compare")


def test_what_ends_by_itself_is_not_somebodys_doing(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """A slot that waited for its last session is put away, whichever look finds it idle."""
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    # Everything is compared before the next look for idle slots.
    hand = ByHand(stand, Timing(resync_seconds=TIDY_SECONDS / 2))
    hand.step(*app("web", PORT, a))
    client = held(files, stand, PORT)
    hand.step(slice_("web", [b.address.ip]))
    assert stand.slots(PORT, "maint") == {a.address: "s1"}
    client.close()
    await_(lambda: not stand.port(PORT).servers["s1"].sessions, "the session is over")
    hand.step(after_seconds=TIDY_SECONDS / 2)
    assert stand.slots(PORT).keys() == {b.address}
    assert hand.metrics.drift._value.get() == 0


def test_a_port_that_was_shut_down_for_ever_says_so(
    make_stand: MakeStand,
    make_server: MakeServer,
    files: contextlib.ExitStack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """HAProxy has no way back from that: a restart of it is the remedy."""
    stand, a, b = make_stand(timing={"resync": "1s"}), make_server("a"), make_server("b")
    world = World(stand, *app("web", PORT, a), *app("other", PORT + 1, a))
    daemon = files.enter_context(world.sidecar())
    stand.client.ask(f"shutdown frontend tcp-{PORT}")
    await_told(caplog, f"port {PORT}: changed by somebody else: it is closed to clients, was not")
    await_told(caplog, "only restarting HAProxy restores it")
    world.serve(b, service="other")
    await_leads_to(stand, PORT + 1, b)
    stand.stop_haproxy()
    stand.start_haproxy()
    await_leads_to(stand, PORT, a)
    converged(daemon)


class Without(Relay):
    """A relay that leaves out all lines about one backend, as if it had been deleted. (HAProxy can
    do that from 3.4 on.)"""

    hidden: bytes | None = None

    def _pass_replies(self, haproxy: socket.socket, sidecar: socket.socket, mode: Mode) -> None:  # noqa: ARG002
        pending = b""
        with contextlib.suppress(OSError):
            while data := haproxy.recv(65536):
                *lines, pending = (pending + data).split(b"\n")
                hidden = self.hidden
                passed = [line + b"\n" for line in lines if not (hidden and hidden in line)]
                if pending == b"> ":
                    passed, pending = [*passed, pending], b""
                sidecar.sendall(b"".join(passed))
        with contextlib.suppress(OSError):
            sidecar.shutdown(socket.SHUT_RDWR)


def test_a_backend_that_was_deleted_is_told_and_others_go_on(
    make_stand: MakeStand,
    make_server: MakeServer,
    files: contextlib.ExitStack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stand, a, b = make_stand(timing={"resync": "1s"}), make_server("a"), make_server("b")
    relay = Without(stand.folder / "relay.sock", stand.settings.haproxy.socket)
    files.callback(relay.close)
    world = World(stand, *app("web", PORT, a), *app("other", PORT + 1, a))
    daemon = files.enter_context(world.sidecar(socket=relay.path))
    relay.hidden = f"be_tcp-{PORT}".encode()
    await_told(caplog, f"port {PORT}: changed by somebody else: it was deleted in HAProxy")
    await_(lambda: unit_of(PORT) in daemon.reconciler.known.failures, "its Route is not served")
    world.serve(b, service="other")
    await_leads_to(stand, PORT + 1, b)
    relay.hidden = None
    converged(daemon)


def test_a_hand_that_does_it_again_and_again(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a, b = make_stand(timing={"resync": "1s"}), make_server("a"), make_server("b")
    world = World(stand, *app("web", PORT, a))
    daemon = files.enter_context(world.sidecar())
    for number in range(1, 3):
        stand.client.ask(f"set server be_tcp-{PORT}/s1 state maint")
        await_ready(stand, PORT, a)
        await_(lambda n=number: drift(daemon) == n, f"counted {number} times")
    # A change of ours is none of it.
    world.serve(b)
    await_ready(stand, PORT, b)
    world.settle()
    await_parked(stand, "s1")
    await_resync(daemon)
    assert drift(daemon) == 2


def held_by_status(stand: Stand) -> dict[int, bool]:
    status = run_cli("status", "-c", stand.settings_file, "--json")
    assert status.code == 0
    return {item["port"]: item["held"] for item in json.loads(status.out)["ports"]}


def test_a_held_port_is_left_alone_until_it_is_released(
    make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sidecar")
    stand = make_stand(timing={"resync": "1s"})
    a, b, other = make_server("a"), make_server("b"), make_server("other")
    stand.write("web.yaml", *manifests("web", PORT, [a]))
    stand.write("other.yaml", *manifests("other", PORT + 1, [a]))

    def somebody(*commands: str) -> None:
        for command in commands:
            assert stand.client.ask(command) == ""

    def as_somebody_left_it() -> bool:
        seen = stand.port(PORT)
        states = {server.address: server.state for server in seen.servers.values()}
        return not seen.open and states[a.address] == "maint" and b.address not in states

    with running(stand.daemon()) as daemon:
        await_leads_to(stand, PORT, a)
        held = run_cli("hold", "-c", stand.settings_file, PORT)
        assert (held.code, held.out) == (
            0,
            f"port {PORT} is held: the sidecar does not change it until it is released\n",
        )
        somebody(f"set server be_tcp-{PORT}/s1 state maint", f"disable frontend tcp-{PORT}")
        await_resync(daemon)
        assert as_somebody_left_it()
        await_told(caplog, f"held ports, not reconciled: {PORT}")
        # What its Route wants is of no matter, and other ports go on.
        stand.write("web.yaml", *manifests("web", PORT, [b]))
        stand.write("other.yaml", *manifests("other", PORT + 1, [other]))
        await_ready(stand, PORT + 1, other)
        await_resync(daemon)
        assert as_somebody_left_it()
        converged(daemon)
        assert drift(daemon) == 0
        assert held_by_status(stand) == {PORT: True, PORT + 1: False}
        shown = run_cli("status", "-c", stand.settings_file)
        assert "closed held" in shown.out
        assert f"haproxy-sidecar release {PORT}" in shown.out
    # Over a restart of the sidecar, too.
    with running(stand.daemon()) as daemon:
        converged(daemon)
        await_resync(daemon)
        assert as_somebody_left_it()
        released = run_cli("release", "-c", stand.settings_file, PORT)
        assert released.code == 0
        await_(lambda: stand.ready(PORT) == [b.address], "it is repaired", 2.5)
        await_leads_to(stand, PORT, b, seconds=2.5)
        assert held_by_status(stand) == {PORT: False, PORT + 1: False}
        assert drift(daemon) == 0, "what was held is not somebody's fault"


def test_a_held_port_that_changes_leaves_the_sidecar_ready(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    world = World(stand, *app("web", PORT, a))
    daemon = files.enter_context(world.sidecar())
    assert run_cli("hold", "-c", stand.settings_file, PORT).code == 0
    world.settle()
    for end in (b, a, b, a, b):
        # Both at one stroke and after a rest, so that nothing else makes the sidecar look again.
        rested_at = time.monotonic() + 3 * REST_SECONDS
        await_(lambda at=rested_at: time.monotonic() > at, "a rest")
        other = fresh_ip()
        world.put(slice_("web", [end.address.ip]), slice_("marker", [other]))
        await_ready(stand, max(stand.pool.ports), Address(other, 9000))
        await_(lambda: not daemon.ready(), "it is ready at once", 0.2)
    assert stand.ready(PORT) == [a.address]
    assert run_cli("release", "-c", stand.settings_file, PORT).code == 0
    await_ready(stand, PORT, b)


def test_a_held_port_outlives_a_restart_of_haproxy(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """It is as HAProxy starts it; all others are given back."""
    stand, a = make_stand(), make_server("a")
    world = World(stand, *app("web", PORT, a), *app("other", PORT + 1, a))
    daemon = files.enter_context(world.sidecar())
    assert run_cli("hold", "-c", stand.settings_file, PORT).code == 0
    file = stand.settings.haproxy.state_file
    # Else it may be saved just after it was removed.
    await_(lambda: file.exists() and a.address.ip in file.read_text(), "its state is saved")
    stand.stop_haproxy()
    file.unlink()
    stand.start_haproxy()
    await_leads_to(stand, PORT + 1, a)
    converged(daemon)
    assert stand.ready(PORT) == []
    assert run_cli("release", "-c", stand.settings_file, PORT).code == 0
    await_leads_to(stand, PORT, a)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("hold", 40000), "port 40000 is in no pool; available ports: 30000-30009"),
        (("hold", 0), "port 0 is in no pool"),
        (("hold", "web"), "Invalid value for 'PORT'"),
        (("hold",), "Missing argument"),
        (("release", PORT), f"port {PORT} is not held; held ports: none"),
        (("release", 40000), "port 40000 is not held"),
    ],
)
def test_a_wrong_port_is_wrong_usage(
    make_stand: MakeStand, arguments: tuple[object, ...], told: str
) -> None:
    stand = make_stand(start=False)
    result = run_cli(arguments[0], "-c", stand.settings_file, *arguments[1:])
    assert result.code == 2
    assert told in " ".join(result.err.split())
    assert not holds_file(stand.settings.haproxy.state_file).exists()


class Withheld(RuntimeClient):
    """Carries out the first parking of a slot one exchange late, as HAProxy 3.0 and later may."""

    withheld: Sequence[Request] | None = None

    def apply_and_ask(
        self, operations: Sequence[Request], lines: Sequence[str]
    ) -> tuple[list[Outcome], list[str]]:
        if self.withheld is None:
            parks = [
                one for one in operations if isinstance(one, SetAddress) and one.address == PARKED
            ]
            if parks:
                self.withheld = parks
                operations = [one for one in operations if one not in parks]
                outcomes, tables = super().apply_and_ask(operations, lines)
                return outcomes + ["nothing changed"] * len(parks), tables
        elif self.withheld:
            super().apply_and_ask(self.withheld, ())
            self.withheld = ()
        return super().apply_and_ask(operations, lines)


def test_a_slot_that_shows_late_that_it_is_parked_was_nobody_elses_doing(
    make_stand: MakeStand, files: contextlib.ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "sidecar")
    stand, (a, b) = make_stand(), (fresh_ip(), fresh_ip())
    client = files.enter_context(Withheld(stand.settings.haproxy.socket))
    hand = ByHand(stand, client=client)
    hand.step(route("web", PORT), service("web"), slice_("web", [a]))
    hand.step(slice_("web", [b]))
    assert hand.step(after_seconds=TIDY_SECONDS) == 2
    assert client.withheld == ()
    assert stand.slots(PORT).keys() == {Address(b, 9000)}
    assert hand.step(after_seconds=Timing().resync_seconds) == 0
    assert caplog.messages == []


def test_what_was_done_to_a_held_port_is_repaired_as_soon_as_it_is_released(
    make_stand: MakeStand,
) -> None:
    stand = make_stand()
    hand = ByHand(stand)
    hand.step(route("web", PORT), service("web"), slice_("web", [fresh_ip()]))
    hand.reconciler.hold(frozenset({unit_of(PORT)}))
    assert stand.client.ask(f"disable frontend tcp-{PORT}") == ""
    assert hand.step() == 0
    hand.reconciler.hold(frozenset())
    assert hand.step() == 1
    assert stand.port(PORT).open
