"""HAProxy's death and the sidecar's: nothing that was there is lost, nothing is done twice."""

import contextlib
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from cli import ROOT, clean_environment, command
from drive import (
    PORT,
    ByHand,
    Intercept,
    Load,
    World,
    app,
    await_state,
    leaving,
    operations,
    served_by,
    session_on,
)
from relay import CHANGING, Relay
from stand import (
    HAPROXY,
    Client,
    MakeServer,
    MakeStand,
    Stand,
    await_,
    await_leads_to,
    await_ready,
    await_refused,
    converged,
    fresh_ip,
    held,
    route,
    service,
)
from stand import app as manifests

from sidecar.haproxy.process import answering
from sidecar.haproxy.state import ObservedUnit, parse_servers_state
from sidecar.listeners.tcp import unit_of
from sidecar.model.pool import PARKED, Address
from sidecar.planning.schedule import Timing

#: Six ports with two slots each.
SIX = [{"ports": ["30000-30005"], "slots": 2, "balance": "roundrobin"}]

Shown = dict[int, tuple[bool, dict[Address, tuple[str, int]]]]


def shown(stand: Stand) -> Shown:
    """port -> whether it is open, and address -> state and weight of its used servers."""
    return {
        port: (
            seen.open,
            {
                server.address: (server.state, server.weight)
                for server in seen.servers.values()
                if server.address != PARKED
            },
        )
        for port, seen in stand.observed().items()
    }


#: What `render` leaves for HAProxy's first start.
NO_STATE = "1\n"


def await_saved(stand: Stand) -> None:
    """Until the state file has what HAProxy shows."""
    path = stand.settings.haproxy.state_file

    def servers(text: str) -> list[tuple[Address, str, int]]:
        found = parse_servers_state(text)
        return [
            (server.address, server.state, server.weight)
            for port in sorted(found)
            for server in found[port].values()
        ]

    def saved() -> bool:
        now = servers(stand.client.ask("show servers state"))
        text = path.read_text()
        return text != NO_STATE and servers(text) == now

    await_(saved, "the state is saved")


@pytest.fixture
def mixture(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> tuple[World, Shown]:
    """Ports in all ways that there are: weighed and overflowing, draining, waiting, unclaimed."""
    stand = make_stand(pools=SIX)
    a, b, c = (make_server(name) for name in "abc")
    world = World(
        stand,
        route("web", PORT, also=[("blue", 50)]),
        service("web"),
        service("blue"),
        *app("drains", PORT + 1, a),
        *app("waits", PORT + 2),
        *app("leaves", PORT + 3, a),
    )
    world.serve(a, b)
    world.serve(c, service="blue")
    with world.sidecar():
        world.serve(leaving(a), b, service="drains")
        await_state(stand, a, "drain", PORT + 1)
        files.callback(held(files, stand, PORT + 3).close)
        world.serve(b, service="leaves")
        await_state(stand, a, "maint", PORT + 3)
        world.settle()
        await_saved(stand)
    before = shown(stand)
    assert before[PORT] == (
        True,
        {a.address: ("ready", 256), b.address: ("ready", 256), c.address: ("ready", 256)},
    )
    assert before[PORT + 1][1] == {a.address: ("drain", 256), b.address: ("ready", 256)}
    assert before[PORT + 2] == (False, {})
    assert before[PORT + 3][1] == {a.address: ("maint", 256), b.address: ("ready", 256)}
    return world, before


def test_an_unchanged_world_costs_a_restarted_sidecar_nothing(
    mixture: tuple[World, Shown], files: contextlib.ExitStack, tmp_path: Path
) -> None:
    world, before = mixture
    relay = Relay(tmp_path / "relay.sock", world.stand.settings.haproxy.socket)
    files.callback(relay.close)
    for _ in range(2):
        with world.sidecar(socket=relay.path) as daemon:
            assert relay.commands
            assert relay.changing == []
            assert not operations(daemon)
            assert daemon.metrics.drift._value.get() == 0
            assert shown(world.stand) == before


@pytest.mark.parametrize("state_file", ["kept", "lost", "broken"])
def test_a_killed_haproxy_gets_everything_back(
    mixture: tuple[World, Shown],
    make_server: MakeServer,
    files: contextlib.ExitStack,
    state_file: str,
) -> None:
    world, before = mixture
    stand, path = world.stand, world.stand.settings.haproxy.state_file
    daemon = files.enter_context(world.sidecar())
    stand.stop_haproxy()
    await_(daemon.ready, "unready while HAProxy is away")
    # The Route of one port goes and another comes while nobody can be told.
    new = make_server("new")
    world.remove(route("leaves").key)
    world.put(*app("new", PORT + 4, new))
    if state_file == "lost":
        path.unlink()
    elif state_file == "broken":
        path.write_text("1\n# be_id be_name srv_id\n7 be_tcp-30000 1 s1 \x00\nnonsense\n")
    stand.start_haproxy()
    started = time.monotonic()
    await_leads_to(stand, PORT + 4, new, seconds=2)
    converged(daemon)
    assert time.monotonic() - started < 3
    now = shown(stand)
    # What drains has no session any more: it needs no slot.
    drained = {where for where, (state, _) in before[PORT + 1][1].items() if state == "drain"}
    for port in (PORT, PORT + 1, PORT + 2):
        is_open, servers = before[port]
        kept = {where: what for where, what in servers.items() if where not in drained}
        found = {where: what for where, what in now[port][1].items() if where not in drained}
        assert (now[port][0], found) == (is_open, kept)
    assert stand.ready(PORT + 3) == []
    for port in (PORT + 2, PORT + 3):
        assert stand.is_refused(port), f"{port} is open"
    assert served_by(stand, 9) == {"a", "b", "c"}
    assert daemon.metrics.restarts._value.get() == 1


def test_a_haproxy_that_comes_back_without_a_port_gets_the_others_back(
    make_stand: MakeStand,
    make_server: MakeServer,
    files: contextlib.ExitStack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    world = World(stand, *app("web", PORT, a), *app("other", PORT + 1, a))
    daemon = files.enter_context(world.sidecar())
    # Something is still to be asked about the port that goes.
    held(files, stand, PORT)
    world.serve(b)
    await_state(stand, a, "maint")
    stand.stop_haproxy()
    config = stand.settings.haproxy.config
    sections = re.split(r"\n(?=\S)", config.read_text())
    config.write_text("\n".join(item for item in sections if f"tcp-{PORT}\n" not in item) + "\n")
    stand.start_haproxy()
    await_leads_to(stand, PORT + 1, a)
    known = daemon.reconciler.known
    await_(lambda: not known.connection_error, "it was met")
    assert known.failures.keys() == {unit_of(PORT)}
    await_(lambda: known.failures[unit_of(PORT)].attempts > 2, "it is tried again")
    assert "No such proxy" not in caplog.text, "the loop is held up"


def test_haproxy_restarted_alone_serves_and_a_new_sidecar_closes_what_nobody_claims(
    mixture: tuple[World, Shown], files: contextlib.ExitStack
) -> None:
    world, before = mixture
    stand = world.stand
    stand.stop_haproxy()
    stand.start_haproxy()
    # From the state file: all but servers that were added, which haproxy.cfg does not have.
    slots = [server.address for server in stand.port(PORT).servers.values()]
    assert set(slots) < before[PORT][1].keys()
    assert shown(stand)[PORT + 1][1] == before[PORT + 1][1]
    assert served_by(stand, 8) == {"a", "b"}
    assert served_by(stand, 2, PORT + 1) == {"b"}
    assert served_by(stand, 2, PORT + 3) == {"b"}
    # Nobody closes the others yet; they lead nowhere.
    for port in (PORT + 2, PORT + 4):
        with pytest.raises(OSError):  # noqa: PT011  reset or refused
            stand.connect(port)
    session = held(files, stand, PORT)
    files.enter_context(world.sidecar())
    for port in (PORT + 2, PORT + 4):
        assert stand.is_refused(port), f"{port} is open"
    assert served_by(stand, 9) == {"a", "b", "c"}
    session.echo()


def test_what_changed_last_is_saved_when_the_sidecar_stops(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand, a, b = make_stand(pools=SIX), make_server("a"), make_server("b")
    world = World(stand, *app("web", PORT, a))
    with world.sidecar():
        await_saved(stand)
        world.serve(b)
        await_ready(stand, PORT, b)
        world.settle()
    stand.stop_haproxy()
    stand.start_haproxy()
    assert served_by(stand) == {"b"}


def test_what_a_killed_sidecar_did_not_save_its_successor_does(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    """Though it finds nothing to change."""
    stand, a, b = make_stand(pools=SIX), make_server("a"), make_server("b")
    world, path = World(stand, *app("web", PORT, a)), stand.settings.haproxy.state_file
    with world.sidecar():
        await_saved(stand)
        before = path.read_text()
        world.serve(b)
        await_ready(stand, PORT, b)
        world.settle()
    path.write_text(before)
    with world.sidecar():
        await_saved(stand)


def hand_over(files: contextlib.ExitStack, stand: Stand) -> subprocess.Popen[bytes]:
    """Start a HAProxy that takes over all sockets and lets the old one end by itself; the old."""
    old = stand._process
    assert old is not None
    config = str(stand.settings.haproxy.config)
    log = files.enter_context((stand.folder / "new.log").open("ab"))
    arguments = [HAPROXY, "-db", "-f", config, "-sf", str(old.pid)]
    new = subprocess.Popen(arguments, stdout=log, stderr=log)
    stand._process = new
    files.callback(old.wait, 10)
    files.callback(old.kill)

    def takes_over() -> bool:
        info = answering(stand.settings.haproxy.socket)
        return info is not None and info.pid == new.pid

    await_(takes_over, "the new one has the socket")
    stand.client.close()
    return old


def test_an_old_haproxy_that_is_stopping_is_left_for_the_new_one(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a, b = make_stand(pools=SIX), make_server("a"), make_server("b")
    world = World(stand, *app("web", PORT, a))
    daemon = files.enter_context(world.sidecar())
    session = held(files, stand, PORT)
    old = hand_over(files, stand)
    world.serve(b)
    await_ready(stand, PORT, b)
    converged(daemon)
    assert daemon.reconciler.known.process is not None
    assert daemon.reconciler.known.process.pid == stand.info().pid != old.pid
    assert served_by(stand) == {"b"}
    await_refused(stand, PORT + 1)
    assert old.poll() is None, "the old one has a session still"
    session.echo()
    session.close()
    await_(lambda: old.poll() is not None, "the old one ends with its last session")
    world.serve(a, b)
    await_ready(stand, PORT, a, b)


def test_a_haproxy_that_is_stopping_is_not_driven(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """It accepts nobody any more, whatever it is told; the next one gets what was changed."""
    stand, a, b = make_stand(pools=SIX), make_server("a"), make_server("b")
    world = World(stand, *app("web", PORT, a))
    daemon = files.enter_context(world.sidecar())
    session = held(files, stand, PORT)
    old = stand._process
    assert old is not None
    files.callback(old.wait, 10)
    files.callback(old.kill)
    old.send_signal(signal.SIGUSR1)
    await_refused(stand, PORT)
    world.serve(b)
    await_(lambda: "is stopping" in daemon.ready(), "unready, and says why")
    stand.client.close()
    stand.start_haproxy()
    await_ready(stand, PORT, b)
    converged(daemon)
    assert served_by(stand) == {"b"}
    session.echo()


def test_a_takeover_is_noticed_though_nothing_changes(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, servers = make_stand(pools=SIX), [make_server(name) for name in "abc"]
    world = World(stand, *app("web", PORT, *servers))
    daemon = files.enter_context(world.sidecar())
    session = held(files, stand, PORT)
    hand_over(files, stand)
    # The third one was added, and the others are closed, as soon as it is driven.
    await_(lambda: len(stand.ready(PORT)) == 3, "the new one has all servers", 3)
    await_refused(stand, PORT + 1)
    converged(daemon)
    session.echo()


class Process:
    """``haproxy-sidecar run`` in a process of its own, behind a relay that may kill it."""

    def __init__(self, stand: Stand, files: contextlib.ExitStack) -> None:
        self.stand = stand
        self._lock = threading.Lock()
        self._kill_at: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._files = files
        path = stand.folder / "relay.sock"
        self.relay = Intercept(path, stand.settings.haproxy.socket, self._before)
        files.callback(self.relay.close)
        files.callback(self.kill)
        settings = {**stand.settings_data, "http": {"listen": None}}
        settings["haproxy"] = {**settings["haproxy"], "socket": str(path)}
        self._file = stand.folder / "process.yaml"
        self._file.write_text(yaml.safe_dump(settings))

    def start(self) -> None:
        log = self._files.enter_context((self.stand.folder / "sidecar.log").open("ab"))
        arguments = command("run", "-c", self._file)
        self._process = subprocess.Popen(
            arguments, cwd=ROOT, env=clean_environment(), stdout=log, stderr=log
        )

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def kill_at(self, count: int) -> None:
        """Kill it when it sends the ``count``-th command from now on that changes something;
        HAProxy does not get that one."""
        with self._lock:
            self._kill_at = count

    def spare(self) -> None:
        with self._lock:
            self._kill_at = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _before(self, line: str) -> None:
        with self._lock:
            if self._kill_at is None or not line.startswith(CHANGING):
                return
            self._kill_at -= 1
            if self._kill_at <= 0:
                if self._process:
                    self._process.kill()
                raise ConnectionAbortedError


def needless(commands: list[str], observed: Mapping[int, ObservedUnit]) -> Iterator[str]:
    """Those of ``commands`` that ask for what was so in ``observed``, before any of them."""
    done: set[tuple[str, str]] = set()
    for line in commands:
        words = line.split()
        if words[:2] == ["set", "server"]:
            where, what, value = words[2], words[3], " ".join(words[4:])
            port, name = where.removeprefix("be_tcp-").split("/")
            server = observed[int(port)].servers.get(name)
            if server is None:
                continue
            was = {
                "addr": f"{server.address.ip} port {server.address.port}",
                "state": server.state,
                "weight": str(server.weight),
            }[what]
        elif words[1] == "frontend":
            where, what, value = words[2], "frontend", words[0]
            is_open = observed[int(where.removeprefix("tcp-"))].open
            was = "enable" if is_open else "disable"
        else:
            continue
        if (where, what) not in done and was == value:
            yield line
        done.add((where, what))


@pytest.mark.parametrize("seed", [5, 18])
def test_a_sidecar_that_is_killed_at_any_instant(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack, seed: int
) -> None:
    """HAProxy goes on meanwhile; the next sidecar does what is missing, and only that."""
    dice = random.Random(seed)
    ports = range(PORT, PORT + 24)
    stand = make_stand(pools=[{"ports": [f"{ports[0]}-{ports[-1]}"], "slots": 6}])
    before = stand.info().identity
    stays = make_server("stays")
    others = [Address(fresh_ip(), 9000) for _ in range(8)]
    process = Process(stand, files)
    session: Client | None = None
    load: Load | None = None

    def change() -> dict[int, list[Address]]:
        """Give every port other endpoints; some have none, one always the same."""
        wanted = {
            port: dice.sample(others, dice.randint(0, 6)) if dice.random() < 0.9 else []
            for port in ports
        }
        wanted[PORT] = [stays.address]
        files_ = [
            item
            for port, ends in wanted.items()
            for item in manifests(f"web-{port}", port, [end.ip for end in ends])
        ]
        stand.write("all.yaml", *files_)
        return wanted

    def is_done(wanted: Mapping[int, list[Address]]) -> bool:
        observed = stand.observed()
        return all(
            {
                server.address: server.state
                for server in observed[port].servers.values()
                if server.address != PARKED
            }
            == dict.fromkeys(wanted[port], "ready")
            for port in ports
        )

    wanted = change()
    process.start()
    await_(lambda: is_done(wanted), "the first time")
    session = session_on(files, stand, stays)
    load = Load(stand, threads=1)
    files.callback(load.stop)
    for number in range(4):
        sent = len(process.relay.changing)
        wanted = change()
        if number % 2:
            process.kill_at(dice.randint(1, 300))
            await_(lambda w=wanted: not process.alive or is_done(w), "killed, or faster than that")
            process.spare()
        else:
            await_(lambda n=sent: len(process.relay.changing) > n, "it has begun")
            until = time.monotonic() + dice.uniform(0.0, 0.015)
            await_(lambda t=until: time.monotonic() > t, "some milliseconds", every_seconds=0.001)
        process.kill()
        session.echo()
        # Whatever HAProxy still had to read of it has been carried out.
        half = stand.observed()
        sent = len(process.relay.changing)
        process.start()
        await_(lambda w=wanted: is_done(w), f"round {number}, seed {seed}: as desired")
        repaired = process.relay.changing[sent:]
        assert list(needless(repaired, half)) == [], f"round {number}, seed {seed}"
    session.echo()
    load.stop()
    assert load.failures == []
    assert load.served.keys() == {"stays"}
    assert stand.info().identity == before


def test_a_sidecar_that_is_killed_leaves_haproxy_as_it_is(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    """And one that is stopped in the orderly way, too."""
    stand, a = make_stand(pools=SIX), make_server("a")
    process = Process(stand, files)
    stand.write("web.yaml", *manifests("web", PORT, [a]))
    process.start()
    await_leads_to(stand, PORT, a)
    await_refused(stand, PORT + 1)
    session = held(files, stand, PORT)
    before = shown(stand)
    for number in (signal.SIGKILL, signal.SIGINT):
        assert process._process is not None
        process._process.send_signal(number)
        process._process.wait(10)
        assert shown(stand) == before
        assert served_by(stand) == {"a"}
        session.echo()
        sent = len(process.relay.changing)
        seen = len(process.relay.commands)
        process.start()
        await_(lambda n=seen: "show stat -1 1 -1" in process.relay.commands[n:], "it has looked")
        assert process.relay.changing[sent:] == []


def test_a_thousand_ports_with_ten_endpoints_each_are_back_in_seconds(
    make_stand: MakeStand, files: contextlib.ExitStack
) -> None:
    ports, unclaimed = range(20000, 21000), {20990, 20995}
    stand = make_stand(
        pools=[{"ports": ["20000-20999"], "slots": 10}],
        timing={"resync": "1h"},
    )
    world = World(stand)
    for port in ports:
        if port not in unclaimed:
            # Nobody connects to them.
            ends = [f"10.{port // 200}.{port % 200}.{number}" for number in range(1, 11)]
            world.put(*app(f"web-{port}", port, *ends))
    daemon = files.enter_context(world.sidecar())
    before = shown(stand)
    assert all(len(servers) == 10 for port, (_, servers) in before.items() if port not in unclaimed)
    done = operations(daemon)
    stand.stop_haproxy()
    stand.settings.haproxy.state_file.unlink(missing_ok=True)
    stand.start_haproxy()
    started = time.monotonic()
    await_(lambda: daemon.metrics.restarts._value.get() == 1, "the new one is met")
    converged(daemon)
    took = time.monotonic() - started
    assert shown(stand) == before
    again = operations(daemon) - done
    assert again["SetAddress"] == 9980
    assert again["SetState"] == 9980
    assert again["OpenPort"] == 0, "they are open from the start"
    assert again["ClosePort"] == len(unclaimed)
    assert took < 5, f"{took:.1f} s"


def test_what_a_compare_found_does_not_wait_for_figures(make_stand: MakeStand) -> None:
    stand = make_stand()
    hand = ByHand(stand)
    sampler = hand.reconciler.sampler
    hand.step(*app("web", PORT, fresh_ip()))
    assert (sampler.is_due, sampler.connections) == (True, {})
    stand.stop_haproxy()
    stand.start_haproxy()
    # One that was not compared yet: its figures are nothing to begin with.
    hand.step(after_seconds=Timing().resync_seconds)
    assert (sampler.is_due, sampler.connections) == (True, {})
    hand.go()
    assert not sampler.is_due
    assert sampler.connections.keys() == set(stand.pool.ports)
