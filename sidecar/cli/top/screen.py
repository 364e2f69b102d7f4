"""``top`` on a terminal: keys in, `paint` out, and what is waited for in threads.

Owns the terminal, which is as before when it leaves, however it does. Decides nothing: what a key
means is `desk`'s. Loads prompt_toolkit, and so is imported only when it runs.
"""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import Layout, Window
from prompt_toolkit.layout.controls import FormattedTextControl
from prompt_toolkit.styles import Style

from sidecar.cli.top.desk import Action, Desk
from sidecar.cli.top.feed import Feed
from sidecar.cli.top.memory import Known
from sidecar.cli.top.paint import paint
from sidecar.cli.top.work import Planned, Text, Work
from sidecar.cli.whom import Sidecar
from sidecar.common.errors import SidecarError

#: Ages count on, also where nothing is new.
_REFRESH_SECONDS = 1.0

#: So long may the rest of a key's sequence take: less than a person's next key.
_ESCAPE_SECONDS = 0.1

_STYLE = Style.from_dict(
    {
        "bad": "ansired",
        "warn": "ansiyellow",
        "good": "ansigreen",
        "dim": "ansibrightblack",
        "title": "bold",
        "titles": "reverse",
        "sorted": "bold underline reverse",
        "chosen": "bold reverse",
        "question": "bold reverse",
    }
)

#: prompt_toolkit's names -> those of `Desk.press`.
_NAMED = {
    Keys.Up: "up",
    Keys.Down: "down",
    Keys.PageUp: "pageup",
    Keys.PageDown: "pagedown",
    Keys.Home: "home",
    Keys.End: "end",
    Keys.Escape: "escape",
    Keys.ControlB: "ctrl-b",
    Keys.ControlC: "ctrl-c",
    Keys.ControlF: "ctrl-f",
    Keys.ControlU: "ctrl-u",
    Keys.ControlM: "enter",
    Keys.ControlJ: "enter",
    Keys.ControlH: "backspace",
}


class Screen:
    """``kicks``: why sessions cannot be reached from here, or ""."""

    def __init__(self, config: Path | None, sidecar: Sidecar, kicks: str) -> None:
        self._desk = Desk(kicks)
        self._work = Work(config, sidecar)
        self._app: Application[None] = Application(
            layout=Layout(
                Window(
                    FormattedTextControl(self._painted, focusable=True, show_cursor=False),
                    always_hide_cursor=True,
                )
            ),
            key_bindings=self._bindings(),
            style=_STYLE,
            full_screen=True,
            refresh_interval=_REFRESH_SECONDS,
        )
        self._app.ttimeoutlen = self._app.timeoutlen = _ESCAPE_SECONDS
        self._feed = Feed(
            sidecar,
            take=self._handed(self._take),
            miss=self._handed(self._desk.miss),
            fail=self._handed(self._fail),
        )

    def run(self) -> None:
        """Until the user leaves, or SIGTERM or SIGINT comes."""
        try:
            self._app.run(pre_run=self._begin, handle_sigint=False)
        finally:
            self._feed.stop()
            if self._desk.ending:
                sys.stderr.write(f"left before all were; {self._desk.ending}\n")

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Else the terminal would stay as it is now. The key Ctrl-C is no signal here.
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._leave)
        self._feed.start()

    def _leave(self) -> None:
        if self._app.is_running and not self._app.is_done:
            self._app.exit()

    def _painted(self) -> StyleAndTextTuples:
        size = self._app.output.get_size()
        lines = paint(self._desk, size.columns, size.rows, time.monotonic())
        pieces: StyleAndTextTuples = []
        for line in lines:
            pieces += [*line, ("", "\n")]
        return pieces[:-1]

    # -- from threads ------------------------------------------------------------------------------

    def _handed(self, work: Callable[[Any], object]) -> Callable[[Any], None]:
        """``work`` in the screen's thread, which draws then."""

        def do(value: Any) -> None:
            if not self._app.is_done:
                work(value)
                self._app.invalidate()

        def hand(value: Any) -> None:
            # The loop may be closed already, where nobody wants it any more.
            try:
                self._loop.call_soon_threadsafe(do, value)
            except RuntimeError:
                return

        return hand

    def _take(self, known: Known) -> None:
        self._desk.take(known, time.monotonic())

    def _fail(self, error: BaseException) -> None:
        self._app.exit(exception=error)

    def _start(
        self, wait_text: str, work: Callable[[], Any], done: Callable[[Any], object]
    ) -> None:
        """``work`` in a thread, and ``done`` with what it found, if it is still waited for."""
        wait = self._desk.wait(wait_text)

        def arrived(found: Any) -> None:
            if self._desk.arrived(wait):
                done(found)

        def refused(error: str) -> None:
            if self._desk.arrived(wait):
                self._desk.say(error, bad=True)

        self._in_thread(work, arrived, refused)

    def _in_thread(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], object],
        refused: Callable[[str], object],
    ) -> None:
        hand_done, hand_refused = self._handed(done), self._handed(refused)
        fail = self._handed(self._fail)

        def run() -> None:
            try:
                found = work()
            except SidecarError as exc:
                hand_refused(str(exc))
            except Exception as exc:  # noqa: BLE001  told when the terminal is as before
                fail(exc)
            else:
                hand_done(found)

        threading.Thread(target=run, name="work", daemon=True).start()

    # -- keys --------------------------------------------------------------------------------------

    def _bindings(self) -> KeyBindings:
        keys = KeyBindings()
        for key, name in _NAMED.items():
            keys.add(key)(partial(self._press, name))
        keys.add(Keys.ControlZ)(lambda event: event.app.suspend_to_background())
        keys.add(Keys.BracketedPaste)(lambda event: self._desk.paste(event.data, time.monotonic()))

        @keys.add(Keys.Any)
        def _(event: KeyPressEvent) -> None:
            self._press(event.data, event)

        return keys

    def _press(self, key: str, _: KeyPressEvent) -> None:
        if action := self._desk.press(key, time.monotonic()):
            self._act(action)

    def _act(self, action: Action) -> None:
        width = self._app.output.get_size().columns
        match action:
            case Action("quit"):
                self._leave()
            case Action("why", subject):
                self._start(
                    f"asking why {subject}", partial(self._work.why, subject, width), self._show
                )
            case Action("sessions", port):
                work = partial(self._work.sessions, port, width)
                self._start(_listing(port), work, self._show)
            case Action("kick", port, server):
                plan = partial(self._work.plan_kick, port, server)
                self._start(_listing(port), plan, self._ask)
            case Action("end", plan=planned):
                self._end(planned)

    def _show(self, text: Text) -> None:
        self._desk.show(*text)

    def _ask(self, planned: Planned) -> None:
        if planned.question:
            self._desk.ask(planned.question, planned)
        else:
            self._desk.say(planned.nothing)

    def _end(self, planned: Planned) -> None:
        self._desk.ending = "ending sessions"
        told = self._handed(self._tell)
        self._in_thread(partial(self._work.kick, planned, told), self._ended, self._not_ended)

    def _tell(self, text: str) -> None:
        self._desk.ending = text

    def _ended(self, found: tuple[list[str], list[str]]) -> None:
        lines, refusals = found
        self._desk.ending = ""
        said = lines[0] + (
            ": " + ", ".join(line.strip() for line in lines[1:]) if lines[1:] else ""
        )
        self._desk.say("; ".join([said, *refusals]), bad=bool(refusals))
        self._feed.hurry()

    def _not_ended(self, error: str) -> None:
        so_far, self._desk.ending = self._desk.ending, ""
        self._desk.say(f"{error}; so far: {so_far}", bad=True)
        self._feed.hurry()


def _listing(port: str) -> str:
    return f"listing the sessions of port {port}"
