"""A seeded random run of everything at once, on the real HAProxy with real servers and clients.

    make chaos STEPS=20000 SEED=7     (CHAOS_STEPS, CHAOS_SEED; HAPROXY chooses the binary)

At all times: whoever connects to a port that has had a server throughout is served, by a server
that the port has, or had since it was last seen to be right; a session ends only by its client, by
HAProxy's death, or by the drain deadline. At quiet points HAProxy shows just what `world` says.

Meanwhile workers and sidecars are killed, HAProxy is killed or stopped for a moment, endpoints lead
back to the router, idle clients fill a port, and slow ones sit on the sidecar's HTTP port. The
second run has its objects from an API server with bad days: what changes there may be seen in any
order, so the ports that it touches promise nothing until the next quiet point.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path

import pytest
import stand
from cli import run_cli
from comparison import Comparison, shown_of
from crowds import HAPROXY_MAXCONN, PORT_MAXCONN, FullPort, HTTPCrowd
from processes import Freezer, end
from sources import Cluster, Feed, Origin
from stand import EchoServer, Stand
from world import (
    BESIDE,
    CHECKED,
    DEAD,
    HTTP_PORT,
    ITSELF,
    LIVE,
    MARK_PORT,
    NEAR,
    NEAR_PORT,
    PLAIN,
    PORTS,
    SERVERS,
    Dice,
    Fact,
    Step,
)

from sidecar.haproxy.state import parse_servers_state
from sidecar.listeners.tcp import port_of

pytestmark = pytest.mark.serial

STEPS = int(os.environ.get("CHAOS_STEPS") or 2000)
SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(10**6))

#: The sidecar follows its source again three seconds after a storm, and this machine is busy.
FOLLOWED_SECONDS = 6.0


class Run(Comparison):
    """One run: does the steps, and compares."""

    def __init__(self, its_stand: Stand, ips: dict[str, str], source: Origin) -> None:
        super().__init__(its_stand, ips, source)
        self.old_haproxy: subprocess.Popen[bytes] | None = None
        self.freezer = Freezer(self.clients)
        self.full_port = FullPort(its_stand, self.clients)
        self.http_crowd = HTTPCrowd((its_stand.ip, HTTP_PORT), lambda: self.sidecar.steady)

    def close(self) -> None:
        self.freezer.await_thaw()
        self.http_crowd.leave()
        for part in (self.clients, self.full_port, self.sidecar, self.relay, self.source):
            part.close()
        if self.old_haproxy:
            end(self.old_haproxy)

    # What a step does.

    def tell(self, *batches: Iterable[Fact]) -> None:
        """Publish facts, batch after batch, without a pause."""
        for facts in batches:
            self.promise()
            self.unsettle(() if self.source.in_order else self.world.touched(facts))
            self.world.take(facts)
            self.promise()
            self.clients.doom()
            self.source.publish(tuple(facts))

    def relist(self) -> None:
        self.tell(tuple(self.world.facts.values()))

    def drift(self, port: int, *lines: str) -> None:
        """Somebody else's commands to HAProxy."""
        self.unsettle([port])
        self.held = {**self.held, port: None} if port in self.held else self.held
        self.stand.client.ask_all([line.format_map(self.ips) for line in lines])

    def hold(self, port: int) -> None:
        self.held[port] = None
        self.operator("hold", port)

    def release(self, port: int) -> None:
        del self.held[port]
        self.operator("release", port)

    def operator(self, command: str, port: int) -> None:
        self.clients.doom(port)
        assert run_cli(command, "-c", self.stand.settings_file, port).code == 0

    def trip(self, after: int, what: str) -> None:
        """In the middle of a batch, after some more commands that change something, the sidecar
        loses its connection, or its life, with or without its parent."""
        deeds = {"worker": self.sidecar.kill_worker, "sidecar": self.sidecar.kill}
        self.relay.trip(after, deeds.get(what))

    def freeze_haproxy(self, seconds: float) -> None:
        if self.stand._process:
            self.freezer.freeze(self.stand._process, seconds)

    def kill_haproxy(self, gently: bool) -> None:
        """And start it again, on its state file. ``gently``: the old one goes on with its sessions
        beside the new one."""
        self.freezer.await_thaw()
        self.full_port.close()
        process, clients = self.stand._process, self.clients
        state = self.settings.haproxy.state_file
        saved_at = state.stat().st_mtime if state.exists() else 0.0
        clients.process += 1
        for promise in clients.promises.values():
            promise.go_back(saved_at)
        self.held = dict.fromkeys(self.held)
        self.relay.fault("pass")
        self.stand.client.close()
        if gently and process and self.old_haproxy is None:
            process.send_signal(signal.SIGUSR1)
            self.old_haproxy, self.stand._process = process, None
        else:
            self.stand.stop_haproxy()
            if self.old_haproxy:
                end(self.old_haproxy)
                self.old_haproxy = None
            clients.drop(clients.staying)
        self.stand.start_haproxy()
        # So that the stand has its connection when others take all.
        self.stand.info()

    def be_quiet(self, thorough: bool) -> None:
        """Await that HAProxy shows what is wanted; from then on clients are promised just that.
        ``thorough``: also that what is left is put away."""
        clients, world = self.clients, self.world
        self.freezer.await_thaw()
        self.source.calm()
        self.relay.trip(0)
        self.relay.fault("pass")
        self.sidecar.start()
        self.until_no(self.source.unfollowed, FOLLOWED_SECONDS)
        self.mark += 1
        self.source.mark(self.mark)
        kept = world.given
        self.until_no(lambda: next(self.problems(kept, thorough), ""))
        clients.look_after(self.settings.drain.deadline)
        self.promise()
        clients.quiet += 1
        observed = self.stand.observed()
        self.check_slots(observed)
        self.check_loops(len(self.full_port))
        assert not self.relay.too_soon, f"ready before its read-back: {self.relay.too_soon}"
        for port, promise in clients.promises.items():
            if port in self.held:
                shown = (observed[port].open, shown_of(observed[port].servers.values(), "sx"))
                assert self.held[port] in (None, shown), f"held port {port} changed"
                self.held[port] = shown
            else:
                promise.be_right(time.time())
                promise.steady = world.serves(port) and port != self.full_port.port
                promise.lasting = self.used(observed[port])
        for item in clients.staying:
            if item.doomed_at and item.client.server in world.takers(item.port):
                item.doomed_at = None
        for port in set(PORTS) - self.held.keys() - {self.full_port.port}:
            if world.serves(port):
                clients.stay(port)
            elif not world.takers(port):
                assert self.stand.is_refused(port), f"port {port} is not closed"

    def restart_alone(self, thorough: bool) -> None:
        """After a quiet point both die, and HAProxy comes back alone: it serves as before, all but
        the servers that were added, which come back with the sidecar."""
        self.be_quiet(thorough)
        state = self.settings.haproxy.state_file

        def unsaved() -> str:
            saved = parse_servers_state(state.read_text()) if state.exists() else {}
            before = {
                port_of(unit): shown_of(servers.values(), "s") for unit, servers in saved.items()
            }
            differ = [
                port
                for port, shown in self.shown().items()
                if port not in self.held and before.get(port) != shown
            ]
            return f"the state file is not what HAProxy shows of {differ}" if differ else ""

        self.until_no(unsaved)
        shown = self.shown()
        self.sidecar.kill()
        self.kill_haproxy(gently=False)
        for port in set(PORTS) - self.held.keys():
            if any(self.names.get(address) in LIVE for _, address, *_ in shown[port]):
                client = self.stand.connect(port)
                client.close()
                assert client.server in self.world.wanted(port), f"port {port}: {client.server}"
        self.be_quiet(thorough=False)

    def finish(self) -> None:
        """With a drain deadline, the sessions of servers that are gone end now, and no others."""
        clients, deadline = self.clients, self.settings.drain.deadline
        for item in list(clients.staying) if deadline else ():
            gone = item.client.server not in self.world.wanted(item.port)
            if gone and item.port not in self.held and item.process == clients.process:
                item.client.socket.settimeout(deadline + 10)
                assert item.client.socket.recv(1) == b"", "it ends after the drain deadline"
                clients.drop([item])
        clients.look_after(deadline)
        assert not clients.faults, clients.faults
        assert clients.served > 0
        log = self.sidecar.log.read_text()
        assert "Traceback" not in log, log[log.index("Traceback") :][:3000]

    def look(self) -> None:
        """After each step: who must answer, answers."""
        if self.clients.frozen % 2 == 0:
            self.full_port.look()
        self.http_crowd.look()

    # What the facts mean.

    def unsettle(self, ports: Iterable[int]) -> None:
        """Nobody knows what these lead to until the next quiet point."""
        for port in ports:
            self.clients.promises[port].tamper(time.time())
            self.clients.doom(port)

    def promise(self) -> None:
        """Clients are promised what the facts say now."""
        now, world = time.time(), self.world
        # Where an `auto` Route is shows at the next quiet point only.
        roaming = [name for item in world.autos.values() for name in world.servers(item)]
        for port, promise in self.clients.promises.items():
            wanted = world.wanted(port)
            known = (*wanted, *roaming) if port in PLAIN else wanted
            promise.last_wanted |= dict.fromkeys(known, now)
            promise.wanted = frozenset(wanted)
            promise.steady &= world.serves(port)
            limited = len(world.takers(port)) > self.settings.limits.max_servers
            promise.lasting = frozenset() if limited else promise.lasting & promise.wanted


@pytest.mark.timeout(120 + STEPS)
@pytest.mark.parametrize(
    ("deadline", "make_source", "steps"), [("0s", Feed, STEPS), ("1s", Cluster, STEPS // 4)]
)
def test_chaos(
    deadline: str,
    make_source: Callable[[Path, dict[str, str]], Origin],
    steps: int,
    tmp_path: Path,
    make_stand: Callable[..., Stand],
    make_server: Callable[..., EchoServer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with capsys.disabled():
        sys.stderr.write(f"\nchaos: seed {SEED}, {steps} steps, drain deadline {deadline}\n")
    quick = {"slots": 3, "timeouts": {"connect": "200ms"}, "maxconn": PORT_MAXCONN}
    check = {"enabled": True, "interval": "500ms"}
    # Its `auto` Routes are all of one namespace.
    plain = {"ports": [*PLAIN], "auto_ports_per_namespace": len(PLAIN), **quick}
    its_stand = make_stand(
        pools=[plain, {"ports": [*CHECKED], **quick, "check": check}, {"ports": [MARK_PORT]}],
        drain={"deadline": deadline},
        endpoints={"deny": ["169.254.0.0/16"]},
        # One that is left out may lose its sessions to the deadline: not in that run.
        limits={"max_servers": 8 if deadline == "0s" else 1024},
        timing={"close_after": "300ms", "resync": "1s"},
        haproxy={
            "maxconn": HAPROXY_MAXCONN,
            "metrics_listen": f"{stand.fresh_ip()}:8404",
        },
    )
    own = its_stand.ip, f"::ffff:{its_stand.ip}", "0.0.0.0"
    ips = {DEAD: stand.fresh_ip(), **dict(zip(ITSELF, own, strict=True))}
    for name in SERVERS:
        ips[name] = make_server(name, ip=own[0] if name == BESIDE else None).address.ip
    ips[NEAR] = make_server(NEAR, port=NEAR_PORT).address.ip
    run = Run(its_stand, ips, make_source(its_stand.folder, ips))
    dice, log = Dice(SEED), tmp_path / "steps.log"
    last: deque[str] = deque(maxlen=40)

    def do(step: Step) -> None:
        last.append(f"{time.time():.3f} {step.action} {step.arguments}\n")
        with log.open("a") as file:
            file.write(last[-1])
        attrgetter(step.action)(run)(*step.arguments)
        run.look()
        assert not run.clients.faults, run.clients.faults[:5]

    try:
        do(dice.first())
        do(Step("be_quiet", (True,)))
        run.clients.start()
        for _ in range(steps):
            do(dice.step())
        do(Step("restart_alone", (True,)))
        run.finish()
    except BaseException as exc:
        shown = tmp_path / "haproxy.txt"
        shown.write_text("\n".join(its_stand.client.ask_all(["show servers state", "show stat"])))
        raise AssertionError(
            f"{exc!r}\nCHAOS_SEED={SEED}, drain deadline {deadline}, {stand.HAPROXY}; all steps:"
            f" {log}; the sidecar's log: {run.sidecar.log}; what HAProxy showed: {shown}"
            f"\nlast steps:\n{''.join(last)}"
            "last commands:\n" + "\n".join(run.relay.changing[-40:])
        ) from exc
    finally:
        run.close()
