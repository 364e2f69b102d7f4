"""A seeded random run of everything at once, on the real HAProxy with real servers and clients.

    make chaos STEPS=20000 SEED=7     (CHAOS_STEPS, CHAOS_SEED; HAPROXY chooses the binary)

At all times: whoever connects to a port that has had a server throughout is served, by a server
that the port has, or had since it was last seen to be right; a session ends only by its client, by
HAProxy's death, or by the drain deadline. At quiet points HAProxy shows just what `world` says.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import stand
from cli import run_cli
from rig import Clients, Sidecar, Tripwire, end
from stand import EchoServer, Stand
from world import CHECKED, DEAD, LIVE, PLAIN, PORTS, Dice, Fact, Route, Slice, Step, World

from sidecar.daemon.persistence import auto_ports_file
from sidecar.haproxy.state import ObservedPort, ObservedServer, parse_servers_state
from sidecar.model.change import Change
from sidecar.model.pool import PARKED

pytestmark = pytest.mark.serial

STEPS = int(os.environ.get("CHAOS_STEPS") or 2000)
SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(10**6))

_CONDITIONS: dict[str, dict[str, bool]] = {
    "ready": {},
    "leaving": {"ready": False, "serving": True, "terminating": True},
    "unready": {"ready": False, "serving": False},
}


class Run:
    """One run: does the steps, and compares."""

    def __init__(self, its_stand: Stand, ips: dict[str, str]) -> None:
        self.stand, self.settings = its_stand, its_stand.settings
        self.ips, self.names = ips, {ip: name for name, ip in ips.items()}
        self.world = World()
        #: Held port -> how it was at the last quiet point, if nobody touched it since.
        self.held: dict[int, object] = {}
        self.old_haproxy: subprocess.Popen[bytes] | None = None
        self.relay = Tripwire(its_stand.folder / "relay.sock", self.settings.haproxy.socket)
        self.sidecar = Sidecar(its_stand, self.relay.path, self.everything)
        self.clients = Clients(its_stand)

    def close(self) -> None:
        for part in (self.clients, self.sidecar, self.relay):
            part.close()
        if self.old_haproxy:
            end(self.old_haproxy)

    # What a step does.

    def tell(self, *batches: Iterable[Fact]) -> None:
        """Publish facts, batch after batch, without a pause."""
        for facts in batches:
            self.promise()
            self.world.take(facts)
            self.promise()
            self.clients.doom()
            self.sidecar.publish([self.change(fact) for fact in facts])

    def relist(self) -> None:
        self.tell(tuple(self.world.facts.values()))

    def drift(self, port: int, *lines: str) -> None:
        """Somebody else's commands to HAProxy."""
        self.clients.promises[port].tamper(time.time())
        self.clients.doom(port)
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

    def trip(self, after: int, kill: bool) -> None:
        """In the middle of a batch, after some more commands that change something, the sidecar
        loses its connection, or its life."""
        self.relay.trip(after, self.sidecar.kill if kill else None)

    def kill_haproxy(self, gently: bool) -> None:
        """And start it again, on its state file. ``gently``: the old one goes on with its sessions
        beside the new one."""
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
        self.relay.trip(0)
        self.relay.fault("pass")
        self.sidecar.start()
        kept = world.given
        self.until_no(lambda: next(self.problems(kept, thorough), ""))
        clients.look_after(self.settings.drain.deadline)
        self.promise()
        clients.quiet += 1
        observed = self.stand.observed()
        self.check_slots(observed)
        assert not self.relay.too_soon, f"ready before its read-back: {self.relay.too_soon}"
        for port, promise in clients.promises.items():
            if port in self.held:
                shown = (observed[port].open, _shown(observed[port].servers.values(), "sx"))
                assert self.held[port] in (None, shown), f"held port {port} changed"
                self.held[port] = shown
            else:
                promise.be_right(time.time())
                promise.steady = world.serves(port)
                promise.lasting = self.used(observed[port])
        for item in clients.staying:
            if item.doomed_at and item.client.server in world.takers(item.port):
                item.doomed_at = None
        for port in set(PORTS) - self.held.keys():
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
            before = {port: _shown(servers.values(), "s") for port, servers in saved.items()}
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
            if any(self.names.get(ip) in LIVE for _, ip, *_ in shown[port]):
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

    # What the facts mean.

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

    def change(self, fact: Fact) -> Change:
        """As a source says it."""
        if isinstance(fact, Slice):
            ends = [
                stand.endpoint(self.ips.get(name, name), **_CONDITIONS[state])
                for name, state in fact.ends or ()
            ]
            item: Any = stand.slice_(fact.service, ends, name=f"{fact.service}-{fact.part}")
            exists = fact.ends is not None
        elif isinstance(fact, Route):
            (first, weight), *also = fact.targets
            router = stand.ROUTER if fact.ours else "another"
            who: dict[str, Any] = {"uid": fact.uid, "router_name": router}
            who["created_seconds"] = float(fact.born)
            item = stand.route(fact.name, fact.port, first, weight=weight, also=also, **who)
            exists = fact.exists
        else:
            item, exists = stand.service(fact.name), fact.exists
        return Change(item.key, item if exists else None)

    def everything(self) -> list[Change]:
        """As a source says it at first: what is gone is not there."""
        found = map(self.change, self.world.facts.values())
        return [change for change in found if change.object is not None]

    # What is not as it should be.

    def until_no(self, problem: Callable[[], str]) -> None:
        deadline = time.monotonic() + 20
        while (text := problem()) and not self.clients.faults:
            assert time.monotonic() < deadline, f"not converged: {text}"
            time.sleep(0.01)

    def shown(self) -> dict[int, list[tuple[str, str, int, bool]]]:
        observed = self.stand.observed()
        return {port: _shown(seen.servers.values(), "s") for port, seen in observed.items()}

    def used(self, seen: ObservedPort) -> frozenset[str]:
        """The servers whose sessions HAProxy thinks of."""
        used = [item.address.ip for item in seen.servers.values() if item.state != "maint"]
        return frozenset(self.names.get(ip, ip) for ip in used)

    def problems(self, kept: Mapping[str, int], thorough: bool) -> Iterator[str]:
        """``kept``: `auto` Routes with the ports that they must have still."""
        if said := self.sidecar.not_ready():
            yield f"/readyz: {said}"
        yield from self.auto_problems(kept)
        for port, seen in self.stand.observed().items():
            if port not in self.held:
                yield from (f"port {port}: {text}" for text in self.port_problems(seen, thorough))

    def auto_problems(self, kept: Mapping[str, int]) -> Iterator[str]:
        """Which `auto` Route has which port, the sidecar says; here is judged if that can be."""
        file, world = auto_ports_file(self.settings), self.world
        given = world.given = json.loads(file.read_text()) if file.exists() else {}
        if not given.keys() <= world.autos.keys():
            yield f"auto ports of Routes that are gone: {given.keys() - world.autos.keys()}"
        for uid, port in kept.items():
            if given.get(uid) != port:
                yield f"auto Route {uid} had port {port}, has {given.get(uid)}"
        for uid, port in given.items():
            owner = world.owner(port)
            if owner is None or owner.uid != uid or port not in PLAIN:
                yield f"auto Route {uid} has port {port}, whose owner is {owner}"
        free = [port for port in PLAIN if world.owner(port) is None]
        if free and world.autos.keys() - given.keys():
            yield f"auto Routes {world.autos.keys() - given.keys()} have no port, {free} are free"

    def port_problems(self, seen: ObservedPort, thorough: bool) -> Iterator[str]:
        wanted, takers = self.world.wanted(seen.port), self.world.takers(seen.port)
        largest = max(takers.values(), default=Fraction(1))
        names = {s.name: self.names.get(s.address.ip, str(s)) for s in seen.servers.values()}
        ready = [names[s.name] for s in seen.servers.values() if s.state == "ready"]
        enough = min(len(takers), self.settings.limits.max_servers)
        if len(ready) != enough or not set(ready) <= takers.keys() or len(set(ready)) != enough:
            yield f"ready: {sorted(ready)}, wanted are {sorted(takers)}"
        elif seen.open != bool(takers):
            yield f"open: {seen.open}, wanted are {sorted(takers)}"
        promise = self.clients.promises[seen.port]
        if not (promise.tampered or promise.lasting <= self.used(seen)):
            yield f"{promise.lasting - self.used(seen)} were given up, wanted are {wanted}"
        for slot in seen.servers.values():
            name, state = names[slot.name], slot.state
            if (
                state == "ready"
                and abs(slot.weight - max(1.0, float(256 * takers[name] / largest))) > 1
            ):
                yield f"{name} has weight {slot.weight}, of {takers}"
            if state == "ready" and name != DEAD and not slot.up:
                yield f"{name} is down"
            if state == "ready" and (slot.checks == "on") != (seen.port in CHECKED):
                yield f"{name} has checks: {slot.checks}"
            if state == "drain" and wanted.get(name) != 0:
                yield f"{name} drains, wanted are {sorted(takers)}"
            away = slot.name[0] == "s" and slot.address == PARKED
            if thorough and state == "maint" and not slot.sessions and not away:
                yield f"{slot} is idle and not put away"

    def check_slots(self, observed: dict[int, ObservedPort]) -> None:
        """No slot got another address while a session was left on it."""
        sessions = self.stand.client.ask("show sess")
        found = re.findall(r"src=[^ ]*:(\d+) fe=tcp-(\d+) .*?srv=(\w+)", sessions)
        slots = {(int(source), int(port)): name for source, port, name in found}
        for item in self.clients.staying:
            slot = slots.get((item.client.socket.getsockname()[1], item.port))
            if slot and item.doomed_at != 0.0:
                address = observed[item.port].servers[slot].address
                assert address.ip == self.ips[item.client.server], (
                    f"port {item.port}: {slot} has a session on {item.client.server}, and {address}"
                )


def _shown(servers: Iterable[ObservedServer], kinds: str) -> list[tuple[str, str, int, bool]]:
    """The servers that take connections; ``kinds``: "s" for slots, "x" for added ones. Health only
    where it stays as it is."""
    ready = [item for item in servers if item.state == "ready" and item.name[0] in kinds]
    return [(s.name, s.address.ip, s.weight, s.up or s.checks == "on") for s in ready]


@pytest.mark.timeout(120 + STEPS)
@pytest.mark.parametrize(("deadline", "steps"), [("0s", STEPS), ("1s", STEPS // 4)])
def test_chaos(
    deadline: str,
    steps: int,
    tmp_path: Path,
    make_stand: Callable[..., Stand],
    make_server: Callable[..., EchoServer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with capsys.disabled():
        sys.stderr.write(f"\nchaos: seed {SEED}, {steps} steps, drain deadline {deadline}\n")
    ips = {name: make_server(name).address.ip for name in LIVE} | {DEAD: stand.fresh_ip()}
    quick = {"slots": 3, "timeouts": {"connect": "200ms"}}
    check = {"enabled": True, "interval": "500ms"}
    # Its `auto` Routes are all of one namespace.
    plain = {"ports": [*PLAIN], "auto_ports_per_namespace": len(PLAIN), **quick}
    its_stand = make_stand(
        pools=[plain, {"ports": [*CHECKED], **quick, "check": check}],
        drain={"deadline": deadline},
        endpoints={"deny": ["169.254.0.0/16"]},
        # One that is left out may lose its sessions to the deadline: not in that run.
        limits={"max_servers": 8 if deadline == "0s" else 1024},
        timing={"close_after": "300ms", "resync": "1s"},
    )
    dice, run, log = Dice(SEED), Run(its_stand, ips), tmp_path / "steps.log"
    last: deque[str] = deque(maxlen=40)

    def do(step: Step) -> None:
        last.append(f"{time.time():.3f} {step.action} {step.arguments}\n")
        with log.open("a") as file:
            file.write(last[-1])
        attrgetter(step.action)(run)(*step.arguments)
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
        raise AssertionError(
            f"{exc!r}\nCHAOS_SEED={SEED}, drain deadline {deadline}, {stand.HAPROXY}; all steps:"
            f" {log}; the sidecar's log: {run.sidecar.log}\nlast steps:\n{''.join(last)}"
            "last commands:\n" + "\n".join(run.relay.changing[-40:])
        ) from exc
    finally:
        run.close()
