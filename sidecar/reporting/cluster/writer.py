"""Writes what became of Routes to the API server: status, kept ports, Events, a Service's ports.

Owns the thread that writes, and what each write makes of what is known then, so that the newest
state wins and a lost or doubled wake-up does no harm. Only the leading replica writes. What to say,
the pure modules beside this one decide; when it may be said, `Delivery`. Must never keep the loop
that drives HAProxy waiting.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sidecar.common.errors import ObjectError
from sidecar.common.metrics import Metrics
from sidecar.kube.client import KubeClient
from sidecar.kube.leader import Leader
from sidecar.model.change import Change
from sidecar.model.objects import Key, RouteStatus
from sidecar.model.parsing import project_status
from sidecar.model.pool import format_ports
from sidecar.reporting.cluster.backlog import PUBLISH_AFTER_SECONDS, Backlog
from sidecar.reporting.cluster.delivery import (
    TIMEOUT_SECONDS,
    Delivery,
    DeliveryError,
    timestamp,
)
from sidecar.reporting.cluster.event_queue import EventQueue
from sidecar.reporting.cluster.events import notices
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

#: The Service is looked at this often, if no port changes.
_PUBLISH_AGAIN_SECONDS = 300.0

#: What an ``auto`` Route is told where its port may not be written to it.
_NO_AUTO = (
    'this router is forbidden to patch routes, which "auto" requires: set a port number, or have'
    " the router's component auto-ports applied, which grants it"
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be written.

    ``kept_port``: the annotation that keeps the port of an ``auto`` Route. ``canonical_hostname``:
    the router's own, or "". ``publish_service``: namespace and name. ``writes_per_second``: of all
    kinds together, with bursts of five times as many.
    """

    router_name: str
    kept_port: str
    canonical_hostname: str = ""
    write_status: bool = True
    events: bool = True
    publish_service: tuple[str, str] | None = None
    writes_per_second: float = 10.0


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
        self._leader = leader
        self._wishes = wishes
        self._clock = clock
        self._service = wishes.publish_service and Key("Service", *wishes.publish_service)
        self._backlog = Backlog(self._service)
        # from here on: the writer's thread alone
        self._delivery = Delivery(
            client,
            self._backlog,
            metrics,
            router_name=wishes.router_name,
            writes_per_second=wishes.writes_per_second,
            clock=clock,
        )
        self._events = EventQueue(self._delivery, leader.identity, clock)
        # Route -> its UID, and what we last made of its admission
        self._said: dict[Key, tuple[str, Admitted | None]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        leader.changed = lambda: self._backlog.begin_anew(clock())

    def __enter__(self) -> Self:
        self._leader.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.leave()
        self._thread.join(2 * TIMEOUT_SECONDS)
        self._leader.__exit__(*exc_info)

    def leave(self) -> None:
        """See `Reporter.leave`."""
        self._stop.set()
        self._backlog.wake()

    def tell(
        self,
        changes: Sequence[Change],
        outcomes: Mapping[Key, Outcome | None],
        proposed_ports: Mapping[Key, int],
    ) -> None:
        """See `Reporter.tell`."""
        self._backlog.tell(changes, outcomes, proposed_ports, self._clock())

    def _run(self) -> None:
        while not self._stop.is_set():
            self._backlog.wait(self._step())
        # Whoever leads next shall not meet our writes. What waits, it finds by itself.
        self._leader.leave()

    def _step(self) -> float:
        """Write one thing, if one is due; in how many seconds to come again."""
        if not self._leader.leads():
            return 3600.0
        now = self._clock()
        if wait := self._delivery.wait_seconds(now):
            return wait
        key, anew, wait = self._backlog.take(now)
        if anew:
            self._events.clear()
            self._said.clear()
            self._delivery.begin_anew()
        try:
            if key is not None:
                self._write(key, now)
            elif self._events:
                self._events.send(now)
            else:
                return wait
        except Exception:
            # One object that we do not understand must not end what is written of the others.
            log.exception("%s: internal error, not written", key)
        return 0.0

    def _write(self, key: Key, now: float) -> None:
        try:
            if key == self._service:
                self._publish(key, now)
            else:
                self._write_route(key, now)
        except DeliveryError as failed:
            # What it took to fail is no part of the time to wait.
            self._delivery.failed(key, failed, self._clock())
        else:
            self._delivery.succeeded(key)

    def _write_route(self, key: Key, now: float) -> None:
        found = self._backlog.known(key)
        status, port = found.status, found.proposed_port
        if (known := self._said.get(key)) and (status is None or known[0] != status.uid):
            # The Route is gone, or another one has its name now.
            del self._said[key]
        if status is None:
            return
        if port is not None and self._delivery.permitted("port", key, now):
            self._keep_port(key, status, port, found.kept_port, now)
        elif found.told and status.ingress_json is not None:
            wanted = admitted(found.outcome, stuck=_NO_AUTO if port is not None else "")
            if wanted != KEEP:
                ingress = json.loads(status.ingress_json)
                self._write_status(key, status, ingress, found.outcome, wanted, now)

    def _keep_port(
        self, key: Key, status: RouteStatus, port: int, kept: str | None, now: float
    ) -> None:
        contended = _port_of(status.uid)
        if self._delivery.gives_way(key, contended, kept, now):
            return
        annotations = {self._wishes.kept_port: str(port)}
        metadata = {"resourceVersion": status.resource_version, "annotations": annotations}
        self._patch("port", key, status, _path(key), {"metadata": metadata})
        self._delivery.wrote(contended, str(port), now)
        log.info("%s: assigned port %d", key, port)

    def _write_status(
        self,
        key: Key,
        status: RouteStatus,
        ingress: Sequence[Entry],
        outcome: Outcome | None,
        wanted: Admitted | None,
        now: float,
    ) -> None:
        wishes = self._wishes
        stands = said(our_entry(ingress, wishes.router_name))
        known = self._said.get(key)
        before = known[1] if known else stands
        if wishes.write_status and self._delivery.permitted("status", key, now):
            host = (outcome.host if outcome else "") or status.host
            wished = updated(
                ingress,
                wishes.router_name,
                host,
                wanted,
                timestamp(),
                wildcard=outcome is not None and outcome.wildcard,
                canonical_hostname=wishes.canonical_hostname,
            )
            if wished is not None:
                if self._delivery.gives_way(key, status.uid, stands, now):
                    return
                body = {
                    "metadata": {"resourceVersion": status.resource_version},
                    "status": {"ingress": wished},
                }
                self._patch("status", key, status, _path(key) + "/status", body)
                self._delivery.wrote(status.uid, wanted, now)
        self._said[key] = status.uid, wanted
        if wishes.events:
            self._events.add(key, status.uid, notices(before, wanted), now)

    def _patch(
        self, kind: str, key: Key, status: RouteStatus, path: str, body: Mapping[str, Any]
    ) -> None:
        """Change a Route, unless it is not as we know it any more; know it as it is then.

        A merge patch with a resourceVersion: the list of all routers' entries goes as a whole, and
        only onto the one that it was made from. (A PUT would need the fields that we never read.)
        """
        answer = self._delivery.ask(kind, key, "PATCH", path, body)
        try:
            newer = project_status(answer)
        except ObjectError:
            return
        self._backlog.wrote(key, status, newer)

    def _publish(self, key: Key, now: float) -> None:
        """Bring the Service's ports in step."""
        ports = self._backlog.ports()
        if ports is None:
            self._backlog.later(key, now + PUBLISH_AFTER_SECONDS)
            return
        self._backlog.later(key, now + _PUBLISH_AGAIN_SECONDS)
        if not self._delivery.permitted("service", key, now):
            return
        path = f"/api/v1/namespaces/{key.namespace}/services/{key.name}"
        service = self._delivery.ask("service", key, "GET", path)
        entries = (service.get("spec") or {}).get("ports") or []
        opened = [port for port, is_open in ports.items() if is_open]
        wished = published(entries, opened, ports)
        if wished is None:
            return
        version = (service.get("metadata") or {}).get("resourceVersion")
        body = {"metadata": {"resourceVersion": version}, "spec": {"ports": wished}}
        self._delivery.ask("service", key, "PATCH", path, body)
        log.info(
            "%s has the ports %s",
            key,
            format_ports({entry["port"] for entry in wished}),
        )


def _port_of(uid: str) -> str:
    """What a Route's kept port is called among contended things; no UID has a colon."""
    return f"port:{uid}"


def _path(route: Key) -> str:
    return f"/apis/route.openshift.io/v1/namespaces/{route.namespace}/routes/{route.name}"
