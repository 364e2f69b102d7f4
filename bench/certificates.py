"""What certificates of Routes cost as they grow, beside a static haproxy.cfg and its reloads.

    python bench/certificates.py [--hosts 1000 10000] [--smoke] [--markdown]

For each number of hosts a daemon gives a real HAProxy (HAPROXY=path chooses it) a certificate for
each, and a client in a process of its own shakes hands until it sees one that was renewed. The same
is done by writing the file anew and reloading a haproxy.cfg with the same two hops of TLS. Both
serve the same requests, of which HAProxy's processor time is measured in turns.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))

from asker import Asker
from cryptography.hazmat.primitives.serialization import Encoding
from figures import haproxy_version, machine, percentile, show, spread, wait_until_idle
from pki import CA, Issued
from probe import Feed
from proc import cpu_seconds, resident_bytes
from rich.console import Console
from rich.progress import track
from stand import Stand, await_, changes, fresh_ip, route, running, service, slice_
from static import WAIT_SECONDS, Reloading, Servers, fresh_ips, host_of
from ways import SERVER_PORT, clock_of

from sidecar.common.secret_text import SecretText
from sidecar.daemon.loop import Daemon
from sidecar.model.change import Change
from sidecar.model.objects import RouteTLS

LISTENER_PORT = 8443

#: Hosts that requests are measured for.
ASKED = 10

_STATIC = """\
global
    stats socket {socket} level admin expose-fd listeners
    log stdout format raw local0
    maxconn 4000

defaults
    mode http
    log global
    timeout connect 500ms
    timeout client 30s
    timeout server 30s

frontend tls
    mode tcp
    bind {ip}:{port}
    tcp-request inspect-delay 5s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
    default_backend hand-over

backend hand-over
    mode tcp
    server end unix@{folder}/end.sock send-proxy-v2

frontend end
    bind unix@{folder}/end.sock accept-proxy ssl crt-list {folder}/crt-list
    option httplog
    use_backend %[req.hdr(host),lower,map_str({folder}/hosts.map)]
"""


def digest_of(issued: Issued) -> str:
    return hashlib.sha256(issued.certificate.public_bytes(Encoding.DER)).hexdigest()


def route_of(number: int, issued: Issued) -> Sequence[Change]:
    tls = RouteTLS("edge", certificate=SecretText(issued.pem), key=SecretText(issued.key_pem))
    by_host = route(f"r{number}", None)
    return changes(dataclasses.replace(by_host, host=host_of(number), tls=tls))


class StaticTLS(Reloading):
    """A haproxy.cfg with a backend and a certificate for each host."""

    def __init__(self, folder: Path, issued: Mapping[str, Issued], server: str) -> None:
        super().__init__(folder)
        self.address = (fresh_ip(), LISTENER_PORT)
        self._folder, self._hosts, self._server = folder, list(issued), server
        for host, item in issued.items():
            self.write(host, item)
        lines = [f"{folder}/{host}.pem {host}\n" for host in issued]
        (folder / "crt-list").write_text("".join(lines))
        entries = [f"{host} r{number}\n" for number, host in enumerate(issued)]
        (folder / "hosts.map").write_text("".join(entries))
        self.load()

    def write(self, host: str, issued: Issued) -> None:
        (self._folder / f"{host}.pem").write_text(issued.pem + issued.key_pem)

    def config(self) -> str:
        text = _STATIC.format(
            socket=self.socket, ip=self.address[0], port=LISTENER_PORT, folder=self._folder
        )
        for number in range(len(self._hosts)):
            text += f"\nbackend r{number}\n    server e {self._server}:{SERVER_PORT}\n"
        return text


class Figures(NamedTuple):
    """Of one number of hosts; seconds but for ``memory_bytes``, of a certificate with its entry.
    ``handshakes``: HAProxy's, for a handshake with a request."""

    first: float
    renewed: Sequence[float]
    cpu: float
    reloaded: Sequence[float]
    restart: float
    memory_bytes: float
    handshakes: Sequence[float]
    static_handshakes: Sequence[float]


@contextlib.contextmanager
def started(hosts: int) -> Iterator[Stand]:
    address = f"{fresh_ip()}:{LISTENER_PORT}"
    listeners = [{"name": "tls", "kind": "tls", "bind": [address]}]
    web = {"backends": {"http": hosts, "reencrypt": 1, "passthrough": 1}, "slots": 1}
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        stand = Stand(folder, [{"ports": ["30000"], "slots": 1}], listeners=listeners, web=web)
        ending.enter_context(contextlib.closing(stand))
        stand.start()
        yield stand


class Live(NamedTuple):
    """A daemon that drives ``stand`` for ``feed``, and what it took until all was served."""

    stand: Stand
    feed: Feed
    daemon: Daemon
    asker: Asker
    first: float
    memory_bytes: float

    def renew(self, renewals: Sequence[tuple[int, Issued]]) -> tuple[list[float], float]:
        """Seconds until each is served, and the sidecar's processor time for one."""
        clock = clock_of("daemon")
        cpu, seconds = time.clock_gettime(clock), list[float]()
        for number, item in renewals:
            self.asker.expect_certificate(host_of(number), digest_of(item), WAIT_SECONDS)
            begun = time.perf_counter()
            self.feed.push(route_of(number, item))
            seconds.append(self.asker.answered_at() - begun)
        await_(lambda: not self.daemon.ready(), "the sidecar has converged", WAIT_SECONDS)
        return seconds, (time.clock_gettime(clock) - cpu) / len(renewals)

    def restart(self) -> float:
        """Seconds until a HAProxy that starts with what was saved is as desired."""
        self.stand.stop_haproxy()
        begun = time.perf_counter()
        pid = self.stand.start_haproxy().pid
        known = self.daemon.reconciler.known
        await_(
            lambda: (met := known.process) and met.pid == pid and not self.daemon.ready(),
            "the HAProxy that was restarted is as desired",
            WAIT_SECONDS,
        )
        return time.perf_counter() - begun


@contextlib.contextmanager
def live(issued: Mapping[str, Issued], server: str) -> Iterator[Live]:
    with contextlib.ExitStack() as ending:
        stand = ending.enter_context(started(len(issued)))
        empty = resident_bytes(stand.info().pid)
        first: list[Change] = []
        for number, item in enumerate(issued.values()):
            first += route_of(number, item)
            first += changes(
                service(f"r{number}"), slice_(f"r{number}", [server], port=SERVER_PORT)
            )
        web = stand.pool.web
        assert web
        asker = ending.enter_context(contextlib.closing(Asker(web.listeners[0].bind[0])))
        feed, begun = Feed(first), time.perf_counter()
        daemon = ending.enter_context(running(stand.daemon(feed)))
        await_(lambda: not daemon.ready(), "the sidecar has converged", WAIT_SECONDS)
        took = time.perf_counter() - begun
        memory = (resident_bytes(stand.info().pid) - empty) / len(issued)
        yield Live(stand, feed, daemon, asker, took, memory)


def in_turns(
    clients: Sequence[tuple[int, Asker]], hosts: Sequence[str], args: argparse.Namespace
) -> list[list[float]]:
    """Of each HAProxy, by its PID: seconds of processor time for a handshake with a request."""
    found: list[list[float]] = [[] for _ in clients]
    for turn in range(args.repeats + 1):
        for place, (pid, client) in enumerate(clients):
            before = cpu_seconds(pid)
            client.handshakes(hosts, args.handshakes)
            if turn:  # the first one warms up
                found[place].append((cpu_seconds(pid) - before) / args.handshakes)
    return found


def measure(hosts: int, args: argparse.Namespace) -> Figures:
    root = CA.root()
    issued = {host_of(number): root.leaf(host_of(number)) for number in range(hosts)}
    numbers = [7 * event % hosts for event in range(args.events)]
    renewals = [(number, root.leaf(host_of(number))) for number in numbers]
    asked = list(issued)[:ASKED]
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        servers = ending.enter_context(contextlib.closing(Servers(folder, fresh_ips(1))))
        bench = ending.enter_context(live(issued, servers.ips[0]))
        renewed, cpu = bench.renew(renewals)
        static = StaticTLS(folder, issued, servers.ips[0])
        ending.callback(static.close)
        other = ending.enter_context(contextlib.closing(Asker(static.address)))
        clients = [(bench.stand.info().pid, bench.asker), (static.pid, other)]
        handshakes, static_handshakes = in_turns(clients, asked, args)
        reloaded = list[float]()
        for number, item in renewals[: args.repeats]:
            other.expect_certificate(host_of(number), digest_of(item), WAIT_SECONDS)
            begun = time.perf_counter()
            static.write(host_of(number), item)
            static.load()
            reloaded.append(other.answered_at() - begun)
            static.settle()
        return Figures(
            bench.first,
            renewed,
            cpu,
            reloaded,
            bench.restart(),
            bench.memory_bytes,
            handshakes,
            static_handshakes,
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} µs"


#: What is shown: label, and what of the figures.
ROWS: Sequence[tuple[str, Callable[[Figures], str]]] = (
    ("certificate renewed → served, p50", lambda f: _ms(percentile(f.renewed, 50))),
    ("… p99", lambda f: _ms(percentile(f.renewed, 99))),
    ("… by a reload, median", lambda f: _ms(statistics.median(f.reloaded))),
    ("the sidecar's CPU time for it", lambda f: _ms(f.cpu)),
    ("HAProxy's for a handshake and a request", lambda f: spread(f.handshakes, _us)),
    ("… with a static haproxy.cfg", lambda f: spread(f.static_handshakes, _us)),
    ("all certificates, from none", lambda f: f"{f.first:.1f} s"),
    ("restart of HAProxy until all is as desired", lambda f: f"{f.restart:.1f} s"),
    ("HAProxy's memory for one, with its Route", lambda f: f"{f.memory_bytes / 1000:.1f} kB"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--events", type=int, default=200, help="certificates renewed one by one")
    parser.add_argument("--repeats", type=int, default=5, help="reloads, turns")
    parser.add_argument("--handshakes", type=int, default=1000, help="of each turn")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/figures.md")
    args = parser.parse_args()
    if args.smoke:
        args.hosts, args.events, args.repeats, args.handshakes = [3, 20], 4, 1, 20
    else:
        wait_until_idle(60)
    where = machine()
    found = [
        measure(hosts, args) for hosts in track(args.hosts, "hosts", console=Console(stderr=True))
    ]
    show(
        f"HAProxy {haproxy_version()}; {where}; {args.events} renewed, {args.repeats} reloads, and"
        f" turns of {args.handshakes:,} handshakes; ECDSA",
        ["", *(f"{hosts:,} hosts" for hosts in args.hosts)],
        [[label, *(form(figures) for figures in found)] for label, form in ROWS],
        markdown=args.markdown,
    )


if __name__ == "__main__":
    main()
