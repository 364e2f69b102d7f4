"""Notes what HAProxy counts, now and then: for whoever asks what happened in the last minute, or to
a Route since it has its backend.

Owns what to ask, and whether: after each slow compare one table of all ports and backends, and the
servers of those ports on which something failed; and a backend for Routes by host, before anything
of a Route is programmed there. The loop's thread uses it; nothing is decided on it.
"""

from collections.abc import Callable, Mapping

from sidecar.haproxy import lease_counts
from sidecar.haproxy.attempts import Attempts, Base, Notes
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.lease_counts import BackendCounts
from sidecar.haproxy.naming import backend_name
from sidecar.haproxy.state import ProcessInfo
from sidecar.haproxy.stats import (
    Connections,
    parse_attempts,
    parse_connections,
    parse_server_traffic,
    parse_web_backends,
)
from sidecar.model.desired import Unit
from sidecar.model.objects import Key

#: The servers of so many ports at most: where more fail at once, it is not one server's doing.
_PORTS_MAX = 32

#: More backends than this are asked for in one table of all.
_ONE_BY_ONE = 64


class Sampler:
    """``clock``: monotonic seconds."""

    def __init__(self, client: RuntimeClient, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        #: Whether to `sample` as soon as there is time: after each slow compare.
        self.is_due = False
        self._process: tuple[int, int] | None = None
        self._notes = Notes()
        self._attempts: Mapping[int, Attempts] = {}
        #: port -> its connections, as last noted.
        self.connections: Mapping[int, Connections] = {}
        #: What backends for Routes by host count, as last noted, whoever had them.
        self.web: Mapping[Unit, BackendCounts] = {}
        self._leases: dict[Unit, lease_counts.LeaseBase] = {}

    def begin(self, process: ProcessInfo, owners: Mapping[Unit, Key]) -> None:
        """Of backends for Routes by host, these are about to be programmed for ``owners``, or have
        just been met: from now on what they count is theirs. Raises RuntimeAPIError."""
        self._meet(process)
        new = [
            unit
            for unit, route in owners.items()
            if (base := self._leases.get(unit)) is None or base.route != route
        ]
        if not new:
            return
        lines = ["show stat -1 2 -1"]
        if len(new) <= _ONE_BY_ONE:
            lines = [f"show stat {unit} 2 -1" for unit in new]
        found: dict[Unit, BackendCounts] = {}
        for table in self._client.ask_all(lines):
            found |= parse_web_backends(table)
        # What was noted of them before is a former Route's.
        self.web = {**self.web, **found}
        now = self._clock()
        for unit in new:
            self._leases.pop(unit, None)
            if counts := found.get(unit):
                self._leases[unit] = lease_counts.LeaseBase(
                    owners[unit], now, counts.counters, counts.most
                )

    def sample(self, process: ProcessInfo) -> None:
        """Ask HAProxy. Raises RuntimeAPIError."""
        self.is_due = False
        self._meet(process)
        table = self._client.ask("show stat -1 3 -1")
        self.connections = parse_connections(table)
        self._attempts = parse_attempts(table)
        self.web = parse_web_backends(table)
        failing = self._notes.note(self._attempts, self._clock())[:_PORTS_MAX]
        answers = self._client.ask_all([f"show stat {backend_name(port)} 4 -1" for port in failing])
        for port, answer in zip(failing, answers, strict=True):
            servers = parse_server_traffic(answer).get(port, {})
            self._notes.note_servers(port, {name: it.attempts for name, it in servers.items()})

    def _meet(self, process: ProcessInfo) -> None:
        """Another HAProxy counts from zero."""
        if process.identity != self._process:
            self._process = process.identity
            self._notes.forget()
            self._leases.clear()
            self.web = {}

    @property
    def leases(self) -> Mapping[Unit, lease_counts.LeaseBase]:
        """unit -> what to compare its figures with, and whose they are since."""
        return dict(self._leases)

    @property
    def full(self) -> list[int]:
        """The ports that were at their limit of connections."""
        return [port for port, it in self.connections.items() if it.full]

    def bases(self) -> Mapping[int, Base]:
        """port -> what to compare its counters with."""
        return self._notes.bases(self._clock())

    def attempts(self, bases: Mapping[int, Base]) -> Mapping[int, Attempts]:
        """port -> what was attempted since ``bases``, as of the last sample."""
        return {
            port: it.since(bases[port].port) for port, it in self._attempts.items() if port in bases
        }
