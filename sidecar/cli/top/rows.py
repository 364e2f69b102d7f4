"""A port, host or refused Route as a row of ``top``, with what is wrong with it.

What is wrong is `reporting.problems`'s to say, as for the page and `status`. Pure.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sidecar.reporting.problems import Level, Problem, row_problems
from sidecar.reporting.reports import HostReport, PortReport, ServerReport, WaitingReport

Item = PortReport | HostReport | WaitingReport


class Rates(NamedTuple):
    """What came a second between the last two reports, and ``errors`` in the last minute; None
    where nobody counts it, or not long enough."""

    requests: float | None = None
    bytes_in: float | None = None
    bytes_out: float | None = None
    errors: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """``key``: as of /api/updates. ``at``: when ``item`` was so, from which on its ages count.
    ``search``: all that a filter finds it by, in small letters. ``order``: by which rows are sorted
    where nothing else decides: ports, hosts, and what is refused."""

    key: str
    item: Item
    at: float
    name: str
    state: str
    route: str
    problems: tuple[Problem, ...]
    search: str
    order: tuple[Any, ...]
    rates: Rates

    @property
    def servers(self) -> tuple[ServerReport, ...]:
        """Those of a refused Route are nobody's matter."""
        return () if isinstance(self.item, WaitingReport) else self.item.servers

    @property
    def servers_known(self) -> bool:
        """Whether it is served, or should be: a refused Route is not."""
        return not isinstance(self.item, WaitingReport)

    @property
    def sessions(self) -> int | None:
        """Now."""
        match self.item:
            case PortReport(sessions=sessions):
                return sessions
            case HostReport(traffic=traffic) if traffic:
                return traffic.sessions
        return None

    @property
    def new(self) -> int | None:
        """Sessions, or requests of a host, over the last second."""
        match self.item:
            case PortReport(sessions_per_second=rate):
                return rate
            case HostReport(traffic=traffic) if traffic:
                return traffic.sessions_per_second
        return None

    def changed(self, now: float) -> float | None:
        """Seconds ago."""
        if isinstance(self.item, WaitingReport) or self.item.changed_seconds_ago is None:
            return None
        return self.item.changed_seconds_ago + now - self.at

    @property
    def level(self) -> Level | None:
        """The worst of its problems."""
        return self.problems[0].level if self.problems else None

    @property
    def subject(self) -> str:
        """By what `why` knows it."""
        return str(self.item.port) if isinstance(self.item, PortReport) else self.route


_KINDS = (PortReport, HostReport, WaitingReport)

_DIGITS = re.compile(r"([0-9]+)")


def _natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """By which numbers in a text are in their order."""
    parts = _DIGITS.split(text.lower())
    # Every other one is a number.
    return tuple((0, int(p[:18]), p) if i % 2 else (1, 0, p) for i, p in enumerate(parts) if p)


def row_of(key: str, item: Item, at: float, rates: Rates) -> Row:
    problems = tuple(found for found in row_problems(item) if found.level != "note")
    name, state, route = _name(item), _state(item), _route(item)
    return Row(
        key,
        item,
        at,
        name,
        state,
        route,
        problems,
        "\n".join(filter(None, (name, state, route, *_words(item, problems)))).lower(),
        (_KINDS.index(type(item)), _natural(name), key),
        rates,
    )


def _name(item: Item) -> str:
    match item:
        case PortReport():
            return str(item.port)
        case HostReport():
            return item.title
    host = item.host + (f":{item.port}" if item.port and item.host else "") + item.path
    return host or str(item.port or item.route.rpartition("/")[2])


def _state(item: Item) -> str:
    if isinstance(item, WaitingReport):
        return "refused"
    if item.failure:
        return "failing"
    return "held" if isinstance(item, PortReport) and item.held else item.state


def _route(item: Item) -> str:
    return item.owner if isinstance(item, PortReport) else item.route


def _words(item: Item, problems: Sequence[Problem]) -> Iterator[str]:
    """What else it is found by."""
    yield from (problem.text for problem in problems)
    yield item.reason or ""
    if isinstance(item, PortReport):
        yield item.pool
    elif isinstance(item, HostReport):
        yield item.listener
        yield item.backend
        if item.certificate:
            yield item.certificate.subject
            yield item.certificate.issuer
    for server in () if isinstance(item, WaitingReport) else item.servers:
        yield server.address
        yield server.state
        yield from filter(None, (server.pod, server.node, server.service))
