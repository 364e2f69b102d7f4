"""What the sidecar costs as a process: from its start to ready, its memory, and both idle CPUs.

    python bench/process.py [--seconds 60] [--smoke] [--markdown]

For each size it starts a real HAProxy (HAPROXY=path chooses it) on a loopback address, and
`haproxy-sidecar run` as it is shipped, on a folder of manifests. It is started twice: HAProxy is
empty the first time, and as desired the second.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))

from figures import haproxy_version, machine, show
from probe import ips_of
from proc import cpu_while, resident_bytes
from rich.console import Console
from rich.progress import track
from stand import Stand, app, await_, worker_of

FIRST_PORT = 20000

#: Routes of a manifest file: thousands of files, and thousands in one, are both unusual.
_ROUTES_PER_FILE = 100

#: After these things that are only done at the start are done.
_SETTLE_SECONDS = 5.0

#: What a start may take on a busy machine.
_START_SECONDS = 120.0


class Size(NamedTuple):
    """A pool of ``ports``, each claimed by a Route with ``endpoints``; 0 means no Routes."""

    ports: int
    endpoints: int

    def __str__(self) -> str:
        each = f" x {self.endpoints}" if self.endpoints else ", no Routes"
        return f"{self.ports:,}{each}"


class Figures(NamedTuple):
    """Of one size. ``start_seconds``: until ready, HAProxy being empty; ``restart_seconds``: being
    as desired. The CPUs: seconds a second."""

    start_seconds: float
    restart_seconds: float
    idle_bytes: int
    most_bytes: int
    sidecar_cpu: float
    haproxy_cpu: float


def write_manifests(stand: Stand, size: Size) -> None:
    ports = range(FIRST_PORT, FIRST_PORT + size.ports if size.endpoints else FIRST_PORT)
    for first in range(0, len(ports), _ROUTES_PER_FILE):
        items = [
            item
            for port in ports[first : first + _ROUTES_PER_FILE]
            for item in app(f"web-{port}", port, ips_of(port, size.endpoints))
        ]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        (stand.manifests / f"{first}.json").write_text(text)


@contextlib.contextmanager
def sidecar(stand: Stand) -> Iterator[tuple[int, float]]:
    """Its PID, and the seconds until it was ready; it is killed at the end."""
    with (stand.folder / "sidecar.log").open("ab") as log:
        start = time.perf_counter()
        command = [sys.executable, "-m", "sidecar", "run", "-c", str(stand.settings_file)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            await_(
                lambda: process.poll() is not None or is_ready(stand.settings.http.listen),
                "the sidecar is ready",
                _START_SECONDS,
                every_seconds=0.01,
            )
            if process.returncode is not None:
                raise SystemExit((stand.folder / "sidecar.log").read_text()[-2000:])
            seconds = time.perf_counter() - start
            yield worker_of(process.pid), seconds
        finally:
            process.kill()
            process.wait()


def is_ready(listen: str | None) -> bool:
    """Whether /readyz at that ``host:port`` says that all is as desired."""
    try:
        with urllib.request.urlopen(f"http://{listen}/readyz", timeout=10) as answer:
            return bool(answer.read() == b"ok\n")
    except (OSError, urllib.error.HTTPError):
        return False


def measure(size: Size, seconds: float, settle_seconds: float) -> Figures:
    pool = {
        "ports": [f"{FIRST_PORT}-{FIRST_PORT + size.ports - 1}"],
        "slots": (size.endpoints or 10) + 2,
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(Stand(Path(folder), [pool])) as stand,
    ):
        haproxy = stand.start().info().pid
        write_manifests(stand, size)
        with sidecar(stand) as (_, start_seconds):
            pass
        with sidecar(stand) as (pid, restart_seconds):
            time.sleep(settle_seconds)
            own, its = cpu_while(lambda: time.sleep(seconds), pid, haproxy)
            return Figures(
                start_seconds,
                restart_seconds,
                resident_bytes(pid),
                resident_bytes(pid, "VmHWM"),
                own,
                its,
            )


#: What is shown: label, and what of the figures.
ROWS: Sequence[tuple[str, Callable[[Figures], str]]] = (
    ("start to ready, everything to be programmed", lambda f: f"{f.start_seconds:.2f} s"),
    ("start to ready, nothing changed", lambda f: f"{f.restart_seconds:.2f} s"),
    ("memory (RSS), idle", lambda f: f"{f.idle_bytes / 1e6:.0f} MB"),
    ("… most", lambda f: f"{f.most_bytes / 1e6:.0f} MB"),
    ("idle CPU of the sidecar", lambda f: f"{f.sidecar_cpu:.2%} of a core"),
    ("idle CPU of HAProxy", lambda f: f"{f.haproxy_cpu:.2%} of a core"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of idling; two full compares")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    sizes, settle_seconds = [Size(1000, 0), Size(1000, 10), Size(4000, 10)], _SETTLE_SECONDS
    if args.smoke:
        sizes, settle_seconds, args.seconds = [Size(4, 0), Size(4, 3)], 0.0, 0.5
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end what was started, too
    # Python finds our packages as we did, wherever this is called from.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    where = machine()
    found = [
        measure(size, args.seconds, settle_seconds)
        for size in track(sizes, "sizes", console=Console(stderr=True))
    ]
    show(
        f"HAProxy {haproxy_version()}; {where}; source directory, idle for {args.seconds:g} s",
        [
            "ports x endpoints",
            *map(str, sizes),
        ],
        [[label, *(form(figures) for figures in found)] for label, form in ROWS],
        markdown=args.markdown,
    )


if __name__ == "__main__":
    main()
