"""The same churn by the sidecar and by rewriting haproxy.cfg with reloads: what does it cost?

    python bench/zero_loss.py [--seconds 10] [--changes 50] [--repeats 3] [--smoke] [--markdown]

One run measures, one after another and with one seeded sequence of changes: nothing changing; the
sidecar; reloads with seamless hand-over (``-x`` socket, ``expose-fd listeners``, ``-sf`` old
PIDs), coalesced to at most one each ``--interval``; the same with ``hard-stop-after``. All get the
same haproxy.cfg but for the server lines, and the same load from processes of their own.

Servers that are taken out go on serving whom they have, as pods in their grace period: what
breaks was broken by the router. Some of the new servers refuse connections, as crashed pods do.
"""

import argparse
import contextlib
import math
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))

from figures import haproxy_version, machine, percentile, show, spread, wait_until_idle
from load import Worker
from proc import resident_bytes
from rich.console import Console
from rich.progress import track
from stand import await_, fresh_ip
from ways import SERVER_PORT, Reloads, Servers, Sidecar, Way

FIRST_PORT = 20000

#: The part of new servers that refuse connections.
CRASHED = 0.05

#: How often processes and their memory are looked at.
_SAMPLE_SECONDS = 0.1


class Change(NamedTuple):
    """From ``at`` seconds on, ``port`` has these servers."""

    at: float
    port: int
    servers: Servers


class World:
    """The servers of each port and what becomes of them, the same for the same ``seed``.

    Each port has one server that stays; ``endpoints - 1`` others are replaced one at a time, a
    few of them by crashed ones: at most ``crashed`` of a port at a time. (With two, and sessions
    on the others, leastconn goes from one to the other until the retries are over.)
    """

    def __init__(self, args: argparse.Namespace) -> None:
        dice, ports, endpoints = random.Random(args.seed), args.ports, args.endpoints
        self.ports = range(FIRST_PORT, FIRST_PORT + ports)
        self.stay = {port: fresh_ip() for port in self.ports}
        spare = {port: [fresh_ip() for _ in range(3 * endpoints)] for port in self.ports}
        crashed = {port: [fresh_ip() for _ in range(endpoints)] for port in self.ports}
        self.owners = {ip: port for port in self.ports for ip in (self.stay[port], *spare[port])}
        self.first: dict[int, Servers] = {
            port: (self.stay[port], *spare[port][: endpoints - 1]) for port in self.ports
        }
        self.changes: list[Change] = []
        now = dict(self.first)
        for number in range(int(args.changes * args.seconds)):
            port = dice.choice(self.ports)
            may_crash = len(set(crashed[port]).intersection(now[port])) < args.crashed
            crashes = dice.random() < CRASHED and may_crash
            chosen = crashed[port] if crashes else spare[port]
            new = dice.choice([ip for ip in chosen if ip not in now[port]])
            gone = dice.choice(now[port][1:])
            now[port] = tuple(new if ip == gone else ip for ip in now[port])
            self.changes.append(Change(number / args.changes, port, now[port]))


class Sampler:
    """Counts a way's processes and their memory until it is closed."""

    def __init__(self, way: Way) -> None:
        self.processes_max, self.resident_mb_max = 0, 0.0
        self._way = way
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def look(self) -> tuple[int, float]:
        pids = self._way.pids()
        resident = sum(map(resident_bytes, pids)) / 1e6
        self.processes_max = max(self.processes_max, len(pids))
        self.resident_mb_max = max(self.resident_mb_max, resident)
        return len(pids), resident

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self.look()


@dataclass(frozen=True, slots=True)
class Figures:
    """What one way cost in one run."""

    short: int
    failed: int
    misled: int
    milliseconds: tuple[float, float, float]  # median, p99, longest
    long: int
    lost: int
    lost_staying: int
    stranded: int
    processes_max: int
    processes: int
    resident_mb_max: float
    resident_mb: float
    effect_milliseconds: tuple[float, float]  # median, p99
    reloads: int
    haproxy_cpu_seconds: float
    own_cpu_seconds: float
    reasons: Counter[str]


def measure(way: Way, world: World, todo: Sequence[Change], args: argparse.Namespace) -> Figures:
    """Load and churn for ``args.seconds``, then count."""
    with contextlib.closing(way), Worker("clients") as clients:
        clients.order(
            ip=way.ip,
            ports=list(world.ports),
            rate=args.rate,
            long_each=args.long,
            long_rate=args.long_rate,
            owners=world.owners,
            stay=list(world.stay.values()),
        )
        with contextlib.closing(Sampler(way)) as sampler:
            haproxy, own = way.haproxy_cpu_seconds(), way.own_cpu_seconds()
            start = time.monotonic()
            for change in todo:
                time.sleep(max(0.0, start + change.at - time.monotonic()))
                way.change(change.port, change.servers)
            time.sleep(max(0.0, start + args.seconds - time.monotonic()))
            await_(way.settled, "the last change has effect", 30)
            haproxy, own = way.haproxy_cpu_seconds() - haproxy, way.own_cpu_seconds() - own
            processes, resident = sampler.look()
        found = clients.order(stop=True)
        stranded = found["alive"] - way.serving()
        seconds = [1000 * value for value in found["seconds"]]
        effect = [1000 * value for value in way.seconds]
        return Figures(
            short=len(seconds) + sum(found["failures"].values()),
            failed=sum(found["failures"].values()),
            misled=found["misled"],
            milliseconds=(percentile(seconds, 50), percentile(seconds, 99), max(seconds)),
            long=sum(found["opened"].values()),
            lost=sum(found["lost"].values()),
            lost_staying=found["lost"].get("stay", 0),
            stranded=stranded,
            processes_max=sampler.processes_max,
            processes=processes,
            resident_mb_max=sampler.resident_mb_max,
            resident_mb=resident,
            effect_milliseconds=(percentile(effect, 50), percentile(effect, 99)),
            reloads=way.reloads,
            haproxy_cpu_seconds=haproxy,
            own_cpu_seconds=own,
            reasons=Counter(found["failures"]) + Counter(found["reasons"]),
        )


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _ms(value: float) -> str:
    return "" if math.isnan(value) else f"{value:,.1f} ms"


def _mb(value: float) -> str:
    return f"{value:.0f} MB"


def _s(value: float) -> str:
    return f"{value:.1f} s"


#: What is shown: label, value, form.
ROWS: Sequence[tuple[str, Callable[[Figures], float], Callable[[float], str]]] = (
    ("short connections", lambda f: f.short, _count),
    ("… failed", lambda f: f.failed, _count),
    ("… led to a server of another port", lambda f: f.misled, _count),
    ("… median", lambda f: f.milliseconds[0], _ms),
    ("… p99", lambda f: f.milliseconds[1], _ms),
    ("… longest", lambda f: f.milliseconds[2], _ms),
    ("long-lived connections", lambda f: f.long, _count),
    ("… lost", lambda f: f.lost, _count),
    ("… lost, though their server stayed", lambda f: f.lost_staying, _count),
    ("… left on an old process", lambda f: f.stranded, _count),
    ("change to effect, median", lambda f: f.effect_milliseconds[0], _ms),
    ("change to effect, p99", lambda f: f.effect_milliseconds[1], _ms),
    ("reloads", lambda f: f.reloads, _count),
    ("HAProxy processes, most", lambda f: f.processes_max, _count),
    ("HAProxy processes, at the end", lambda f: f.processes, _count),
    ("their memory (RSS), most", lambda f: f.resident_mb_max, _mb),
    ("their memory (RSS), at the end", lambda f: f.resident_mb, _mb),
    ("CPU time of HAProxy", lambda f: f.haproxy_cpu_seconds, _s),
    ("CPU time of sidecar / reloader", lambda f: f.own_cpu_seconds, _s),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of churn, for each way")
    parser.add_argument("--ports", type=int, default=20)
    parser.add_argument("--endpoints", type=int, default=4, help="servers of each port")
    parser.add_argument("--changes", type=float, default=50.0, help="a second, over all ports")
    parser.add_argument("--rate", type=float, default=500.0, help="short connections a second")
    parser.add_argument("--long", type=int, default=2, help="long-lived of each port at the start")
    parser.add_argument("--long-rate", type=float, default=5.0, help="more of them a second")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds from reload to reload")
    parser.add_argument("--hard-stop", default="5s", help="hard-stop-after of the last way")
    parser.add_argument("--crashed", type=int, default=1, help="servers of a port, at a time")
    parser.add_argument("--slots", type=int, default=16, help="of the sidecar's pool")
    parser.add_argument("--repeats", type=int, default=1, help="runs; the median is shown")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wait", type=float, default=0.0, help="s, for an idle machine, each run")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    if args.smoke:
        args.seconds, args.ports, args.rate, args.repeats = 2.0, 4, 100.0, 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end what was started, too
    where = machine()
    world = World(args)

    def sidecar(folder: Path) -> Way:
        return Sidecar(folder, world.first, args.slots)

    def reloads(hard_stop: str) -> Callable[[Path], Way]:
        return lambda folder: Reloads(folder, world.first, args.interval, hard_stop)

    ways: dict[str, tuple[Callable[[Path], Way], Sequence[Change]]] = {
        "no change": (sidecar, ()),
        "sidecar": (sidecar, world.changes),
        "reload": (reloads(""), world.changes),
        f"reload, hard-stop-after {args.hard_stop}": (reloads(args.hard_stop), world.changes),
    }
    found: dict[str, list[Figures]] = {name: [] for name in ways}
    with Worker("servers") as servers:
        servers.order(addresses=[(ip, SERVER_PORT) for ip in world.owners])
        todo = [name for _ in range(args.repeats) for name in ways]
        for name in track(todo, "ways", console=Console(stderr=True)):
            make, todo_changes = ways[name]
            wait_until_idle(args.wait)
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(measure(make(Path(folder)), world, todo_changes, args))
    show(
        f"HAProxy {haproxy_version()}; {where}; {args.ports} ports x {args.endpoints} endpoints,"
        f" {args.changes:g} changes/s for {args.seconds:g} s;"
        f" median of {args.repeats} (least … most)",
        ["", *ways],
        [
            [label, *(spread([value(item) for item in found[name]], form) for name in ways)]
            for label, value, form in ROWS
        ],
        markdown=args.markdown,
    )
    for name, runs in found.items():
        reasons = sum((item.reasons for item in runs), Counter[str]())
        if reasons:
            print(f"\n{name}: " + ", ".join(f"{kind} {n}" for kind, n in reasons.most_common()))


if __name__ == "__main__":
    main()
