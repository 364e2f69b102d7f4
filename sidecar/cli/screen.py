"""The look of results: narrow tables, and long texts below them, where a terminal may wrap them."""

import shutil
import sys
from collections.abc import Iterable, Iterator

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

#: State of a port -> its colour.
PORT_COLOURS = {"open": "green", "closed": "yellow", "unknown": "red"}

#: Into a pipe nothing is wrapped or cut off, so that `grep` finds whole lines.
_PIPE_COLUMNS = 100_000


def make_console() -> Console:
    """Where results are printed: as wide as the terminal, or, into a pipe, as wide as it takes."""
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    # No emoji: `:name:` is text, and their list takes long to load.
    return Console(highlight=False, emoji=False, width=width)


def terminal_width() -> int | None:
    """How many columns the terminal has; None into a pipe, where there is no end."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def make_table(*columns: str) -> Table:
    """An empty table; a column ``>NAME`` is for numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        # A number is never folded; names are, where the terminal is too narrow.
        number = name.startswith(">")
        table.add_column(
            name.removeprefix(">"),
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",
        )
    return table


def section(title: str, lines: Iterable[str], style: str = "") -> Iterator[RenderableType]:
    """A titled list of texts, indented; nothing at all when there are none."""
    lines = list(lines)
    if lines:
        yield Text(f"\n{title}", "bold")
    for line in lines:
        yield Padding(Text(line, style, overflow="fold"), (0, 0, 0, 2), expand=False)


def print_section(console: Console, title: str, lines: Iterable[str], style: str = "") -> None:
    """The same, on ``console``."""
    for item in section(title, lines, style):
        console.print(item)
