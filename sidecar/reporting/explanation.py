"""The form of an explanation: steps, each with a mark and a remedy. Values only."""

from dataclasses import dataclass
from typing import Literal

from sidecar.control.history import EntryReport

#: ``bad``: here the chain breaks. ``warn``: it holds, not as it should. ``info``: neither.
Mark = Literal["ok", "warn", "bad", "info"]


@dataclass(frozen=True, slots=True)
class Line:
    """A detail of a link."""

    mark: Mark
    text: str


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain. ``name``: what is asked, like ``Service``; ``remedy``: what to do, or
    ""."""

    name: str
    mark: Mark
    text: str
    lines: tuple[Line, ...] = ()
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """``subject``: the port or Route. ``port``, ``route``: which ones it is about, if any.
    ``works``: whether connections get to a server."""

    subject: str
    port: int | None
    works: bool
    links: tuple[Link, ...]
    route: str | None = None


@dataclass(frozen=True, slots=True)
class WhyReport:
    """The same for programs: ``/api/why`` and ``why --json``. ``asked``: as of `Report`.
    ``operations``: the last ones on the port, the newest first."""

    router_name: str
    asked: str
    socket: str
    why: Why
    operations: tuple[EntryReport, ...]
