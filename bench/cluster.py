"""From a write that a real API server accepted to HAProxy read back, as the number of Routes grows.

    tests/cluster/within python bench/cluster.py [--routes 1 100 1000] [--smoke] [--markdown]

Runs etcd, kube-apiserver and one pod of the router as tests/cluster does, and writes EndpointSlices
as a controller would. Needs CLUSTER_BINARIES and the network that `tests/cluster/within` makes. The
API server, the router and this bench share the machine.
"""

import argparse
import contextlib
import itertools
import json
import random
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests/cluster"))

from applications import NAMESPACE, SLICES, Applications, control_plane, name_of
from figures import haproxy_version, machine, percentile, show
from flame import recorded
from plane import ControlPlane
from pod import Pod
from probe import ips_of
from proc import cpu_while, resident_bytes
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import track
from stand import app, await_

from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.naming import backend_name
from sidecar.haproxy.process import answering
from sidecar.haproxy.state import parse_servers_state
from sidecar.kube.client import KubeClient

FIRST_PORT = 20000

#: What anything may take on a busy machine.
PATIENCE_SECONDS = 300.0

#: From event to event: longer than a port rests that was just changed.
_PAUSE_SECONDS = 0.05

#: The sidecar has told all that it has to tell when it wrote nothing for so long.
_QUIET_SECONDS = 3.0


class Hearing:
    """A bare watch of the EndpointSlices. ``at``: version -> when it was heard of."""

    def __init__(self, plane: ControlPlane) -> None:
        self.at: dict[str, float] = {}
        self._client = KubeClient.from_environment(plane.folder / "admin.kubeconfig")
        version = self._client.request("GET", SLICES)["metadata"]["resourceVersion"]
        self._thread = threading.Thread(target=self._run, args=[version], daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._client.close()
        self._thread.join()

    def _run(self, version: str) -> None:
        query = {"watch": "true", "resourceVersion": version}
        with self._client.stream(
            SLICES, query=query, read_timeout_seconds=PATIENCE_SECONDS
        ) as lines:
            for line in lines:
                now = time.perf_counter()
                self.at[json.loads(line)["object"]["metadata"]["resourceVersion"]] = now


class Load(NamedTuple):
    """What both processes took over some time: CPU seconds a second, the sidecar's bytes."""

    sidecar_cpu: float
    haproxy_cpu: float
    sidecar_bytes: int


class Figures(NamedTuple):
    """Of one number of Routes. ``sent``, ``answered``: seconds from the write sent, and from its
    answer, until HAProxy shows it; ``heard``: from sent until a bare watch heard of it. ``rate``:
    events a second that there were under load."""

    sent: Sequence[float]
    answered: Sequence[float]
    heard: Sequence[float]
    start_seconds: float
    restart_seconds: float
    idle: Load
    busy: Load
    rate: float


def events(
    cluster: Applications, pod: Pod, hearing: Hearing, count: int
) -> tuple[list[float], list[float], list[float]]:
    """`Figures.sent`, ``answered`` and ``heard`` of so many events, one after another."""
    sent, answered, heard = [], [], []
    ports = list(cluster.generations)
    dice = random.Random(1)
    with RuntimeClient(pod.settings.haproxy.socket, timeout_seconds=10) as haproxy:
        for _ in range(count):
            time.sleep(_PAUSE_SECONDS)
            port = dice.choice(ports)
            start = time.perf_counter()
            ips, version = cluster.replace(port)
            answer = time.perf_counter()
            await_(
                lambda port=port, ips=ips: shown(haproxy, port) == set(ips),
                f"port {port} has {ips}",
                PATIENCE_SECONDS,
                every_seconds=0.0005,
            )
            shown_at = time.perf_counter()
            await_(lambda version=version: version in hearing.at, "the watch hears of it")
            sent.append(shown_at - start)
            answered.append(shown_at - answer)
            heard.append(hearing.at[version] - start)
    return sent, answered, heard


def shown(haproxy: RuntimeClient, port: int) -> set[str]:
    """The IPs of the servers that take connections there, as HAProxy has it."""
    table = haproxy.ask(f"show servers state {backend_name(port)}")
    servers = parse_servers_state(table)[backend_name(port)].values()
    return {server.address.ip for server in servers if server.state == "ready"}


def started(pod: Pod) -> float:
    """Start the sidecar; seconds until it is ready."""
    start = time.perf_counter()
    pod.start_sidecar()
    pod.await_ready(PATIENCE_SECONDS)
    return time.perf_counter() - start


def await_quiet(pod: Pod) -> None:
    """Until the sidecar writes to the API server, and has written all."""
    last, since = -1.0, 0.0

    def quiet() -> bool:
        nonlocal last, since
        found = metrics(pod)
        writes = found.get("haproxy_sidecar_api_writes_total", 0.0)
        if writes != last or not found["haproxy_sidecar_leader"]:
            last, since = writes, time.monotonic()
        return time.monotonic() - since > _QUIET_SECONDS

    await_(quiet, "the sidecar has written all", PATIENCE_SECONDS, every_seconds=0.5)


def metrics(pod: Pod) -> dict[str, float]:
    """What the sidecar counts; all labels of a metric together."""
    with urllib.request.urlopen(f"http://{pod.settings.http.listen}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def load_while(pod: Pod, haproxy_pid: int, action: Callable[[], object]) -> Load:
    sidecar, haproxy = cpu_while(action, pod.sidecar_pid, haproxy_pid)
    return Load(sidecar, haproxy, resident_bytes(pod.sidecar_pid))


def write_steadily(cluster: Applications, rate: float, seconds: float) -> float:
    """As many as can be written, and ``rate`` a second at most; how many a second there were."""
    shuffled = random.Random(2).sample(list(cluster.generations), len(cluster.generations))
    ports = itertools.cycle(shuffled)
    start, count = time.perf_counter(), 0
    while (now := time.perf_counter() - start) < seconds:
        if now < count / rate:
            time.sleep(count / rate - now)
        cluster.replace(next(ports))
        count += 1
    return count / (time.perf_counter() - start)


def measure(
    plane: ControlPlane, cluster: Applications, count: int, args: argparse.Namespace
) -> Figures:
    cluster.grow(count)
    pool = {
        "name": "bench",
        "ports": [f"{FIRST_PORT}-{FIRST_PORT + max(args.routes) - 1}"],
        "bind": ["0.0.0.0"],
        "slots": args.endpoints + 2,
    }
    pod = Pod(
        plane,
        plane.folder / f"pod-{count}",
        f"router-{count}",
        pools=[pool],
        kubernetes={"lease": {"name": "haproxy-sidecar"}, "writes_per_second": 1000},
    )
    with contextlib.closing(pod), contextlib.closing(Hearing(plane)) as hearing:
        pod.render()
        pod.start_haproxy()
        haproxy = await_(lambda: answering(pod.settings.haproxy.socket), "HAProxy answers", 60)
        start_seconds = started(pod)
        await_quiet(pod)
        found = events(cluster, pod, hearing, args.events)
        await_quiet(pod)
        idle = load_while(pod, haproxy.pid, lambda: time.sleep(args.seconds))
        rates: list[float] = []
        busy = load_while(
            pod,
            haproxy.pid,
            lambda: rates.append(write_steadily(cluster, args.rate, args.seconds)),
        )
        if args.flame and count == max(args.routes):
            with recorded(pod.sidecar_pid, args.flame):
                write_steadily(cluster, args.rate, args.seconds)
        pod.await_ready(PATIENCE_SECONDS)
        pod.kill_sidecar()
        restart_seconds = started(pod)
        return Figures(*found, start_seconds, restart_seconds, idle, busy, rates[0])


def _ms(values: Sequence[float], percent: float) -> str:
    return f"{percentile(values, percent) * 1000:,.1f} ms"


def _percentiles(values: Sequence[float]) -> str:
    return f"{_ms(values, 50)} / {_ms(values, 99)}"


def _cpu(load: Load) -> str:
    return f"{load.sidecar_cpu:.1%} / {load.haproxy_cpu:.1%}"


#: What is shown: label, and what of the figures.
ROWS: Sequence[tuple[str, Callable[[Figures], str]]] = (
    ("write sent → HAProxy shows it, p50 / p99", lambda f: _percentiles(f.sent)),
    ("write answered → HAProxy shows it, p50 / p99", lambda f: _percentiles(f.answered)),
    ("write sent → a bare watch hears of it, p50 / p99", lambda f: _percentiles(f.heard)),
    ("sidecar's start to ready: list, restore all", lambda f: f"{f.start_seconds:.2f} s"),
    ("sidecar's start to ready: list, nothing to do", lambda f: f"{f.restart_seconds:.2f} s"),
    ("sidecar's memory (RSS), idle", lambda f: f"{f.idle.sidecar_bytes / 1e6:.0f} MB"),
    ("CPU of a core, idle, sidecar / HAProxy", lambda f: _cpu(f.idle)),
    ("events a second under load", lambda f: f"{f.rate:.0f}"),
    ("sidecar's memory (RSS) then", lambda f: f"{f.busy.sidecar_bytes / 1e6:.0f} MB"),
    ("CPU of a core then, sidecar / HAProxy", lambda f: _cpu(f.busy)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--routes", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--endpoints", type=int, default=10, help="of each Route")
    parser.add_argument("--events", type=int, default=200, help="one after another")
    parser.add_argument("--rate", type=float, default=100.0, help="events a second under load")
    parser.add_argument("--seconds", type=float, default=30.0, help="idle, and under load")
    parser.add_argument(
        "--flame",
        type=Path,
        metavar="FILE.svg",
        help="draw what the sidecar does with as many events once more, of the most Routes",
    )
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    if args.smoke:
        args.routes, args.endpoints, args.events = [1, 3], 3, 5
        args.rate, args.seconds = 20.0, 1.0
    where = machine()
    args.routes.sort()
    with tempfile.TemporaryDirectory() as folder, control_plane(Path(folder)) as plane:
        cluster = Applications(
            plane,
            lambda port, ips: app(name_of(port), port, ips, namespace=NAMESPACE),
            lambda port, generation: ips_of(port, args.endpoints, generation),
            FIRST_PORT,
        )
        found = [
            measure(plane, cluster, count, args)
            for count in track(args.routes, "Routes", console=Console(stderr=True))
        ]
        server = plane.version()
    show(
        f"Kubernetes {server}, HAProxy {haproxy_version()}; {where}; {args.endpoints} endpoints a"
        f" Route, {args.events} events, idle and under load for {args.seconds:g} s each",
        ["Routes", *(f"{count:,}" for count in args.routes)],
        [[label, *(form(figures) for figures in found)] for label, form in ROWS],
        markdown=args.markdown,
    )


if __name__ == "__main__":
    main()
