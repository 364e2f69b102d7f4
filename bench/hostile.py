"""Does one bad Route slow down the others? Their changes' time to effect, quiet and under attack.

    python bench/hostile.py [--seconds 10] [--ports 100] [--repeats 3] [--smoke] [--markdown]

A real HAProxy and the daemon; while one namespace misbehaves, the endpoints of the other ports
change ``--rate`` times a second. Measured is each such change, from published until HAProxy was
read back and shows it. Each attack has a HAProxy and a sidecar of its own, with the same changes.

What is published was made before, and is only handed over while others are measured: to make it is
the attacker's cost. The handing over itself is not: it shares the interpreter, as a source does;
"published to nobody" shows what it comes to.
"""

import argparse
import contextlib
import itertools
import logging
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))

from figures import haproxy_version, machine, percentile, show, spread, wait_until_idle
from probe import Effects, Feed
from rich.console import Console
from rich.progress import track
from stand import Stand, await_, changes, route, running, service, slice_

from sidecar.common.logs import set_up_logging
from sidecar.control.reconciler import Claims, Reconciler
from sidecar.model.change import Change
from sidecar.model.objects import Key
from sidecar.sources.inbox import Inbox

FIRST_PORT = 20000
SERVER_PORT = 9000
ENDPOINTS = 4

#: How long what was published may take to show, however slow an attack makes it.
SETTLE_SECONDS = 120.0


class Attack(NamedTuple):
    """``first``: what there is before; ``rate`` times a second then the next of ``batches``.

    ``to_nobody``: the sidecar is not told of them.
    """

    first: Sequence[Change]
    batches: Iterator[Sequence[Change]]
    rate: float
    to_nobody: bool = False


def quiet(_port: int, _scale: float) -> Attack:
    return Attack((), iter(()), 1.0)


def crowd(port: int, scale: float) -> Attack:
    """Thousands of Routes claim one port; always the oldest goes and one comes that is older
    than all before, and ten others are replaced."""
    count = int(5000 * scale)
    ages = itertools.count(10.0**9, -1.0)
    names = itertools.count()

    def one() -> Change:
        made = route(f"r{next(names)}", port, "app", namespace="bad", created_seconds=next(ages))
        return Change(made.key, made)

    routes = [one() for _ in range(count)]
    first = [*changes(service("app", namespace="bad")), *_slice(["10.255.0.1"]), *routes]

    def batches() -> Iterator[Sequence[Change]]:
        dice = random.Random(2)
        while True:
            gone = [routes.pop(), *(routes.pop(dice.randrange(len(routes))) for _ in range(10))]
            come = [one() for _ in gone]
            routes.extend(come)
            yield [*(Change(item.key, None) for item in gone), *come]

    return Attack(first, batches(), 50.0)


def flap(port: int, scale: float) -> Attack:
    """One endpoint comes and goes."""
    both = itertools.cycle([_slice(["10.255.0.1"]), _slice(["10.255.0.1", "10.255.0.2"])])
    return Attack([*_bad_route(port), *next(both)], both, 5000 * scale)


def giant(port: int, scale: float) -> Attack:
    """A Service with thousands of endpoints, in slices of 100 as Kubernetes cuts them; one of
    them is replaced each time."""
    count = int(50 * scale)
    ips = [[f"10.254.{number}.{host}" for host in range(1, 101)] for number in range(count)]
    first = [change for number in range(count) for change in _slice(ips[number], number)]

    def batches() -> Iterator[Sequence[Change]]:
        for number in itertools.count():
            chosen, generation = number % count, number // count
            others = ips[chosen][1:]
            yield _slice([f"10.253.{chosen}.{1 + generation % 200}", *others], chosen)

    return Attack([*_bad_route(port), *first], batches(), 20.0)


def recreated(port: int, scale: float) -> Attack:
    """A Route is created and deleted."""
    key = Key("Route", "bad", "app")
    both = itertools.cycle([[Change(key, None)], _bad_route(port)[:1]])
    return Attack([*_bad_route(port), *_slice(["10.255.0.1"])], both, 500 * scale)


def autos(_port: int, scale: float) -> Attack:
    """Thousands of Routes want any port, far more than there are; ten are replaced each time."""
    names = itertools.count()

    def one() -> Change:
        made = route(f"r{next(names)}", "auto", "app", namespace="bad")
        return Change(made.key, made)

    routes = [one() for _ in range(int(5000 * scale))]
    first = [*changes(service("app", namespace="bad")), *_slice(["10.255.0.1"]), *routes]

    def batches() -> Iterator[Sequence[Change]]:
        while True:
            gone, come = routes[:10], [one() for _ in range(10)]
            routes[:] = routes[10:] + come
            yield [*(Change(item.key, None) for item in gone), *come]

    return Attack(first, batches(), 50.0)


def nobody(port: int, scale: float) -> Attack:
    """As `flap`, but for a router that does not exist."""
    return flap(port, scale)._replace(to_nobody=True)


ATTACKS: dict[str, tuple[str, Callable[[int, float], Attack]]] = {
    "quiet": ("", quiet),
    "crowd": ("5,000 Routes on one port, owner replaced 50/s", crowd),
    "flap": ("one Route's endpoints flap 5,000/s", flap),
    "nobody": ("as many, published to nobody", nobody),
    "giant": ("Service of 5,000 endpoints changes 20/s", giant),
    "recreated": ("a Route created and deleted 500/s", recreated),
    "autos": ("5,000 auto Routes, 10 replaced 50/s", autos),
    "quiet again": ("", quiet),
}


def _slice(ips: Sequence[str], number: int = 1) -> list[Change]:
    return changes(slice_("app", ips, name=f"app-{number}", namespace="bad"))


def _bad_route(port: int) -> list[Change]:
    return changes(route("app", port, namespace="bad"), service("app", namespace="bad"))


class Others:
    """The ports that must not notice: each has a Route, and one endpoint that is replaced."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._generation = dict.fromkeys(ports, 0)
        self.first = [
            change
            for port in ports
            for change in changes(
                route(f"r{port}", port),
                service(f"r{port}"),
                slice_(f"r{port}", self._ips(port)),
            )
        ]
        shuffled = random.Random(1).sample(ports, len(ports))
        self._next = itertools.cycle(shuffled)

    def change(self) -> tuple[int, Sequence[str]]:
        port = next(self._next)
        self._generation[port] += 1
        return port, self._ips(port)

    def _ips(self, port: int) -> Sequence[str]:
        where = f"10.{port % 200}.{port // 200}"
        new = ENDPOINTS + self._generation[port] % 200
        return [*(f"{where}.{number}" for number in range(1, ENDPOINTS)), f"{where}.{new}"]


class Figures(NamedTuple):
    """``published``: batches of the attack a second, as far as they could be published.
    ``turns``: CPU seconds of each turn of the sidecar's loop, which others may have to wait for;
    unlike ``seconds``, they hardly depend on how busy the machine is.
    """

    seconds: Sequence[float]
    turns: Sequence[float]
    published: float


def measure(folder: Path, name: str, args: argparse.Namespace) -> Figures:
    ports = range(FIRST_PORT, FIRST_PORT + args.ports)
    pool = {"ports": [f"{ports[0]}-{ports[-1] + 1}"], "slots": ENDPOINTS + 4}
    others, attack = Others(ports), ATTACKS[name][1](ports[-1] + 1, args.scale)
    # It goes on until all changes of the others show.
    batches = list(itertools.islice(attack.batches, int(2 * attack.rate * args.seconds)))
    effects = Effects(SERVER_PORT)
    with contextlib.closing(Stand(folder, [pool])) as stand:
        stand.start()
        feed = Feed([*others.first, *attack.first])
        daemon = stand.daemon(feed)
        daemon.reconciler.known.observed = effects
        with running(daemon):
            await_(lambda: not daemon.ready(), "the sidecar has converged", SETTLE_SECONDS)
            turns = _turns(daemon.reconciler)
            stop, published = threading.Event(), [0]
            push = _Nobody().push if attack.to_nobody else feed.push
            attacker = threading.Thread(
                target=_publish, args=(push, batches, attack.rate, stop, published)
            )
            attacker.start()
            start = time.monotonic()
            for number in range(int(args.rate * args.seconds)):
                time.sleep(max(0.0, start + number / args.rate - time.monotonic()))
                port, ips = others.change()
                effects.expect(port, ips)
                feed.push(changes(slice_(f"r{port}", ips)))
            took = time.monotonic() - start
            try:
                await_(lambda: not effects.waiting, "all changes show", SETTLE_SECONDS)
            finally:
                stop.set()
                attacker.join()
    return Figures(effects.seconds, turns, published[0] / took)


def _turns(reconciler: Reconciler) -> Sequence[float]:
    """The CPU seconds of the loop from one step to the next, from now on."""
    found: list[float] = []
    last: list[float] = []
    step = reconciler.step

    def timed(claims: Claims | None) -> float:
        now = time.thread_time()
        found.extend(now - before for before in last)
        last[:] = [now]
        return step(claims)

    reconciler.step = timed  # type: ignore[method-assign]  # for the bench's own eyes
    return found


class _Nobody:
    """Takes what is published as the sidecar does, and looks at none of it."""

    def __init__(self) -> None:
        self._inbox = Inbox((), lambda: None)

    def push(self, batch: Sequence[Change]) -> None:
        self._inbox.publish("feed", batch, ())


def _publish(
    push: Callable[[Sequence[Change]], None],
    batches: Sequence[Sequence[Change]],
    rate: float,
    stop: threading.Event,
    published: list[int],
) -> None:
    """Keep the attack's rate, or what of it can be published."""
    start = time.monotonic()
    for batch in batches:
        if stop.wait(max(0.0, start + published[0] / rate - time.monotonic())):
            return
        push(batch)
        published[0] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each attack")
    parser.add_argument("--ports", type=int, default=100, help="that must not notice")
    parser.add_argument("--rate", type=float, default=40.0, help="their changes a second")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the attacks")
    parser.add_argument("--only", nargs="*", choices=list(ATTACKS), help="instead of all")
    parser.add_argument("--repeats", type=int, default=1, help="runs; the median is shown")
    parser.add_argument("--wait", type=float, default=0.0, help="s, for an idle machine, each run")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    if args.smoke:
        args.seconds, args.ports, args.scale, args.repeats = 1.0, 20, 0.1, 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end what was started, too
    where = machine()
    names = [name for name in ATTACKS if name == "quiet" or name in (args.only or ATTACKS)]
    found: dict[str, list[Figures]] = {name: [] for name in names}
    todo = [name for _ in range(args.repeats) for name in names]
    for name in track(todo, "attacks", console=Console(stderr=True)):
        wait_until_idle(args.wait)
        with tempfile.TemporaryDirectory() as folder, _logging_to(Path(folder) / "log"):
            found[name].append(measure(Path(folder), name, args))

    def row(name: str) -> list[str]:
        runs = found[name]
        values = [[percentile(item.seconds, percent) for item in runs] for percent in (50, 99, 100)]
        ratios = [
            [
                percentile(mine.seconds, percent) / percentile(theirs.seconds, percent)
                for mine, theirs in zip(runs, found["quiet"], strict=True)
            ]
            for percent in (50, 99)
        ]
        turns = [percentile(item.turns, 99) for item in runs]
        published = [item.published for item in runs]
        return [
            ATTACKS[name][0] or name,
            *(spread(each, lambda value: f"{1000 * value:,.1f} ms") for each in values),
            *(spread(each, lambda value: f"{value:.1f}") for each in ratios),
            spread(turns, lambda value: f"{1000 * value:,.1f} ms"),
            spread(published, lambda value: f"{value:,.0f}") if ATTACKS[name][0] else "",
        ]

    against = ("median / quiet", "p99 / quiet")
    show(
        f"HAProxy {haproxy_version()}; {where}; {args.ports} other ports with {args.rate:g}"
        f" changes/s for {args.seconds:g} s; median of {args.repeats} (least … most)"
        + (f"; attacks of {args.scale:g} the size" if args.scale != 1 else ""),
        [
            "others' change to effect",
            "median",
            "p99",
            "longest",
            *against,
            "CPU a turn, p99",
            "attacks/s",
        ],
        [row(name) for name in names],
        markdown=args.markdown,
    )


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Log as the sidecar does, to a file: an attack that makes it talk is not let off that."""
    with path.open("w") as file, contextlib.redirect_stderr(file):
        set_up_logging("json", "info")
        try:
            yield
        finally:
            logging.basicConfig(level="CRITICAL", handlers=[logging.NullHandler()], force=True)


if __name__ == "__main__":
    main()
