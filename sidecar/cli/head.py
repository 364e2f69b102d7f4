"""The first lines of a report: router, HAProxy, source and pool, for `status` and `top` alike.

Owns their words, and which of them are good or bad. Who shows them owns how that looks, and that
no character of theirs does anything to a terminal. Pure.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from sidecar.cli.amounts import age
from sidecar.reporting.reports import Report

Style = Literal["", "title", "good", "warn", "bad"]


class Piece(NamedTuple):
    style: Style
    text: str


class HeadLine(NamedTuple):
    title: str
    pieces: Sequence[Piece]


def head_lines(
    report: Report, *, no_sidecar: str = "", old_seconds: float = 0.0
) -> Iterator[HeadLine]:
    """``no_sidecar``: why none was asked, or "". ``old_seconds``: of the report, which its ages
    have gone on since."""
    name = Piece("title", report.router_name)
    yield HeadLine("router", [name, Piece("", "  "), *_converged(report, no_sidecar)])
    yield HeadLine("HAProxy", [_process(report, old_seconds)])
    yield HeadLine("source", list(_source(report, old_seconds)))
    free = report.ports_total - report.ports_claimed
    ports = f"{report.ports_open} open, {report.ports_claimed} claimed, {free} free ports"
    slots = max(0, report.slots_total - report.slots_used)
    yield HeadLine("pool", [Piece("", f"{ports}; {report.slots_used} used, {slots} free slots")])


def _converged(report: Report, no_sidecar: str) -> Iterator[Piece]:
    if no_sidecar:
        yield Piece("warn", "no running sidecar")
        yield Piece("", f"; read from HAProxy and the source: {no_sidecar}")
    else:
        yield Piece("good" if report.converged else "bad", report.convergence)


def _process(report: Report, old_seconds: float) -> Piece:
    found = report.haproxy
    if found is None:
        return Piece("bad", "away")
    up = age(found.uptime_seconds + old_seconds)
    told = f"{found.version}, PID {found.pid}, up {up}, {found.connections} connections"
    return Piece("", told)


def _source(report: Report, old_seconds: float) -> Iterator[Piece]:
    source = report.source
    yield Piece("", f"{source.kind} {source.where}")
    if source.missing:
        yield Piece("", ", ")
        yield Piece("bad", f"not synced yet: {', '.join(source.missing)}")
    elif source.changed_seconds_ago is not None:
        yield Piece("", f", changed {age(source.changed_seconds_ago + old_seconds)} ago")
