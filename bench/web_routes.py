"""What Routes by host cost as they grow, beside a static haproxy.cfg and its reloads.

    python bench/web_routes.py [--routes 1000 5000] [--asked 10 1000 10000] [--smoke] [--markdown]

First HAProxy's processor time for a request: with so many Routes behind our maps, and with one in a
static haproxy.cfg, in turns. Then for each number of Routes a daemon drives a real HAProxy
(HAPROXY=path chooses it), and a client in a process of its own asks until it sees a change; the
same is done by writing haproxy.cfg and its map anew and reloading. Another HAProxy is all servers.
"""

import argparse
import contextlib
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))

from asker import PIPELINED, Asker
from by_host import fill, use
from figures import haproxy_version, machine, percentile, show, spread, wait_until_idle
from memory import Cost, formula, show_costs
from probe import Feed
from proc import cpu_seconds, resident_bytes
from rich.console import Console
from rich.progress import track
from stand import Stand, await_, changes, fresh_ip, route, running, service, slice_
from static import LISTENER_PORT, WAIT_SECONDS, Servers, Static, fresh_ips, host_of
from ways import SERVER_PORT, clock_of

from sidecar.daemon.loop import Daemon
from sidecar.haproxy.naming import web_backend_name
from sidecar.haproxy.state import leaving
from sidecar.listeners.web_keys import hosts_entries, web_key
from sidecar.model.change import Change
from sidecar.model.pool import Address

#: Connections over which requests are measured, each for a Route of its own.
CONNECTIONS = 10

#: Of a backend whose memory is measured: the default of web.slots.
SLOTS = 8


def web_stand(folder: Path, backends: int, slots: int) -> Stand:
    listener = {"name": "http", "kind": "http", "bind": [f"{fresh_ip()}:{LISTENER_PORT}"]}
    web = {"backends": {"http": backends}, "slots": slots}
    return Stand(folder, [{"ports": ["30000"], "slots": 1}], listeners=[listener], web=web)


def address_of(stand: Stand) -> tuple[str, int]:
    web = stand.pool.web
    assert web
    return web.listeners[0].bind[0]


@contextlib.contextmanager
def started(backends: int, slots: int) -> Iterator[tuple[Stand, Cost]]:
    """A HAProxy with nothing claimed, and what that takes."""
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        stand = ending.enter_context(contextlib.closing(web_stand(folder, backends, slots)))
        begun = time.monotonic()
        info = stand.start().info()
        yield stand, Cost(resident_bytes(info.pid), time.monotonic() - begun)


# -- requests ------------------------------------------------------------------------------------


def per_request(counts: Iterable[int], requests: int, repeats: int) -> dict[int, list[float]]:
    """Number of Routes -> microseconds of HAProxy for a request, in each turn; 0: static."""
    found: dict[int, list[float]] = {}
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        servers = ending.enter_context(contextlib.closing(Servers(folder, fresh_ips(1))))
        static = Static(folder, {host_of(0): servers.ips})
        ending.callback(static.close)
        asked = {0: (static.pid, static.address, [host_of(0)])}
        for count in counts:
            stand, _ = ending.enter_context(started(count, 1))
            numbers = range(0, count, count // min(count, CONNECTIONS))[:CONNECTIONS]
            for number in numbers:
                name = web_backend_name("http", number + 1)
                use(stand, name, Address(servers.ips[0], SERVER_PORT))
            fill(stand, "hosts", entries_of(count))
            asked[count] = (stand.info().pid, address_of(stand), list(map(host_of, numbers)))
        turns = [
            # As many connections for one Route as for ten.
            (
                count,
                pid,
                (hosts * CONNECTIONS)[:CONNECTIONS],
                ending.enter_context(contextlib.closing(Asker(address))),
            )
            for count, (pid, address, hosts) in asked.items()
        ]
        for number in track(range(repeats + 1), "rounds", console=Console(stderr=True)):
            for count, pid, hosts, asker in turns:
                before = cpu_seconds(pid)
                if asker.flood(hosts, requests) != requests:
                    raise SystemExit("bench: not every request was answered by 200")
                if number:  # the first round warms up
                    microseconds = (cpu_seconds(pid) - before) / requests * 1e6
                    found.setdefault(count, []).append(microseconds)
    return found


def entries_of(count: int) -> Iterator[tuple[str, str]]:
    for number in range(count):
        backend = web_backend_name("http", number + 1)
        for entry in hosts_entries(web_key(host_of(number))):
            yield entry, backend


# -- changes -------------------------------------------------------------------------------------


class Costs(NamedTuple):
    """Of a change, with what it left to be done later."""

    commands: float
    cpu_seconds: float


class Figures(NamedTuple):
    """Of one number of Routes; seconds, or changing commands. ``*_costs``: of one of them."""

    new: Sequence[float]
    replaced: Sequence[float]
    new_by_reload: Sequence[float]
    replaced_by_reload: Sequence[float]
    new_costs: Costs
    replaced_costs: Costs
    restores: Sequence[float]


def slice_of(number: int, ips: Sequence[str]) -> list[Change]:
    return changes(slice_(f"r{number}", ips, port=SERVER_PORT))


def route_of(number: int, ips: Sequence[str]) -> list[Change]:
    """A Route by host with its Service and slice."""
    by_host = dataclasses.replace(route(f"r{number}", None), host=host_of(number))
    return [*changes(by_host, service(f"r{number}")), *slice_of(number, ips)]


class Live:
    """A daemon that drives ``stand`` for ``feed``. ``clock``: of its thread's processor time."""

    def __init__(
        self, stand: Stand, feed: Feed, daemon: Daemon, asker: Asker, servers: int
    ) -> None:
        self.stand, self._feed, self._daemon, self._asker = stand, feed, daemon, asker
        self._servers = servers
        self.clock = clock_of("daemon")

    def follow(self, number: int, changed: Sequence[Change], body: str | None) -> float:
        """Seconds from ``changed`` being published until a request is answered by it."""
        self._asker.expect(host_of(number), body, self._servers, WAIT_SECONDS)
        begun = time.perf_counter()
        self._feed.push(changed)
        return self._asker.answered_at() - begun

    def costs_of(self, follow: Callable[[], list[float]]) -> tuple[list[float], Costs]:
        """What ``follow`` measured, and what each change cost."""
        history, known = self._daemon.reconciler.history, self._daemon.reconciler.known
        cpu, total = time.clock_gettime(self.clock), history.total
        seconds = follow()
        await_(
            lambda: not any(map(leaving, list(known.observed.values()))),
            "all that left is tidied",
            every_seconds=0.1,
        )
        changes = len(seconds)
        cpu = time.clock_gettime(self.clock) - cpu
        return seconds, Costs((history.total - total) / changes, cpu / changes)

    def restore(self) -> float:
        """Seconds from an empty HAProxy that answers until the sidecar has it as desired."""
        stand = self.stand
        stand.stop_haproxy()
        stand.settings.haproxy.state_file.write_text("1\n")
        for file in stand.settings.haproxy.state_file.parent.glob("maps/*.map"):
            file.write_text("")
        pid = stand.start_haproxy().pid
        begun = time.perf_counter()
        known = self._daemon.reconciler.known
        await_(
            lambda: (met := known.process) and met.pid == pid and not self._daemon.ready(),
            "the empty HAProxy is as desired",
            WAIT_SECONDS,
        )
        return time.perf_counter() - begun


def live(routes: int, args: argparse.Namespace, servers: Servers) -> Figures:
    """All but the reloads, which are left empty."""
    end = routes + args.more
    with contextlib.ExitStack() as ending:
        stand, _ = ending.enter_context(started(end, args.endpoints + 2))
        first = servers.of(args.endpoints)
        feed = Feed([change for number in range(routes) for change in route_of(number, first)])
        daemon = ending.enter_context(running(stand.daemon(feed)))
        await_(lambda: not daemon.ready(), "the sidecar has converged", WAIT_SECONDS)
        asker = ending.enter_context(contextlib.closing(Asker(address_of(stand))))
        bench = Live(stand, feed, daemon, asker, args.endpoints)
        new, new_costs = bench.costs_of(
            lambda: [
                bench.follow(number, route_of(number, first), None) for number in range(routes, end)
            ]
        )
        numbers = [event * (routes // args.events or 1) % routes for event in range(args.events)]

        def replace() -> list[float]:
            seconds = []
            for event, number in enumerate(numbers):
                ips = servers.of(args.endpoints, 1 + event // routes)
                seconds.append(bench.follow(number, slice_of(number, ips), ips[-1]))
            return seconds

        replaced, replaced_costs = bench.costs_of(replace)
        restores = [bench.restore() for _ in range(args.repeats)]
        return Figures(new, replaced, (), (), new_costs, replaced_costs, restores)


def reloads(
    routes: int, args: argparse.Namespace, servers: Servers
) -> tuple[list[float], list[float]]:
    """Seconds until a new Route, and a replaced endpoint, answers, by reloads."""
    new, replaced = list[float](), list[float]()
    first = servers.of(args.endpoints)
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        static = Static(folder, {host_of(number): first for number in range(routes)})
        ending.callback(static.close)
        asker = ending.enter_context(contextlib.closing(Asker(static.address)))
        for repeat in range(args.repeats):
            other = servers.of(args.endpoints, 1)
            for seconds, number, ips, body in (
                (new, routes + repeat, first, None),
                (replaced, repeat, other, other[-1]),
            ):
                asker.expect(host_of(number), body, args.endpoints, WAIT_SECONDS)
                begun = time.perf_counter()
                static.routes[host_of(number)] = ips
                static.load()
                seconds.append(asker.answered_at() - begun)
                static.settle()
    return new, replaced


def measure(routes: int, args: argparse.Namespace) -> Figures:
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        servers = ending.enter_context(
            contextlib.closing(Servers(folder, fresh_ips(2 * args.endpoints)))
        )
        figures = live(routes, args, servers)
        new, replaced = reloads(routes, args, servers)
        return figures._replace(new_by_reload=new, replaced_by_reload=replaced)


def _ms(values: Sequence[float], percent: float = 50) -> str:
    return f"{percentile(values, percent) * 1000:,.1f} ms"


def _whole_ms(values: Sequence[float]) -> str:
    return f"{statistics.median(values) * 1000:,.0f} ms"


#: What is shown: label, and what of the figures.
ROWS: Sequence[tuple[str, Callable[[Figures], str]]] = (
    ("new Route → first 200, p50", lambda f: _ms(f.new)),
    ("… p99", lambda f: _ms(f.new, 99)),
    ("… by a reload, median", lambda f: _whole_ms(f.new_by_reload)),
    ("endpoint replaced → first answer of the new one, p50", lambda f: _ms(f.replaced)),
    ("… its p99", lambda f: _ms(f.replaced, 99)),
    ("… it by a reload, median", lambda f: _whole_ms(f.replaced_by_reload)),
    ("changing commands of a new Route", lambda f: f"{f.new_costs.commands:.1f}"),
    ("changing commands of a replaced endpoint", lambda f: f"{f.replaced_costs.commands:.1f}"),
    ("the sidecar's CPU time for a new Route", lambda f: _ms([f.new_costs.cpu_seconds])),
    ("… for a replaced endpoint", lambda f: _ms([f.replaced_costs.cpu_seconds])),
    ("restore of everything, HAProxy being empty, median", lambda f: _whole_ms(f.restores)),
)


def show_memory(counts: Sequence[int], *, markdown: bool) -> None:
    few, wide, many = (counts[0], SLOTS), (counts[0], 4 * SLOTS), (counts[-1], SLOTS)
    costs = {}
    for size in (few, wide, many):
        with started(*size) as (_, costs[size]):
            pass
    show_costs("nothing claimed", "backends", costs, markdown=markdown)
    print("\n" + formula(costs, few, wide, many, "backends"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--routes", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--asked", type=int, nargs="+", default=[10, 1000, 10000])
    parser.add_argument("--endpoints", type=int, default=8, help="of each Route")
    parser.add_argument("--events", type=int, default=300, help="endpoints replaced one by one")
    parser.add_argument("--more", type=int, default=100, help="Routes that come one by one")
    parser.add_argument("--repeats", type=int, default=5, help="restores, reloads, turns")
    parser.add_argument("--requests", type=int, default=20000, help="of each turn")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    if args.smoke:
        args.routes, args.asked, args.endpoints = [5, 30], [1, 20], 2
        args.events, args.more, args.repeats, args.requests = 8, 3, 1, 10 * CONNECTIONS * PIPELINED
    else:
        wait_until_idle(60)
    where = machine()
    turns = per_request(args.asked, args.requests, args.repeats)
    show(
        f"HAProxy {haproxy_version()}; {where}; {args.repeats} turns of {args.requests:,} requests,"
        f" {PIPELINED} at a time over each of {CONNECTIONS} connections",
        ["HAProxy's CPU time for a request", "median (least … most)"],
        [
            [
                f"{count:,} Routes by host" if count else "static, one Route",
                spread(values, lambda value: f"{value:.1f} µs"),
            ]
            for count, values in turns.items()
        ],
        markdown=args.markdown,
    )
    print()
    found = [
        measure(routes, args)
        for routes in track(args.routes, "Routes", console=Console(stderr=True))
    ]
    show(
        f"{args.endpoints} endpoints a Route, {args.more} new Routes, {args.events} endpoints"
        f" replaced, {args.repeats} restores and reloads of each",
        ["", *(f"{routes:,} Routes" for routes in args.routes)],
        [[label, *(form(figures) for figures in found)] for label, form in ROWS],
        markdown=args.markdown,
    )
    print()
    show_memory(args.routes, markdown=args.markdown)


if __name__ == "__main__":
    main()
