"""Which of any number of replicas may write: the meaning of a Lease (coordination.k8s.io/v1).

Owns what is read from a Lease and what is written to it. It works like client-go: a holder is
trusted until *we* have seen no change of its record for the time that it names, by our own clock;
other machines' clocks do not matter. Must not know how a Lease is fetched. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: client-go's numbers. A holder that cannot renew gives up after the second, well before anybody
#: else may take over after the first.
LEASE_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a Lease's spec says. ``holder``: "" when nobody has it."""

    holder: str
    duration_seconds: int
    acquired: str
    renewed: str
    transitions: int


def read_record(lease: Mapping[str, Any]) -> LeaseRecord:
    """The record of a Lease as the API has it; what is absent or odd counts as nothing."""
    spec = lease.get("spec") or {}
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    return LeaseRecord(
        str(spec.get("holderIdentity") or ""),
        duration if isinstance(duration, int) and duration > 0 else LEASE_SECONDS,
        str(spec.get("acquireTime") or ""),
        str(spec.get("renewTime") or ""),
        transitions if isinstance(transitions, int) and transitions >= 0 else 0,
    )


class Election:
    """What one candidate knows. ``now``: its own monotonic seconds."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        #: As last seen; None before the first look, or when there is none.
        self.observed: LeaseRecord | None = None
        self._observed_at = 0.0
        # when the request began by which we last got or kept it
        self._renewed_at = float("-inf")

    def observe(self, record: LeaseRecord | None, now: float) -> None:
        """The Lease was read."""
        if record != self.observed:
            self.observed, self._observed_at = record, now

    def wait_seconds(self, now: float) -> float:
        """For how long somebody else has it for sure; 0.0 when we may write ours into it."""
        record = self.observed
        if record is None or record.holder in ("", self.identity):
            return 0.0
        return max(0.0, self._observed_at + record.duration_seconds - now)

    def claim(self, timestamp: str) -> LeaseRecord:
        """The record to write, to take it or to keep it. ``timestamp``: RFC 3339."""
        record = self.observed
        if record is not None and record.holder == self.identity:
            return LeaseRecord(
                self.identity, LEASE_SECONDS, record.acquired, timestamp, record.transitions
            )
        transitions = 0 if record is None else record.transitions + 1
        return LeaseRecord(self.identity, LEASE_SECONDS, timestamp, timestamp, transitions)

    def release(self, timestamp: str) -> LeaseRecord | None:
        """The record by which we let go, so that the next takes over at once; None when it is
        not ours."""
        record = self.observed
        if record is None or record.holder != self.identity:
            return None
        return LeaseRecord("", 1, record.acquired, timestamp, record.transitions)

    def written(self, record: LeaseRecord, began: float) -> None:
        """Our ``record`` was accepted; the request began then."""
        self.observed, self._observed_at = record, began
        self._renewed_at = began if record.holder == self.identity else float("-inf")

    def leads(self, now: float) -> bool:
        """Whether we may write now."""
        record = self.observed
        mine = record is not None and record.holder == self.identity
        return mine and now - self._renewed_at < RENEW_DEADLINE_SECONDS


def lease_body(
    namespace: str, name: str, record: LeaseRecord, lease: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The Lease to send: a new one, or ``lease`` (as read) with ``record`` in it."""
    former = lease or {}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": former.get("metadata") or {"name": name, "namespace": namespace},
        "spec": {
            **(former.get("spec") or {}),
            "holderIdentity": record.holder,
            "leaseDurationSeconds": record.duration_seconds,
            "acquireTime": record.acquired or None,
            "renewTime": record.renewed,
            "leaseTransitions": record.transitions,
        },
    }
