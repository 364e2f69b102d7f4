"""Tables of HAProxy's many rows, laid out as text.

Hides columns that are empty in every row, and on a terminal rows of unused slots and the last
columns if it is too narrow; a note below the table says so. Hand-written, because rich takes about
60 us per cell, and a pool has tens of thousands of them. Pure.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: Values that say nothing.
_NOTHING = frozenset({"", "-", "0"})

_GAP = "  "


#: A number, a size or a time: aligned by its end.
_NUMBER = re.compile(r"(?:-?[0-9]+(?:\.[0-9]+)?(?: [kMGT]?B)?|(?:[0-9]+[dhms])+|-)?")


class Grid(NamedTuple):
    """A table. ``first``: columns that are shown even if they say nothing. ``unused``: whether a
    row is of a slot, or a port, that nobody uses; one for each row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    first: frozenset[str]
    unused: tuple[bool, ...]


class Pairs(NamedTuple):
    """Names and values: ``show info``."""

    items: tuple[tuple[str, str], ...]


def lay_out(table: Grid | Pairs, width: int | None, *, all_rows: bool) -> list[str]:
    """The table's lines, no wider than ``width`` where there is one; notes on what was left out
    come last."""
    if isinstance(table, Pairs):
        return _lay_out_pairs(table, width)
    shown = [
        row for row, unused in zip(table.rows, table.unused, strict=True) if all_rows or not unused
    ]
    telling = [
        index
        for index, name in enumerate(table.columns)
        if name in table.first or any(row[index] not in _NOTHING for row in shown)
    ]
    cells = [[table.columns[index] for index in telling]]
    cells += [[row[index] for index in telling] for row in shown]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    fitting = _fitting(widths, width)
    numeric = [
        all(_NUMBER.fullmatch(row[index]) is not None for row in cells[1:])
        for index in range(fitting)
    ]
    lines = [_line(row[:fitting], widths, numeric) for row in cells]
    if hidden := len(table.rows) - len(shown):
        lines.append(f"({hidden} unused slots and ports hidden; `:all on` shows them)")
    if fitting < len(telling):
        left_out = ", ".join(cells[0][fitting:])
        note = f"(no room for {left_out})"
        lines.append(note if width is None or len(note) <= width else f"{note[: width - 2]}…)")
    return lines


def _fitting(widths: Sequence[int], width: int | None) -> int:
    """How many columns have room; one at least."""
    used, count = 0, 0
    for column in widths:
        used += column + (len(_GAP) if count else 0)
        if width is not None and used > width and count:
            break
        count += 1
    return count


def _line(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    cells = (
        text.rjust(width) if right else text.ljust(width)
        for text, width, right in zip(row, widths, numeric, strict=False)
    )
    return _GAP.join(cells).rstrip()


def _lay_out_pairs(table: Pairs, width: int | None) -> list[str]:
    """One below the other, in as many columns as there is room for."""
    name_width = max((len(name) for name, _ in table.items), default=0)
    lines = [f"{name.ljust(name_width)}{_GAP}{value}" for name, value in table.items]
    cell = max(map(len, lines), default=1) + len(_GAP)
    columns = 1 if width is None else max(1, (width + len(_GAP)) // cell)
    height = -(-len(lines) // columns)
    return [_GAP.join(_columns(lines[row::height], cell)).rstrip() for row in range(height)]


def _columns(cells: Iterable[str], width: int) -> Iterable[str]:
    return (cell.ljust(width - len(_GAP)) for cell in cells)
