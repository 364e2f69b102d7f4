"""Do programs that others wrote notice that Routes change? wrk over HTTP/1.1, h2load over HTTP/2.

    python bench/real_clients.py [--seconds 600] [--rate 5] [--smoke] [--markdown]

A daemon drives a real HAProxy (HAPROXY=path chooses it); another one is all servers. Both clients
run all the time, on connections that they keep. Meanwhile endpoints are replaced, certificates
renewed, and Routes come and go. Any answer but 200, and any connection that breaks, has failed.
"""

import argparse
import contextlib
import dataclasses
import itertools
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))

from figures import haproxy_version, machine, show
from pki import CA
from probe import Feed
from rich.console import Console
from rich.progress import track
from stand import Stand, await_, changes, fresh_ip, route, running, service, slice_
from static import WAIT_SECONDS, Servers, fresh_ips, host_of
from ways import SERVER_PORT

from sidecar.common.secret_text import SecretText
from sidecar.model.change import Change
from sidecar.model.objects import RouteTLS

ROUTES, ENDPOINTS = 20, 4

_HTTP, _TLS = 8081, 8443

#: Of h2load: how many, and requests a second on each.
_H2_CONNECTIONS, _H2_RATE = 10, 50

#: Each request of wrk is for the next host. Each of its connections waits 10 ms between two: what
#: is asked is whether any fails, and a busy machine would be the only reason.
_SCRIPT = """
local number = 0
request = function()
    number = (number + 1) % {routes}
    return wrk.format("GET", "/", {{["Host"] = "r" .. number .. ".apps.example"}})
end
delay = function()
    return 10
end
"""


class Figures(NamedTuple):
    """Of one client."""

    requests: int
    failed: int


class World:
    """The Routes, each served in clear and over TLS."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._root = CA.root()
        self._generations = [0] * ROUTES
        self._dice = random.Random(1)
        self._further = itertools.count()
        self._came: list[Change] = []
        self.first = [change for number in range(ROUTES) for change in self._route(number)]

    def change(self) -> Sequence[Change]:
        """The next one: mostly an endpoint, as in a cluster."""
        number = self._dice.randrange(ROUTES)
        match self._dice.randrange(10):
            case 0:
                return self._route(number)[:1]  # with another certificate
            case 1 if self._came:
                gone, self._came = self._came, []
                return [Change(item.key, None) for item in gone]
            case 1:
                self._came = self._route(ROUTES + next(self._further))
                return self._came
            case _:
                self._generations[number] += 1
                return self._slice(number, self._generations[number])

    def _route(self, number: int) -> list[Change]:
        issued = self._root.leaf(host_of(number))
        tls = RouteTLS(
            "edge",
            insecure_policy="Allow",
            certificate=SecretText(issued.pem),
            key=SecretText(issued.key_pem),
        )
        by_host = dataclasses.replace(route(f"r{number}", None), host=host_of(number), tls=tls)
        generation = self._generations[number] if number < ROUTES else 0
        return [*changes(by_host, service(f"r{number}")), *self._slice(number, generation)]

    def _slice(self, number: int, generation: int) -> list[Change]:
        ips = self._servers.of(ENDPOINTS, generation)
        return changes(slice_(f"r{number}", ips, port=SERVER_PORT))


@contextlib.contextmanager
def started(folder: Path, feed: Feed) -> Iterator[str]:
    """A daemon that follows ``feed`` and has converged; the IP of its listeners."""
    ip = fresh_ip()
    listeners = [
        {"name": "http", "kind": "http", "bind": [f"{ip}:{_HTTP}"]},
        {"name": "tls", "kind": "tls", "bind": [f"{ip}:{_TLS}"]},
    ]
    # A backend that a Route has left rests before another one gets it.
    web = {"backends": {"http": 2 * ROUTES}, "slots": ENDPOINTS + 2}
    stand = Stand(folder, [{"ports": ["30000"], "slots": 1}], listeners=listeners, web=web)
    with contextlib.closing(stand):
        stand.start()
        with running(stand.daemon(feed)) as daemon:
            await_(lambda: not daemon.ready(), "the sidecar has converged", WAIT_SECONDS)
            yield ip


def wrk(folder: Path, ip: str, seconds: int) -> list[str]:
    script = folder / "hosts.lua"
    script.write_text(_SCRIPT.format(routes=ROUTES))
    url = f"http://{ip}:{_HTTP}/"
    return ["wrk", "-t1", "-c10", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url]


def h2load(ip: str, seconds: int) -> list[str]:
    # So many, and not for so long: then what it asked and got no answer to is counted.
    count, rate = f"-n{_H2_CONNECTIONS * _H2_RATE * seconds}", f"--rps={_H2_RATE}"
    to = f"--connect-to={ip}:{_TLS}"
    return ["h2load", count, rate, f"-c{_H2_CONNECTIONS}", "-m5", to, f"https://{host_of(0)}/"]


def read_wrk(said: str) -> Figures:
    """Raises SystemExit where it says nothing of requests."""
    requests = re.search(r"(\d+) requests in ", said)
    if not requests:
        raise SystemExit(f"bench: wrk said:\n{said}")
    failed = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", said)))
    for errors in re.findall(r"Socket errors: (.*)", said):
        failed += sum(map(int, re.findall(r"\d+", errors)))
    return Figures(int(requests[1]), failed)


def read_h2load(said: str) -> Figures:
    """Raises SystemExit where it says nothing of requests."""
    found = re.search(r"requests: (\d+) total, .*, (\d+) succeeded", said)
    if not found:
        raise SystemExit(f"bench: h2load said:\n{said}")
    total, succeeded = map(int, found.groups())
    return Figures(total, total - succeeded)


def measure(seconds: int, rate: float) -> tuple[list[Figures], int]:
    """What became of the requests of both, and how many changes there were meanwhile."""
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        servers = ending.enter_context(
            contextlib.closing(Servers(folder, fresh_ips(3 * ENDPOINTS)))
        )
        world = World(servers)
        feed = Feed(world.first)
        ip = ending.enter_context(started(folder, feed))
        clients = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for command in (wrk(folder, ip, seconds), h2load(ip, seconds))
        ]
        for client in clients:
            ending.callback(client.kill)
        began = time.monotonic()
        made = int(seconds * rate)
        for number in track(range(made), "changes", console=Console(stderr=True)):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            feed.push(world.change())
        said = [client.communicate(timeout=seconds + WAIT_SECONDS)[0] for client in clients]
    return [read_wrk(said[0]), read_h2load(said[1])], made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--rate", type=float, default=5.0, help="changes a second")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    if missing := [name for name in ("wrk", "h2load") if not shutil.which(name)]:
        raise SystemExit(f"bench: no {' and no '.join(missing)} here: haproxy/install wrk h2load")
    if args.smoke:
        args.seconds, args.rate = 3, 10.0
    where = machine()
    found, made = measure(args.seconds, args.rate)
    show(
        f"HAProxy {haproxy_version()}; {where}; {ROUTES} Routes of {ENDPOINTS} endpoints,"
        f" {args.seconds} s, {made:,} changes",
        ["", "wrk, HTTP/1.1", "h2load, HTTP/2 over TLS"],
        [
            ["requests", *(f"{item.requests:,}" for item in found)],
            ["… failed", *(f"{item.failed:,}" for item in found)],
        ],
        markdown=args.markdown,
    )


if __name__ == "__main__":
    main()
