"""Writes what became of Routes to the API server: status, kept ports, Events, a Service's ports.

Owns the queue of what may have to be written, and the thread that writes it. Only the leading
replica writes; each decision is taken when it is written, from what is known then, so that the
newest state wins and a lost or doubled wake-up does no harm. What to say, the pure modules beside
this one decide. Must never keep the loop that drives HAProxy waiting.
"""

import json
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from sidecar.common.backoff import Backoff, backoff_seconds
from sidecar.common.errors import ApiError, APIServerError, ObjectError
from sidecar.common.metrics import Metrics
from sidecar.kube.client import KubeClient
from sidecar.kube.leader import Leader
from sidecar.kube.pacing import (
    CONTENTION_LONGEST_SECONDS,
    Contention,
    DueKeys,
    TokenBucket,
)
from sidecar.model.change import Change
from sidecar.model.objects import Key, Route, RouteStatus
from sidecar.model.parsing import project_status
from sidecar.model.pool import format_ports
from sidecar.reporting.cluster.events import Discretion, Notice, event_body, notices
from sidecar.reporting.cluster.service_ports import published
from sidecar.reporting.cluster.status import (
    KEEP,
    Admitted,
    Entry,
    admitted,
    our_entry,
    said,
    updated,
)
from sidecar.reporting.outcome import Outcome

log = logging.getLogger(__name__)

#: Below the time that is left of a Lease when its holder gives up: what is under way when we
#: lose it has ended before the next one begins.
_TIMEOUT_SECONDS = 4.0

#: What is not permitted is tried again this often: somebody may have been given the right.
_FORBIDDEN_SECONDS = 60.0

#: After a conflict the watch brings the newer object, which makes the Route due at once; this is
#: for one that does not come.
_CONFLICT_SECONDS = 5.0

#: The Service is brought in step this long after the ports changed, and looked at this often.
_PUBLISH_AFTER_SECONDS = 1.0
_PUBLISH_AGAIN_SECONDS = 300.0

#: A refusal is the object's own and may last; an API server that fails (5xx) works again sometime.
_REFUSED_MOST_SECONDS = 30.0
_FAILED_MOST_SECONDS = 4.0

#: The same fault is said this often, of whatever object.
_COMPLAIN_SECONDS = 60.0

_BURST_SECONDS = 5.0
_EVENTS_WAITING_MAX = 1000

_MERGE_PATCH = "application/merge-patch+json"

#: kind of write -> the right that it takes, and what goes without it.
_RIGHTS = {
    "status": ("patch routes/status", "status.ingress is not written"),
    "port": ("patch routes", '"auto" Routes get no port'),
    "event": ("create events", "there are no Events"),
    "service": ("get and patch that Service", "kubernetes.publish_service is not kept in step"),
}

#: What an ``auto`` Route is told where its port may not be written to it.
_NO_AUTO = (
    'this router is forbidden to patch routes, which "auto" requires: set a port number, or have'
    " the router's component auto-ports applied, which grants it"
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be written.

    ``kept_port``: the annotation that keeps the port of an ``auto`` Route. ``publish_service``:
    namespace and name. ``writes_per_second``: of all kinds together, with bursts of five times
    as many.
    """

    router_name: str
    kept_port: str
    write_status: bool = True
    events: bool = True
    publish_service: tuple[str, str] | None = None
    writes_per_second: float = 10.0


@dataclass(frozen=True, slots=True)
class _Event:
    route: Key
    uid: str
    notice: Notice
    unique: str


class Writer:
    """A `Reporter` that tells the API server."""

    def __init__(
        self,
        client: KubeClient,
        leader: Leader,
        wishes: Wishes,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._leader = leader
        self._wishes = wishes
        self._metrics = metrics
        self._clock = clock
        self._service = wishes.publish_service and Key("Service", *wishes.publish_service)
        # Guards what `tell` brings and the queue; never held while something is asked.
        self._changed = threading.Condition()
        self._woken = False
        self._statuses: dict[Key, RouteStatus] = {}
        # None: told that it does not name this router; absent: not told yet
        self._outcomes: dict[Key, Outcome | None] = {}
        self._proposed: Mapping[Key, int] = {}
        # Route -> the port in its annotation
        self._kept: dict[Key, str | None] = {}
        self._told = False
        # Whether another may have written since we last did.
        self._anew = False
        self._queue: DueKeys[Key] = DueKeys()
        # What somebody else keeps rewriting: it gives way to all others, too.
        self._yielding: DueKeys[Key] = DueKeys()
        # from here on: the writer's thread alone
        self._bucket = TokenBucket(
            wishes.writes_per_second, max(1, round(_BURST_SECONDS * wishes.writes_per_second))
        )
        self._contention = Contention()
        self._discretion = Discretion()
        self._events: deque[_Event] = deque(maxlen=_EVENTS_WAITING_MAX)
        # Route -> its UID, and what we last made of its admission
        self._said: dict[Key, tuple[str, Admitted | None]] = {}
        # object -> how often in a row it could not be written
        self._attempts: dict[Key, int] = {}
        # kind of write, status and reason -> when it was last said that this goes wrong
        self._complained: dict[tuple[str, int, str], float] = {}
        # (kind of write, namespace) -> until when it is not tried, since it is not permitted
        self._forbidden: dict[tuple[str, str], float] = {}
        self._paused_until = float("-inf")
        self._outage = Backoff()
        self._say_contended_at = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        leader.changed = self._leader_changed

    def __enter__(self) -> Self:
        self._leader.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.leave()
        self._thread.join(2 * _TIMEOUT_SECONDS)
        self._leader.__exit__(*exc_info)

    def leave(self) -> None:
        """See `Reporter.leave`."""
        self._stop.set()
        self._wake()

    def tell(
        self,
        changes: Sequence[Change],
        outcomes: Mapping[Key, Outcome | None],
        proposed_ports: Mapping[Key, int],
    ) -> None:
        """See `Reporter.tell`."""
        now = self._clock()
        with self._changed:
            dirty = set(outcomes)
            ports_changed = False
            for key, new in changes:
                route = Key("Route", key.namespace, key.name)
                if isinstance(new, Route):
                    self._kept[route] = new.kept_port
                elif isinstance(new, RouteStatus):
                    former = self._statuses.get(route)
                    if former and former.uid != new.uid:
                        # Another Route of this name: what became of the last one is not its.
                        ports_changed |= _port(self._outcomes.pop(route, None)) is not None
                    self._statuses[route] = new
                    dirty.add(route)
                elif key.kind == "RouteStatus":
                    ports_changed |= _port(self._outcomes.get(route)) is not None
                    for memory in (self._statuses, self._outcomes, self._kept):
                        memory.pop(route, None)
                    dirty.add(route)
            for route, outcome in outcomes.items():
                ports_changed |= self._take(route, outcome)
            if proposed_ports is not self._proposed:
                known = self._proposed
                dirty |= {key for key, port in proposed_ports.items() if known.get(key) != port}
                self._proposed = proposed_ports
            for route in dirty:
                self._queue.add(route, now)
            if (ports_changed or not self._told) and self._service:
                self._queue.add(self._service, now + _PUBLISH_AFTER_SECONDS)
            self._told = True
            if dirty or ports_changed:
                self._woken = True
                self._changed.notify()

    def _take(self, route: Key, outcome: Outcome | None) -> bool:
        """Keep a outcome; whether the ports that are open or owned changed by it."""
        former = self._outcomes.get(route)
        if outcome is None and route not in self._statuses:
            # Gone.
            self._outcomes.pop(route, None)
        else:
            self._outcomes[route] = outcome
        return _port(former) != _port(outcome)

    def _leader_changed(self) -> None:
        with self._changed:
            now = self._clock()
            self._anew = True
            for key in self._statuses.keys() | self._outcomes.keys():
                self._queue.add(key, now)
            if self._service:
                self._queue.add(self._service, now + _PUBLISH_AFTER_SECONDS)
        self._wake()

    def _wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify()

    def _run(self) -> None:
        while not self._stop.is_set():
            seconds = self._step()
            with self._changed:
                if seconds > 0:
                    self._changed.wait_for(lambda: self._woken, min(seconds, threading.TIMEOUT_MAX))
                self._woken = False
        # Whoever leads next shall not meet our writes. What waits, it finds by itself.
        self._leader.leave()

    def _step(self) -> float:
        """Write one thing, if one is due; in how many seconds to come again."""
        if not self._leader.leads():
            return 3600.0
        now = self._clock()
        if now < self._paused_until:
            return self._paused_until - now
        if wait := self._bucket.wait_seconds(now):
            return wait
        with self._changed:
            anew, self._anew = self._anew, False
            key = self._queue.take(now) or self._yielding.take(now)
            wait = min(self._queue.next_at(), self._yielding.next_at()) - now
        if anew:
            self._events.clear()
            self._said.clear()
            self._contention = Contention()
        try:
            if key is not None:
                self._write(key, now)
            elif self._events:
                self._send_event(now)
            else:
                return wait
        except Exception:
            # One object that we do not understand must not end what is written of the others.
            log.exception("%s cannot be written of: a fault of ours", key)
        return 0.0

    def _write(self, key: Key, now: float) -> None:
        try:
            if key == self._service:
                self._publish(key, now)
            else:
                self._write_route(key, now)
        except _FailedError as failed:
            # What it took to fail is no part of the time to wait.
            self._failed(key, failed, self._clock())
        else:
            self._attempts.pop(key, None)

    def _write_route(self, key: Key, now: float) -> None:
        with self._changed:
            status, outcome = self._statuses.get(key), self._outcomes.get(key)
            told = key in self._outcomes
            port, kept = self._proposed.get(key), self._kept.get(key)
        if (known := self._said.get(key)) and (status is None or known[0] != status.uid):
            # The Route is gone, or another one has its name now.
            del self._said[key]
        if status is None:
            return
        if port is not None and self._permitted("port", key, now):
            self._keep_port(key, status, port, kept, now)
        elif told and status.ingress_json is not None:
            wanted = admitted(outcome, stuck=_NO_AUTO if port is not None else "")
            if wanted != KEEP:
                ingress = json.loads(status.ingress_json)
                self._write_status(key, status, ingress, wanted, now)

    def _keep_port(
        self, key: Key, status: RouteStatus, port: int, kept: str | None, now: float
    ) -> None:
        contended = _port_of(status.uid)
        if self._gives_way(key, contended, kept, now):
            return
        annotations = {self._wishes.kept_port: str(port)}
        metadata = {"resourceVersion": status.resource_version, "annotations": annotations}
        self._patch("port", key, status, _path(key), {"metadata": metadata})
        self._contention.wrote(contended, str(port), now)
        log.info("Route %s/%s: port %d was assigned to it", key.namespace, key.name, port)

    def _write_status(
        self,
        key: Key,
        status: RouteStatus,
        ingress: Sequence[Entry],
        wanted: Admitted | None,
        now: float,
    ) -> None:
        wishes = self._wishes
        stands = said(our_entry(ingress, wishes.router_name))
        known = self._said.get(key)
        before = known[1] if known else stands
        if wishes.write_status and self._permitted("status", key, now):
            wished = updated(ingress, wishes.router_name, status.host, wanted, _timestamp())
            if wished is not None:
                if self._gives_way(key, status.uid, stands, now):
                    return
                body = {
                    "metadata": {"resourceVersion": status.resource_version},
                    "status": {"ingress": wished},
                }
                self._patch("status", key, status, _path(key) + "/status", body)
                self._contention.wrote(status.uid, wanted, now)
        self._said[key] = status.uid, wanted
        for notice in notices(before, wanted) if wishes.events else ():
            if self._discretion.allows(status.uid, notice, now):
                self._events.append(_Event(key, status.uid, notice, uuid.uuid4().hex))

    def _patch(
        self, kind: str, key: Key, status: RouteStatus, path: str, body: Mapping[str, Any]
    ) -> None:
        """Change a Route, unless it is not as we know it any more; know it as it is then.

        A merge patch with a resourceVersion: the list of all routers' entries goes as a whole, and
        only onto the one that it was made from. (A PUT would need the fields that we never read.)
        """
        answer = self._ask(kind, key, "PATCH", path, body)
        try:
            newer = project_status(answer)
        except ObjectError:
            return
        with self._changed:
            # The watch may have been faster.
            if self._statuses.get(key) is status:
                self._statuses[key] = newer

    def _gives_way(self, key: Key, contended: str, stands: object, now: float) -> bool:
        """Whether somebody else rewrites what we write, and it is not our turn yet."""
        wait = self._contention.wait_seconds(contended, stands, now)
        if not wait:
            return False
        with self._changed:
            self._yielding.add(key, now + wait)
        if self._contention.strikes(contended) > 1 and now >= self._say_contended_at:
            self._say_contended_at = now + CONTENTION_LONGEST_SECONDS
            log.error(
                "Route %s/%s: somebody else keeps rewriting what this router writes: do two routers"
                " have the name %r and different settings? Writing it less and less often",
                key.namespace,
                key.name,
                self._wishes.router_name,
            )
        return True

    def _publish(self, key: Key, now: float) -> None:
        """Bring the Service's ports in step."""
        with self._changed:
            told = self._told and self._statuses.keys() <= self._outcomes.keys()
            ports = dict(found for item in self._outcomes.values() if (found := _port(item)))
        if not told:
            # Of some Routes it is not known yet what they have, which is not the same as nothing.
            self._later(key, now + _PUBLISH_AFTER_SECONDS)
            return
        self._later(key, now + _PUBLISH_AGAIN_SECONDS)
        if not self._permitted("service", key, now):
            return
        path = f"/api/v1/namespaces/{key.namespace}/services/{key.name}"
        service = self._ask("service", key, "GET", path)
        entries = (service.get("spec") or {}).get("ports") or []
        opened = [port for port, is_open in ports.items() if is_open]
        wished = published(entries, opened, ports)
        if wished is None:
            return
        version = (service.get("metadata") or {}).get("resourceVersion")
        body = {"metadata": {"resourceVersion": version}, "spec": {"ports": wished}}
        self._ask("service", key, "PATCH", path, body)
        log.info(
            "Service %s/%s has the ports %s",
            key.namespace,
            key.name,
            format_ports({entry["port"] for entry in wished}),
        )

    def _send_event(self, now: float) -> None:
        """The oldest Event that waits; one that is refused is dropped: it is but news."""
        event = self._events.popleft()
        key = event.route
        if not self._permitted("event", key, now):
            return
        body = event_body(
            key,
            event.uid,
            event.notice,
            reporter=self._leader.identity,
            timestamp=_timestamp(),
            unique=event.unique,
        )
        try:
            self._ask("event", key, "POST", f"/api/v1/namespaces/{key.namespace}/events", body)
        except _FailedError as failed:
            if self._is_everybodys(failed.error, self._clock()):
                self._events.appendleft(event)
            elif isinstance(failed.error, ApiError) and failed.error.status == 403:
                self._forbid("event", key, failed.error, now)
            else:
                log.warning("an Event on Route %s/%s: %s", key.namespace, key.name, failed.error)

    def _ask(
        self, kind: str, key: Key, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Ask the API server; raises _FailedError."""
        # What it takes to find out counts, too.
        self._bucket.take(self._clock())
        content_type = _MERGE_PATCH if method == "PATCH" else "application/json"
        result = "written"
        try:
            answer = self._client.request(
                method, path, body=body, content_type=content_type, timeout_seconds=_TIMEOUT_SECONDS
            )
        except APIServerError as exc:
            result = _result(exc)
            raise _FailedError(kind, exc) from exc
        finally:
            if method != "GET" or result != "written":
                self._metrics.api_writes.labels(kind, result).inc()
        self._outage.reset()
        if self._forbidden.pop((kind, key.namespace), None) is not None:
            log.info("namespace %s: %s is permitted again", key.namespace, _RIGHTS[kind][0])
        return answer

    def _failed(self, key: Key, failed: "_FailedError", now: float) -> None:
        """Come back to ``key`` when it may work."""
        kind, error = failed.kind, failed.error
        status = error.status if isinstance(error, ApiError) else 0
        if self._is_everybodys(error, now):
            self._later(key, now)
        elif status == 409:
            self._later(key, now + _CONFLICT_SECONDS)
        elif status == 403:
            self._forbid(kind, key, error, now)
            self._later(key, now)
        elif status == 404 and kind != "service":
            # The watch says so, too, or that there is a new one.
            self._later(key, now + _CONFLICT_SECONDS)
        else:
            attempts = self._attempts[key] = self._attempts.get(key, 0) + 1
            most = _FAILED_MOST_SECONDS if status >= 500 else _REFUSED_MOST_SECONDS
            self._later(key, now + backoff_seconds(attempts, most=most))
            # What is wrong with one is often wrong with thousands.
            what = kind, status, error.reason if isinstance(error, ApiError) else ""
            if now - self._complained.get(what, float("-inf")) > _COMPLAIN_SECONDS:
                self._complained[what] = now
                log.error("%s: %s; trying it and others like it until it works", key, error)

    def _is_everybodys(self, error: APIServerError, now: float) -> bool:
        """Whether the API server is away, does not know us or wants less of everything: then all
        wait."""
        if isinstance(error, ApiError) and error.status != 401:
            if error.status != 429 and error.retry_after_seconds is None:
                return False
            self._paused_until = now + (error.retry_after_seconds or backoff_seconds(1))
            return True
        self._paused_until = now + self._outage.next_seconds()
        if self._outage.attempts == 1:
            log.error("%s; what is to be written is kept", error)
        return True

    def _permitted(self, kind: str, key: Key, now: float) -> bool:
        until = self._forbidden.get((kind, key.namespace))
        if until is None or now >= until:
            return True
        self._later(key, until)
        return False

    def _forbid(self, kind: str, key: Key, error: APIServerError, now: float) -> None:
        if (kind, key.namespace) not in self._forbidden:
            right, without = _RIGHTS[kind]
            log.error(
                "namespace %s: this takes the right to %s; without it %s, routing goes on (%s)",
                key.namespace,
                right,
                without,
                error,
            )
        self._forbidden[kind, key.namespace] = now + _FORBIDDEN_SECONDS

    def _later(self, key: Key, at: float) -> None:
        with self._changed:
            self._queue.add(key, at)


class _FailedError(Exception):
    """A write of this ``kind`` did not work."""

    def __init__(self, kind: str, error: APIServerError) -> None:
        super().__init__(kind, error)
        self.kind = kind
        self.error = error


def _port(outcome: Outcome | None) -> tuple[int, bool] | None:
    """The port that a Route has, and whether it is open."""
    if outcome is None or outcome.port is None:
        return None
    return outcome.port, outcome.open


def _port_of(uid: str) -> str:
    """What a Route's kept port is called among contended things; no UID has a colon."""
    return f"port:{uid}"


def _path(route: Key) -> str:
    return f"/apis/route.openshift.io/v1/namespaces/{route.namespace}/routes/{route.name}"


def _result(error: APIServerError) -> str:
    if not isinstance(error, ApiError):
        return "unreachable"
    named = {403: "forbidden", 404: "gone", 409: "conflict", 429: "throttled"}
    return named.get(error.status, "failed")


def _timestamp() -> str:
    """Now, as status and Events have it: RFC 3339, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
