"""The same changes in one cluster: by the sidecar, by a controller that reloads, and by others.

    tests/cluster/within python bench/against.py [--routes 1000] [--smoke] [--markdown]
        [--other 'NAME=COMMAND {folder} {port}' …] [--ingresses]

One after another, each alone, on one kube-apiserver with Routes of one endpoint each. While changes
come elsewhere, as they do in a cluster, a client asks for one host until only its new server
answers; the changes that it waits for come at random, so that they meet a reload at any moment of
its interval. What a change costs is measured without a client, and what an idle system takes in as
much time is taken off.

COMMAND is any other controller with all that it starts: KUBECONFIG names an admin's, ``{folder}``
is empty and its own, HTTP is to be served on ``{port}`` of 127.0.0.1. ``--ingresses`` creates an
Ingress just before each Route, for those that read no Routes: of a new one they hear some
milliseconds before the time begins. Needs what `bench/cluster.py` needs.
"""

import argparse
import contextlib
import itertools
import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests/cluster"))

from applications import NAMESPACE, Applications, control_plane, name_of
from asker import Asker, Followed
from figures import haproxy_version, machine, show
from plane import ControlPlane
from pod import Pod
from proc import Family, Usage
from stand import await_, service_manifest, slice_manifest
from static import LISTENER_PORT, WAIT_SECONDS, Servers, host_of

#: Where whatever is measured serves.
_ADDRESS = ("127.0.0.1", LISTENER_PORT)

#: The API server refuses endpoints on 127.0.0.0/8.
_SERVERS = tuple(f"198.18.7.{number}" for number in range(1, 21))

#: Nothing is going on any more once the CPU taken in this time is below that share.
_QUIET_SECONDS, _QUIET_SHARE = 2.0, 0.03


class System(NamedTuple):
    """``start`` starts it in a folder of its own, until the context is left; since when, it
    returns."""

    name: str
    start: Callable[[Path], contextlib.AbstractContextManager[float]]


class Figures(NamedTuple):
    """Of one system. ``replaced``: of each endpoint what its client saw, and when the write was
    answered; ``added``: seconds from each new Route's answer to the first 200; ``rate``: changes a
    second elsewhere meanwhile. ``cost``: CPU seconds a change, what is idle taken off."""

    start_seconds: float
    replaced: Sequence[tuple[Followed, float]]
    added: Sequence[float]
    rate: float
    cost: Usage
    memory_bytes: Usage


# -- systems -------------------------------------------------------------------------------------


def sidecar(plane: ControlPlane, backends: int) -> System:
    """Ours, as it is shipped but for the settings below, and those of `Pod`."""

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[float]:
        bind = f"{_ADDRESS[0]}:{_ADDRESS[1]}"
        pod = Pod(
            plane,
            folder / "pod",
            "router",
            listeners=[{"name": "http", "kind": "http", "bind": [bind]}],
            web={"backends": {"http": backends}},
            # So that the statuses of all Routes are written before anything is measured.
            kubernetes={"lease": {"name": "haproxy-sidecar"}, "writes_per_second": 1000},
        )
        with contextlib.closing(pod):
            begun = time.perf_counter()
            pod.start()
            yield begun

    return System("haproxy-sidecar", start)


def command(name: str, words: Sequence[str], environment: Mapping[str, str]) -> System:
    """Whatever such a command starts."""

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[float]:
        port = str(_ADDRESS[1])
        placed = [text.replace("{folder}", str(folder)).replace("{port}", port) for text in words]
        begun = time.perf_counter()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                placed, env={**os.environ, **environment}, stdout=log, stderr=log
            )
        try:
            yield begun
        except BaseException:
            print((folder / "log").read_text(errors="replace")[-3000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it is killed anyway
                process.wait(30)

    return System(name, start)


# -- the workload --------------------------------------------------------------------------------


class Elsewhere:
    """Changes of other Routes than those that are measured, so many a second at most, until it is
    left. ``count``: how many there were; ``rate``: a second, once it is left."""

    def __init__(self, cluster: Applications, numbers: Sequence[int], rate: float) -> None:
        self.count, self.rate = 0, rate
        self._cluster, self._numbers = cluster, numbers
        self._stop = threading.Event()
        self._failed: list[Exception] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failed:
            raise self._failed[0]

    def _run(self) -> None:
        began = time.monotonic()
        try:
            for number in itertools.cycle(self._numbers):
                if self._stop.wait(max(0.0, began + self.count / self.rate - time.monotonic())):
                    break
                self._cluster.replace(number)
                self.count += 1
        except Exception as exc:  # noqa: BLE001
            self._failed.append(exc)
        self.rate = self.count / (time.monotonic() - began)


def replaced(
    cluster: Applications, asker: Asker, numbers: Sequence[int], args: argparse.Namespace
) -> list[tuple[Followed, float]]:
    """`Figures.replaced`, one after another."""
    found = list[tuple[Followed, float]]()
    dice = random.Random(1)
    for _ in range(args.events):
        number = dice.choice(numbers)
        (new,) = cluster.next_ips(number)
        time.sleep(dice.uniform(0.0, max(args.intervals)))
        asker.follow(host_of(number), new, WAIT_SECONDS)
        cluster.replace(number)
        answered = time.perf_counter()
        found.append((asker.followed(), answered))
    return found


def added(cluster: Applications, asker: Asker, args: argparse.Namespace) -> list[float]:
    """`Figures.added`, one after another."""
    found, dice = list[float](), random.Random(2)
    for _ in range(args.events):
        number = len(cluster.generations)
        time.sleep(dice.uniform(0.0, max(args.intervals)))
        asker.expect(host_of(number), None, 1, WAIT_SECONDS)
        cluster.grow(number + 1)
        answered = time.perf_counter()
        found.append(asker.answered_at() - answered)
    return found


def await_quiet(family: Family) -> None:
    """Until the system is idle: it has written each Route's status, say."""

    def quiet() -> bool:
        before = sum(family.cpu_seconds())
        time.sleep(_QUIET_SECONDS)
        return sum(family.cpu_seconds()) - before < _QUIET_SHARE * _QUIET_SECONDS

    await_(quiet, "the system is idle", 300)


def cost_of_a_change(
    family: Family, cluster: Applications, numbers: Sequence[int], args: argparse.Namespace
) -> Usage:
    """`Figures.cost`."""
    await_quiet(family)
    idle, idle_seconds = _taken(family, lambda: time.sleep(args.seconds))

    def changed() -> None:
        with changes:
            time.sleep(args.seconds)
        await_quiet(family)

    changes = Elsewhere(cluster, numbers, args.rate)
    taken, seconds = _taken(family, changed)
    return taken.less(idle.times(seconds / idle_seconds)).times(1 / changes.count)


def _taken(family: Family, action: Callable[[], object]) -> tuple[Usage, float]:
    """CPU seconds while ``action`` lasts, and how long that is."""
    before, began = family.cpu_seconds(), time.perf_counter()
    action()
    return family.cpu_seconds().less(before), time.perf_counter() - began


def measure(
    system: System, cluster: Applications, asker: Asker, folder: Path, args: argparse.Namespace
) -> Figures:
    print(f"bench: {system.name}", file=sys.stderr)
    hosts = list(map(host_of, cluster.generations))
    # Routes that are measured, and others that change meanwhile.
    half = args.routes // 2
    measured, others = range(half), range(half, args.routes)
    folder.mkdir()
    family = Family()
    try:
        with system.start(folder) as begun:
            served = 0

            def all_served() -> bool:
                nonlocal served
                served += asker.served(hosts[served:])
                return served == len(hosts)

            await_(all_served, f"{system.name} serves all hosts", 120)
            start_seconds = time.perf_counter() - begun
            await_quiet(family)
            elsewhere = Elsewhere(cluster, others, args.rate)
            with elsewhere:
                seen = replaced(cluster, asker, measured, args)
                new = added(cluster, asker, args)
            cluster.shrink(args.routes)
            cost = cost_of_a_change(family, cluster, others, args)
            memory = family.memory_bytes()
            return Figures(start_seconds, seen, new, elsewhere.rate, cost, memory)
    finally:
        family.kill()


# -- figures -------------------------------------------------------------------------------------


def _typical_and_most(values: Sequence[float]) -> str:
    return f"{statistics.median(values) * 1000:,.1f} / {max(values) * 1000:,.1f} ms"


def _first_answers(figures: Figures) -> str:
    seconds = [followed.first_new - answered for followed, answered in figures.replaced]
    return _typical_and_most(seconds)


def _last_answers(figures: Figures) -> str:
    # One whose last answer came before the write's did is as good as one at that moment.
    seconds = [max(0.0, seen.last_old - answered) for seen, answered in figures.replaced]
    return _typical_and_most(seconds)


def _failed(figures: Figures) -> str:
    asked = sum(seen.asked for seen, _ in figures.replaced)
    return f"{sum(seen.failed for seen, _ in figures.replaced):,} of {asked:,}"


def _costs(figures: Figures) -> str:
    return " / ".join(f"{seconds * 1000:,.1f}" for seconds in figures.cost) + " ms"


def _memory(figures: Figures) -> str:
    return " / ".join(f"{size / 1e6:,.0f}" for size in figures.memory_bytes) + " MB"


#: What is shown: label, and what of the figures.
ROWS: Sequence[tuple[str, Callable[[Figures], str]]] = (
    ("endpoint replaced → first answer of the new one, median / most", _first_answers),
    ("… last answer of the old one, median / most", _last_answers),
    ("… requests that failed", _failed),
    ("new Route → first 200, median / most", lambda figures: _typical_and_most(figures.added)),
    ("changes a second elsewhere meanwhile", lambda figures: f"{figures.rate:.1f}"),
    ("CPU of a change at that rate, controller / HAProxy", _costs),
    ("start → all served", lambda figures: f"{figures.start_seconds:.2f} s"),
    ("memory (PSS), controller / HAProxy", _memory),
)


def manifests(number: int, ips: Sequence[str], *, ingresses: bool) -> Sequence[Mapping[str, Any]]:
    """In the order in which they are created: the Route comes last."""
    name, host = name_of(number), host_of(number)
    service = {"service": {"name": name, "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": service}
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {"rules": [{"host": host, "http": {"paths": [path]}}]},
    }
    route = {
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": {"name": name},
        "spec": {"host": host, "to": {"kind": "Service", "name": name}},
    }
    return (
        service_manifest(name, namespace=NAMESPACE),
        slice_manifest(name, ips, namespace=NAMESPACE),
        *([ingress] * ingresses),
        route,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--routes", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=5.0, help="changes a second elsewhere")
    parser.add_argument("--events", type=int, default=25, help="endpoints, and new Routes")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="for CPU, idle and with changes"
    )
    parser.add_argument("--intervals", type=float, nargs="+", default=[1.0, 5.0], help="of reloads")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--ingresses", action="store_true", help="an Ingress beside each Route")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    if args.smoke:
        args.routes, args.rate, args.events, args.seconds = 4, 10.0, 2, 1.0
        args.intervals = [0.5]
    others = [text.partition("=") for text in args.other]
    if unnamed := [text for text, _, words in others if not words]:
        raise SystemExit(f"--other {unnamed[0]}: must be NAME=COMMAND")
    where = machine()
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        (folder / "plane").mkdir()
        plane = ending.enter_context(control_plane(folder / "plane"))
        ending.enter_context(contextlib.closing(Servers(folder, _SERVERS)))
        asker = ending.enter_context(contextlib.closing(Asker(_ADDRESS)))
        cluster = Applications(
            plane,
            lambda number, ips: manifests(number, ips, ingresses=args.ingresses),
            lambda number, generation: [_SERVERS[(number + generation) % len(_SERVERS)]],
        )
        cluster.grow(args.routes)
        environment = {"KUBECONFIG": str(plane.folder / "admin.kubeconfig")}
        reloader = [sys.executable, str(Path(__file__).parent / "reloader.py"), "{folder}"]
        systems = [
            sidecar(plane, args.routes + args.events),
            *(
                command(
                    f"reloads, {interval:g} s apart",
                    [*reloader, f"--interval={interval:g}"],
                    environment,
                )
                for interval in args.intervals
            ),
            *(command(name, shlex.split(words), environment) for name, _, words in others),
        ]
        found = [
            measure(system, cluster, asker, folder / str(number), args)
            for number, system in enumerate(systems)
        ]
        server = plane.version()
    show(
        f"Kubernetes {server}, HAProxy {haproxy_version()}; {where}; {args.routes:,} Routes,"
        f" {args.events} endpoints replaced and {args.events} Routes added",
        ["", *(system.name for system in systems)],
        [[label, *(form(figures) for figures in found)] for label, form in ROWS],
        markdown=args.markdown,
    )


if __name__ == "__main__":
    main()
