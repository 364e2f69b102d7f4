"""The steps of an explanation that need HAProxy's counters: failures although all is programmed.

`sidecar.reporting.explain` covers the decisions; this adds how connections fare. Pure.
"""

from collections.abc import Iterator
from dataclasses import replace

from sidecar.reporting.explanation import Line, Link, Why
from sidecar.reporting.reports import AttemptsReport, PortReport, Report, ServerReport

#: From this part of its limit on a port is near it.
_NEAR = 0.9


def extended(why: Why, report: Report) -> Why:
    """``why``, with what ``report`` knows of the connections of its port; unless that belongs to
    another Route."""
    item = next((item for item in report.ports if item.port == why.port), None)
    if item is None or not any(link.name == "HAProxy" for link in why.links):
        return why
    links = (*why.links, *_links(item))
    return replace(why, links=links, works=not any(link.mark == "bad" for link in links))


def _links(item: PortReport) -> Iterator[Link]:
    if item.drift:
        yield Link(
            "HAProxy",
            "bad",
            f"changed by somebody else: {item.drift}",
            remedy="the sidecar repairs it at its next full compare (timing.resync); `hold` the"
            " port to change it by hand",
        )
    if item.connections is not None and item.connections_limit:
        yield _limit(item.connections, item.connections_limit, item.connections_most)
    if item.attempts and item.attempts.sessions:
        yield _attempts(item, item.attempts)


def _limit(now: int, limit: int, most: int | None) -> Link:
    text = f"{now} of {limit} connections now, at most {most} since HAProxy started"
    if now >= limit:
        remedy = "raise pools.maxconn and restart HAProxy, or use `sessions` to see who has them"
        return Link("limit", "bad", f"{text}; further ones are closed at once", remedy=remedy)
    near = now >= _NEAR * limit
    return Link("limit", "warn" if near else "ok", text, remedy="raise pools.maxconn" * near)


def _attempts(item: PortReport, found: AttemptsReport) -> Link:
    if not found.failed:
        return Link("traffic", "ok", f"{found.sessions} connections {found.when}, none failed")
    lines = tuple(
        Line("bad" if server.attempts.errors else "warn", _server(server, server.attempts))
        for server in item.servers
        if server.attempts and server.attempts.failed
    )
    remedy = (
        "is a process listening on these addresses, and can HAProxy reach them?"
        f" `haproxy-sidecar why {item.port} --probe` connects to each"
    )
    if not found.errors:
        text = f"none of {found.sessions} connections failed {found.when}, but {found.repeated}"
        return Link("traffic", "warn", f"{text} attempts had to be retried", lines, remedy)
    # A few may be those that a server had when it went.
    mostly = 2 * found.errors >= found.sessions
    return Link("traffic", "bad" if mostly else "warn", found.loss, lines, remedy)


def _server(server: ServerReport, found: AttemptsReport) -> str:
    who = " ".join(filter(None, (server.slot, server.address, server.pod)))
    text = f"{who}: {found.errors} failed, {found.repeated} attempts had to be retried"
    since = server.seconds_since_change
    if since is not None and since < found.seconds:
        text += f" (some may be from its predecessor: it changed {since} s ago)"
    return text
