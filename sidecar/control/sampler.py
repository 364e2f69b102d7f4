"""Notes what HAProxy counts, now and then: for whoever asks what happened in the last minute.

Owns when and what to ask: with each slow compare one table of all ports, and the servers of those
ports on which something failed. The loop's thread uses it; nothing is decided on it.
"""

from collections.abc import Callable, Mapping

from sidecar.haproxy.attempts import Attempts, Base, Notes
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.naming import backend_name
from sidecar.haproxy.state import ProcessInfo
from sidecar.haproxy.stats import (
    Connections,
    parse_attempts,
    parse_connections,
    parse_server_traffic,
)

#: The servers of so many ports at most: where more fail at once, it is not one server's doing.
_PORTS_MAX = 32


class Sampler:
    """``clock``: monotonic seconds."""

    def __init__(self, client: RuntimeClient, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._process: tuple[int, int] | None = None
        self._notes = Notes()
        self._attempts: Mapping[int, Attempts] = {}
        #: port -> its connections, as last noted.
        self.connections: Mapping[int, Connections] = {}

    def sample(self, process: ProcessInfo) -> None:
        """Ask HAProxy. Raises RuntimeAPIError."""
        if process.identity != self._process:
            self._process = process.identity
            self._notes.forget()
        table = self._client.ask("show stat -1 3 -1")
        self.connections = parse_connections(table)
        self._attempts = parse_attempts(table)
        failing = self._notes.note(self._attempts, self._clock())[:_PORTS_MAX]
        answers = self._client.ask_all([f"show stat {backend_name(port)} 4 -1" for port in failing])
        for port, answer in zip(failing, answers, strict=True):
            servers = parse_server_traffic(answer).get(port, {})
            self._notes.note_servers(port, {name: it.attempts for name, it in servers.items()})

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
