"""When the API server may be asked to write something, and what follows from its answer.

Owns the one place that asks, the pace of it, what is not permitted and for how long, what is tried
again and when, and who gives way where somebody else writes the same. Must not know what is
written, nor why. Of the writer's thread alone; reads no clock: ``now`` is given, in monotonic
seconds.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sidecar.common.backoff import Backoff, backoff_seconds
from sidecar.common.errors import ApiError, APIServerError
from sidecar.common.metrics import Metrics
from sidecar.kube.client import KubeClient
from sidecar.kube.pacing import CONTENTION_LONGEST_SECONDS, Contention, TokenBucket
from sidecar.model.objects import Key
from sidecar.reporting.cluster.backlog import Backlog

log = logging.getLogger(__name__)

#: Below the time that is left of a Lease when its holder gives up: what is under way when we
#: lose it has ended before the next one begins.
TIMEOUT_SECONDS = 4.0

#: What is not permitted is tried again this often: somebody may have been given the right.
_FORBIDDEN_SECONDS = 60.0

#: After a conflict the watch brings the newer object, which makes the Route due at once; this is
#: for one that does not come.
_CONFLICT_SECONDS = 5.0

#: A refusal is the object's own and may last; an API server that fails (5xx) works again sometime.
_REFUSED_MOST_SECONDS = 30.0
_FAILED_MOST_SECONDS = 4.0

#: The same fault is said this often, of whatever object.
_COMPLAIN_SECONDS = 60.0

_BURST_SECONDS = 5.0

_MERGE_PATCH = "application/merge-patch+json"

#: kind of write -> the right that it takes, and what goes without it.
_RIGHTS = {
    "status": ("patch routes/status", "status.ingress is not written"),
    "port": ("patch routes", '"auto" Routes get no port'),
    "event": ("create events", "no Events are written"),
    "service": ("get and patch that Service", "kubernetes.publish_service is not kept in sync"),
}


class DeliveryError(Exception):
    """A write of this ``kind`` did not work, and why."""

    def __init__(self, kind: str, error: APIServerError) -> None:
        super().__init__(kind, error)
        self.kind = kind
        self.error = error


class Delivery:
    """What one replica writes. ``backlog``: where it puts what has to be tried again."""

    def __init__(
        self,
        client: KubeClient,
        backlog: Backlog,
        metrics: Metrics,
        *,
        router_name: str,
        writes_per_second: float,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._backlog = backlog
        self._metrics = metrics
        self._router_name = router_name
        self._clock = clock
        self._bucket = TokenBucket(
            writes_per_second, max(1, round(_BURST_SECONDS * writes_per_second))
        )
        self._contention = Contention()
        # object -> how often in a row it could not be written
        self._attempts: dict[Key, int] = {}
        # kind of write, status and reason -> when it was last said that this goes wrong
        self._complained: dict[tuple[str, int, str], float] = {}
        # (kind of write, namespace) -> until when it is not tried, since it is not permitted
        self._forbidden: dict[tuple[str, str], float] = {}
        self._paused_until = float("-inf")
        self._outage = Backoff()
        self._say_contended_at = float("-inf")

    def wait_seconds(self, now: float) -> float:
        """How long nothing may be asked; 0.0 when something may."""
        if now < self._paused_until:
            return self._paused_until - now
        return self._bucket.wait_seconds(now)

    def begin_anew(self) -> None:
        """Another replica may have written: whatever we wrote is no measure any more."""
        self._contention = Contention()

    def ask(
        self, kind: str, key: Key, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Ask the API server; raises DeliveryError."""
        # What it takes to find out counts, too.
        self._bucket.take(self._clock())
        content_type = _MERGE_PATCH if method == "PATCH" else "application/json"
        result = "written"
        try:
            answer = self._client.request(
                method, path, body=body, content_type=content_type, timeout_seconds=TIMEOUT_SECONDS
            )
        except APIServerError as exc:
            result = _result(exc)
            raise DeliveryError(kind, exc) from exc
        finally:
            if method != "GET" or result != "written":
                self._metrics.api_writes.labels(kind, result).inc()
        self._outage.reset()
        if self._forbidden.pop((kind, key.namespace), None) is not None:
            log.info("namespace %s: %s is permitted again", key.namespace, _RIGHTS[kind][0])
        return answer

    def succeeded(self, key: Key) -> None:
        """Whatever was to be written of ``key`` is."""
        self._attempts.pop(key, None)

    def failed(self, key: Key, failed: DeliveryError, now: float) -> None:
        """Come back to ``key`` when it may work."""
        kind, error = failed.kind, failed.error
        status = error.status if isinstance(error, ApiError) else 0
        if self.pauses(error, now):
            self._backlog.later(key, now)
        elif status == 409:
            self._backlog.later(key, now + _CONFLICT_SECONDS)
        elif status == 403:
            self.forbid(kind, key, error, now)
            self._backlog.later(key, now)
        elif status == 404 and kind != "service":
            # The watch says so, too, or that there is a new one.
            self._backlog.later(key, now + _CONFLICT_SECONDS)
        else:
            attempts = self._attempts[key] = self._attempts.get(key, 0) + 1
            most = _FAILED_MOST_SECONDS if status >= 500 else _REFUSED_MOST_SECONDS
            self._backlog.later(key, now + backoff_seconds(attempts, most=most))
            # What is wrong with one is often wrong with thousands.
            what = kind, status, error.reason if isinstance(error, ApiError) else ""
            if now - self._complained.get(what, float("-inf")) > _COMPLAIN_SECONDS:
                self._complained[what] = now
                log.error("%s: %s; retrying it and similar ones until it works", key, error)

    def pauses(self, error: APIServerError, now: float) -> bool:
        """Whether the API server is away, does not know us or wants less of everything: then all
        wait."""
        if isinstance(error, ApiError) and error.status != 401:
            if error.status != 429 and error.retry_after_seconds is None:
                return False
            self._paused_until = now + (error.retry_after_seconds or backoff_seconds(1))
            return True
        self._paused_until = now + self._outage.next_seconds()
        if self._outage.attempts == 1:
            log.error("%s; pending writes are kept", error)
        return True

    def permitted(self, kind: str, key: Key, now: float) -> bool:
        """Whether such a write may be tried; if not, ``key`` comes back when it may."""
        until = self._forbidden.get((kind, key.namespace))
        if until is None or now >= until:
            return True
        self._backlog.later(key, until)
        return False

    def forbid(self, kind: str, key: Key, error: APIServerError, now: float) -> None:
        """The API server does not permit such writes in the namespace of ``key``."""
        if (kind, key.namespace) not in self._forbidden:
            right, without = _RIGHTS[kind]
            log.error(
                "namespace %s: missing permission to %s; without it %s, routing continues (%s)",
                key.namespace,
                right,
                without,
                error,
            )
        self._forbidden[kind, key.namespace] = now + _FORBIDDEN_SECONDS

    def gives_way(self, key: Key, contended: str, stands: object, now: float) -> bool:
        """Whether somebody else rewrites what we write, and it is not our turn yet: ``key`` comes
        back then. ``contended``: what it is about. ``stands``: what it has now."""
        wait = self._contention.wait_seconds(contended, stands, now)
        if not wait:
            return False
        self._backlog.later_than_others(key, now + wait)
        if self._contention.strikes(contended) > 1 and now >= self._say_contended_at:
            self._say_contended_at = now + CONTENTION_LONGEST_SECONDS
            log.error(
                "%s: another client keeps overwriting what this router writes: are there two"
                " routers named %r with different settings? Backing off",
                key,
                self._router_name,
            )
        return True

    def wrote(self, contended: str, value: object, now: float) -> None:
        """``value`` is what we made of it; see `gives_way`."""
        self._contention.wrote(contended, value, now)


def timestamp() -> str:
    """Now, as status and Events have it: RFC 3339, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _result(error: APIServerError) -> str:
    if not isinstance(error, ApiError):
        return "unreachable"
    named = {403: "forbidden", 404: "gone", 409: "conflict", 429: "throttled"}
    return named.get(error.status, "failed")
