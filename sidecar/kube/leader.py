"""One writing replica among many: a thread that acquires and renews a Lease.

Owns the Lease's requests and the thread; `sidecar.kube.lease` decides what to do with a Lease. Not
the client library's election, which needs the wall clocks of two machines to agree, blocks its
thread in a sleep that cannot be interrupted, and cannot release the Lease.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Self

from sidecar.common.errors import ApiError, APIServerError
from sidecar.common.metrics import Metrics
from sidecar.kube.client import KubeClient
from sidecar.kube.lease import RETRY_SECONDS, Election, LeaseRecord, lease_body, read_record
from sidecar.model.objects import Key

log = logging.getLogger(__name__)

#: For one request: two of them must fit into the time in which a holder gives up.
_TIMEOUT_SECONDS = 4.0

_CONFLICT_SECONDS = 0.2

#: Whatever Retry-After says: a holder that waits for longer loses the Lease, and nobody writes.
_RETRY_AFTER_MAX_SECONDS = 5.0


class Leader:
    """Whether this replica leads; a context manager that lets go of the Lease when it ends.

    ``changed`` is called, from the Lease's thread, when that becomes different.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        identity: str,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity
        self.changed: Callable[[], None] = lambda: None
        self._client = client
        self._key = Key("Lease", namespace, name)
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._metrics = metrics
        self._clock = clock
        self._election = Election(identity)
        # as last read or written, for its resourceVersion; None: read it first
        self._lease: Mapping[str, Any] | None = None
        self._led = False
        self._said = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        metrics.leader.set_function(self.leads)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.leave()
        self._thread.join(2 * _TIMEOUT_SECONDS)

    def leave(self) -> None:
        """Lead no more from now on, and let go of the Lease so that another replica may have it;
        returns at once."""
        self._stop.set()

    def leads(self) -> bool:
        """Whether this replica may write, now. Asked before each write."""
        return not self._stop.is_set() and self._election.leads(self._clock())

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                seconds = self._turn()
            except Exception:
                # A thread that ended would leave nobody to write, or this replica out of it.
                log.exception("%s: internal error", self._key)
                seconds = RETRY_SECONDS
            self._tell()
            # client-go's jitter, so that candidates do not ask in step.
            self._stop.wait(seconds * random.uniform(1.0, 1.2))  # noqa: S311  no secret
        self._release()
        self._tell()

    def _turn(self) -> float:
        """Get or keep the Lease; in how many seconds to try again."""
        try:
            if self._lease is None or not self._election.leads(self._clock()):
                self._read()
            if self._election.wait_seconds(self._clock()) <= 0.0:
                self._write(self._election.claim(_timestamp()))
            self._said = ""
        except ApiError as exc:
            self._lease = None
            if exc.status == 409:
                # Somebody was faster: look who.
                return _CONFLICT_SECONDS
            self._complain(exc)
            return min(max(RETRY_SECONDS, exc.retry_after_seconds or 0.0), _RETRY_AFTER_MAX_SECONDS)
        except APIServerError as exc:
            self._lease = None
            self._complain(exc)
        return RETRY_SECONDS

    def _read(self) -> None:
        path = f"{self._collection}/{self._key.name}"
        try:
            self._lease = self._client.request("GET", path, timeout_seconds=_TIMEOUT_SECONDS)
        except ApiError as exc:
            if exc.status != 404:
                raise
            self._lease = None
        record = read_record(self._lease) if self._lease is not None else None
        before = self._election.observed
        self._election.observe(record, self._clock())
        if record is None:
            return
        self._metrics.lease_transitions.set(record.transitions)
        holder = record.holder
        if holder not in ("", self.identity) and (before is None or before.holder != holder):
            log.info("%s is the leader: it writes to the API server, this replica does not", holder)

    def _write(self, record: LeaseRecord) -> None:
        """Raises APIServerError when the Lease did not become ``record``, or nobody knows."""
        body = lease_body(self._key.namespace, self._key.name, record, self._lease)
        began = self._clock()
        if self._lease is None:
            method, path = "POST", self._collection
        else:
            # It holds the resourceVersion: a Lease that changed meanwhile refuses.
            method, path = "PUT", f"{self._collection}/{self._key.name}"
        self._lease = self._client.request(
            method, path, body=body, timeout_seconds=_TIMEOUT_SECONDS
        )
        # It may have lapsed meanwhile: whoever saw that waits to be told that we lead again.
        self._tell()
        self._election.written(record, began)
        self._metrics.lease_transitions.set(record.transitions)

    def _release(self) -> None:
        if self._election.release(_timestamp()) is None:
            return
        try:
            if self._lease is None:
                self._read()
            if (record := self._election.release(_timestamp())) is not None:
                self._write(record)
        except APIServerError as exc:
            log.warning("the Lease was not released and will expire: %s", exc)

    def _tell(self) -> None:
        leads = self._election.leads(self._clock())
        if leads == self._led:
            return
        self._led = leads
        if leads:
            log.info("became leader (%s, %s): writing to the API server", self._key, self.identity)
        elif self._stop.is_set():
            log.info("released %s", self._key)
        else:
            log.warning("lost leadership (%s): no longer writing", self._key)
        self.changed()

    def _complain(self, exc: APIServerError) -> None:
        """Say once what keeps us from the Lease, until it works again."""
        text = str(exc)
        if text != self._said:
            self._said = text
            log.error(
                "%s: %s; nothing is written until this is fixed, routing goes on",
                self._key,
                exc,
            )


def _timestamp() -> str:
    """Now, as a Lease has it: RFC 3339 with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
