"""What is wrong with a row of the report, and with the router: the same for `status`, `top` and
the page.

Owns which of it is worth a person's attention, and the words for it. Loads nothing of what reports
are made of, so that whoever only shows one is quick. Pure.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from sidecar.common.text import counted
from sidecar.model.hold import Hold
from sidecar.reporting.certificate_reports import (
    DEFAULT,
    ENDS_VERY_SOON_DAYS,
    LOADING,
    CertificateReport,
)
from sidecar.reporting.reports import HostReport, PortReport, Report, WaitingReport

#: ``note``: it does not go without saying, but nothing is wrong.
Level = Literal["bad", "warn", "note"]

#: What it is about, by which the page puts rows together; "" where that is nothing of these.
Group = Literal[
    "failing",
    "refused",
    "closed",
    "full",
    "lost",
    "drift",
    "certificate",
    "down",
    "skipped",
    "held",
    "pool",
    "",
]

_ORDER = ("bad", "warn", "note")

#: Of a limit of connections: what is more is near it.
_NEAR = 0.8

#: Of a pool's ports: what is more leaves few. Of fewer than so many ports, few are always left.
_NEARLY_ALL = 0.9
_MANY_PORTS = 10


class Problem(NamedTuple):
    """``text``: for a person; it may hold anything that somebody wrote into a Route."""

    level: Level
    group: Group
    text: str


def row_problems(item: PortReport | HostReport | WaitingReport) -> tuple[Problem, ...]:
    """Of one row, the worst first."""
    return tuple(sorted(_of_row(item), key=lambda found: _ORDER.index(found.level)))


def _of_row(item: PortReport | HostReport | WaitingReport) -> Iterator[Problem]:
    if isinstance(item, WaitingReport):
        yield Problem("bad", "refused", f"{item.reason}: {item.message}")
        return
    if item.failure:
        yield Problem("bad", "failing", f"cannot be reconciled: {item.failure}")
    yield from _of_servers(item)
    if isinstance(item, PortReport):
        yield from _of_port(item)
    else:
        yield from _of_certificate(item.certificate)
    if item.left_out:
        slots = "pools[].slots" if isinstance(item, PortReport) else "web.slots"
        skipped = f"{counted(item.left_out, 'endpoint')} skipped"
        yield Problem("warn", "skipped", f"{skipped}; see limits.max_servers and {slots}")
    if isinstance(item, PortReport) and item.held:
        hold = Hold(item.held_by, item.held_at_seconds, item.held_reason)
        until = f"until `haproxy-sidecar release {item.port}`"
        yield Problem("warn", "held", f"held{hold.text}: the sidecar does not change it {until}")


def _of_servers(item: PortReport | HostReport) -> Iterator[Problem]:
    """Whether there are any, and what the Route's status says."""
    admitted = item.reason in (None, "Admitted")
    message = item.message if admitted or not item.message else f"{item.reason}: {item.message}"
    ready = any(server.state == "ready" for server in item.servers)
    down = sum(server.state == "down" for server in item.servers)
    has_route = not isinstance(item, PortReport) or (item.claimed and not item.shared)
    if has_route and item.state != "unknown" and not ready:
        yield Problem("bad", "closed", message or _none_ready(len(item.servers), down))
    elif message:
        yield Problem("note" if admitted else "warn", "", message)
    if down and ready:
        yield Problem("warn", "down", f"{down} of {len(item.servers)} servers down")


def _none_ready(count: int, down: int) -> str:
    if count == 0:
        return "no server"
    if down < count:
        return "no server is ready"
    return "its only server is down" if count == 1 else f"all {count} servers are down"


def _of_port(item: PortReport) -> Iterator[Problem]:
    limit, now, tried = item.connections_limit, item.connections or 0, item.attempts
    if limit and now >= limit:
        closed = "further ones are closed"
        yield Problem("bad", "full", f"at its limit of {limit} connections: {closed}")
    elif limit and now >= _NEAR * limit:
        yield Problem("warn", "full", f"{now} of {limit} connections that it may have")
    if tried and tried.errors:
        yield Problem("bad", "lost", tried.loss)
    elif tried and tried.repeated:
        again = f"{counted(tried.repeated, 'failed attempt')} to reach a server"
        were = "was" if tried.repeated == 1 else "were"
        yield Problem("warn", "lost", f"{again} {were} retried {tried.when}")
    if item.drift:
        repaired = "will be repaired at the next full compare"
        yield Problem("bad", "drift", f"changed by somebody else: {item.drift}; {repaired}")


def _of_certificate(item: CertificateReport | None) -> Iterator[Problem]:
    """Not of the default one: that it ends is said once, of the router."""
    if item is None:
        return
    if item.served is False:
        yield Problem("bad", "certificate", f"certificate not served: {item.failure or LOADING}")
    elif item.ending and not item.is_default:
        yield Problem(_urgency(item), "certificate", f"certificate {item.ending}")


def _urgency(item: CertificateReport) -> Level:
    return "bad" if (item.days_left or 0) < ENDS_VERY_SOON_DAYS else "warn"


def router_problems(head: Report) -> tuple[Problem, ...]:
    """What is about no single row."""
    lines = (Problem("bad", "", line) for line in head.problems)
    return (*lines, *pool_problems(head), *default_certificate_problems(head))


def pool_problems(head: Report) -> Iterator[Problem]:
    """That nearly all ports are somebody's."""
    total, free = head.ports_total, head.ports_total - head.ports_claimed
    if total >= _MANY_PORTS and head.ports_claimed >= total * _NEARLY_ALL:
        left = "is" if free == 1 else "are"
        text = f"only {counted(free, 'port')} of {total} {left} free" if free else "no port is free"
        yield Problem("warn", "pool", text)


def default_certificate_problems(head: Report) -> Iterator[Problem]:
    """That it ends soon, or is over."""
    default = head.default_certificate
    if default and default.ending:
        yield Problem(_urgency(default), "certificate", f"the {DEFAULT} {default.ending}")
