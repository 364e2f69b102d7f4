"""How fast a change reaches HAProxy as ports grow, beside the bare commands and beside reloads.

    python bench/churn.py [--ports 10 1000 4000] [--endpoints 10] [--smoke] [--markdown]

For each number of ports it starts a real HAProxy (HAPROXY=path chooses it) on a loopback address,
drives it with the same classes that the sidecar runs, and then does the same by reloads. Everything
compared is measured in one run.
"""

import argparse
import gc
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))

from core import closing
from figures import haproxy_version, machine, percentile, show
from flame import recorded
from parts import routing_for
from probe import ips_of
from rich.console import Console
from rich.progress import track
from stand import Stand, await_, changes, route, service, slice_
from ways import SERVER_PORT, Reloads

from sidecar.common.garbage import collecting_rarely
from sidecar.common.metrics import Metrics
from sidecar.control.reconciler import Reconciler
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.naming import backend_name, frontend_name
from sidecar.haproxy.operations import Outcome, Request, SetAddress, SetState
from sidecar.listeners.tcp import unit_of
from sidecar.model.change import Change
from sidecar.model.pool import Address
from sidecar.planning.schedule import REST_SECONDS, TIDY_SECONDS, Timing

FIRST_PORT = 20000


def endpoints_of(port: int, endpoints: int, generation: int = 0) -> list[Change]:
    return changes(slice_(f"web-{port}", ips_of(port, endpoints, generation)))


def route_of(port: int, endpoints: int) -> list[Change]:
    """A Route with its Service and slice."""
    name = f"web-{port}"
    return [*changes(route(name, port), service(name)), *endpoints_of(port, endpoints)]


class Counted(RuntimeClient):
    """``sent``: all ``commands`` that HAProxy was given; the ``changing`` ones among them; and the
    ``exchanges``, which is how often its answers were waited for."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.sent: Counter[str] = Counter()

    def ask_all(self, lines: Sequence[str]) -> list[str]:
        self.sent.update(commands=len(lines), exchanges=bool(lines))
        return super().ask_all(lines)

    def apply_and_ask(
        self, operations: Sequence[Request], lines: Sequence[str]
    ) -> tuple[list[Outcome], list[str]]:
        self.sent.update(
            commands=len(operations) + len(lines),
            changing=len(operations),
            exchanges=bool(operations or lines),
        )
        return super().apply_and_ask(operations, lines)


class Bench:
    """One HAProxy with ``ports`` claimed by Routes of ``endpoints`` endpoints each, and room for
    some ``more`` Routes."""

    def __init__(self, folder: Path, ports: int, endpoints: int, more: int) -> None:
        self.ports = range(FIRST_PORT, FIRST_PORT + ports)
        self.more = range(FIRST_PORT + ports, FIRST_PORT + ports + more)
        self.endpoints = endpoints
        pool = {"ports": [f"{self.ports[0]}-{self.more[-1]}"], "slots": endpoints + 2}
        self.stand = Stand(folder, [pool])
        self.client = Counted(self.stand.settings.haproxy.socket)
        self.stand.client = self.client
        self.stand.start()
        self.routing = routing_for(self.stand.ports)
        for port in self.ports:
            self.routing.apply(route_of(port, endpoints))
        self.reconciler = self.new_reconciler()

    def new_reconciler(self) -> Reconciler:
        timing = Timing(resync_seconds=3600.0)
        return Reconciler(self.client, self.stand.ports, Metrics(), timing)

    def step(self) -> None:
        self.reconciler.step(self.routing.claim)
        if not self.reconciler.known.converged:
            raise SystemExit(f"not converged: {self.reconciler.known.failures}")

    def tidy(self) -> None:
        """All that is due."""
        while not self.reconciler.step(self.routing.claim):
            pass

    def follow(self, changed: Iterable[Change]) -> float:
        """Seconds from an object changed in the store until HAProxy was read back and shows it."""
        start = time.perf_counter()
        self.reconciler.mark(self.routing.apply(changed).units)
        self.step()
        return time.perf_counter() - start

    def restart_haproxy(self) -> None:
        """Empty: it finds no state to begin with."""
        self.client.close()
        self.stand.stop_haproxy()
        self.stand.settings.haproxy.state_file.write_text("1\n")
        self.stand.start_haproxy()
        self.client.ask("show info")


class Figures(NamedTuple):
    """Of one number of ports; all but the counts in seconds.

    ``trips``: of one bare command; ``looks``: of those that show a port, at one stroke.
    ``tidying``, ``sent``: of one event. ``restored``: changing commands of a whole restore, by the
    sidecar and bare.
    """

    events: Sequence[float]
    trips: Sequence[float]
    looks: Sequence[float]
    tidying: float
    sent: Mapping[str, float]
    more: Sequence[float]
    reloads: Sequence[float]
    restores: Sequence[float]
    bare: Sequence[float]
    restored: tuple[int, int]
    compare: float


def timed(action: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def draw_restores(bench: Bench, path: Path, repeats: int) -> None:
    """What Python does while everything is restored, as a flame graph."""
    with recorded(os.getpid(), path):
        for _ in range(repeats):
            bench.restart_haproxy()
            bench.reconciler = bench.new_reconciler()
            bench.step()


def restore(bench: Bench, repeats: int) -> tuple[list[float], list[float], tuple[int, int]]:
    """Seconds of a full restore by the sidecar, and of the same by bare pipelined commands: close
    what nobody claims, all addresses, read back, all ready. And how many changing commands each
    took."""
    slots = [f"s{number}" for number in range(1, bench.endpoints + 1)]
    first = [str(closing(port).command()) for port in bench.more]
    first += [
        str(SetAddress(unit_of(port), slot, Address(ip, SERVER_PORT)).command())
        for port in bench.ports
        for slot, ip in zip(slots, ips_of(port, bench.endpoints), strict=True)
    ]
    ready = [
        str(SetState(unit_of(port), slot, "ready").command())
        for port in bench.ports
        for slot in slots
    ]
    ours, bare, sent = [], [], 0
    for _ in range(repeats):
        bench.restart_haproxy()
        bench.reconciler = bench.new_reconciler()
        before = bench.client.sent["changing"]
        ours.append(timed(bench.step))
        sent = bench.client.sent["changing"] - before
        bench.restart_haproxy()
        bare.append(timed(partial(replay, bench.client, first, ready)))
    return ours, bare, (sent, len(first) + len(ready))


def replay(client: RuntimeClient, first: Sequence[str], second: Sequence[str]) -> None:
    client.ask_all(first)
    client.ask("show servers state")
    client.ask_all(second)


def events(
    bench: Bench, count: int
) -> tuple[list[float], list[float], list[float], float, Mapping[str, float]]:
    """Seconds until a replaced endpoint shows; of a bare round trip and a bare look at its port in
    between; and of parking the slot that it left, which is done later. And what was sent because
    of such an event, then and later."""
    latencies, trips, looks = [], [], []
    sent: Counter[str] = Counter()
    # In turn. Few ports come again before they have rested, for which they are not to wait.
    pause = REST_SECONDS if len(bench.ports) < 100 else 0.0
    ports = itertools.cycle(random.Random(1).sample(bench.ports, len(bench.ports)))
    for number, port in zip(range(count), ports, strict=False):
        generation = 1 + number // len(bench.ports)
        new = endpoints_of(port, bench.endpoints, generation)
        look = [f"show servers state {backend_name(port)}", f"show stat {frontend_name(port)} 1 -1"]
        ends = time.perf_counter() + pause
        while True:
            start = time.perf_counter()
            bench.client.ask("show info")
            asked = time.perf_counter()
            bench.client.ask_all(look)
            trips.append(asked - start)
            looks.append(time.perf_counter() - asked)
            if asked > ends:
                break
        before = bench.client.sent.copy()
        latencies.append(bench.follow(new))
        sent += bench.client.sent - before
    time.sleep(TIDY_SECONDS)
    before = bench.client.sent.copy()
    tidying = timed(bench.tidy) / count
    sent += bench.client.sent - before
    return latencies, trips, looks, tidying, {what: sent[what] / count for what in sent}


def reloads(folder: Path, ports: Sequence[int], endpoints: int, repeats: int) -> list[float]:
    """Seconds from a replaced endpoint until a HAProxy that was reloaded for it has the port."""
    way = Reloads(folder, {port: ips_of(port, endpoints) for port in ports}, 0.0, "")
    try:
        for generation in range(1, repeats + 1):
            way.change(ports[0], ips_of(ports[0], endpoints, generation))
            await_(way.settled, "the reload has effect", 120)
    finally:
        way.close()
    return way.seconds


def measure(ports: int, args: argparse.Namespace) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), ports, args.endpoints, args.more)
        try:
            ours, bare, restored = restore(bench, args.repeats)
            if args.flame and ports == max(args.ports):
                draw_restores(bench, args.flame, args.repeats)
            bench.reconciler = bench.new_reconciler()
            bench.step()
            # What comes after a compare, and the ports' rest, are not the first event's.
            bench.tidy()
            time.sleep(REST_SECONDS)
            found = events(bench, args.events)
            more = [bench.follow(route_of(port, args.endpoints)) for port in bench.more]
            bench.reconciler.disconnected()
            compare = timed(bench.step)
        finally:
            bench.stand.close()
    with tempfile.TemporaryDirectory() as folder:
        reloaded = reloads(Path(folder), bench.ports, args.endpoints, args.repeats)
    return Figures(*found, more, reloaded, ours, bare, restored, compare)


def _ms(values: Sequence[float], percent: float = 50) -> str:
    return f"{percentile(values, percent) * 1000:,.2f} ms"


def _whole_ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


#: What is shown: label, and what of the figures.
ROWS: Sequence[tuple[str, Callable[[Figures], str]]] = (
    ("one endpoint replaced → read back, p50", lambda f: _ms(f.events)),
    ("… p99", lambda f: _ms(f.events, 99)),
    ("… by a reload, median", lambda f: _whole_ms(statistics.median(f.reloads))),
    ("one bare round trip, p50", lambda f: _ms(f.trips)),
    ("… p99", lambda f: _ms(f.trips, 99)),
    ("one bare look at its port, p50", lambda f: _ms(f.looks)),
    ("… and what it left parked, a second later", lambda f: _ms([f.tidying])),
    ("changing commands of an event", lambda f: f"{f.sent['changing']:.1f}"),
    ("all commands of an event", lambda f: f"{f.sent['commands']:.1f}"),
    ("exchanges with HAProxy of an event", lambda f: f"{f.sent['exchanges']:.1f}"),
    ("one more Route → read back, p50", lambda f: _ms(f.more)),
    ("… p99", lambda f: _ms(f.more, 99)),
    ("restore of everything, median", lambda f: _whole_ms(statistics.median(f.restores))),
    ("… by bare commands, median", lambda f: _whole_ms(statistics.median(f.bare))),
    ("… ratio", lambda f: f"{statistics.median(f.restores) / statistics.median(f.bare):.2f}"),
    ("changing commands of it / of the bare", lambda f: "{:,} / {:,}".format(*f.restored)),
    (
        "… a second",
        lambda f: f"{f.restored[0] / statistics.median(f.restores):,.0f}",
    ),
    ("… a second, bare", lambda f: f"{f.restored[1] / statistics.median(f.bare):,.0f}"),
    ("full compare, nothing to do", lambda f: _whole_ms(f.compare)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ports", type=int, nargs="+", default=[10, 1000, 4000])
    parser.add_argument("--endpoints", type=int, default=10, help="of each port")
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--more", type=int, default=50, help="Routes that come one by one")
    parser.add_argument("--repeats", type=int, default=5, help="restores and reloads")
    parser.add_argument(
        "--flame",
        type=Path,
        metavar="FILE.svg",
        help="draw what Python does with as many restores once more, of the most ports",
    )
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    where = machine()
    if args.smoke:
        args.ports, args.endpoints, args.events, args.more, args.repeats = [4, 20], 3, 20, 2, 1
    with collecting_rarely():
        found = [
            measure(ports, args)
            for ports in track(args.ports, "ports", console=Console(stderr=True))
        ]
    show(
        f"HAProxy {haproxy_version()}; {where}; {args.endpoints} endpoints a port,"
        f" {args.events} events, {args.more} more Routes, {args.repeats} restores and reloads",
        ["", *(f"{ports:,} ports" for ports in args.ports)],
        [[label, *(form(figures) for figures in found)] for label, form in ROWS],
        markdown=args.markdown,
    )


if __name__ == "__main__":
    main()
