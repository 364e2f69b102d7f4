"""The Events that wait to be sent. Which they are, `sidecar.reporting.cluster.events` decides.

An Event is but news: they are few, the oldest are dropped first, and one that is refused is not
tried again. Of the writer's thread alone.
"""

import logging
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sidecar.common.errors import ApiError
from sidecar.model.objects import Key
from sidecar.reporting.cluster.delivery import Delivery, DeliveryError, timestamp
from sidecar.reporting.cluster.events import Discretion, Notice, event_body

log = logging.getLogger(__name__)

_WAITING_MAX = 1000


@dataclass(frozen=True, slots=True)
class _Event:
    route: Key
    uid: str
    notice: Notice
    unique: str


class EventQueue:
    """``reporter``: this replica's name. True while an Event waits."""

    def __init__(self, delivery: Delivery, reporter: str, clock: Callable[[], float]) -> None:
        self._delivery = delivery
        self._reporter = reporter
        self._clock = clock
        self._discretion = Discretion()
        self._waiting: deque[_Event] = deque(maxlen=_WAITING_MAX)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, route: Key, uid: str, notices: Iterable[Notice], now: float) -> None:
        """Those of ``notices`` that are worth it are to be sent."""
        for notice in notices:
            if self._discretion.allows(uid, notice, now):
                self._waiting.append(_Event(route, uid, notice, uuid.uuid4().hex))

    def clear(self) -> None:
        """Another replica may have sent what waits."""
        self._waiting.clear()

    def send(self, now: float) -> None:
        """Send the oldest."""
        event = self._waiting.popleft()
        key = event.route
        if not self._delivery.permitted("event", key, now):
            return
        body = event_body(
            key,
            event.uid,
            event.notice,
            reporter=self._reporter,
            timestamp=timestamp(),
            unique=event.unique,
        )
        path = f"/api/v1/namespaces/{key.namespace}/events"
        try:
            self._delivery.ask("event", key, "POST", path, body)
        except DeliveryError as failed:
            if self._delivery.pauses(failed.error, self._clock()):
                self._waiting.appendleft(event)
            elif isinstance(failed.error, ApiError) and failed.error.status == 403:
                self._delivery.forbid("event", key, failed.error, now)
            else:
                log.warning("an Event on %s: %s", key, failed.error)
