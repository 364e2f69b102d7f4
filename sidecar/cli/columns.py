"""Columns of ``status``: what stands in them, and which of them a terminal has room for."""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from rich.console import Console
from rich.table import Table

from sidecar.reporting.reports import ServerReport

T = TypeVar("T")

#: More servers of one port or host than this are only counted: one screen should hold them all.
SERVERS_SHOWN = 8

#: Measuring costs as much as printing: so many lines stand for all.
MEASURED = 50


class Column(NamedTuple, Generic[T]):
    """``line``, ``server``: what stands in it, as rich's markup. ``rank``: where the terminal is
    too narrow, the column with the highest goes first; those of 0 stay."""

    title: str
    rank: int
    line: Callable[[T], str]
    server: Callable[[ServerReport], str] = lambda _: ""


def fitting(
    columns: Iterable[Column[T]],
    fill: Callable[[Sequence[Column[T]]], Table],
    console: Console,
    without: Callable[[int, list[Column[T]]], list[Column[T]]] = lambda _, left: left,
) -> list[Column[T]]:
    """Those that a terminal has room for; a pipe is wide enough. ``fill``: a table of them.
    ``without``: what becomes of the others where those of a rank went."""
    left = list(columns)
    while (rank := max(column.rank for column in left)) and console.is_terminal:
        if console.measure(fill(left)).maximum < console.width:
            break
        left = without(rank, [column for column in left if column.rank < rank])
    return left
