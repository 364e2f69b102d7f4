"""The HAProxy at the other end: who answers, whether it may be changed, and when to try again.

Owns all that is remembered about the process behind the connection, and the words for its coming
and going. Must not know what is desired. One thread calls it.
"""

import logging
from collections.abc import Callable

from sidecar.common.errors import RemoteProtocolError, RuntimeAPIError, StoppingError
from sidecar.common.log_fields import about
from sidecar.common.metrics import Metrics
from sidecar.control.outage import Outage
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.dialect import Dialect
from sidecar.haproxy.state import ProcessInfo

log = logging.getLogger(__name__)

#: How often to ask an idle HAProxy whether it is stopping: our connection would keep it from it.
ALIVE_SECONDS = 1.0


class Connection:
    """What is known of the process behind ``client``. ``clock``: monotonic seconds."""

    def __init__(self, client: RuntimeClient, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._client = client
        self._metrics = metrics
        self._clock = clock
        self._outage = Outage()
        self._leaving = False
        self._asked_at = float("-inf")
        #: Before that nothing is to be tried.
        self.retry_at = 0.0
        self.error: RuntimeAPIError | None = None
        #: The last one that was met, see `meet`; and what it can.
        self.process: ProcessInfo | None = None
        self.dialect: Dialect | None = None
        #: The identity of the one that answered last; None since it failed to.
        self.answering: tuple[int, int] | None = None

    def leave(self) -> None:
        """From now on HAProxy is expected to stop: that is no error, and it is not waited for."""
        self._leaving = True

    @property
    def gone(self) -> bool:
        """While leaving: nobody answers at HAProxy's socket any more."""
        # One failure may be a hiccup, or our letting go of it.
        return self._leaving and self._outage.attempts > 1

    def renew(self) -> bool:
        """Let go of a HAProxy that has given its socket to another; whether it had."""
        if not self._client.superseded:
            return False
        log.warning("%s now belongs to another HAProxy: reconnecting", self._client.address)
        self._client.close()
        return True

    def must_go_on(self, info: ProcessInfo) -> None:
        """``info`` answered. A stopping HAProxy answers on our connection, while a new one may have
        the socket: raises StoppingError then."""
        self._asked_at = self._clock()
        if info.stopping:
            raise StoppingError(self._client.address, info.pid, info.current_connections)
        self.answering = info.identity

    @property
    def must_ask(self) -> bool:
        """Whether nobody has asked HAProxy who it is for so long."""
        return self._clock() >= self._asked_at + ALIVE_SECONDS

    def is_new(self, info: ProcessInfo) -> bool:
        return self.process is None or info.identity != self.process.identity

    def meet(self, info: ProcessInfo) -> Dialect:
        """A HAProxy that was not known answers: what it can."""
        if self.process is None:
            log.info(
                "connected to HAProxy %s, PID %d",
                info.version,
                info.pid,
                extra=about(pid=info.pid, version=info.version),
            )
        else:
            self._metrics.restarts.inc()
            log.warning(
                "HAProxy was restarted (PID %d, was %d): restoring its state",
                info.pid,
                self.process.pid,
                extra=about(pid=info.pid, version=info.version),
            )
        self.process = info
        self.dialect = Dialect(info.version_tuple)
        return self.dialect

    def works(self) -> None:
        """All that was asked and sent was answered."""
        if self.error:
            log.info("HAProxy answers again")
        self.error = None
        self._outage.over()

    def failed(self, error: RuntimeAPIError) -> bool:
        """Something was not answered, or the process that answers is stopping. Whether the
        connection was given up."""
        self.answering = None
        if self._leaving and isinstance(error, StoppingError) and error.sessions:
            # Keep the connection, over which alone it can be told when the last session has ended.
            if not isinstance(self.error, StoppingError):
                log.info("%s; remaining sessions: %d", error.problem, error.sessions)
            self.error = error
            self.retry_at = self._clock() + ALIVE_SECONDS
            return False
        self._client.close()
        if self._client.address not in str(error):
            # Who parses a reply does not know where it came from.
            where = f"HAProxy's Runtime API at {self._client.address}"
            error = RemoteProtocolError(f"{where}: {error}")
        self._metrics.connection_errors.inc()
        now, met = self._clock(), self.process is not None
        self.retry_at = now + self._outage.failed(error, now, met=met, leaving=self._leaving)
        self.error = error
        return True
