"""Gathers what became of Routes from the claims and from HAProxy, for a `Reporter`.

Level-based: a change only marks, and what is taken is how things are now. Must not resolve what
the loop did not ask for, nor keep it waiting: of thousands, some are taken at a time.
"""

import itertools
from collections.abc import Iterable

from sidecar.control.known import FAILS_AFTER, Known
from sidecar.haproxy.naming import port_of_backend
from sidecar.model.desired import Unit
from sidecar.model.objects import Key
from sidecar.model.verdicts import Reason, Verdict
from sidecar.reporting.outcome import Outcome
from sidecar.routing.claimed import Changed
from sidecar.routing.table import Routing

#: How many Routes are taken in one go.
TAKEN_AT_ONCE = 100


class Collector:
    """What is new of Routes since it was last taken."""

    def __init__(self, routing: Routing, known: Known) -> None:
        self._routing = routing
        self._known = known
        self._marked: dict[Key, None] = {}

    def mark(self, changed: Changed, touched: Iterable[Unit]) -> None:
        """These Routes may be different; ``touched``: units changed, verified or failed."""
        self._marked |= dict.fromkeys(changed.routes)
        for unit in touched:
            self._marked |= dict.fromkeys(self._routing.owners(unit))

    def take(self) -> dict[Key, Outcome | None]:
        """Some of what is marked; None: it does not name this router, or is gone."""
        taken: dict[Key, Outcome | None] = {}
        for key in list(itertools.islice(self._marked, TAKEN_AT_ONCE)):
            del self._marked[key]
            unit = self._routing.owned(key)
            if unit is None or self._routing.knows(unit):
                taken[key] = self._outcome(key, unit)
            elif not self._known.compares(unit):
                # HAProxy is away, or an operator holds the unit: that it is this Route's is known
                # all the same, and whoever publishes ports must not take it for nobody's.
                port, is_open = self._port(key, unit), self._known.status(unit).open
                verdict = Verdict(key, port, Reason.ADMITTED, "")
                subject = self._routing.subject(unit)
                taken[key] = Outcome(verdict, port, open=is_open, subject=subject)
            # Else it is compared in a moment, and marked again when it is verified or fails.
        return taken

    @property
    def more(self) -> bool:
        """Whether there is more to take right away."""
        return bool(self._marked)

    def _port(self, key: Key, unit: Unit) -> int | None:
        """The port that clients get to the Route by, its own or one that it shares."""
        web = self._routing.web
        return port_of_backend(unit) or (web.port(key) if web else None)

    def _outcome(self, key: Key, unit: Unit | None) -> Outcome | None:
        verdict = self._routing.verdict(key)
        claimed = None if unit is None else self._routing.claim(unit)
        if verdict is None:
            return None
        web = self._routing.web
        by_host = web.claim(key) if web else None
        if unit is None or claimed is None:
            return Outcome(verdict)
        statuses = [self._known.status(needed) for needed in self._routing.needs(key)]
        failure = next((status.failure for status in statuses if status.failure), None)
        is_open = all(status.open for status in statuses)
        usable = any(server.state == "ready" for server in claimed.resolution.servers)
        return Outcome(
            verdict,
            self._port(key, unit),
            # A port that was just closed may have to wait before it opens again.
            verified=all(status.verified for status in statuses)
            and (is_open or not usable)
            and (web is None or web.certificates.is_served(key)),
            open=is_open,
            failure=failure.message if failure and failure.attempts >= FAILS_AFTER else "",
            left_out=sum(status.left_out for status in statuses),
            subject=self._routing.subject(unit),
            host=by_host.host if by_host else "",
            wildcard=by_host is not None and by_host.wildcard,
        )
