"""What a key means in ``top``, by what is on the screen: the table, a text on top of it, a filter
being typed, a question, or an answer that is being waited for.

Owns that nothing is ended but what a person was asked about and said y to: while an answer is on
its way, keys do nothing, so that none can be taken for the answer to a question that was not there
yet. Draws nothing and asks nobody. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sidecar.cli.top.columns import COLUMNS
from sidecar.cli.top.memory import Known
from sidecar.cli.top.table import Table
from sidecar.reporting.reports import PortReport

#: Longer ones are not typed by anybody.
_FILTER_MAX = 200

#: Who is shown a page keeps this many lines of the former one.
_KEPT = 1

_TITLES = ", ".join(column.title for column in COLUMNS)

KEYS: Sequence[tuple[str, str]] = (
    ("\N{UPWARDS ARROW} \N{DOWNWARDS ARROW}, k j", "one line up, down"),
    ("PgUp PgDn, Ctrl-B Ctrl-F", "one page up, down"),
    ("Home End, g G", "to the first line, the last one"),
    ("/", "filter: rows that have all these words; Enter keeps it, Esc drops it"),
    ("Enter, Space", "show the servers of a row, and what is wrong with it, or hide them"),
    ("p", "only rows with a problem, or all again"),
    ("< >", "sort by the next column to the left, to the right"),
    (" ".join(column.letter for column in COLUMNS), f"sort by {_TITLES}"),
    ("r", "the other way round"),
    ("w", "why: each step from the Route to its servers, and where it breaks"),
    ("s", "the sessions of the port"),
    ("K", "end the sessions of the port, or of one server if that is chosen; asks first"),
    ("?", "this help"),
    ("q", "back; in the table: quit"),
    ("Ctrl-C", "quit"),
)


class Action(NamedTuple):
    """What is to be done elsewhere. ``subject``: of `why`, or the port. ``server``: its slot; ""
    for all. ``plan``: what a person said y to, as `Desk.ask` was given it."""

    kind: Literal["quit", "why", "sessions", "kick", "end"]
    subject: str = ""
    server: str = ""
    plan: Any = None


class Pane:
    """A text on top of the table. ``lines``: of it on the screen; whoever draws sets them."""

    def __init__(self, title: str, text: Sequence[str]) -> None:
        self.title = title
        self.text = text
        self.lines = text
        self.top = 0

    def scroll(self, by: int, height: int) -> None:
        self.top = max(0, min(self.top + by, len(self.lines) - height))


class Message(NamedTuple):
    """A line at the bottom, until the next key."""

    text: str
    bad: bool = False


class Desk:
    """``page``: how many lines of the table or text are on the screen; whoever draws sets it.
    ``no_answer``: why the sidecar has not answered since ``answered_at``, or "". ``ending``: how
    far it is with the sessions that are being ended, or "". ``kicks``: why sessions cannot be
    reached from here, or ""."""

    def __init__(self, kicks: str = "") -> None:
        self.table = Table()
        self.known: Known | None = None
        self.answered_at = 0.0
        self.no_answer = ""
        self.pane: Pane | None = None
        self.typing = False
        self.waiting = ""
        self.question = ""
        self.ending = ""
        self.message: Message | None = None
        self.page = 10
        self._kicks = kicks
        self._plan: object = None
        # Of what is waited for: an answer that nobody waits for any more is dropped.
        self._waits = 0

    # -- what comes ----------------------------------------------------------------------------

    def take(self, known: Known, now: float) -> None:
        self.known, self.answered_at, self.no_answer = known, now, ""
        self.table.take(known, now)

    def miss(self, why: str) -> None:
        """The sidecar did not answer."""
        self.no_answer = why

    def wait(self, text: str) -> int:
        """Until `arrived` is called with what this returns."""
        self.waiting, self._waits = text, self._waits + 1
        return self._waits

    def arrived(self, wait: int) -> bool:
        """Whether the answer is still wanted."""
        if wait != self._waits or not self.waiting:
            return False
        self.waiting = ""
        return True

    def show(self, title: str, lines: Sequence[str]) -> None:
        self.pane = Pane(title, lines)

    def say(self, text: str, *, bad: bool = False) -> None:
        self.message = Message(text, bad)

    def ask(self, question: str, plan: object) -> None:
        """A key y is the only one that means yes, to ``plan``."""
        self.question, self._plan = question, plan

    # -- keys ----------------------------------------------------------------------------------

    def press(self, key: str, now: float) -> Action | None:
        """``key``: a character, or the name of a key, as in `_MOVES`."""
        if key == "ctrl-c":
            return Action("quit")
        if self.waiting:
            if key in ("escape", "q"):
                self.waiting = ""
            return None
        self.message = None
        if self.question:
            return self._answer(key)
        if self.pane:
            return self._read(self.pane, key)
        if self.typing:
            return self._type(key, now)
        return self._choose(key, now)

    def paste(self, text: str, now: float) -> None:
        """Into the filter, and nowhere else: pasted text is no command."""
        if self.typing and not (self.waiting or self.question or self.pane):
            line = "".join(char if char.isprintable() else " " for char in text)
            self.table.set_filter((self.table.filter + line)[:_FILTER_MAX], now)

    def _answer(self, key: str) -> Action | None:
        plan, self.question, self._plan = self._plan, "", None
        if key in ("y", "Y"):
            return Action("end", plan=plan)
        self.say("no session was ended")
        return None

    def _read(self, pane: Pane, key: str) -> Action | None:
        if key in ("escape", "q", "enter", "?"):
            self.pane = None
        elif key in _MOVES:
            pane.scroll(_MOVES[key](self.page, len(pane.lines)), self.page)
        return None

    def _type(self, key: str, now: float) -> Action | None:
        text = self.table.filter
        if key == "enter":
            self.typing = False
        elif key == "escape":
            self.typing = False
            self.table.set_filter("", now)
        elif key == "backspace":
            self.typing = bool(text)
            self.table.set_filter(text[:-1], now)
        elif key == "ctrl-u":
            self.table.set_filter("", now)
        elif key in ("up", "down", "pageup", "pagedown"):
            self.table.move(_MOVES[key](self.page, len(self.table.lines)))
        elif len(key) == 1 and key.isprintable():
            self.table.set_filter((text + key)[:_FILTER_MAX], now)
        return None

    def _choose(self, key: str, now: float) -> Action | None:
        table = self.table
        if key in _MOVES:
            table.move(_MOVES[key](self.page, len(table.lines)))
        elif key in ("enter", " "):
            table.expand(now)
        elif key == "/":
            self.typing = True
        elif key == "escape":
            table.set_filter("", now)
        elif key == "p":
            table.show_problems(now)
        elif key in ("<", ">"):
            table.sort_beside(-1 if key == "<" else 1, now)
        elif key == "r":
            table.turn_round(now)
        elif key in ("?", "h"):
            width = max(len(keys) for keys, _ in KEYS)
            self.show("keys", [f"{keys.ljust(width)}  {text}" for keys, text in KEYS])
        elif key == "q":
            return Action("quit")
        elif key == "w":
            return Action("why", table.line.row.subject) if table.line else None
        elif key in ("s", "K"):
            return self._sessions("sessions" if key == "s" else "kick")
        else:
            table.sort_by(key, now)
        return None

    def _sessions(self, kind: Literal["sessions", "kick"]) -> Action | None:
        line = self.table.line
        if line is None:
            return None
        item = line.row.item
        if self._kicks:
            self.say(self._kicks, bad=True)
        elif kind == "kick" and self.ending:
            self.say("the sessions from before are still being ended", bad=True)
        elif not isinstance(item, PortReport):
            port = getattr(item, "port", None)
            instead = f"choose port {port}, which it shares" if port else "choose a port"
            self.say(f"sessions are known by port; {instead}", bad=True)
        else:
            server = line.server.slot if line.server and kind == "kick" else ""
            return Action(kind, str(item.port), server)
        return None


#: Key -> how far it leads, by the height of a page and the number of lines.
_MOVES: Mapping[str, Callable[[int, int], int]] = {
    "up": lambda *_: -1,
    "k": lambda *_: -1,
    "down": lambda *_: 1,
    "j": lambda *_: 1,
    "pageup": lambda page, _: -max(1, page - _KEPT),
    "ctrl-b": lambda page, _: -max(1, page - _KEPT),
    "pagedown": lambda page, _: max(1, page - _KEPT),
    "ctrl-f": lambda page, _: max(1, page - _KEPT),
    "home": lambda _, lines: -lines,
    "g": lambda _, lines: -lines,
    "end": lambda _, lines: lines,
    "G": lambda _, lines: lines,
}
