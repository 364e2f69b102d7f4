"""What a Route's ``status.ingress`` should say of this router (route.openshift.io/v1).

Owns our entry: its condition, when it is written, and that nobody else's is touched. Must not know
how it is sent. Pure: no I/O, no clock.

`Admitted` is True only once HAProxy was read back. In between, what stands there stays: a new pod
of the router that comes up is no news for a Route's author.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sidecar.common.text import counted, one_line
from sidecar.model.verdicts import Reason
from sidecar.reporting.outcome import Outcome

#: Most of a condition's message, in characters: etcd keeps it for every Route.
MESSAGE_MAX = 512

#: Reasons of our own beside those of a verdict.
OVER_CAPACITY = "OverCapacity"
NOT_PROGRAMMED = "NotProgrammed"

#: What the API has in that list; what is no mapping is nobody's we know.
Entry = Any


@dataclass(frozen=True, slots=True)
class Admitted:
    """The condition ``Admitted``: all of it but the time of its last transition.

    ``subject``: ``port 30000``, what is open where the Route is served; no part of what is written,
    and so of no weight in a comparison with what stands there.

    Not an `Outcome`, since this much, and no more, can be read back of what a former leader wrote.
    """

    status: Literal["True", "False"]
    reason: str
    message: str
    subject: str = field(default="", compare=False)

    @property
    def serves(self) -> bool:
        """The Route's port is open."""
        return self.status == "True" and self.reason in {Reason.ADMITTED, OVER_CAPACITY}


#: Nothing is to be said yet: what stands there stays.
KEEP: Literal["keep"] = "keep"


def admitted(outcome: Outcome | None, *, stuck: str = "") -> Admitted | Literal["keep"] | None:
    """What to say of a Route; None to say nothing of it, and take away what was said.

    ``stuck``: why its ``auto`` port may not be written to it; "" where it may.
    """
    if outcome is None:
        return None
    verdict = outcome.verdict
    if verdict.reason == Reason.PORT_PENDING:
        # It is written to the Route in a moment, where it may be.
        return _refused(verdict.reason, stuck) if stuck else KEEP
    if not verdict.admitted:
        return _refused(verdict.reason, verdict.message)
    if outcome.failure:
        told = f"{outcome.subject}: not yet programmed in HAProxy: {outcome.failure}"
        return _refused(NOT_PROGRAMMED, told)
    if not outcome.verified:
        return KEEP
    reason, notes = verdict.reason.value, [verdict.message] if verdict.message else []
    if outcome.left_out:
        endpoints = counted(outcome.left_out, "endpoint")
        notes.append(f"{endpoints} skipped: over the router's capacity")
        reason = OVER_CAPACITY
    subject = outcome.subject
    message = f"{subject}: {'; '.join(notes)}" if notes else subject
    return Admitted("True", reason, one_line(message, MESSAGE_MAX), subject)


def _refused(reason: str, message: str) -> Admitted:
    return Admitted("False", str(reason), one_line(message, MESSAGE_MAX))


def our_entry(ingress: Sequence[Entry], router_name: str) -> Entry | None:
    """The first entry that is this router's."""
    return next((entry for entry in ingress if _is_ours(entry, router_name)), None)


def said(entry: Entry | None) -> Admitted | None:
    """What an entry says of admission; None where it says nothing that we could have written."""
    condition = _condition(entry)
    status = condition.get("status")
    if status not in ("True", "False"):
        return None
    message = str(condition.get("message", ""))
    return Admitted(status, str(condition.get("reason", "")), message, subject_of(message))


def subject_of(message: str) -> str:
    """``port 30000``, with which the message begins that a former leader wrote of a Route that is
    served: for what we make ourselves, see `Admitted.subject`."""
    return message.partition(": ")[0]


def updated(
    ingress: Sequence[Entry],
    router_name: str,
    host: str,
    wanted: Admitted | None,
    now: str,
    *,
    wildcard: bool = False,
    canonical_hostname: str = "",
) -> list[Entry] | None:
    """``ingress`` as it should be, or None if it is so already.

    ``host``: the Route's own or effective one, or "". ``wildcard``: it has the domain, too.
    ``canonical_hostname``: what a DNS alias of the host should lead to, or "".
    ``now``: RFC 3339; it is taken only where ``status`` turns. Entries of other routers stay as and
    where they are; of several of ours the first is left.
    """
    before = our_entry(ingress, router_name)
    entry = None
    if wanted is not None:
        entry = _entry(before, router_name, host, wanted, now)
        entry |= {"wildcardPolicy": "Subdomain"} if wildcard else {}
        entry |= {"routerCanonicalHostname": canonical_hostname} if canonical_hostname else {}
    others_and_ours: list[Entry] = []
    for item in ingress:
        if not _is_ours(item, router_name):
            others_and_ours.append(item)
        elif item is before and entry is not None:
            others_and_ours.append(entry)
    if before is None and entry is not None:
        others_and_ours.append(entry)
    return None if others_and_ours == list(ingress) else others_and_ours


def _is_ours(entry: Entry, router_name: str) -> bool:
    return isinstance(entry, Mapping) and entry.get("routerName") == router_name


def _entry(
    before: Entry | None, router_name: str, host: str, wanted: Admitted, now: str
) -> dict[str, Any]:
    former = _condition(before)
    since = former.get("lastTransitionTime") if former.get("status") == wanted.status else None
    entry = {
        "host": host,
        "routerName": router_name,
        "wildcardPolicy": "None",
        "conditions": [
            {
                "type": "Admitted",
                "status": wanted.status,
                "reason": wanted.reason,
                "message": wanted.message,
                "lastTransitionTime": since or now,
            }
        ],
    }
    # OpenShift's API server leaves out what is empty: so do we, or ours would never be the same.
    return {name: value for name, value in entry.items() if value}


def _condition(entry: Entry | None) -> Mapping[str, Any]:
    conditions = (entry or {}).get("conditions")
    for condition in conditions if isinstance(conditions, list | tuple) else ():
        if isinstance(condition, Mapping) and condition.get("type") == "Admitted":
            return condition
    return {}
