"""What HAProxy and the sidecar show, against what `world` says."""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction

from processes import Sidecar
from rig import Clients, Tripwire
from sources import Origin
from stand import Stand
from world import CHECKED, DEAD, ITSELF, MARK_PORT, NEAR, NEAR_PORT, OWN_PORTS, PLAIN, World

from sidecar.daemon.persistence import auto_ports_file
from sidecar.haproxy.state import ObservedServer, ObservedUnit
from sidecar.listeners.tcp import port_of
from sidecar.model.pool import PARKED, Address


class Comparison:
    """All that takes part, and what of it is not as it should be."""

    def __init__(self, its_stand: Stand, ips: dict[str, str], source: Origin) -> None:
        self.stand, self.settings = its_stand, its_stand.settings
        self.ips, self.source = ips, source
        self.names = {
            Address(ip, NEAR_PORT if name == NEAR else 9000): name
            for name, ip in ips.items()
            if name not in ITSELF
        }
        self.world = World()
        #: Where the mark is to be (`Origin.mark`).
        self.mark = 10_000
        #: Held port -> how it was at the last quiet point, if nobody touched it since.
        self.held: dict[int, object] = {}
        self.relay = Tripwire(its_stand.folder / "relay.sock", self.settings.haproxy.socket)
        self.sidecar = Sidecar(its_stand, self.relay.path, source)
        self.clients = Clients(its_stand)

    def until_no(self, problem: Callable[[], str], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while (text := problem()) and not self.clients.faults:
            assert time.monotonic() < deadline, f"not converged: {text}"
            time.sleep(0.01)
        assert not self.clients.faults, self.clients.faults[:5]

    def shown(self) -> dict[int, list[tuple[str, Address, int, bool]]]:
        observed = self.stand.observed()
        return {port: shown_of(seen.servers.values(), "s") for port, seen in observed.items()}

    def used(self, seen: ObservedUnit) -> frozenset[str]:
        """The servers whose sessions HAProxy thinks of."""
        used = [item.address for item in seen.servers.values() if item.state != "maint"]
        return frozenset(self.names.get(address, str(address)) for address in used)

    def problems(self, kept: Mapping[str, int], thorough: bool) -> Iterator[str]:
        """``kept``: `auto` Routes with the ports that they must have still."""
        if said := self.sidecar.not_ready():
            yield f"/readyz: {said}"
        yield from self.auto_problems(kept)
        observed = self.stand.observed()
        marks = [s.address.port for s in observed[MARK_PORT].servers.values() if s.state == "ready"]
        if marks != [self.mark]:
            yield f"it is not as far as {self.mark}, but {marks}"
        for port, seen in observed.items():
            if port not in (*self.held, MARK_PORT):
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

    def port_problems(self, seen: ObservedUnit, thorough: bool) -> Iterator[str]:
        port = port_of(seen.unit)
        wanted, takers = self.world.wanted(port), self.world.takers(port)
        largest = max(takers.values(), default=Fraction(1))
        names = {s.name: self.names.get(s.address, str(s)) for s in seen.servers.values()}
        ready = [names[s.name] for s in seen.servers.values() if s.state == "ready"]
        enough = min(len(takers), self.settings.limits.max_servers)
        if len(ready) != enough or not set(ready) <= takers.keys() or len(set(ready)) != enough:
            yield f"ready: {sorted(ready)}, wanted are {sorted(takers)}"
        elif seen.open != bool(takers):
            yield f"open: {seen.open}, wanted are {sorted(takers)}"
        promise = self.clients.promises[port]
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
            if state == "ready" and (slot.checks == "on") != (port in CHECKED):
                yield f"{name} has checks: {slot.checks}"
            if state == "drain" and wanted.get(name) != 0:
                yield f"{name} drains, wanted are {sorted(takers)}"
            away = slot.name[0] == "s" and slot.address == PARKED
            if thorough and state == "maint" and not slot.sessions and not away:
                yield f"{slot} is idle and not put away"

    def check_loops(self, connections_more: int) -> None:
        """The router never was a server, and nobody took HAProxy's connections."""
        own = {(self.ips.get(name), port) for name in ITSELF for port in OWN_PORTS}
        loops = own & self.relay.addressed
        assert not loops, f"the router itself was to be a server: {loops}"
        # More of them come and go just now.
        most = len(self.clients.staying) + 20 + connections_more

        def crowded() -> str:
            count = self.stand.info().current_connections
            return f"{count} connections, of at most {most}" if count > most else ""

        self.until_no(crowded)

    def check_slots(self, observed: dict[int, ObservedUnit]) -> None:
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


def shown_of(servers: Iterable[ObservedServer], kinds: str) -> list[tuple[str, Address, int, bool]]:
    """The servers that take connections; ``kinds``: "s" for slots, "x" for added ones. Health only
    where it stays as it is."""
    ready = [item for item in servers if item.state == "ready" and item.name[0] in kinds]
    return [(s.name, s.address, s.weight, s.up or s.checks == "on") for s in ready]
