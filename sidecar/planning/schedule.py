"""When each unit has to be compared, and what may be done to it then: all of the loop's times.

Owns what is remembered between two looks: since when a unit is dirty, exposed without servers,
resting; since when a slot waits for its sessions' end. None of it is needed to be right (HAProxy
and the source say what is), only to be in time. Reads no clock: ``now`` is given, in monotonic
seconds. Imports no I/O.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from sidecar.common.durations import format_duration
from sidecar.haproxy.operations import EndSessions
from sidecar.haproxy.state import ObservedUnit, leaving
from sidecar.listeners.base import ListenerKind
from sidecar.model.desired import NO_ATTRIBUTES, Attributes, ClaimKey, DesiredServer, Unit
from sidecar.model.pool import PARKED, Address
from sidecar.planning.planner import DesiredUnit, Plan
from sidecar.planning.slots import is_idle
from sidecar.policies.drain_deadline import DRAIN_DEADLINE
from sidecar.routing.claimed import Claimed

#: A unit that was just changed rests: a Route that flaps costs the others little.
REST_SECONDS = 0.02

#: The more servers it has, wanted or there, the longer: each takes some 3 µs of the loop, from all
#: other units. Counted, not timed, so that a busy machine does not count for the unit's doing.
REST_SECONDS_PER_SERVER = 0.0005

#: From so many on a unit has the loop for itself, after those that are through in no time.
COSTLY_SERVERS = 500

#: So many units on which only idle slots are looked for are compared at once: some 20 ms of 1,000
#: units, for which all others wait.
CALM_MAX = 32

#: Those that are due so soon are looked at with the first of them: a few cost hardly more than one.
CALM_SECONDS = 0.25

#: How soon idle slots are looked for after an endpoint left, doubling up to the resync; and how
#: often overdue sessions are ended.
TIDY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Timing:
    """The loop's times and limits, of the settings.

    ``resync_seconds``: how often everything is compared. ``drain_deadline_seconds``: after how
    long the sessions of a removed endpoint are ended, unless its Route says otherwise; 0 means
    never. ``sessions_per_second``: how many of a unit then. ``servers_max``: of a Route.
    """

    resync_seconds: float = 30.0
    drain_deadline_seconds: float = 0.0
    sessions_per_second: int = 100
    servers_max: int = 1024


class Schedule:
    """The times of all units of ``kind``, kept by ``timing``. ``is_own``: whether an address is
    the router itself. ``is_handed``: whether a key of a unit is another one's now."""

    def __init__(
        self,
        kind: ListenerKind,
        timing: Timing,
        is_own: Callable[[Address], bool] = lambda _: False,
        is_handed: Callable[[ClaimKey, Unit], bool] = lambda *_: False,
    ) -> None:
        self._is_own = is_own
        self._is_handed = is_handed
        self._kind = kind
        self._timing = timing
        #: unit -> since when a change to it is not verified yet.
        self.dirty: dict[Unit, float] = {}
        # those of them that HAProxy was given operations for since
        self._applied: set[Unit] = set()
        # unit -> when to compare it, for whatever reason
        self._due: dict[Unit, float] = {}
        # those of them on which only idle slots are looked for, for which nobody waits
        self._calm: set[Unit] = set()
        # unit -> until when it rests; how many servers it had when it was last compared; when it
        # was last opened or closed, had sessions ended
        self._rests_until: dict[Unit, float] = {}
        self._servers: dict[Unit, int] = {}
        self._toggled_at: dict[Unit, float] = {}
        self._ended_at: dict[Unit, float] = {}
        # unit -> what its opening or closing waits for, in words
        self._postponed: dict[Unit, str] = {}
        # unit -> since when it is open without a server that takes connections
        self._unusable_since: dict[Unit, float] = {}
        # unit -> slot -> since when it is in maint, not known to be idle
        self._left_at: dict[Unit, dict[str, float]] = {}
        # unit -> since when all of its servers are in maint; those of a HAProxy that was just met
        self._quiet_at: dict[Unit, float] = {}
        self._met: set[Unit] = set()
        # unit -> how long to wait until the next look for slots that became idle
        self._idle_wait: dict[Unit, float] = {}

    def mark(self, unit: Unit, now: float) -> None:
        """Something about ``unit`` changed: compare it as soon as it has rested."""
        self.dirty.setdefault(unit, now)
        self.look_at(unit, self._rests_until.get(unit, now))

    def look_at(self, unit: Unit, at: float) -> None:
        """Compare ``unit`` at a certain time, at the latest."""
        self._due[unit] = min(at, self._due.get(unit, at))
        self._calm.discard(unit)

    def take_due(self, now: float) -> tuple[set[Unit], set[Unit]]:
        """The units to compare now, and after them one that is costly, if any is due. Other costly
        ones stay due, as do all but a few of those that nobody waits for: what comes meanwhile
        goes first. With the first of the latter come those that are due soon."""
        due = sorted((at, unit) for unit, at in self._due.items() if at <= now)
        if any(unit in self._calm for _, unit in due):
            soon = now + CALM_SECONDS
            due += sorted(
                (at, unit) for unit in self._calm if now < (at := self._due.get(unit, now)) <= soon
            )
        costly = [unit for _, unit in due if self._servers.get(unit, 0) >= COSTLY_SERVERS][:1]
        cheap = [unit for _, unit in due if self._servers.get(unit, 0) < COSTLY_SERVERS]
        later = [unit for unit in cheap if unit in self._calm][CALM_MAX:]
        taken = set(cheap).difference(later)
        for unit in taken.union(costly):
            del self._due[unit]
        return taken, set(costly)

    @property
    def leaving(self) -> Collection[Unit]:
        """The units with slots that wait for their sessions' end."""
        return self._idle_wait.keys()

    def next_at(self) -> float:
        """When the next unit is due; infinite when none is."""
        return min(self._due.values(), default=float("inf"))

    def forget(self, unit: Unit) -> None:
        """Nothing is due on ``unit`` any more."""
        for memory in (self.dirty, self._due, self._unusable_since, self._idle_wait):
            memory.pop(unit, None)
        self._left_at.pop(unit, None)
        self._postponed.pop(unit, None)
        self._calm.discard(unit)

    def begin(self, units: Iterable[Unit], now: float) -> None:
        """A HAProxy that we do not know has ``units``: all of them are dirty. Since when their
        servers are gone is not known, so one without any is closed at once."""
        self.dirty = dict.fromkeys(units, now)
        self._unusable_since = dict.fromkeys(self.dirty, float("-inf"))
        for memory in (self._due, self._rests_until, self._ended_at, self._left_at, self._quiet_at):
            memory.clear()
        self.meet(self.dirty)
        self._idle_wait.clear()
        self._calm.clear()
        self._postponed.clear()
        self.may_toggle()

    def meet(self, units: Iterable[Unit]) -> None:
        """``units`` are looked at for the first time: whom they served before is not known."""
        self._met = set(units)

    def may_toggle(self) -> None:
        """What was opened and closed so far does not count as flapping."""
        self._toggled_at.clear()

    def desired(self, claimed: Claimed | None, observed: ObservedUnit, now: float) -> DesiredUnit:
        """What the unit should be now, all times considered."""
        unit, timing, rules = observed.unit, self._timing, self._kind.rules(observed.unit)
        servers = claimed.resolution.servers if claimed else ()
        attributes = claimed.attributes if claimed else NO_ATTRIBUTES
        self._servers[unit] = len(observed.servers) + (claimed.resolution.size if claimed else 0)
        self._rest(unit, now + REST_SECONDS_PER_SERVER * self._servers[unit])
        waits = self._waits_for_others(observed, servers, attributes, now)
        if waits:
            servers, attributes = (), observed.attributes
        usable = is_open = any(server.state == "ready" for server in servers)
        # A shared port is open for all who share it, whether any of them has servers.
        grace = None if claimed and claimed.shared else rules.conceal_after_seconds
        if waits:
            self._postponed[unit] = "its former Route's clients had to be gone"
        elif grace is None:
            is_open = claimed is not None
        elif usable or not (claimed and observed.open):
            self._unusable_since.pop(unit, None)
        else:
            # It stays open for a while: what closed it may be over in a moment.
            closes_at = self._unusable_since.setdefault(unit, now) + grace
            if now < closes_at:
                is_open = True
                self.look_at(unit, closes_at)
                over = format_duration(grace)
                self._postponed[unit] = f"without a server for timing.close_after ({over})"
        if is_open != observed.open:
            toggle_at = self._toggled_at.get(unit, float("-inf")) + rules.min_toggle_seconds
            if now < toggle_at:
                self._postponed[unit] = (
                    f"it was {'opened' if observed.open else 'closed'} just before and had to cool"
                    f" down for {format_duration(rules.min_toggle_seconds)}"
                )
                is_open = observed.open
                self.look_at(unit, toggle_at)
        keys = claimed.keys if claimed and is_open else frozenset[ClaimKey]()
        if is_open and not keys:
            # It rests, whoever had it.
            keys = observed.exposed
        handed = frozenset(key for key in observed.exposed - keys if self._is_handed(key, unit))
        if handed:
            # Until it leads there, its clients are served here.
            self.look_at(unit, now + REST_SECONDS)
        left = self._left_seconds(observed, now)
        if handed and not claimed:
            attributes = observed.attributes
        return DesiredUnit(
            unit,
            keys,
            servers,
            timing.servers_max,
            self._drain_deadline(claimed),
            left,
            timing.sessions_per_second if now >= self._may_end_at(unit) else 0,
            frozenset(name for name in left if self._is_own(observed.servers[name].address)),
            handed,
            attributes,
            waits,
        )

    def _waits_for_others(
        self,
        observed: ObservedUnit,
        servers: Iterable[DesiredServer],
        attributes: Attributes,
        now: float,
    ) -> bool:
        """Whether ``servers`` are only for those that their Route lets in, and clients that another
        one has let in may be on their way to a server: in a queue, or because another failed. They
        have none to go to while all are in maint."""
        unit, slots = observed.unit, observed.servers.values()
        is_new, is_quiet = unit in self._met, all(slot.state == "maint" for slot in slots)
        self._met.discard(unit)
        if not is_quiet:
            self._quiet_at.pop(unit, None)
        elif unit not in self._quiet_at:
            # A HAProxy that was met with nothing there served nobody; or long ago.
            is_unused = is_new and all(slot.address == PARKED for slot in slots)
            self._quiet_at[unit] = float("-inf") if is_unused else now
        asked, asks = self._kind.judged_by(observed.attributes), self._kind.judged_by(attributes)
        if asks in ("", asked):
            return False
        if is_quiet:
            gone_at = self._quiet_at[unit] + self._kind.rules(unit).let_in_seconds
            if now < gone_at:
                self.look_at(unit, gone_at)
            return now < gone_at
        wanted = {server.address for server in servers}
        serves = any(slot.address in wanted and slot.state != "maint" for slot in slots)
        # The Route that is served gets a list only now.
        return bool(asked) or not serves

    def changed(self, item: Plan, now: float) -> None:
        """``item`` is about to be applied."""
        self._rest(item.unit, now + REST_SECONDS)
        self._idle_wait.pop(item.unit, None)
        if item.toggles:
            self._toggled_at[item.unit] = now
            self._postponed.pop(item.unit, None)
        if item.ends_sessions:
            self._ended_at[item.unit] = now

    def reasons(self, item: Plan, claimed: Claimed | None, observed: ObservedUnit) -> Iterator[str]:
        """Why ``item``, for a unit that is ``observed``, is due though nothing changed: which
        setting's time was over, or what ended."""
        if item.toggles and (postponed := self._postponed.get(item.unit)):
            yield postponed
        ending = [part.server for part in item.tidy if isinstance(part, EndSessions)]
        if len(ending) < len(item.tidy):
            yield "a removed endpoint has no sessions left"
        if any(self._is_own(observed.servers[name].address) for name in ending):
            yield "a server is this router itself"
        overdue = [name for name in ending if not self._is_own(observed.servers[name].address)]
        if overdue or item.ending:
            own = claimed and claimed.policies.get(DRAIN_DEADLINE) is not None
            whose = "the Route's drain-deadline" if own else "drain.deadline"
            yield f"{whose} ({format_duration(self._drain_deadline(claimed))}) has passed"

    def refused(self, unit: Unit) -> None:
        """HAProxy did not carry out what it was given: whether the unit opened or closed is not
        known, and that it did must not put off trying again."""
        self._toggled_at.pop(unit, None)

    def _rest(self, unit: Unit, until: float) -> None:
        self._rests_until[unit] = max(until, self._rests_until.get(unit, until))

    def applied(self, unit: Unit, now: float) -> float | None:
        """HAProxy took the unit's first operations since it was dirty. Returns how long that took,
        if this is the first time."""
        if unit not in self.dirty or unit in self._applied:
            return None
        self._applied.add(unit)
        return now - self.dirty[unit]

    def settled(self, claimed: Claimed | None, observed: ObservedUnit, now: float) -> float | None:
        """The unit is as desired. Returns how long that took, if it was dirty."""
        unit = observed.unit
        if leaving(observed):
            self._look_for_idle(unit, self._drain_deadline(claimed), now)
        else:
            self._idle_wait.pop(unit, None)
        self._applied.discard(unit)
        since = self.dirty.pop(unit, None)
        return None if since is None else now - since

    def _look_for_idle(self, unit: Unit, deadline: float, now: float) -> None:
        """Come back to slots that wait for their sessions' end: less and less often, but when
        the time of some is over."""
        wait = self._idle_wait.get(unit, TIDY_SECONDS)
        self._idle_wait[unit] = min(wait * 2, self._timing.resync_seconds)
        is_calm = unit not in self._due
        if deadline > 0:
            left_at = self._left_at.get(unit, {}).values()
            ends = [max(at + deadline, self._may_end_at(unit)) - now for at in left_at]
            is_calm = is_calm and all(wait < end for end in ends)
            wait = min([wait, *ends])
        self.look_at(unit, now + wait)
        if is_calm:
            self._calm.add(unit)

    def _may_end_at(self, unit: Unit) -> float:
        return self._ended_at.get(unit, float("-inf")) + TIDY_SECONDS

    def _left_seconds(self, observed: ObservedUnit, now: float) -> Mapping[str, float]:
        """slot -> for how long it has been in maint, not known to be idle; never too long."""
        known = self._left_at.pop(observed.unit, {})
        checked = self._kind.classes[observed.unit].check
        left_at = {}
        for name, slot in observed.servers.items():
            if slot.state == "maint" and not is_idle(slot):
                # A sidecar that was not there has HAProxy's word, in whole seconds begun; but of
                # a checked server HAProxy counts from when it last was up.
                since = 0 if checked else max(0, slot.seconds_since_change - 1)
                left_at[name] = known.get(name, now - since)
        if left_at:
            self._left_at[observed.unit] = left_at
        return {name: now - at for name, at in left_at.items()}

    def _drain_deadline(self, claimed: Claimed | None) -> float:
        own = claimed.policies.get(DRAIN_DEADLINE) if claimed else None
        return self._timing.drain_deadline_seconds if own is None else own
