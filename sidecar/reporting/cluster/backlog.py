"""What the writer was told of Routes, and what of it is due: the part that two threads share.

Owns the one condition that guards it: the loop tells, the writer's thread takes, and neither holds
it while something is asked. Must not know what is written, nor how. Reads no clock: ``now`` is
given, in monotonic seconds.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sidecar.kube.pacing import DueKeys
from sidecar.model.change import Change
from sidecar.model.objects import Key, Route, RouteStatus
from sidecar.reporting.outcome import Outcome

#: The Service is brought in step this long after the ports changed.
PUBLISH_AFTER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a Route.

    ``status``: None when there is no such Route. ``told``: what became of it was told, be it that
    it does not name this router (``outcome`` None). ``proposed_port``: the one to be written to it.
    ``kept_port``: what its annotation has.
    """

    status: RouteStatus | None
    told: bool
    outcome: Outcome | None
    proposed_port: int | None
    kept_port: str | None


class Turn(NamedTuple):
    """What is due. ``key``: None when nothing is, for ``wait_seconds``. ``anew``: another replica
    may have written since the last turn."""

    key: Key | None
    anew: bool
    wait_seconds: float


class Backlog:
    """What is known, and the keys that are due. ``service``: the one whose ports follow them."""

    def __init__(self, service: Key | None) -> None:
        self._service = service
        # Guards all below.
        self._changed = threading.Condition()
        self._woken = False
        self._statuses: dict[Key, RouteStatus] = {}
        # None: told that it does not name this router; absent: not told yet
        self._outcomes: dict[Key, Outcome | None] = {}
        self._proposed: Mapping[Key, int] = {}
        # Route -> the port in its annotation
        self._kept: dict[Key, str | None] = {}
        self._told = False
        # Whether another may have written since we last did.
        self._anew = False
        self._queue: DueKeys[Key] = DueKeys()
        # What somebody else keeps rewriting: it gives way to all others, too.
        self._yielding: DueKeys[Key] = DueKeys()

    def tell(
        self,
        changes: Sequence[Change],
        outcomes: Mapping[Key, Outcome | None],
        proposed_ports: Mapping[Key, int],
        now: float,
    ) -> None:
        """See `Reporter.tell`; what is new is due."""
        with self._changed:
            dirty: set[Key] = set()
            ports_changed = False
            for key, new in changes:
                route = Key("Route", key.namespace, key.name)
                if isinstance(new, Route):
                    self._kept[route] = new.kept_port
                elif isinstance(new, RouteStatus):
                    former = self._statuses.get(route)
                    if former and former.uid != new.uid:
                        # Another Route of this name: what became of the last one is not its.
                        ports_changed |= _port(self._outcomes.pop(route, None)) is not None
                    self._statuses[route] = new
                    dirty.add(route)
                elif key.kind == "RouteStatus":
                    ports_changed |= _port(self._outcomes.get(route)) is not None
                    for memory in (self._statuses, self._outcomes, self._kept):
                        memory.pop(route, None)
                    dirty.add(route)
            for route, outcome in outcomes.items():
                if route in self._outcomes and self._outcomes[route] == outcome:
                    # As with most changes of endpoints. To wake the writer costs the loop more than
                    # all else that it does here.
                    continue
                dirty.add(route)
                ports_changed |= self._keep(route, outcome)
            if proposed_ports is not self._proposed:
                known = self._proposed
                dirty |= {key for key, port in proposed_ports.items() if known.get(key) != port}
                self._proposed = proposed_ports
            for route in dirty:
                self._queue.add(route, now)
            if (ports_changed or not self._told) and self._service:
                self._queue.add(self._service, now + PUBLISH_AFTER_SECONDS)
            self._told = True
            if dirty or ports_changed:
                self._woken = True
                self._changed.notify()

    def _keep(self, route: Key, outcome: Outcome | None) -> bool:
        """Keep an outcome; whether the ports that are open or owned changed by it."""
        former = self._outcomes.get(route)
        if outcome is None and route not in self._statuses:
            # Gone.
            self._outcomes.pop(route, None)
        else:
            self._outcomes[route] = outcome
        return _port(former) != _port(outcome)

    def begin_anew(self, now: float) -> None:
        """Another replica may have written: all is due."""
        with self._changed:
            self._anew = True
            for key in self._statuses.keys() | self._outcomes.keys():
                self._queue.add(key, now)
            if self._service:
                self._queue.add(self._service, now + PUBLISH_AFTER_SECONDS)
        self.wake()

    def wake(self) -> None:
        """Let `wait` return."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def wait(self, seconds: float) -> None:
        """Wait that long at most, for something new."""
        with self._changed:
            if seconds > 0:
                self._changed.wait_for(lambda: self._woken, min(seconds, threading.TIMEOUT_MAX))
            self._woken = False

    def take(self, now: float) -> Turn:
        """What has been due for longest; it is not due any more."""
        with self._changed:
            anew, self._anew = self._anew, False
            key = self._queue.take(now) or self._yielding.take(now)
            wait = min(self._queue.next_at(), self._yielding.next_at()) - now
        return Turn(key, anew, wait)

    def later(self, key: Key, at: float) -> None:
        """Come back to ``key`` then."""
        with self._changed:
            self._queue.add(key, at)

    def later_than_others(self, key: Key, at: float) -> None:
        """Come back to ``key`` then, if nothing else is due."""
        with self._changed:
            self._yielding.add(key, at)

    def known(self, route: Key) -> Known:
        """What is known of it now."""
        with self._changed:
            return Known(
                self._statuses.get(route),
                route in self._outcomes,
                self._outcomes.get(route),
                self._proposed.get(route),
                self._kept.get(route),
            )

    def wrote(self, route: Key, status: RouteStatus, newer: RouteStatus) -> None:
        """The Route is as ``newer`` since we wrote it, which was ``status`` before."""
        with self._changed:
            # The watch may have been faster.
            if self._statuses.get(route) is status:
                self._statuses[route] = newer

    def ports(self) -> dict[int, bool] | None:
        """Ports that Routes have, and whether each is open; None while it is not known of some
        Routes what they have, which is not the same as nothing."""
        with self._changed:
            if not (self._told and self._statuses.keys() <= self._outcomes.keys()):
                return None
            ports: dict[int, bool] = {}
            for port, is_open in filter(None, map(_port, self._outcomes.values())):
                # Several Routes may share it.
                ports[port] = is_open or ports.get(port, False)
            return ports


def _port(outcome: Outcome | None) -> tuple[int, bool] | None:
    """The port that a Route has, and whether it is open."""
    if outcome is None or outcome.port is None:
        return None
    return outcome.port, outcome.open
