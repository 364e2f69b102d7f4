"""A sidecar that a test feeds with objects, and what a test sees of HAProxy meanwhile.

`World` is the short way: some objects, a running daemon on them, and changes one line each.
Everything is asserted elsewhere, by reading HAProxy back and by connecting.
"""

import contextlib
import csv
import queue
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from parts import routing_for
from relay import Relay
from stand import (
    Client,
    EchoServer,
    Stand,
    await_,
    await_ready,
    changes,
    converged,
    endpoint,
    fresh_ip,
    held,
    route,
    running,
    service,
    slice_,
)

from sidecar.common.metrics import Metrics
from sidecar.control.reconciler import Reconciler
from sidecar.daemon.loop import Daemon
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.naming import backend_name
from sidecar.haproxy.state import ObservedServer
from sidecar.model.change import Change, Sink
from sidecar.model.objects import Endpoint, EndpointSet, Key, Object, Route, Service
from sidecar.model.pool import PARKED, Address
from sidecar.planning.schedule import REST_SECONDS, Timing
from sidecar.settings.schema import HTTPSettings

#: The port that a World's first Route has unless told otherwise.
PORT = 30000

#: Something that a test names as an endpoint; all listen on one port, 9000.
End = EchoServer | Address | Endpoint | str


class Feed:
    """A `Source` whose changes a test pushes itself."""

    origins = ("feed",)

    def __init__(self, first: Sequence[Change]) -> None:
        self._changes: queue.SimpleQueue[Sequence[Change]] = queue.SimpleQueue()
        self._changes.put(first)

    def push(self, changed: Sequence[Change]) -> None:
        self._changes.put(changed)

    def load(self, sink: Sink) -> None:
        raise NotImplementedError

    def run(self, sink: Sink, stop: threading.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Empty):
                sink.publish("feed", self._changes.get(timeout=0.1), ())


class ByHand:
    """A reconciler without a daemon: the test says when it steps, and how time goes by."""

    def __init__(
        self, stand: Stand, timing: Timing | None = None, client: RuntimeClient | None = None
    ) -> None:
        self.metrics = Metrics()
        self._now = 0.0
        self._routing = routing_for(stand.ports)
        self.reconciler = Reconciler(
            client or stand.client,
            stand.ports,
            self.metrics,
            timing or Timing(),
            clock=lambda: self._now,
        )

    def go(self, *objects: Object, after_seconds: float = REST_SECONDS) -> None:
        """Take ``objects``, and do what is due by then."""
        self._now += after_seconds
        self.reconciler.mark(self._routing.apply(changes(*objects)).units)
        self.reconciler.step(self._routing.claim)

    def step(self, *objects: Object, after_seconds: float = REST_SECONDS) -> int:
        """The same, and converge at one go; how many operations that took."""
        before = self.reconciler.history.total
        self.go(*objects, after_seconds=after_seconds)
        assert self.reconciler.known.converged
        return self.reconciler.history.total - before


class World:
    """One stand and the objects that its sidecar is fed with, which outlive the sidecar."""

    def __init__(self, stand: Stand, *objects: Route | Service | EndpointSet) -> None:
        self.stand = stand
        self._objects = {item.key: item for item in objects}
        self._feed: Feed | None = None
        self._daemon: Daemon | None = None

    @property
    def daemon(self) -> Daemon:
        assert self._daemon is not None, "no sidecar runs"
        return self._daemon

    @contextlib.contextmanager
    def sidecar(self, **haproxy: object) -> Iterator[Daemon]:
        """Run a sidecar; ``haproxy`` as in `Stand.daemon`. It has converged when this begins."""
        self._feed = Feed(changes(*self._objects.values()))
        daemon = self.stand.daemon(self._feed, **haproxy)
        # Nobody asks it over HTTP, and that server takes half a second to stop.
        daemon.settings = daemon.settings.model_copy(update={"http": HTTPSettings(listen=None)})
        with running(daemon):
            self._daemon = daemon
            try:
                converged(daemon)
                yield daemon
            finally:
                self._feed = self._daemon = None

    def put(self, *objects: Route | Service | EndpointSet) -> None:
        """Create or change objects, at one stroke."""
        self._objects |= {item.key: item for item in objects}
        if self._feed:
            self._feed.push(changes(*objects))

    def remove(self, *keys: Key) -> None:
        for key in keys:
            del self._objects[key]
        if self._feed:
            self._feed.push([Change(key, None) for key in keys])

    def serve(self, *ends: End, service: str = "web") -> None:
        """Let these be all endpoints of ``service``."""
        self.put(slice_(service, [_endpoint(end) for end in ends]))

    def await_taken(self) -> None:
        """Until the sidecar has taken everything that was put.

        A marker on the pool's last port follows it; when that is there, so is the rest.
        """
        last, marker = max(self.stand.pool.ports), fresh_ip()
        self.put(route("marker", last), service("marker"), slice_("marker", [marker]))
        await_ready(self.stand, last, Address(marker, 9000))

    def settle(self) -> None:
        """Until everything that was put has been taken, and HAProxy shows it."""
        self.await_taken()
        converged(self.daemon)


def app(name: str = "web", port: object = PORT, *ends: End) -> tuple[Route, Service, EndpointSet]:
    """A Route of the model with its Service and EndpointSlice."""
    return route(name, port), service(name), slice_(name, [_endpoint(end) for end in ends])


def leaving(end: EchoServer | Address) -> Endpoint:
    """An endpoint that terminates and still serves."""
    return endpoint(_ip(end), ready=False, serving=True, terminating=True)


def _endpoint(end: End) -> Endpoint:
    return end if isinstance(end, Endpoint) else endpoint(_ip(end))


def _ip(end: EchoServer | Address | str) -> str:
    if isinstance(end, EchoServer):
        return end.address.ip
    return end.ip if isinstance(end, Address) else end


class Intercept(Relay):
    """A relay that tells of each command before HAProxy gets it: a test acts at just that
    instant."""

    def __init__(self, path: Path, target: str, before: Callable[[str], None]) -> None:
        self._before = before
        super().__init__(path, target)

    def _pass_commands(self, sidecar: socket.socket, haproxy: socket.socket) -> None:
        pending = b""
        while data := sidecar.recv(65536):
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self._before(line.decode())
                self.commands.append(line.decode())
                haproxy.sendall(line + b"\n")


class Entrance(Protocol):
    """Where clients come in."""

    def connect(self, port: int) -> Client: ...


class Load:
    """Short connections without a pause, from some threads. ``failures``: what went wrong."""

    def __init__(self, stand: Entrance, threads: int, port: int = PORT) -> None:
        self.failures: list[str] = []
        self.served: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._connect, args=(stand, port), daemon=True)
            for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _connect(self, stand: Entrance, port: int) -> None:
        while not self._stop.is_set():
            try:
                client = stand.connect(port)
                try:
                    client.echo()
                    self.served[client.server] += 1
                finally:
                    client.close()
            except (OSError, AssertionError) as exc:
                self.failures.append(repr(exc))


class Obituary:
    """When connections are ended by the other side. ``ended``: client -> monotonic seconds."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self.ended: dict[Client, float] = {}
        self._clients = list(clients)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _watch(self) -> None:
        # Ends only: what arrives is for the test.
        alive = {client.socket.fileno(): client for client in self._clients}
        poll = select.poll()
        for descriptor in alive:
            poll.register(descriptor, select.POLLRDHUP)
        while alive and not self._stop.is_set():
            for descriptor, _ in poll.poll(50):
                self.ended[alive.pop(descriptor)] = time.monotonic()
                poll.unregister(descriptor)


def operations(daemon: Daemon) -> Counter[str]:
    """Kind of operation -> how many of it HAProxy carried out for this sidecar."""
    samples = [
        sample for metric in daemon.metrics.operations.collect() for sample in metric.samples
    ]
    return Counter(
        {
            sample.labels["kind"]: int(sample.value)
            for sample in samples
            if sample.name.endswith("_total") and sample.value
        }
    )


def stat(stand: Stand, port: int = PORT) -> dict[str, dict[str, str]]:
    """Server name -> its row of ``show stat``, by column name."""
    text = stand.client.ask(f"show stat {backend_name(port)} 4 -1")
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    return {row["svname"]: row for row in rows}


def slot_of(stand: Stand, end: EchoServer | Address, port: int = PORT) -> ObservedServer:
    """The server of ``port`` that has ``end``'s address."""
    address = end if isinstance(end, Address) else end.address
    found = [item for item in stand.port(port).servers.values() if item.address == address]
    assert len(found) == 1, f"{address} is on {found}"
    return found[0]


def await_state(stand: Stand, end: EchoServer | Address, state: str, port: int = PORT) -> str:
    """Until ``end``'s slot is in ``state``; the slot's name. A slot without sessions is in
    ``maint`` for a second only, before it is parked."""
    address = end if isinstance(end, Address) else end.address
    await_(lambda: address in stand.slots(port, state), f"{address} is in {state}")
    return slot_of(stand, end, port).name


def await_parked(stand: Stand, *names: str, port: int = PORT) -> None:
    """Until these slots are free again: in maint, on an address that refuses."""

    def parked() -> bool:
        servers = stand.port(port).servers
        return all((servers[n].address, servers[n].state) == (PARKED, "maint") for n in names)

    await_(parked, f"{names} of port {port} are parked")


def served_by(stand: Stand, count: int = 8, port: int = PORT) -> set[str]:
    """Who answers ``count`` new connections."""
    names = set()
    for _ in range(count):
        client = stand.connect(port)
        names.add(client.server)
        client.close()
    return names


def session_on(
    files: contextlib.ExitStack, stand: Stand, server: EchoServer, port: int = PORT
) -> Client:
    """A connection to ``server`` that stays, however many others it takes to get there."""
    for _ in range(50):
        client = held(files, stand, port)
        if client.server == server.name:
            return client
        client.close()
    raise AssertionError(f"no connection gets to {server.name}")
