"""The steps of an explanation that need HAProxy's counters: failures although all is programmed.

`sidecar.reporting.explain` covers the decisions; this adds how connections fare. Pure.
"""

from collections.abc import Iterator
from dataclasses import replace

from sidecar.common.text import counted
from sidecar.reporting.explanation import Line, Link, Why
from sidecar.reporting.reports import (
    AttemptsReport,
    PortReport,
    Report,
    ServerReport,
    TimesReport,
    TrafficReport,
)

#: From this part of its limit on a port is near it.
_NEAR = 0.9


def extended(why: Why, report: Report) -> Why:
    """``why``, with what ``report`` knows of the connections of its port, unless that belongs to
    another Route; or of the requests for its Route by host."""
    if not any(link.name == "HAProxy" for link in why.links):
        return why
    port = next((item for item in report.ports if item.port == why.port), None)
    host = next((item for item in report.hosts if item.route == why.route), None)
    links = (
        *why.links,
        *(_links(port) if port else ()),
        *([_requests(host.traffic)] if host and host.traffic else ()),
    )
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


def _requests(found: TrafficReport) -> Link:
    """How requests for a Route by host fared. Of what failed earlier nothing is wrong now."""
    what = "connection" if found.requests is None else "request"
    lines = [
        Line("info", f"{name}: {', '.join(told)}")
        for name, times in (("average", found.average), ("longest", found.most))
        if (told := list(_times(times)))
    ]
    if codes := [f"{code} {count}" for code, count in (found.responses or {}).items() if count]:
        lines.insert(0, Line("info", f"responses: {', '.join(codes)}"))
    text = f"{counted(found.sessions_total, what)} {found.when}, {found.sessions} now"
    failed = found.connection_errors + found.response_errors
    again = found.retries + found.redispatches
    if not failed and not again:
        return Link("traffic", "ok", f"{text}; no server failed", tuple(lines))
    were = "was" if found.connection_errors == 1 else "were"
    text += f"; {found.connection_errors} {were} accepted by no server"
    text += f", {counted(found.response_errors, 'response')} broke off"
    text += f", {counted(again, 'attempt')} had to be retried"
    remedy = "is a process listening on its servers' addresses, and does it answer in time?"
    return Link("traffic", "warn" if failed else "ok", text, tuple(lines), remedy)


def _times(times: TimesReport) -> Iterator[str]:
    """``connect 1 ms``, of those that are known."""
    for name, value in (
        ("queue", times.queue),
        ("connect", times.connect),
        ("response", times.response),
        ("total", times.total),
    ):
        if value is not None:
            yield f"{name} {value} ms"


def _attempts(item: PortReport, found: AttemptsReport) -> Link:
    if not found.failed:
        return Link(
            "traffic", "ok", f"{counted(found.sessions, 'connection')} {found.when}, none failed"
        )
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
        text = f"none of {found.sessions} connections failed {found.when}"
        text += f", but {counted(found.repeated, 'attempt')} had to be retried"
        return Link("traffic", "warn", text, lines, remedy)
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
