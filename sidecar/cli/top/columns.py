"""The columns of ``top``: what stands in them, how rows are sorted by them, and which of them a
terminal has room for. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sidecar.cli.amounts import age, amount
from sidecar.cli.top.rows import Row

#: What name and Route need together, at least, if other columns could go instead.
_NAMES_MIN = 34


class Column(NamedTuple):
    """``letter``: the key that sorts by it. ``value``, ``text``: of a row, by the time now; a value
    of None is last whichever way rows are sorted. ``width``: 0 takes what the others leave.
    ``rank``: where there is no room, the highest goes first; 0 stays. ``falls``: the largest come
    first."""

    title: str
    letter: str
    value: Callable[[Row, float], Any]
    text: Callable[[Row, float], str]
    width: int
    rank: int
    falls: bool = False


def servers(row: Row) -> str:
    """``3/0/1``: ready, down, and in drain or maint."""
    if not row.servers_known:
        return ""
    states = Counter(server.state for server in row.servers)
    return f"{states['ready']}/{states['down']}/{states['drain'] + states['maint']}"


def _ready(row: Row) -> int | None:
    ready = sum(server.state == "ready" for server in row.servers)
    return ready if row.servers_known else None


def _changed(row: Row, now: float) -> str:
    seconds = row.changed(now)
    return "-" if seconds is None else age(seconds).replace(" ", "")


def _number(value: Callable[[Row], float | None]) -> Callable[[Row, float], str]:
    def text(row: Row, _: float) -> str:
        found = value(row)
        return _small(found) if found is not None and 0 < found < 1 else amount(_whole(found))

    return text


def _small(number: float) -> str:
    """So that little is not nothing."""
    return "<0.1" if number < 0.05 else f"{number:.1f}"


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)


def _figure(title: str, letter: str, rank: int, value: Callable[[Row], float | None]) -> Column:
    return Column(title, letter, lambda row, _: value(row), _number(value), 5, rank, falls=True)


COLUMNS: Sequence[Column] = (
    Column("NAME", "N", lambda row, _: row.order, lambda row, _: row.name, 0, 0),
    Column("STATE", "T", lambda row, _: row.state, lambda row, _: row.state, 7, 0),
    Column("ROUTE", "R", lambda row, _: row.route, lambda row, _: row.route, 0, 0),
    Column("SERVERS", "V", lambda row, _: _ready(row), lambda row, _: servers(row), 7, 0),
    _figure("SESS", "S", 0, lambda row: row.sessions),
    _figure("NEW/S", "W", 3, lambda row: row.new),
    _figure("REQ/S", "Q", 6, lambda row: row.rates.requests),
    _figure("ERR", "E", 0, lambda row: row.rates.errors),
    _figure("IN/S", "I", 5, lambda row: row.rates.bytes_in),
    _figure("OUT/S", "O", 4, lambda row: row.rates.bytes_out),
    Column("CHANGED", "C", lambda row, now: row.changed(now), _changed, 7, 2),
)

#: Those that are text begin at the left.
LEFT = frozenset({"NAME", "STATE", "ROUTE"})


class Placed(NamedTuple):
    """A column, and how wide it is here. ``place``: its own in COLUMNS."""

    place: int
    column: Column
    width: int


def placed(width: int, name_width: int, route_width: int) -> list[Placed]:
    """The columns that ``width`` has room for. ``name_width``, ``route_width``: what the longest
    ones would take."""
    left = list(enumerate(COLUMNS))
    while True:
        room = width - sum(column.width for _, column in left) - (len(left) - 1)
        rank = max(column.rank for _, column in left)
        if room >= min(_NAMES_MIN, name_width + route_width) or not rank:
            break
        left = [(index, column) for index, column in left if column.rank < rank]
    room = max(room, 2)
    # Who needs less than half leaves the rest to the other; what nobody needs is the Route's.
    name = max(4, min(name_width, max(room // 2, room - route_width)))
    widths = {"NAME": min(name, room - 1), "ROUTE": max(1, room - name)}
    return [Placed(index, column, column.width or widths[column.title]) for index, column in left]


def in_order(rows: list[Row], column: Column, reverse: bool, now: float) -> list[Row]:
    """``rows`` by ``column``; those of which it is not known last."""
    rows.sort(key=lambda row: row.order)
    known: list[tuple[Any, Row]] = []
    rest: list[Row] = []
    for row in rows:
        if (value := column.value(row, now)) is None:
            rest.append(row)
        else:
            known.append((value, row))
    # Stable, whichever way: equal ones stay by name.
    known.sort(key=lambda pair: pair[0], reverse=column.falls != reverse)
    return [row for _, row in known] + rest
