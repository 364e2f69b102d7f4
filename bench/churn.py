"""How fast a change reaches HAProxy, and what a restore costs beside the bare commands.

    python bench/churn.py [--ports 1000] [--endpoints 10] [--events 300] [--smoke]

Starts a real HAProxy (HAPROXY=path chooses it) on a loopback address, drives it with the same
classes that the sidecar runs, and prints a table. Everything compared is measured in one run.
"""

import argparse
import gc
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from rich.console import Console
from rich.progress import track
from rich.table import Table
from stand import Stand, changes, route, service, slice_

from sidecar.endpoints import denier
from sidecar.metrics import Metrics
from sidecar.operations import OpenPort, Operation, SetAddress, SetState
from sidecar.pool import Address
from sidecar.reconciler import Reconciler
from sidecar.routing import Routing
from sidecar.sources.base import Change

FIRST_PORT = 20000


def ip_of(port: int, number: int, generation: int = 0) -> str:
    """An address that nothing listens on: what is measured is HAProxy's memory, not traffic."""
    return f"10.{port % 200}.{port // 200}.{1 + number + 20 * (generation % 10)}"


def objects(port: int, endpoints: int, generation: int = 0) -> list[Change]:
    """A Route with its Service and slice; each generation has one other endpoint."""
    name = f"web-{port}"
    ips = [ip_of(port, number) for number in range(1, endpoints)]
    ips.append(ip_of(port, 0, generation))
    return changes(route(name, port), service(name), slice_(name, ips))


class Bench:
    """One HAProxy with ``ports`` claimed by Routes of ``endpoints`` endpoints each."""

    def __init__(self, folder: Path, ports: int, endpoints: int) -> None:
        self.ports = range(FIRST_PORT, FIRST_PORT + ports)
        self.endpoints = endpoints
        pool = {"ports": [f"{self.ports[0]}-{self.ports[-1]}"], "slots": endpoints + 2}
        self.stand = Stand(folder, [pool]).start()
        self.routing = Routing(self.stand.pool, "wzh-router-1", denier(()), {})
        self.changed = self.routing.apply(
            [change for port in self.ports for change in objects(port, endpoints)]
        )
        self.reconciler = self.new_reconciler()

    def new_reconciler(self) -> Reconciler:
        return Reconciler(
            self.stand.client,
            self.stand.pool,
            Metrics(),
            close_after_seconds=5.0,
            resync_seconds=3600.0,
        )

    def step(self) -> None:
        self.reconciler.step(self.routing.claimed)
        if not self.reconciler.converged:
            raise SystemExit(f"not converged: {self.reconciler.failures}")

    def restart_haproxy(self) -> None:
        self.stand.client.close()
        self.stand.stop_haproxy()
        self.stand.settings.haproxy.state_file.write_text("1\n")
        self.stand.start_haproxy()
        self.stand.client.ask("show info")


def timed(action: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def restore(bench: Bench, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of a full restore by the sidecar, and of the same by bare pipelined commands:
    close what is not claimed (nothing here), all addresses, read back, all ready."""
    ours, raw = [], []
    for _ in track(range(repeats), "restore", console=Console(stderr=True)):
        bench.restart_haproxy()
        bench.reconciler = bench.new_reconciler()
        ours.append(timed(bench.step))
        bench.restart_haproxy()
        slots = [f"s{number}" for number in range(1, bench.endpoints + 1)]
        addresses: list[Operation] = [
            SetAddress(port, slot, Address(ip_of(port, number), 9000))
            for port in bench.ports
            for number, slot in enumerate(slots)
        ]
        ready: list[Operation] = [
            SetState(port, slot, "ready") for port in bench.ports for slot in slots
        ]
        first, second = [op.line() for op in addresses], [op.line() for op in ready]
        client = bench.stand.client

        def replay() -> None:
            client.ask_all(first)
            client.ask("show servers state")
            client.ask_all(second)

        raw.append(timed(replay))
    return ours, raw


def events(bench: Bench, count: int) -> tuple[list[float], list[float], float]:
    """Seconds from an object changed in the store until HAProxy was read back and shows it; of a
    bare round trip in between; and the changing commands that an event took."""
    latencies, trips = [], []
    choose = random.Random(1)
    before = commands(bench)
    for number in track(range(count), "events", console=Console(stderr=True)):
        port = choose.choice(bench.ports)
        new = objects(port, bench.endpoints, generation=1 + number)[2:]
        start = time.perf_counter()
        bench.reconciler.mark(bench.routing.apply(new).ports)
        bench.step()
        latencies.append(time.perf_counter() - start)
        trips.append(timed(lambda: bench.stand.client.ask("show info")))
    return latencies, trips, (commands(bench) - before) / count


def commands(bench: Bench) -> float:
    samples = next(iter(bench.reconciler._metrics.operations.collect())).samples
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


def resident_mb() -> float:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def milliseconds(seconds: Sequence[float], percent: float) -> str:
    ordered = sorted(seconds)
    return f"{ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000:.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ports", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    args = parser.parse_args()
    if args.smoke:
        args.ports, args.endpoints, args.events, args.repeats = 10, 3, 20, 1
    with tempfile.TemporaryDirectory() as folder:
        empty_mb = resident_mb()
        bench = Bench(Path(folder), args.ports, args.endpoints)
        try:
            version = bench.stand.info().version
            bench.reconciler.mark(bench.changed.ports)
            ours, raw = restore(bench, args.repeats)
            bench.reconciler = bench.new_reconciler()
            bench.step()
            latencies, trips, per_event = events(bench, args.events)
            idle = timed(lambda: (bench.reconciler.disconnected(), bench.step()))
            sidecar_mb = resident_mb()
        finally:
            bench.stand.close()
    table = Table(title=f"HAProxy {version}, {args.ports} ports x {args.endpoints} endpoints")
    for column in ("what", "sidecar", "bare commands", "ratio"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row(
        f"restore, median of {args.repeats}",
        f"{statistics.median(ours) * 1000:.0f} ms",
        f"{statistics.median(raw) * 1000:.0f} ms",
        f"{statistics.median(ours) / statistics.median(raw):.2f}",
    )
    for percent in (50, 99):
        table.add_row(
            f"one endpoint replaced -> read back, p{percent}",
            milliseconds(latencies, percent),
            f"{milliseconds(trips, percent)} (one round trip)",
            "",
        )
    table.add_row("changing commands per event", f"{per_event:.1f}", "", "")
    table.add_row("full compare, nothing to do", f"{idle * 1000:.0f} ms", "", "")
    table.add_row("memory", f"{sidecar_mb:.0f} MB ({empty_mb:.0f} MB without Routes)", "", "")
    Console(width=120 if not sys.stdout.isatty() else None).print(table)


if __name__ == "__main__":
    main()
