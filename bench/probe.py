"""How the benches change what a sidecar should do, and see when HAProxy does it."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from sidecar.haproxy.state import ObservedUnit
from sidecar.listeners.tcp import unit_of
from sidecar.model.change import Change, Sink
from sidecar.model.desired import Unit


def ips_of(port: int, endpoints: int, generation: int = 0) -> tuple[str, ...]:
    """Addresses of a port's endpoints, 19 at most, on which nothing listens: for what is no matter
    of traffic. Each generation has one other than the one before."""
    numbers = [*range(1, endpoints), 20 * (1 + generation % 10)]
    return tuple(f"10.{port % 200}.{port // 200}.{number}" for number in numbers)


class Feed:
    """A `Source` that publishes what a bench pushes, from the bench's own thread."""

    origins = ("feed",)

    def __init__(self, first: Sequence[Change]) -> None:
        self._first = first
        self._sink: Sink | None = None

    def load(self, sink: Sink) -> None:
        raise NotImplementedError

    def run(self, sink: Sink, stop: threading.Event) -> None:
        sink.publish("feed", self._first, ())
        self._sink = sink
        stop.wait()

    def push(self, changed: Sequence[Change]) -> None:
        if self._sink is None:
            raise RuntimeError("the sidecar does not run yet")
        self._sink.publish("feed", changed, ())


class Effects(dict[Unit, ObservedUnit]):
    """Stands in for what `Known` has observed, which is updated with each look at HAProxy, and so
    learns from the sidecar's own read-backs, without asking HAProxy anything, when a change
    that it was told to `expect` shows.

    ``seconds``: of each change, from `expect` (just before it is published) until then.
    """

    def __init__(self, server_port: int) -> None:
        super().__init__()
        self._server_port = server_port
        # unit -> (when published, IPs of the servers that take connections), oldest first
        self._expected: dict[Unit, list[tuple[float, frozenset[str]]]] = {}
        self.seconds: list[float] = []

    def expect(self, port: int, ips: Iterable[str]) -> None:
        expected = self._expected.setdefault(unit_of(port), [])
        expected.append((time.perf_counter(), frozenset(ips)))

    @property
    def waiting(self) -> int:
        """Changes that do not show yet."""
        return sum(len(expected) for expected in list(self._expected.values()))

    def update(self, observed: Mapping[Unit, ObservedUnit]) -> None:  # type: ignore[override]
        super().update(observed)
        now = time.perf_counter()
        for unit in observed.keys() & self._expected.keys():
            self._look(self._expected[unit], observed[unit], now)

    def _look(
        self, expected: list[tuple[float, frozenset[str]]], seen: ObservedUnit, now: float
    ) -> None:
        """All up to the newest that shows are done: what came between was overtaken."""
        if not (expected and seen.open):
            return
        ready = {
            server.address.ip
            for server in seen.servers.values()
            if server.state == "ready" and server.address.port == self._server_port
        }
        for number in reversed(range(len(expected))):
            if expected[number][1] == ready:
                self.seconds += [now - since for since, _ in expected[: number + 1]]
                del expected[: number + 1]
                return
