"""What `top` has others do: explain, list sessions, end them; by the same rules as the commands
`why`, `sessions` and `kick`.

Each may take its time, and is called in a thread. Loads what it needs when it is needed: most of
those who look at a table want nothing else.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.cli.whom import Sidecar


class Text(NamedTuple):
    title: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Planned:
    """Sessions that may be ended. ``question``: what to ask for that, or, where there are none,
    "" and ``nothing`` says so."""

    question: str
    nothing: str
    prospect: Any
    pace: int


class Work:
    """``config``: of HAProxy, whose sessions are meant."""

    def __init__(self, config: Path | None, sidecar: Sidecar) -> None:
        self._config = config
        self._sidecar = sidecar

    def why(self, subject: str, width: int) -> Text:
        """Raises NoSidecarError, UsageError."""
        from rich.console import Console, Group

        from sidecar.cli.why import explained, shown

        report = explained(self._sidecar, subject)
        told = io.StringIO()
        # Plain: its colours would be characters here.
        console = Console(
            file=told, width=width, color_system=None, highlight=False, emoji=False, no_color=True
        )
        console.print(Group(*shown(report, "")))
        # The outcome comes last there, which may be below the screen's end.
        works = "it works" if report.why.works else "it does not work"
        return Text(
            f"why {subject}: {works}", [line.rstrip() for line in told.getvalue().splitlines()]
        )

    def sessions(self, port: str, width: int) -> Text:
        """Raises SidecarError."""
        from sidecar.cli.config import load_settings
        from sidecar.cli.sessions import names_are_missing, read_sessions, session_lines

        named, rows = read_sessions(load_settings(self._config), port)
        title, *lines = session_lines(named, rows, width)
        if named.problem:
            lines = [names_are_missing(named), *lines]
        return Text(title, [line for line in lines if line])

    def plan_kick(self, port: str, server: str) -> Planned:
        """Raises SidecarError."""
        from sidecar.cli.config import load_settings
        from sidecar.cli.kick import foresee
        from sidecar.cli.sessions import connect
        from sidecar.cli.targets import find_port

        settings = load_settings(self._config)
        pace = settings.drain.sessions_per_second
        named = find_port(settings, port)
        with connect(settings) as client:
            prospect = foresee(client, named, server or None)
        if not prospect.wanted:
            return Planned("", f"no sessions on {prospect.what}", prospect, pace)
        return Planned(prospect.question(pace), "", prospect, pace)

    def kick(self, planned: Planned, told: Callable[[str], object]) -> tuple[list[str], list[str]]:
        """What became of them, and what was refused. Raises SidecarError."""
        from sidecar.cli.config import load_settings
        from sidecar.cli.kick import Tally, end
        from sidecar.cli.sessions import connect

        tally = Tally()
        with connect(load_settings(self._config)) as client:
            end(client, planned.prospect, planned.pace, tally, told)
        return list(tally.lines(planned.prospect)), list(tally.refusals())
