"""Kubernetes Events on a Route: what deserves one, and what it looks like.

An Event tells of a change of what ``status.ingress`` says, so that a restarted sidecar repeats
nothing: what was said last stands on the Route. Core v1 Events, which ``kubectl describe`` lists,
need one verb, ``create``; a repetition is dropped instead of counted. Pure: no I/O, no clock.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from sidecar.kube.pacing import TokenBucket
from sidecar.model.objects import Key
from sidecar.model.verdicts import Reason
from sidecar.reporting.cluster.status import OVER_CAPACITY, Admitted

#: The same words on the same Route within this time are one Event.
REPEAT_SECONDS = 600.0

#: client-go's limit per object.
BURST = 25
PER_SECOND = 1 / 300.0

#: Routes and Events that are remembered; beyond, the oldest is forgotten.
_REMEMBERED = 10_000

_NAME_MAX = 253

#: Reason of a Route that lost what it had -> the Event's.
_DISPLACED: dict[str, str] = {
    Reason.PORT_ALREADY_CLAIMED: "PortDisplaced",
    Reason.HOST_ALREADY_CLAIMED: "HostDisplaced",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """An Event to be. ``type``: Normal or Warning."""

    type: str
    reason: str
    message: str


def notices(before: Admitted | None, after: Admitted | None) -> list[Notice]:
    """What to tell of a Route of which ``before`` was said, and now ``after``."""
    if after is None:
        return []
    if after.status == "False":
        if before and (before.status, before.reason) == (after.status, after.reason):
            return []
        lost = before is not None and before.status == "True"
        reason = _DISPLACED.get(after.reason, after.reason) if lost else after.reason
        return [Notice("Warning", reason, after.message)]
    found = []
    if after.serves and not (before and before.serves and before.subject == after.subject):
        if after.subject.startswith("port "):
            found.append(Notice("Normal", "PortOpened", f"{after.subject} is open"))
        else:
            found.append(Notice("Normal", "HostServed", f"{after.subject} is served"))
    if after.reason == OVER_CAPACITY and not (before and before.reason == OVER_CAPACITY):
        found.append(Notice("Warning", OVER_CAPACITY, after.message))
    return found


class Discretion:
    """Which notices are worth sending: no repetition, and no Route that talks without end."""

    def __init__(self) -> None:
        # (Route's UID, reason, message) -> when it was last told
        self._told: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        # Route's UID -> what it may still say
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def allows(self, uid: str, notice: Notice, now: float) -> bool:
        """Whether to send it; it counts as sent then."""
        words = (uid, notice.reason, notice.message)
        if now - self._told.get(words, float("-inf")) < REPEAT_SECONDS:
            return False
        bucket = self._buckets.setdefault(uid, TokenBucket(PER_SECOND, BURST))
        self._buckets.move_to_end(uid)
        if not bucket.take(now):
            return False
        self._told[words] = now
        self._told.move_to_end(words)
        for memory in (self._told, self._buckets):
            while len(memory) > _REMEMBERED:
                memory.popitem(last=False)
        return True


def event_body(
    route: Key, uid: str, notice: Notice, *, reporter: str, timestamp: str, unique: str
) -> dict[str, Any]:
    """The Event (v1). ``reporter``: this replica's name. ``unique``: what no other Event has."""
    suffix = "." + hashlib.sha256(unique.encode()).hexdigest()[:16]
    name = route.name[: _NAME_MAX - len(suffix)].rstrip(".-") + suffix
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": route.namespace},
        "involvedObject": {
            "apiVersion": "route.openshift.io/v1",
            "kind": "Route",
            "namespace": route.namespace,
            "name": route.name,
            "uid": uid,
        },
        "type": notice.type,
        "reason": notice.reason,
        "message": notice.message,
        "source": {"component": "haproxy-sidecar"},
        "reportingComponent": "haproxy-sidecar",
        "reportingInstance": reporter[:128],
        "firstTimestamp": timestamp,
        "lastTimestamp": timestamp,
        "count": 1,
    }
