"""Texts in columns of a terminal: how many they take, and cut, filled or folded to so many.

Owns that no character of a Route, or of anybody's message, reaches the terminal unless it is
printed as itself: each text goes through `fit`, `folded` or `clean`. Pure.
"""

import re

# Of what draws the lines, so that both think the same of each character.
from prompt_toolkit.utils import get_cwidth

#: Between columns of a text.
_GAP = re.compile(r" {2,}(?=\S)")


def clean(text: str) -> str:
    """``text`` with a ``?`` for each character that is not printed as itself."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """``text`` in exactly ``width`` columns of a terminal."""
    text = clean(text)
    taken = cells(text)
    if taken > width:
        text = _cut(text, max(0, width - 1)) + "\N{HORIZONTAL ELLIPSIS}" * (width > 0)
        taken = cells(text)
    space = " " * (width - taken)
    return space + text if right else text + space


def cells(text: str) -> int:
    """How many columns it takes, as it is shown."""
    return len(text) if text.isascii() else get_cwidth(clean(text))


def _cut(text: str, width: int) -> str:
    if text.isascii():
        return text[:width]
    taken = 0
    for place, char in enumerate(text):
        taken += get_cwidth(char)
        if taken > width:
            return text[:place]
    return text


def folded(text: str, width: int) -> list[str]:
    """``text`` in lines, between its words where it can be. Where two spaces part columns in it,
    further lines begin below the last one that begins in the first half."""
    left, lines, begin = clean(text), [], ""
    columns = (cells(left[: gap.end()]) for gap in _GAP.finditer(left))
    indent = max((at for at in columns if at <= width // 2), default=0)
    while cells(begin + left) > width:
        # One character at least, however wide: else it would never end.
        line = _cut(left, width - len(begin)) or left[:1]
        if left[len(line) :][:1] not in ("", " ") and " " in line.strip():
            line = line[: line.rfind(" ")]
        lines.append((begin + line).rstrip())
        left, begin = left[len(line) :].lstrip(" "), " " * indent
    return [*lines, begin + left] if left or not lines else lines
