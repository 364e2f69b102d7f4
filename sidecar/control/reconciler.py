"""The level-based loop: compare desired with observed, apply the difference, read back, repeat.

Owns the rounds, and what is known of each unit. Keeps no copy of HAProxy's state to decide on: each
round looks afresh. Who HAProxy is, `sidecar.control.connection` knows. One thread calls it.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType

from sidecar.common.errors import CommandRefusedError, RuntimeAPIError
from sidecar.common.log_fields import about
from sidecar.common.metrics import Metrics
from sidecar.common.text import few
from sidecar.control.applier import Applied, Applier, Failure
from sidecar.control.connection import ALIVE_SECONDS, Connection
from sidecar.control.drift_watch import DriftWatch
from sidecar.control.history import History, Met
from sidecar.control.known import Known
from sidecar.control.observer import Observer
from sidecar.control.sampler import Sampler
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.dialect import SERVER_IN_USE, SERVERS_FIXED, remedy_of
from sidecar.haproxy.state import ObservedUnit, ProcessInfo
from sidecar.listeners.base import ListenerKind
from sidecar.model.desired import ClaimKey, Unit
from sidecar.model.objects import Cause
from sidecar.model.pool import Address
from sidecar.planning.planner import Plan, plan
from sidecar.planning.schedule import TIDY_SECONDS, Schedule, Timing
from sidecar.routing.claimed import Claimed

log = logging.getLogger(__name__)

_NO_CAUSES: Mapping[Unit, Cause | str] = MappingProxyType({})

#: What a unit is claimed for, or None; asked only for units that are about to be compared.
Claims = Callable[[Unit], Claimed | None]

#: Rounds of look, plan and apply before a unit that still differs has to wait. A replacement of
#: all servers of a full backend takes four; more means that HAProxy does not do what it says.
ROUNDS_MAX = 6


class Reconciler:
    """Brings the units of ``kind`` to what is claimed, and keeps them there. ``clock``: monotonic
    seconds. ``is_own``: whether an address is the router itself. ``is_handed``: see `Schedule`.
    ``adopt``: called when a HAProxy was met and seen as a whole, before it is compared.
    ``prepares``: whether units may wait for something else of a HAProxy that was met; `prepared` is
    called then.

    Longer than a class should be: its methods are the steps of one round, and are read together.
    """

    def __init__(
        self,
        client: RuntimeClient,
        kind: ListenerKind,
        metrics: Metrics,
        timing: Timing,
        clock: Callable[[], float] = time.monotonic,
        is_own: Callable[[Address], bool] = lambda _: False,
        is_handed: Callable[[ClaimKey, Unit], bool] = lambda *_: False,
        adopt: Callable[[], None] = lambda: None,
        *,
        prepares: bool = False,
    ) -> None:
        self._client = client
        self._kind = kind
        self._metrics = metrics
        self._timing = timing
        self._clock = clock
        self._connection = Connection(client, metrics, clock)
        self.observer = Observer(client, kind)
        #: What HAProxy counts; for reports only.
        self.sampler = Sampler(client, clock)
        self.history = History(kind, time.time)
        self._applier = Applier(client, self.observer, self.history, metrics, clock)
        self._drift = DriftWatch(kind, self.history, metrics)
        self._schedule = Schedule(kind, timing, is_own, is_handed)
        self._adopt = adopt
        self._prepares = prepares
        # the units still to be compared before HAProxy serves; None: not known yet
        self._awaited: set[Unit] | None = None
        #: Of units and HAProxy, for reports.
        self.known = Known(kind, self._schedule, self._connection)
        # units whose backend refuses to have servers added
        self._fixed: set[Unit] = set()
        self._resync_at = 0.0
        #: How often HAProxy was changed; the state file is saved when it grew.
        self.changes = 0

    def mark(self, units: Iterable[Unit], causes: Mapping[Unit, Cause | str] = _NO_CAUSES) -> None:
        """Something about ``units`` changed: compare them at the next step, whatever it was.
        ``causes``: unit -> what it was, for the history."""
        now = self._clock()
        for unit in units:
            if unit in self._kind.classes:
                self._schedule.mark(unit, now)
                if cause := causes.get(unit):
                    self.history.blame(unit, cause)

    def prepared(
        self, units: Collection[Unit], causes: Mapping[Unit, Cause | str] = _NO_CAUSES
    ) -> None:
        """What units wait for, beside the reconciler, was done as far as possible: of ``units``
        something else is so by it. Of a HAProxy that was met, they are still to be compared."""
        self.mark(units, causes)
        if self._awaited is None:
            self._awaited = {unit for unit in units if unit in self._kind.classes}
            self._judge_programmed()

    def _judge_programmed(self) -> None:
        """Whether HAProxy was brought to what is desired, but for what fails or is held."""
        is_done = self._awaited is not None and self._awaited <= self.known.held
        if is_done and self.known.is_compared:
            self.known.programmed = self.known.compared

    def hold(self, units: frozenset[Unit]) -> None:
        """Leave ``units`` as they are, whatever is desired, until they are released."""
        released = self.known.held - units
        self.known.held = units
        self._drift.unsettle(units)
        for unit in units:
            self._schedule.forget(unit)
            self.known.failures.over(unit)
        self.mark(released, dict.fromkeys(released, "the port was released"))
        if released:
            self._resync_at = self._clock()  # whatever was done to them by hand

    @property
    def gone(self) -> bool:
        """See `Connection.gone`."""
        return self._connection.gone

    def leave(self) -> None:
        """See `Connection.leave`."""
        self._connection.leave()

    def disconnected(self) -> None:
        """The connection was seen to break while idle: look at once."""
        self._client.close()
        self._resync_at = self._clock()

    def step(self, claims: Claims | None) -> float:
        """Do what is due. Returns in how many seconds to call again if nothing happens before.
        Without ``claims``, while nobody knows what is desired, HAProxy is only asked who it is.

        Never raises for a fault of HAProxy: it is kept, logged and tried again.
        """
        connection = self._connection
        if self._clock() >= connection.retry_at:
            try:
                self._step(claims)
            except RuntimeAPIError as exc:
                if connection.failed(exc):
                    self._resync_at = connection.retry_at
            else:
                connection.works()
        self._metrics.converged.set(self.known.converged)
        if connection.error:
            return max(0.0, connection.retry_at - self._clock())
        if claims is None:
            return ALIVE_SECONDS
        at = min(self._resync_at, self._schedule.next_at())
        return 0.0 if self.sampler.is_due else max(0.0, at - self._clock())

    def _step(self, claims: Claims | None) -> None:
        now = self._clock()
        if self._connection.renew():
            self._resync_at = now
        if claims is None:
            self._connection.must_go_on(self.observer.info())
            return
        resync = now >= self._resync_at
        if self.sampler.is_due and not resync and (process := self._connection.process):
            # Not in the step of the compare: what that has found does not wait for reports.
            self.sampler.sample(process)
        due, costly = self._schedule.take_due(now)
        groups = [due - self.known.held, costly - self.known.held]
        if resync:
            groups = [set(self._kind.classes)]
        try:
            for units in filter(None, groups):
                self._converge(units, claims)
                if self._awaited:
                    self._awaited -= units
            if not any(groups) and self._connection.must_ask:
                self._connection.must_go_on(self.observer.info())
        except RuntimeAPIError:
            for unit in due | costly:
                self._schedule.look_at(unit, now)
            raise
        if any(groups):
            # A HAProxy that was not known has been compared as a whole.
            self.known.compared = self._connection.answering
        self._judge_programmed()
        if resync:
            self.sampler.is_due = True
            self._resync_at = self._clock() + self._timing.resync_seconds

    def _converge(self, units: set[Unit], claims: Claims) -> None:
        """Rounds of look, plan, apply, until ``units`` show what is desired; held ones are only
        looked at."""
        info, observed = self._look(units)
        met = self._connection.is_new(info)
        if met:
            whole = set(self._kind.classes)
            if units != whole:
                units = whole
                info, observed = self._look(units)
            self._meet(info, observed)
        drift = {}
        if surprise := self._drift.changed_by_others(self.known.observed, observed):
            # Look twice: what we applied may show a moment later (3.0 and later).
            _, again = self._look(surprise.keys())
            drift = self._drift.changed_by_others(self.known.observed, again)
            observed.update(again)
        self._begin(info, claims, observed)
        for number in range(ROUNDS_MAX + 1):
            plans = self._plans(claims, observed)
            work = {unit: item for unit, item in plans.items() if item}
            if number == 0:
                self._drift.found(drift, work)
            self._blame(claims, observed, work, Met(info.pid) if met else None)
            self._settle(claims, observed, plans, work)
            for unit in units - observed.keys() - self.known.held:
                self._absent(unit, claims)
            if not work:
                return
            if number == ROUNDS_MAX:
                break
            applied = self._apply(work)
            units, observed = work.keys() - applied.failed.keys(), applied.observed
            if met:
                # What is put right at a first meeting is not a unit that flaps.
                self._schedule.may_toggle()
        for unit, item in work.items():
            self._fail(unit, f"not converged after {ROUNDS_MAX} rounds: {_shown(item)}")

    def _look(self, units: Collection[Unit]) -> tuple[ProcessInfo, dict[Unit, ObservedUnit]]:
        info, observed = self.observer.look(units, counted=self._schedule.leaving)
        self._connection.must_go_on(info)
        return info, observed

    def _meet(self, info: ProcessInfo, observed: Mapping[Unit, ObservedUnit]) -> None:
        """A HAProxy that we do not know answers, with ``observed`` of the pool: compare it all."""
        dialect = self._connection.meet(info)
        self._applier.shows_late = dialect.shows_addresses_late
        self._schedule.begin(observed.keys() - self.known.held, self._clock())
        self._drift.unsettle(self._kind.classes)
        self._fixed.clear()
        self.known.begin(observed.keys(), self._kind.problems(observed))
        self._awaited = None if self._prepares else set()
        # What is claimed may be other units now.
        self.known.saw(observed, {})
        self._adopt()
        for problem in (*dialect.problems, *self.known.pool_problems):
            log.error("%s", problem)

    def _begin(
        self, info: ProcessInfo, claims: Claims, observed: Mapping[Unit, ObservedUnit]
    ) -> None:
        """What units without a port count is their present Routes' from now on."""
        owners = {
            unit: claimed.route.key
            for unit in observed
            if self._kind.port(unit) is None and (claimed := claims(unit))
        }
        if owners:
            self.sampler.begin(info, owners)

    def _plans(self, claims: Claims, observed: Mapping[Unit, ObservedUnit]) -> dict[Unit, Plan]:
        dialect = self._connection.dialect
        can_add = dialect is not None and dialect.adds_servers
        return {
            unit: plan(
                self._schedule.desired(claims(unit), seen, self._clock()),
                seen,
                self._kind,
                can_add=can_add and unit not in self._fixed,
            )
            for unit, seen in observed.items()
            if unit not in self.known.held
        }

    def _blame(
        self,
        claims: Claims,
        observed: Mapping[Unit, ObservedUnit],
        work: Mapping[Unit, Plan],
        met: Met | None,
    ) -> None:
        """Say for the history why there is ``work``. ``met``: HAProxy is one that was not known."""
        for unit, item in work.items():
            if met:
                self.history.blame(unit, met)
            if unit in self.known.failures:
                self.history.blame(unit, "an earlier attempt failed")
            elif not self.history.blames(unit):
                reasons = list(self._schedule.reasons(item, claims(unit), observed[unit]))
                if unit in self.known.left_out:
                    reasons = reasons or ["there is room for an endpoint that was skipped"]
                for reason in reasons or ["a comparison found a difference"]:
                    self.history.blame(unit, reason)

    def _settle(
        self,
        claims: Claims,
        observed: Mapping[Unit, ObservedUnit],
        plans: Mapping[Unit, Plan],
        work: Collection[Unit],
    ) -> None:
        """Remember what was seen, and which units are as desired now."""
        now = self._clock()
        self.known.saw(observed, plans)
        settled = {unit for unit in plans.keys() - work if plans[unit].is_done}
        self._drift.settle(settled)
        self._drift.unsettle(plans.keys() - settled)
        for unit in settled:
            failed = self.known.failures.over(unit)
            self.history.settled(unit)
            took = self._schedule.settled(claims(unit), observed[unit], now)
            if failed or took is not None:
                self.known.touch([unit])
            if took is not None:
                self._metrics.verified_seconds.observe(took)

    def _apply(self, plans: Mapping[Unit, Plan]) -> Applied:
        """Carry out ``plans``."""
        self.changes += 1
        self.known.touch(plans)
        now = self._clock()
        for unit, item in plans.items():
            self._schedule.changed(item, now)
            for name in item.assignment.taken_busy:
                log.warning(
                    "%s: no free slot; reusing %s, which still has sessions of its previous"
                    " endpoint; add slots to the pool",
                    self._kind.title(unit),
                    name,
                    extra=about(**self._kind.log_fields(unit), server=name),
                )
        # A key that another unit has so far leaves it by this.
        taken = {part.key for item in plans.values() for part in item.expose}
        seen = self.known.observed.items() if taken else ()
        self._drift.unsettle(unit for unit, was in seen if not taken.isdisjoint(was.exposed))
        applied = self._applier.apply(plans)
        self._connection.must_go_on(applied.info)
        now = self._clock()
        for unit in plans.keys() - applied.failed.keys():
            if (took := self._schedule.applied(unit, now)) is not None:
                self._metrics.applied_seconds.observe(took)
        for unit, failure in applied.failed.items():
            self._schedule.refused(unit)
            self._stopped_by(unit, failure)
        return applied

    def _stopped_by(self, unit: Unit, failure: Failure) -> None:
        """A plan was not carried out: plan otherwise, or try again."""
        reply = failure.reply if isinstance(failure, CommandRefusedError) else ""
        if reply == SERVERS_FIXED:
            # Plan without added servers from now on: more endpoints than slots are left out.
            self._fixed.add(unit)
            self._schedule.look_at(unit, self._clock())
            log.warning(
                "%s: HAProxy cannot add servers (%s); limited to the configured slots",
                self._kind.title(unit),
                reply,
                extra=about(**self._kind.log_fields(unit)),
            )
        elif reply == SERVER_IN_USE:
            self._schedule.look_at(unit, self._clock() + TIDY_SECONDS)
        else:
            self._fail(unit, "; ".join(filter(None, (str(failure), remedy_of(reply)))))

    def _fail(self, unit: Unit, message: str) -> None:
        self._schedule.look_at(unit, self.known.failures.add(unit, message, self._clock()))
        self.known.touch([unit])

    def _absent(self, unit: Unit, claims: Claims) -> None:
        """HAProxy does not have ``unit``: of no matter unless somebody claims it."""
        self._schedule.forget(unit)
        if self.known.lost(unit):
            log.warning(
                "%s: changed by somebody else: it was deleted in HAProxy; only restarting HAProxy"
                " restores it",
                self._kind.title(unit),
                extra=about(**self._kind.log_fields(unit)),
            )
        if claims(unit):
            self._fail(unit, self._kind.absence(unit))
        else:
            self.known.failures.over(unit)


def _shown(item: Plan) -> str:
    """A plan's commands, shortened."""
    return few([str(operation.command()) for operation in item.operations], 3, "; ")
