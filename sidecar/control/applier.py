"""Carries out plans: operations, and the questions after them, in as few exchanges as are safe.

Owns the order between ports, and what is recorded of each operation. Decides nothing: what is done
about a port that failed is `sidecar.control.reconciler`'s.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from sidecar.common.errors import AddressNotShownError, CommandRefusedError, LocalProtocolError
from sidecar.common.metrics import Metrics
from sidecar.control.history import History
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.observer import Observer
from sidecar.haproxy.operations import EndSession, EndSessions, Operation, SetAddress
from sidecar.haproxy.state import ObservedPort, ProcessInfo, leaving
from sidecar.planning.planner import PortPlan

#: How long HAProxy may take to show an address that it accepted; measured: below 1 ms.
READBACK_SECONDS = 2.0

#: What stopped a port's plan.
Failure = CommandRefusedError | LocalProtocolError | AddressNotShownError


class Applied(NamedTuple):
    """What became of some plans.

    ``info``: the process that answered. ``observed``: the ports as they are now, but those that
    ``failed``; of these, what failed first.
    """

    info: ProcessInfo
    observed: dict[int, ObservedPort]
    failed: Mapping[int, Failure]


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

    def apply(self, plans: Mapping[int, PortPlan], observed: Mapping[int, ObservedPort]) -> Applied:
        """Carry out ``plans``, made of ``observed``, in the planner's order: prepare, read back,
        activate; tidying comes last of all, since nobody waits for it. Then look, at what these
        can have changed.

        A port on which an operation fails gets those that are under way with it, and no further
        ones. Raises RuntimeAPIError when HAProxy goes away.
        """
        failed: dict[int, Failure] = {}
        self._reach_barrier(plans, failed)
        steady = {port: observed[port].open for port, item in plans.items() if not item.toggles}
        look = self._observer.look_at(plans.keys() - failed.keys(), known_open=steady)
        if any(map(_ends_single, plans.values())):
            self._carry_out(plans, failed, [_activate], ())
            ids = self._observer.session_ids()
            tables = self._carry_out(plans, failed, [lambda i: _tidy(i, ids)], look.lines)
        else:
            tables = self._carry_out(plans, failed, [_activate, _tidy], look.lines)

        def counts(seen: ObservedPort) -> bool:
            """What just went to maint is of interest to endpoints that found no room; else it is
            tidied when a later look finds it idle."""
            item = plans[seen.port]
            return leaving(seen) and (bool(item.assignment.left_out) or not _is_parked(item, seen))

        info, ports = self._observer.seen(look, tables, counts)
        ports = {port: seen for port, seen in ports.items() if port not in failed}
        return Applied(info, ports, failed)

    def _reach_barrier(self, plans: Mapping[int, PortPlan], failed: dict[int, Failure]) -> None:
        """Prepare, until HAProxy shows the addresses that it was given. Ports on which it does
        not, or refuses something, are added to ``failed``."""
        waiting = {port: item.readback for port, item in plans.items() if item.readback}
        asked = waiting
        tables = self._carry_out(plans, failed, [_prepare], self._observer.readback_of(asked))
        deadline = self._clock() + READBACK_SECONDS
        while True:
            shown = self._observer.addresses_shown(asked, tables) | failed.keys()
            waiting = {port: wanted for port, wanted in waiting.items() if port not in shown}
            if not waiting:
                return
            if self._clock() > deadline:
                failed |= {port: AddressNotShownError() for port in waiting}
                return
            asked = waiting
            tables = self._client.ask_all(self._observer.readback_of(asked))

    def _carry_out(
        self,
        plans: Mapping[int, PortPlan],
        failed: dict[int, Failure],
        parts: Iterable[Callable[[PortPlan], Iterable[Operation]]],
        questions: Sequence[str],
    ) -> list[str]:
        """Apply ``parts`` of the plans of all ports but ``failed``, to which those are added on
        which HAProxy refuses something. Returns what it then answers to ``questions``.

        Where HAProxy goes away before it answered those, nobody knows what it carried out, and
        nothing is recorded.
        """
        operations = [
            operation
            for part in parts
            for port, item in plans.items()
            if port not in failed
            for operation in part(item)
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
                failed.setdefault(operation.port, outcome)
        for kind, count in (+done).items():
            self._metrics.operations.labels(kind.__name__).inc(count)
        return self._client.ask_all(questions) if late else tables


def _prepare(item: PortPlan) -> Iterable[Operation]:
    return item.prepare


def _activate(item: PortPlan) -> Iterable[Operation]:
    return item.activate


def _ends_single(item: PortPlan) -> bool:
    """Whether some sessions of a server end and others do not."""
    return any(isinstance(part, EndSessions) and not part.all for part in item.tidy)


def _tidy(
    item: PortPlan, ids: Mapping[tuple[int, str], Sequence[str]] = MappingProxyType({})
) -> Iterator[Operation]:
    """The tidying of a port, with those sessions by name that end alone. ``ids``: (port, server
    name) -> its sessions."""
    for operation in item.tidy:
        if isinstance(operation, EndSessions) and not operation.all:
            for name in ids.get((item.port, operation.server), ())[: operation.count]:
                yield EndSession(item.port, name)
        else:
            yield operation


def _is_parked(item: PortPlan, seen: ObservedPort) -> bool:
    """Whether the slots that ``item`` parks show it."""
    parked = [part for part in item.tidy if isinstance(part, SetAddress)]
    return all(
        (slot := seen.servers.get(part.server)) and slot.address == part.address for part in parked
    )
