"""How connections to servers went lately: HAProxy's counters at two instants, compared.

HAProxy counts since it started, and a port that refuses everybody looks like one that nobody uses.
So somebody notes the counters now and then (`sidecar.control.sampler`), and what is told is the
difference. Source: management.txt 9.1, "econ", "wretr", "wredis", "stot". Pure.
"""

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

#: How far back "lately" reaches, as far as there are notes of it.
WINDOW_SECONDS = 60.0


class Attempts(NamedTuple):
    """Counted since HAProxy started, or since an earlier instant. ``sessions``: that wanted a
    server. ``errors``: of them, those that got none in the end. ``retries``, ``redispatches``:
    attempts that failed and were made again, on the same server or on another one."""

    sessions: int
    errors: int
    retries: int
    redispatches: int

    def since(self, before: "Attempts") -> "Attempts":
        """What came after ``before``; all, if the counters began anew meanwhile."""
        if any(now < then for now, then in zip(self, before, strict=True)):
            return self
        return Attempts(*(now - then for now, then in zip(self, before, strict=True)))

    @property
    def failed(self) -> bool:
        """Whether any attempt did."""
        return bool(self.errors or self.retries or self.redispatches)


NONE = Attempts(0, 0, 0, 0)


class Base(NamedTuple):
    """What to compare a port's counters with. ``servers``: name -> as far as somebody noted them
    when nothing had failed on the port since."""

    seconds_ago: float
    port: Attempts
    servers: Mapping[str, Attempts] = MappingProxyType({})


class Notes:
    """The counters of all ports, noted every now and then. ``now``: monotonic seconds."""

    def __init__(self) -> None:
        # (when, port -> counters), the oldest first
        self._notes: deque[tuple[float, Mapping[int, Attempts]]] = deque()
        # port -> its counters, and its servers', when the latter were noted last
        self._servers: dict[int, tuple[Attempts, Mapping[str, Attempts]]] = {}

    def forget(self) -> None:
        """Another HAProxy counts from now on."""
        self._notes.clear()
        self._servers.clear()

    def note(self, ports: Mapping[int, Attempts], now: float) -> list[int]:
        """Keep ``ports``. Returns those on which an attempt failed since the last note."""
        before = self._notes[-1][1] if self._notes else ports
        self._notes.append((now, ports))
        while len(self._notes) > 2 and self._notes[0][0] < now - WINDOW_SECONDS:
            self._notes.popleft()
        return [port for port, it in ports.items() if it.since(before.get(port, NONE)).failed]

    def note_servers(self, port: int, servers: Mapping[str, Attempts]) -> None:
        """Keep the servers of a ``port`` that was just noted."""
        self._servers[port] = self._notes[-1][1][port], servers

    def bases(self, now: float) -> Mapping[int, Base]:
        """port -> what to compare it with: the oldest note that is not too old, or the newest."""
        if not self._notes:
            return {}
        recent = (item for item in self._notes if item[0] >= now - WINDOW_SECONDS)
        at, ports = next(recent, self._notes[-1])
        found = {}
        for port, counters in ports.items():
            noted, servers = self._servers.get(port, (NONE, {}))
            same = noted[1:] == counters[1:]
            found[port] = Base(now - at, counters, servers if same else MappingProxyType({}))
        return found


def server_since(now: Attempts, before: Attempts | None, port: Attempts) -> Attempts:
    """What a server did lately, of what its ``port`` did: where nobody noted it ``before``, what it
    did since HAProxy started, and never more than the port."""
    found = now.since(before or NONE)
    return Attempts(*(min(pair) for pair in zip(found, port, strict=True)))
