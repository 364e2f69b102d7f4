"""How fast a change reaches HAProxy, and what a restore costs beside the bare commands.

    python bench/churn.py [--ports 1000] [--endpoints 10] [--events 300] [--smoke]

Starts a real HAProxy (HAPROXY=path chooses it) on a loopback address, drives it with the same
classes that the sidecar runs, and prints a table. Everything compared is measured in one run.
"""

import argparse
import gc
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from figures import machine, percentile, show
from rich.console import Console
from rich.progress import track
from stand import Stand, changes, route, service, slice_

from sidecar.agenda import REST_SECONDS, Pace
from sidecar.endpoints import denier
from sidecar.metrics import Metrics
from sidecar.operations import Operation, SetAddress, SetState
from sidecar.pool import Address
from sidecar.reconciler import Reconciler
from sidecar.routing import Routing
from sidecar.runtime import RuntimeClient
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
        self.metrics = Metrics()
        self.reconciler = self.new_reconciler()

    def new_reconciler(self) -> Reconciler:
        return Reconciler(
            self.stand.client,
            self.stand.pool,
            self.metrics,
            Pace(resync_seconds=3600.0),
        )

    def step(self) -> None:
        self.reconciler.step(self.routing.claim)
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
        raw.append(timed(partial(replay, bench.stand.client, first, second)))
    return ours, raw


def replay(client: RuntimeClient, first: Sequence[str], second: Sequence[str]) -> None:
    client.ask_all(first)
    client.ask("show servers state")
    client.ask_all(second)


def events(bench: Bench, count: int) -> tuple[list[float], list[float], float]:
    """Seconds from an object changed in the store until HAProxy was read back and shows it; of a
    bare round trip in between; and the changing commands that an event took."""
    latencies, trips = [], []
    # In turn, and not before its rest is over: a port that was just changed has to wait.
    ports = itertools.cycle(random.Random(1).sample(bench.ports, len(bench.ports)))
    before = commands(bench)
    for number, port in zip(
        track(range(count), "events", console=Console(stderr=True)), ports, strict=False
    ):
        if len(bench.ports) < 100:
            time.sleep(REST_SECONDS)
        new = objects(port, bench.endpoints, generation=1 + number // len(bench.ports))[2:]
        start = time.perf_counter()
        bench.reconciler.mark(bench.routing.apply(new).ports)
        bench.step()
        latencies.append(time.perf_counter() - start)
        trips.append(timed(lambda: bench.stand.client.ask("show info")))
    return latencies, trips, (commands(bench) - before) / count


def commands(bench: Bench) -> float:
    samples = next(iter(bench.metrics.operations.collect())).samples
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


def resident_mb() -> float:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def milliseconds(values: Sequence[float], percent: float) -> str:
    return f"{percentile(values, percent) * 1000:.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ports", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    where = machine()
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
            bench.reconciler.disconnected()
            idle = timed(bench.step)
            sidecar_mb = resident_mb()
        finally:
            bench.stand.close()
    show(
        f"HAProxy {version}; {where}; {args.ports} ports x {args.endpoints} endpoints",
        ["", "sidecar", "bare commands", "ratio"],
        [
            [
                f"restore, median of {args.repeats}",
                f"{statistics.median(ours) * 1000:.0f} ms",
                f"{statistics.median(raw) * 1000:.0f} ms",
                f"{statistics.median(ours) / statistics.median(raw):.2f}",
            ],
            *(
                [
                    f"one endpoint replaced -> read back, p{percent}",
                    milliseconds(latencies, percent),
                    f"{milliseconds(trips, percent)} (one round trip)",
                    "",
                ]
                for percent in (50, 99)
            ),
            ["changing commands per event", f"{per_event:.1f}", "", ""],
            ["full compare, nothing to do", f"{idle * 1000:.0f} ms", "", ""],
            ["memory", f"{sidecar_mb:.0f} MB ({empty_mb:.0f} MB without Routes)", "", ""],
        ],
        markdown=args.markdown,
    )


if __name__ == "__main__":
    main()
