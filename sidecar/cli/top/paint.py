"""``top`` as lines of styled text, exactly as many and as wide as the terminal has.

Owns how it looks. Each text goes through `fitted`, so that none of its characters does anything to
the terminal. Pure.
"""

from collections.abc import Iterator, Sequence

from sidecar.cli.amounts import age, amount
from sidecar.cli.head import head_lines
from sidecar.cli.top.columns import LEFT, Placed, placed
from sidecar.cli.top.desk import Desk, Pane
from sidecar.cli.top.fitted import cells, clean, fit, folded
from sidecar.cli.top.rows import Row
from sidecar.reporting.problems import Problem, router_problems
from sidecar.reporting.reports import Report, ServerReport

#: (style, text): the styles are names of `screen`'s.
Piece = tuple[str, str]
Painted = list[Piece]

_MARKS = {"bad": "\N{BALLOT X}", "warn": "!", "note": " ", None: " "}
_STATES = {
    "open": "class:good",
    "ready": "class:good",
    "closed": "class:warn",
    "held": "class:warn",
    "drain": "class:warn",
    "maint": "class:warn",
}

#: From so many columns on, the head's lines have room beside each other.
_WIDE = 130

#: Of a screen, so much belongs to the problems at most: one line in so many.
_PROBLEMS_SHARE = 7

#: Where what is wrong with a row begins below it.
_PROBLEM_INDENT = 6

_KEYS = "?help /filter Enter:servers w:why s:sessions K:kick p:problems r:reverse q:quit"


def paint(desk: Desk, width: int, height: int, now: float) -> list[Painted]:
    """All of the screen; sets how many lines a page has."""
    if width < 20 or height < 5:
        lines = [_line("", "the terminal is too small", width)]
        lines += [_line("", "", width)] * (height - 1)
    else:
        told = _told_at_the_bottom(desk, width, height // 2)
        left = height - (len(told) or 1)
        if desk.pane:
            lines = _pane(desk, desk.pane, width, left)
        else:
            lines = [*_top(desk, width, height, now)]
            desk.page = max(1, left - len(lines))
            desk.table.fold(width - _PROBLEM_INDENT, now)
            lines += _body(desk, width, now)
        lines += [[("", " " * width)]] * (left - len(lines))
        lines = [*lines[:left], *(told or [_bottom(desk, width)])]
    return lines[:height]


def _line(style: str, text: str, width: int) -> Painted:
    return [(style, fit(text, width))]


def _row(pieces: Sequence[Piece], width: int) -> Painted:
    """``pieces`` beside each other, cut or filled to ``width``."""
    line: Painted = []
    left = width
    for style, text in pieces:
        whole = clean(text)
        taken = min(left, cells(whole))
        line.append((style, fit(whole, taken)))
        left -= taken
    return [*line, ("", " " * left)]


# -- the head ------------------------------------------------------------------------------------


def _top(desk: Desk, width: int, height: int, now: float) -> Iterator[Painted]:
    if desk.known is None:
        yield _line("class:title", "haproxy-sidecar top", width)
    else:
        yield from _head(desk.known.head, width, now - desk.answered_at)
    if desk.no_answer:
        since = f"no answer for {age(now - desk.answered_at)}" if desk.known else "no answer"
        yield _line("class:bad", f"{since}, asking again: {desk.no_answer}", width)
    elif desk.known is None:
        yield _line("class:dim", "asking the sidecar", width)
    if desk.known is not None:
        most = max(2, height // _PROBLEMS_SHARE)
        yield from _problems(desk.known.head, desk.table.problems, width, most)


def _head(head: Report, width: int, old_seconds: float) -> Iterator[Painted]:
    """As of `status`."""
    lines = [
        [("class:dim", f"{title:9}"), *((style and f"class:{style}", text) for style, text in told)]
        for title, told in head_lines(head, old_seconds=old_seconds)
    ]
    if width < _WIDE:
        yield from (_row(line, width) for line in lines)
        return
    router, haproxy, source, pool = lines
    half = width // 2
    for left, right in ((router, haproxy), (source, pool)):
        yield [*_row(left, half - 2), ("", "  "), *_row(right, width - half)]


def _problems(head: Report, rows: Sequence[Row], width: int, most: int) -> Iterator[Painted]:
    """The worst ones, and how many more there are."""
    found = [("", problem) for problem in router_problems(head)]
    found += [(f"{row.name} {row.route}: ", row.problems[0]) for row in rows[:most]]
    total = len(found) - len(rows[:most]) + len(rows)
    shown = found[: most if total <= most else most - 1]
    for whose, problem in shown:
        yield _line(f"class:{problem.level}", _told(whose, problem), width)
    if more := total - len(shown):
        words = "more problems" if shown else "problems"
        yield _line("class:warn", f"  and {more} {words}; p shows their rows", width)


def _told(whose: str, problem: Problem) -> str:
    return f"{_MARKS[problem.level]} {whose}{' '.join(problem.text.split())}"


# -- the table -----------------------------------------------------------------------------------


def _body(desk: Desk, width: int, now: float) -> Iterator[Painted]:
    table = desk.table
    if desk.known is None:
        return
    columns = placed(width - 2, table.name_width, table.route_width)
    yield _titles(desk, columns, width)
    desk.page = max(1, desk.page - 1)
    if not table.lines:
        yield _line("class:dim", _nothing(desk), width)
    widths: dict[str, list[int]] = {}
    for place, line in table.window(desk.page):
        if line.problem:
            mark = " " if line.part else _MARKS[line.problem.level]
            painted = [
                (f"class:{line.problem.level}", f"{mark:>{_PROBLEM_INDENT - 1}} {line.text}")
            ]
        elif line.server is None:
            painted = _of_row(line.row, columns, now)
        else:
            if line.row.key not in widths:
                widths[line.row.key] = _server_widths(line.row.servers)
            painted = _of_server(line.server, widths[line.row.key])
        if place == table.chosen:
            text = "".join(text for _, text in painted)
            yield [("class:chosen", fit(text, width))]
        else:
            yield _row(painted, width)


def _nothing(desk: Desk) -> str:
    if desk.table.total:
        return "no row is as filtered" if desk.table.filter else "no row has a problem"
    return "no Route has a port or host"


def _titles(desk: Desk, columns: Sequence[Placed], width: int) -> Painted:
    line: Painted = [("class:titles", "  ")]
    for place, column, room in columns:
        style, title = "class:titles", column.title
        if place == desk.table.sort:
            style = "class:sorted"
        line += [(style, fit(title, room, right=title not in LEFT)), ("class:titles", " ")]
    return _row(line[:-1], width)


def _of_row(row: Row, columns: Sequence[Placed], now: float) -> Painted:
    level = f"class:{row.level}" if row.level else ""
    line: Painted = [(level, f"{_MARKS[row.level]} ")]
    for _, column, room in columns:
        title, text = column.title, column.text(row, now)
        style = ""
        if title == "STATE":
            style = _STATES.get(row.state, "class:bad")
        elif title == "ERR" and row.rates.errors:
            style = "class:bad"
        line += [(style, fit(text, room, right=title not in LEFT)), ("", " ")]
    return line[:-1]


def _server_cells(server: ServerReport) -> list[str]:
    where = f"{server.pod or ''}{f' on {server.node}' if server.node else ''}"
    count = "-" if server.sessions is None else amount(server.sessions)
    return [server.slot, server.address, server.state, f"{count} sess", server.check or "", where]


def _server_widths(servers: Sequence[ServerReport]) -> list[int]:
    return [max(map(cells, column)) for column in zip(*map(_server_cells, servers), strict=True)]


def _of_server(server: ServerReport, widths: Sequence[int]) -> Painted:
    style = "class:dim" if server.state == "ready" else _STATES.get(server.state, "class:bad")
    parts = zip(_server_cells(server), widths, strict=True)
    return [(style, "    " + "  ".join(fit(text, room) for text, room in parts if room))]


# -- texts, and the last line ----------------------------------------------------------------------


def _pane(desk: Desk, pane: Pane, width: int, height: int) -> list[Painted]:
    desk.page = height - 1
    pane.lines = [part for line in pane.text for part in folded(line, width)]
    pane.scroll(0, desk.page)
    seen = pane.lines[pane.top : pane.top + desk.page]
    return [
        _line("class:titles", f" {pane.title}", width),
        *(_line(_pane_style(line), line, width) for line in seen),
    ]


def _pane_style(line: str) -> str:
    for level, mark in _MARKS.items():
        if level and line.startswith(f"{mark} "):
            return f"class:{level}"
    return ""


def _told_at_the_bottom(desk: Desk, width: int, most: int) -> list[Painted]:
    """A question or message, in as many lines as it needs: what is asked for is never cut off, if
    that can be."""
    style, text = "class:question", f"{desk.question} [y/N]"
    if not desk.question:
        if desk.message is None or desk.waiting:
            return []
        style, text = "class:bad" if desk.message.bad else "class:title", desk.message.text
    lines = folded(text, width)
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[-1]]
    return [_line(style, line, width) for line in lines]


def _bottom(desk: Desk, width: int) -> Painted:
    if desk.waiting:
        return _line("class:dim", f"{desk.waiting}; Esc does not wait", width)
    if desk.ending:
        return _line("class:warn", desk.ending, width)
    if desk.pane:
        pane = desk.pane
        last = min(len(pane.lines), pane.top + desk.page)
        return _line("class:dim", f"{last} of {len(pane.lines)} lines; q goes back", width)
    table = desk.table
    if desk.typing:
        return _row([("class:title", f"/{table.filter}"), ("class:chosen", " ")], width)
    asked = f"/{table.filter} " * bool(table.filter) + "problems " * table.only_problems
    if asked:
        asked = f"{asked}({table.found} of {table.total}) "
    return _row([("class:title", asked), ("class:dim", _KEYS)], width)
