"""A controller as most are: what changed is written into a haproxy.cfg, which is reloaded.

    KUBECONFIG=FILE python bench/reloader.py FOLDER [--ip IP] [--interval SECONDS]

Hears of Routes and their endpoints as the sidecar does, by its reflector and its store, so that
what differs is how HAProxy learns of them. Between two reloads is an interval at least, as
OpenShift's router has it (RELOAD_INTERVAL). Does just as much as bench/against.py asks for: Routes
by host, without paths, TLS and weights. Ended by SIGTERM.
"""

import argparse
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))

from static import Static

from sidecar.kube.client import KubeClient
from sidecar.model.change import Change, Problem
from sidecar.model.parsing import AnnotationKeys
from sidecar.routing.store import Store
from sidecar.sources.kubernetes.source import KubernetesSource, Scope


class Told:
    """A `Sink`: what there is, and whether it is another than before."""

    def __init__(self) -> None:
        self.changed = threading.Event()
        self.synced: set[str] = set()
        self._store = Store()
        self._lock = threading.Lock()

    def publish(self, origin: str, changes: Sequence[Change], _problems: Sequence[Problem]) -> None:
        with self._lock:
            dirty = self._store.apply(changes)
            self.synced.add(origin)
        # What a router says of a Route is no news.
        if any(key.kind != "RouteStatus" for key in dirty):
            self.changed.set()

    def routes(self) -> dict[str, Sequence[str]]:
        """Host -> IPs of the servers."""
        with self._lock:
            return {
                route.host: [
                    ip
                    for item in self._store.endpoint_sets(route.namespace, route.targets[0].name)
                    for group in item.groups
                    for endpoint in group.endpoints
                    for ip in endpoint.addresses
                ]
                for route in self._store.routes()
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for haproxy.cfg, the socket and the log")
    parser.add_argument("--ip", default="127.0.0.1", help="where to listen")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two reloads")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    keys = AnnotationKeys("example.com/router", "example.com/port", "example.com/kept")
    source = KubernetesSource(KubeClient.from_environment(None), keys, Scope())
    told, stop = Told(), threading.Event()
    following = threading.Thread(target=source.run, args=(told, stop), daemon=True)
    following.start()
    with contextlib.ExitStack() as ending, contextlib.suppress(KeyboardInterrupt):
        ending.callback(stop.set)
        while told.synced != set(source.origins):
            told.changed.wait(0.01)
            told.changed.clear()
        proxy = Static(args.folder, told.routes(), args.ip)
        ending.callback(proxy.close)
        proxy.asked_every_seconds = 0.05  # no more than a controller would
        loaded = time.monotonic()
        while True:
            told.changed.wait()
            time.sleep(max(0.0, loaded + args.interval - time.monotonic()))
            told.changed.clear()
            loaded = time.monotonic()
            proxy.routes = told.routes()
            proxy.load()


if __name__ == "__main__":
    main()
