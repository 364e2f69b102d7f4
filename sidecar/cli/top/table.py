"""Which rows of ``top`` are seen, in which order, and which one is chosen.

Owns filter, sort, selection, what is expanded, and how far it is scrolled. Draws nothing. Pure.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sidecar.cli.top.columns import COLUMNS, in_order
from sidecar.cli.top.fitted import cells, folded
from sidecar.cli.top.memory import Known
from sidecar.cli.top.rows import Row
from sidecar.reporting.problems import Problem
from sidecar.reporting.reports import ServerReport

_LETTERS = {column.letter: index for index, column in enumerate(COLUMNS)}


class Line(NamedTuple):
    """A row, or below it one of its problems or servers. ``text``: what this
    line has of the problem; ``part``: which of its lines this is, from 0."""

    row: Row
    server: ServerReport | None = None
    problem: Problem | None = None
    part: int = 0
    text: str = ""

    @property
    def name(self) -> tuple[str, str]:
        """By which it is known again when everything else of it has changed."""
        if self.problem:
            return self.row.key, f"problem {self.row.problems.index(self.problem)} {self.part}"
        return self.row.key, self.server.slot if self.server else ""


class Table:
    """``lines``: what there is to see now; ``chosen``: one of them, by its place; ``top``: the
    first one on the screen. ``sort``: a place in COLUMNS. ``filter``: words, all of which a row
    must have. ``problems``: the rows that have any, whatever is filtered, the worst first."""

    def __init__(self) -> None:
        self.lines: Sequence[Line] = ()
        self.chosen = 0
        self.top = 0
        self.sort = 0
        self.reverse = False
        self.only_problems = False
        self.filter = ""
        self.found = 0
        self.problems: Sequence[Row] = ()
        self.name_width = self.route_width = 0
        self._width = 0
        self._rows: Sequence[Row] = ()
        self._expanded: set[str] = set()

    @property
    def total(self) -> int:
        """Of all rows."""
        return len(self._rows)

    @property
    def line(self) -> Line | None:
        """The chosen one."""
        return self.lines[self.chosen] if self.lines else None

    def take(self, known: Known, now: float) -> None:
        """New figures; what is chosen stays so, wherever it is then."""
        self._rows = tuple(known.rows.values())
        self._expanded &= known.rows.keys()
        self.name_width = max((cells(row.name) for row in self._rows), default=0)
        self.route_width = max((cells(row.route) for row in self._rows), default=0)
        found = [row for row in self._rows if row.problems]
        self.problems = sorted(found, key=lambda row: (row.level != "bad", row.order))
        self.arrange(now)

    def arrange(self, now: float) -> None:
        """Anew, after anything of it changed."""
        chosen = self.line
        words = self.filter.lower().split()
        meant = [
            row
            for row in self._rows
            if (row.problems or not self.only_problems)
            and all(word in row.search for word in words)
        ]
        self.found = len(meant)
        ordered = in_order(meant, COLUMNS[self.sort], self.reverse, now)
        lines: list[Line] = []
        for row in ordered:
            lines.append(Line(row))
            if row.key in self._expanded:
                lines += [line for problem in row.problems for line in self._told(row, problem)]
                lines += [Line(row, server) for server in row.servers]
        self.lines = lines
        self.chosen = self._place_of(chosen)

    def _told(self, row: Row, problem: Problem) -> Iterator[Line]:
        text = " ".join(problem.text.split())
        parts = folded(text, self._width) if self._width else [text]
        for place, part in enumerate(parts):
            yield Line(row, problem=problem, part=place, text=part)

    def fold(self, width: int, now: float) -> None:
        """Problems into lines that are so wide."""
        if width != self._width:
            self._width = width
            self.arrange(now)

    def _place_of(self, line: Line | None) -> int:
        """Where it is now; its row, if only that is left; else whatever took its place."""
        last = max(0, len(self.lines) - 1)
        if line is None:
            return 0
        places = {found.name: place for place, found in enumerate(self.lines)}
        by_row = places.get((line.row.key, ""), min(self.chosen, last))
        return places.get(line.name, by_row)

    def move(self, by: int) -> None:
        """So many lines down, as far as there are any."""
        self.chosen = max(0, min(self.chosen + by, len(self.lines) - 1))

    def window(self, height: int) -> Sequence[tuple[int, Line]]:
        """The lines that are on a screen with so many, with their places; scrolled so that the
        chosen one is among them."""
        height = max(1, height)
        low = max(0, self.chosen - height + 1)
        self.top = max(low, min(self.top, self.chosen, max(low, len(self.lines) - height)))
        seen = self.lines[self.top : self.top + height]
        return list(enumerate(seen, self.top))

    def expand(self, now: float) -> None:
        """Or the other way round. On a line below a row, that row is meant."""
        if self.line is None:
            return
        row = self.line.row
        self._expanded ^= {row.key}
        self.arrange(now)

    def sort_by(self, letter: str, now: float) -> None:
        """By the column with this letter, if there is one."""
        if letter in _LETTERS:
            self._sort(_LETTERS[letter], now)

    def sort_beside(self, by: int, now: float) -> None:
        """By the next column to the right, or the left."""
        self._sort((self.sort + by) % len(COLUMNS), now)

    def _sort(self, index: int, now: float) -> None:
        self.sort, self.reverse = index, False
        self.arrange(now)
        # The first ones are what is asked for.
        self.chosen = 0

    def turn_round(self, now: float) -> None:
        self.reverse = not self.reverse
        self.arrange(now)
        self.chosen = 0

    def show_problems(self, now: float) -> None:
        """Only rows that have one, or all again."""
        self.only_problems = not self.only_problems
        self.arrange(now)

    def set_filter(self, text: str, now: float) -> None:
        self.filter = text
        self.arrange(now)
