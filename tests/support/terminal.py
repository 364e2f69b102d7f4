"""A terminal for whole-screen programs: a pty with somebody who types, and what its screen shows.

Knows what prompt_toolkit writes, and fails at what it does not know: a control character that came
from elsewhere would be one.
"""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping
from typing import Any, Self

from stand import await_

_TOKEN = re.compile(
    r"\x1b\[(?P<private>\??)(?P<numbers>[0-9;]*)(?P<final>[A-Za-z])"
    r"|\x1b\](?P<title>[^\x07\x1b]*)\x07"
    r"|(?P<control>[\r\n\b])"
    r"|(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
)

#: Modes that a program may switch, and how they are at first: autowrap, the cursor, and that keys
#: are those of applications, text that is pasted is marked, the screen is another one.
_MODES = {7: True, 25: True, 1: False, 12: False, 2004: False, 1049: False}


class Display:
    """What is shown of all that a program writes. ``coloured``: whether any of it has a colour."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.modes = dict(_MODES)
        self.coloured = False
        self._left = ""
        self._clear()

    def _clear(self) -> None:
        self._cells = [[" "] * self.columns for _ in range(self.rows)]
        self._row = self._column = 0

    @property
    def lines(self) -> list[str]:
        return ["".join(line).rstrip() for line in self._cells]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def write(self, data: str) -> None:
        data = self._left + data
        place = 0
        while place < len(data):
            found = _TOKEN.match(data, place)
            if found is None:
                # Cut in the middle of a sequence, or one that nobody should write.
                assert data[place] == "\x1b", f"a control character: {data[place : place + 20]!r}"
                assert len(data) - place < 20, f"not known: {data[place : place + 20]!r}"
                break
            self._do(found)
            place = found.end()
        self._left = data[place:]

    def _do(self, found: "re.Match[str]") -> None:
        if text := found["text"]:
            for char in text:
                self._cells[self._row][min(self._column, self.columns - 1)] = char
                self._column += 1
        elif control := found["control"]:
            if control == "\r":
                self._column = 0
            elif control == "\n":
                self._row = min(self._row + 1, self.rows - 1)
            else:
                self._column -= 1
        elif final := found["final"]:
            numbers = [int(number or 0) for number in found["numbers"].split(";")]
            self._sequence(found["private"], final, numbers)

    def _sequence(self, private: str, final: str, numbers: list[int]) -> None:
        by = numbers[0] or 1
        if private:
            assert final in "hl"
            for number in numbers:
                assert number in _MODES, f"mode {number}"
                self.modes[number] = final == "h"
            return
        match final:
            case "H":
                self._row, self._column = by - 1, (numbers[1] or 1) - 1 if numbers[1:] else 0
            case "A":
                self._row -= by
            case "B":
                self._row = min(self._row + by, self.rows - 1)
            case "C":
                self._column += by
            case "D":
                self._column -= by
            case "J" if numbers[0] == 2:
                self._cells = [[" "] * self.columns for _ in range(self.rows)]
            case "J":
                self._erase_line()
                for row in range(self._row + 1, self.rows):
                    self._cells[row] = [" "] * self.columns
            case "K":
                self._erase_line()
            case "m":
                self.coloured |= any(30 <= number <= 107 for number in numbers)
            case _:
                raise AssertionError(f"not known: {final!r} {numbers}")

    def _erase_line(self) -> None:
        self._cells[self._row][self._column :] = [" "] * (self.columns - self._column)


class Terminal:
    """A program on a pseudo-terminal: type, and wait for what its screen shows. ``before``: how the
    terminal was when the program was started."""

    def __init__(
        self, arguments: list[str], environment: Mapping[str, str], columns: int, rows: int
    ) -> None:
        self._ours, self._its = pty.openpty()
        self._size(columns, rows)
        self.before = termios.tcgetattr(self._its)
        self.display = Display(columns, rows)
        self._undecoded = b""
        self.process = subprocess.Popen(
            arguments,
            env={"TERM": "xterm-256color", **environment},
            stdin=self._its,
            stdout=self._its,
            stderr=self._its,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)
        os.close(self._its)
        os.close(self._ours)

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        self.read()
        modes = self.display.modes
        self.display = Display(columns, rows)
        self.display.modes = modes
        self._size(columns, rows)
        # Of a terminal that controls its process it would come by itself.
        self.process.send_signal(signal.SIGWINCH)

    @property
    def now(self) -> list[Any]:
        """How the terminal is."""
        return termios.tcgetattr(self._its)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def read(self) -> None:
        """What was written since."""
        while select.select([self._ours], [], [], 0)[0]:
            with contextlib.suppress(OSError):
                self._undecoded += os.read(self._ours, 65536)
                text = self._undecoded.decode(errors="ignore")
                # The rest of a character may still be to come.
                self._undecoded = self._undecoded[len(text.encode()) :]
                self.display.write(text)

    def until(self, condition: Callable[[Display], Any], what: str) -> Any:
        """The first true value of ``condition``."""

        def met() -> Any:
            self.read()
            return condition(self.display)

        try:
            return await_(met, what, 20)
        except AssertionError as exc:
            raise AssertionError(f"{exc}, but:\n{self.display.text}") from None

    def expect(self, text: str) -> None:
        self.until(lambda display: text in display.text, f"{text!r} is shown")

    def expect_gone(self, text: str) -> None:
        self.until(lambda display: text not in display.text, f"{text!r} is not shown any more")

    def line_of(self, text: str) -> str:
        """The first line with it."""
        found: str = self.until(
            lambda display: next((line for line in display.lines if text in line), ""),
            f"{text!r} is shown",
        )
        return found

    def wait(self) -> int:
        """Its exit code; with all that it wrote before."""
        code = await_(self._polled, "it ends", 20)
        self.read()
        return int(code[0])

    def _polled(self) -> tuple[int] | None:
        self.read()
        code = self.process.poll()
        return None if code is None else (code,)
