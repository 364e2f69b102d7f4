"""Carries out plans: operations, and the questions after them, in as few exchanges as are safe.

Owns the order between units, and what is recorded of each operation. Decides nothing: what is done
about a unit that failed is `sidecar.control.reconciler`'s.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sidecar.common.errors import AddressNotShownError, CommandRefusedError, LocalProtocolError
from sidecar.common.metrics import Metrics
from sidecar.control.history import History
from sidecar.control.observer import Observer
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.operations import EndSession, Operation, SetAddress
from sidecar.haproxy.state import ObservedUnit, ProcessInfo, leaving
from sidecar.model.desired import Unit
from sidecar.planning.planner import PHASES, Plan

#: How long HAProxy may take to show an address that it accepted; measured: below 1 ms.
READBACK_SECONDS = 2.0

#: What stopped a unit's plan.
Failure = CommandRefusedError | LocalProtocolError | AddressNotShownError


#: Before servers that were added get their addresses, then before the barrier, behind it, and when
#: all units are served.
_ADD, _PREPARE, _SERVE, _TIDY = PHASES[:4], PHASES[4:5], PHASES[5:8], PHASES[8:]


class Applied(NamedTuple):
    """What became of some plans.

    ``info``: the process that answered. ``observed``: the units as they are now, but those that
    ``failed``; of these, what failed first.
    """

    info: ProcessInfo
    observed: dict[Unit, ObservedUnit]
    failed: Mapping[Unit, Failure]


class Applier:
    """Applies plans over ``client``, looks with ``observer``. ``clock``: monotonic seconds."""

    def __init__(
        self,
        client: RuntimeClient,
        observer: Observer,
        history: History,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._observer = observer
        self._history = history
        self._metrics = metrics
        self._clock = clock
        #: Whether the HAProxy that answers shows addresses late; see `Dialect`.
        self.shows_late = False

    def apply(self, plans: Mapping[Unit, Plan]) -> Applied:
        """Carry out ``plans`` phase by phase (see `sidecar.planning.planner`). Then look, at what
        these can have changed.

        A unit on which an operation fails gets those that are under way with it, and no further
        ones. Raises RuntimeAPIError when HAProxy goes away.
        """
        failed: dict[Unit, Failure] = {}
        self._reach_barrier(plans, failed)
        touched = {key for item in plans.values() for key in item.touched}
        look = self._observer.look_at(plans.keys() - failed.keys(), touched=touched)
        if any(item.ending for item in plans.values()):
            self._carry_out(plans, failed, _SERVE, ())
            ids = self._observer.session_ids()
            tables = self._carry_out(plans, failed, [*_TIDY, lambda i: _end(i, ids)], look.lines)
        else:
            tables = self._carry_out(plans, failed, [*_SERVE, *_TIDY], look.lines)

        def counts(seen: ObservedUnit) -> bool:
            """What just went to maint is of interest to endpoints that found no room; else it is
            tidied when a later look finds it idle."""
            item = plans[seen.unit]
            needed = item.assignment.left_out or item.rest
            return leaving(seen) and (bool(needed) or not _is_parked(item, seen))

        info, units = self._observer.seen(look, tables, counts)
        units = {unit: seen for unit, seen in units.items() if unit not in failed}
        return Applied(info, units, failed)

    def _reach_barrier(self, plans: Mapping[Unit, Plan], failed: dict[Unit, Failure]) -> None:
        """Conceal and prepare, until HAProxy shows the addresses that it was given. Units on which
        it does not, or refuses something, are added to ``failed``."""
        waiting = {unit: item.readback for unit, item in plans.items() if item.readback}
        asked = waiting
        first = _ADD
        if any(item.add for item in plans.values()):
            # A name that somebody else took meanwhile is of a server with who knows what options.
            self._carry_out(plans, failed, _ADD, ())
            first = ()
        phases = (*first, *_PREPARE)
        tables = self._carry_out(plans, failed, phases, self._observer.readback_of(asked))
        deadline = self._clock() + READBACK_SECONDS
        while True:
            shown = self._observer.addresses_shown(asked, tables) | failed.keys()
            waiting = {unit: wanted for unit, wanted in waiting.items() if unit not in shown}
            if not waiting:
                return
            if self._clock() > deadline:
                failed |= {unit: AddressNotShownError() for unit in waiting}
                return
            asked = waiting
            tables = self._client.ask_all(self._observer.readback_of(asked))

    def _carry_out(
        self,
        plans: Mapping[Unit, Plan],
        failed: dict[Unit, Failure],
        phases: Iterable[Callable[[Plan], Iterable[Operation]]],
        questions: Sequence[str],
    ) -> list[str]:
        """Apply ``phases`` of the plans of all units but ``failed``, to which those are added on
        which HAProxy refuses something. Returns what it then answers to ``questions``.

        Where HAProxy goes away before it answered those, nobody knows what it carried out, and
        nothing is recorded.
        """
        operations = [
            operation
            for phase in phases
            for unit, item in plans.items()
            if unit not in failed
            for operation in phase(item)
        ]
        if not operations:
            return self._client.ask_all(questions)
        late = self.shows_late and any(isinstance(item, SetAddress) for item in operations)
        began = self._clock()
        outcomes, tables = self._client.apply_and_ask(operations, () if late else questions)
        self._history.record(operations, outcomes, self._clock() - began)
        done = Counter(map(type, operations))
        for operation, outcome in zip(operations, outcomes, strict=True):
            if not isinstance(outcome, str):
                done[type(operation)] -= 1
                self._metrics.refusals.labels(type(operation).__name__).inc()
                failed.setdefault(operation.unit, outcome)
        for kind, count in (+done).items():
            self._metrics.operations.labels(kind.__name__).inc(count)
        return self._client.ask_all(questions) if late else tables


def _end(item: Plan, ids: Mapping[tuple[Unit, str], Sequence[str]]) -> Iterator[Operation]:
    """Those sessions by name that end alone. ``ids``: (unit, server name) -> its sessions."""
    if ending := item.ending:
        for name in ids.get((item.unit, ending.server), ())[: ending.count]:
            yield EndSession(item.unit, name)


def _is_parked(item: Plan, seen: ObservedUnit) -> bool:
    """Whether the slots that ``item`` parks show it."""
    parked = [part for part in item.tidy if isinstance(part, SetAddress)]
    return all(
        (slot := seen.servers.get(part.server)) and slot.address == part.address for part in parked
    )
