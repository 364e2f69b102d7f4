"""When each port has to be compared, and what may be done to it then: all of the loop's times.

Owns what is remembered between two looks: since when a port is dirty, open without servers,
resting; since when a slot waits for its sessions' end. None of it is needed to be right (HAProxy
and the source say what is), only to be in time. Reads no clock: ``now`` is given, in monotonic
seconds. Imports no I/O.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from sidecar.common.durations import format_duration
from sidecar.haproxy.operations import EndSessions
from sidecar.haproxy.state import ObservedPort, leaving
from sidecar.model.pool import Address, Pool
from sidecar.planning.planner import DesiredPort, PortPlan
from sidecar.planning.slots import is_idle
from sidecar.routing.table import Claimed

#: A port that was just changed rests: a Route that flaps costs the others little.
REST_SECONDS = 0.02

#: The more servers it has, wanted or there, the longer: each takes some 3 µs of the loop, from all
#: other ports. Counted, not timed, so that a busy machine does not count for the port's doing.
REST_SECONDS_PER_SERVER = 0.0005

#: From so many on a port has the loop for itself, after those that are through in no time.
COSTLY_SERVERS = 500

#: So many ports on which only idle slots are looked for are compared at once: some 20 ms of 1,000
#: ports, for which all others wait.
CALM_MAX = 32

#: A port that was just opened or closed stays so: HAProxy does not like it to flap (#2222).
TOGGLE_SECONDS = 1.0

#: How soon idle slots are looked for after an endpoint left, doubling up to the resync; and how
#: often overdue sessions are ended.
TIDY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The loop's times and limits, of the settings.

    ``close_after_seconds``: how long a port may be open without a server that takes connections.
    ``resync_seconds``: how often everything is compared. ``drain_deadline_seconds``: after how
    long the sessions of a removed endpoint are ended, unless its Route says otherwise; 0 means
    never. ``sessions_per_second``: how many of a port then. ``servers_max``: of a Route.
    """

    close_after_seconds: float = 5.0
    resync_seconds: float = 30.0
    drain_deadline_seconds: float = 0.0
    sessions_per_second: int = 100
    servers_max: int = 1024


class Agenda:
    """The times of all ports of ``pool``, kept at ``pace``. ``is_own``: whether an address is the
    router itself."""

    def __init__(
        self, pool: Pool, pace: Pace, is_own: Callable[[Address], bool] = lambda _: False
    ) -> None:
        self._is_own = is_own
        self._pool = pool
        self._pace = pace
        #: port -> since when a change to it is not verified yet.
        self.dirty: dict[int, float] = {}
        # those of them that HAProxy was given operations for since
        self._applied: set[int] = set()
        # port -> when to compare it, for whatever reason
        self._due: dict[int, float] = {}
        # those of them on which only idle slots are looked for, for which nobody waits
        self._calm: set[int] = set()
        # port -> until when it rests; how many servers it had when it was last compared; when it
        # was last opened or closed, had sessions ended
        self._rests_until: dict[int, float] = {}
        self._servers: dict[int, int] = {}
        self._toggled_at: dict[int, float] = {}
        self._ended_at: dict[int, float] = {}
        # port -> what its opening or closing waits for, in words
        self._postponed: dict[int, str] = {}
        # port -> since when it is open without a server that takes connections
        self._unusable_since: dict[int, float] = {}
        # port -> slot -> since when it is in maint, not known to be idle
        self._left_at: dict[int, dict[str, float]] = {}
        # port -> how long to wait until the next look for slots that became idle
        self._idle_wait: dict[int, float] = {}

    def mark(self, port: int, now: float) -> None:
        """Something about ``port`` changed: compare it as soon as it has rested."""
        self.dirty.setdefault(port, now)
        self.look_at(port, self._rests_until.get(port, now))

    def look_at(self, port: int, at: float) -> None:
        """Compare ``port`` at a certain time, at the latest."""
        self._due[port] = min(at, self._due.get(port, at))
        self._calm.discard(port)

    def take_due(self, now: float) -> tuple[set[int], set[int]]:
        """The ports to compare now, and after them one that is costly, if any is due. Other costly
        ones stay due, as do all but a few of those that nobody waits for: what comes meanwhile
        goes first."""
        due = sorted((at, port) for port, at in self._due.items() if at <= now)
        costly = [port for _, port in due if self._servers.get(port, 0) >= COSTLY_SERVERS][:1]
        cheap = [port for _, port in due if self._servers.get(port, 0) < COSTLY_SERVERS]
        later = [port for port in cheap if port in self._calm][CALM_MAX:]
        taken = set(cheap).difference(later)
        for port in taken.union(costly):
            del self._due[port]
        return taken, set(costly)

    @property
    def leaving(self) -> Collection[int]:
        """The ports with slots that wait for their sessions' end."""
        return self._idle_wait.keys()

    def next_at(self) -> float:
        """When the next port is due; infinite when none is."""
        return min(self._due.values(), default=float("inf"))

    def forget(self, port: int) -> None:
        """Nothing is due on ``port`` any more."""
        for memory in (self.dirty, self._due, self._unusable_since, self._idle_wait):
            memory.pop(port, None)
        self._left_at.pop(port, None)
        self._postponed.pop(port, None)
        self._calm.discard(port)

    def begin(self, ports: Iterable[int], now: float) -> None:
        """A HAProxy that we do not know has ``ports``: all of them are dirty. Since when their
        servers are gone is not known, so one without any is closed at once."""
        self.dirty = dict.fromkeys(ports, now)
        self._unusable_since = dict.fromkeys(self.dirty, float("-inf"))
        for memory in (self._due, self._rests_until, self._ended_at, self._left_at):
            memory.clear()
        self._idle_wait.clear()
        self._calm.clear()
        self._postponed.clear()
        self.may_toggle()

    def may_toggle(self) -> None:
        """What was opened and closed so far does not count as flapping."""
        self._toggled_at.clear()

    def desired(self, claimed: Claimed | None, observed: ObservedPort, now: float) -> DesiredPort:
        """What the port should be now, all times considered."""
        port, pace = observed.port, self._pace
        servers = claimed.resolution.servers if claimed else ()
        self._servers[port] = len(observed.servers) + (claimed.resolution.size if claimed else 0)
        self._rest(port, now + REST_SECONDS_PER_SERVER * self._servers[port])
        usable = is_open = any(server.state == "ready" for server in servers)
        if usable or not (claimed and observed.open):
            self._unusable_since.pop(port, None)
        else:
            # It stays open for a while: what closed it may be over in a moment.
            closes_at = self._unusable_since.setdefault(port, now) + pace.close_after_seconds
            if now < closes_at:
                is_open = True
                self.look_at(port, closes_at)
                over = format_duration(pace.close_after_seconds)
                self._postponed[port] = f"without a server for timing.close_after ({over})"
        if is_open != observed.open:
            toggle_at = self._toggled_at.get(port, -TOGGLE_SECONDS) + TOGGLE_SECONDS
            if now < toggle_at:
                self._postponed[port] = (
                    f"it was {'opened' if observed.open else 'closed'} just before, and rested for"
                    f" {format_duration(TOGGLE_SECONDS)}"
                )
                is_open = observed.open
                self.look_at(port, toggle_at)
        left = self._left_seconds(observed, now)
        return DesiredPort(
            port,
            is_open,
            servers,
            pace.servers_max,
            self._drain_deadline(claimed),
            left,
            pace.sessions_per_second if now >= self._may_end_at(port) else 0,
            frozenset(name for name in left if self._is_own(observed.servers[name].address)),
        )

    def changed(self, item: PortPlan, now: float) -> None:
        """``item`` is about to be applied."""
        self._rest(item.port, now + REST_SECONDS)
        self._idle_wait.pop(item.port, None)
        if item.toggles:
            self._toggled_at[item.port] = now
            self._postponed.pop(item.port, None)
        if any(isinstance(operation, EndSessions) for operation in item.tidy):
            self._ended_at[item.port] = now

    def reasons(
        self, item: PortPlan, claimed: Claimed | None, observed: ObservedPort
    ) -> Iterator[str]:
        """Why ``item``, for a port that is ``observed``, is due though nothing changed: which
        setting's time was over, or what ended."""
        if item.toggles and (postponed := self._postponed.get(item.port)):
            yield postponed
        for operation in item.tidy:
            if not isinstance(operation, EndSessions):
                yield "a removed endpoint has no sessions left"
            elif self._is_own(observed.servers[operation.server].address):
                yield "a server led to the router itself"
            else:
                own = claimed and claimed.drain_deadline_seconds is not None
                whose = "the Route's drain-deadline" if own else "drain.deadline"
                yield f"{whose} ({format_duration(self._drain_deadline(claimed))}) was over"

    def refused(self, port: int) -> None:
        """HAProxy did not carry out what it was given: whether the port opened or closed is not
        known, and that it did must not put off trying again."""
        self._toggled_at.pop(port, None)

    def _rest(self, port: int, until: float) -> None:
        self._rests_until[port] = max(until, self._rests_until.get(port, until))

    def applied(self, port: int, now: float) -> float | None:
        """HAProxy took the port's first operations since it was dirty. Returns how long that took,
        if this is the first time."""
        if port not in self.dirty or port in self._applied:
            return None
        self._applied.add(port)
        return now - self.dirty[port]

    def settled(self, claimed: Claimed | None, observed: ObservedPort, now: float) -> float | None:
        """The port is as desired. Returns how long that took, if it was dirty."""
        port = observed.port
        if leaving(observed):
            self._look_for_idle(port, self._drain_deadline(claimed), now)
        else:
            self._idle_wait.pop(port, None)
        self._applied.discard(port)
        since = self.dirty.pop(port, None)
        return None if since is None else now - since

    def _look_for_idle(self, port: int, deadline: float, now: float) -> None:
        """Come back to slots that wait for their sessions' end: less and less often, but when
        the time of some is over."""
        wait = self._idle_wait.get(port, TIDY_SECONDS)
        self._idle_wait[port] = min(wait * 2, self._pace.resync_seconds)
        is_calm = port not in self._due
        if deadline > 0:
            left_at = self._left_at.get(port, {}).values()
            ends = [max(at + deadline, self._may_end_at(port)) - now for at in left_at]
            is_calm = is_calm and all(wait < end for end in ends)
            wait = min([wait, *ends])
        self.look_at(port, now + wait)
        if is_calm:
            self._calm.add(port)

    def _may_end_at(self, port: int) -> float:
        return self._ended_at.get(port, float("-inf")) + TIDY_SECONDS

    def _left_seconds(self, observed: ObservedPort, now: float) -> Mapping[str, float]:
        """slot -> for how long it has been in maint, not known to be idle; never too long."""
        known = self._left_at.pop(observed.port, {})
        checked = self._pool.by_port[observed.port].check
        left_at = {}
        for name, slot in observed.servers.items():
            if slot.state == "maint" and not is_idle(slot):
                # A sidecar that was not there has HAProxy's word, in whole seconds begun; but of
                # a checked server HAProxy counts from when it last was up.
                since = 0 if checked else max(0, slot.seconds_since_change - 1)
                left_at[name] = known.get(name, now - since)
        if left_at:
            self._left_at[observed.port] = left_at
        return {name: now - at for name, at in left_at.items()}

    def _drain_deadline(self, claimed: Claimed | None) -> float:
        own = claimed.drain_deadline_seconds if claimed else None
        return self._pace.drain_deadline_seconds if own is None else own
