"""Files of ``KEY=VALUE`` lines, as a shell or ``oc set env --list`` has them.

Owns their form: quotes around a value, of several lines too, and comments behind them. Must not
know what a variable means. Pure.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)

#: The quote that ends a value: nothing follows it but a comment. Others are of the value.
_ENDS = {quote: re.compile(rf"{quote}\s*(?:(?<=\s)#.*)?\Z") for quote in "\"'"}


class Variable(NamedTuple):
    """``place``: its name, and where its value is if that is elsewhere."""

    name: str
    value: str
    place: str


def is_environment(text: str) -> bool:
    """Whether a file has ``KEY=VALUE`` lines, and no objects."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    return _ASSIGNMENT.fullmatch(first) is not None


def assignments(text: str) -> Iterator[tuple[int, str, Variable | str]]:
    """(number, text, variable) of each assignment; or instead of it what is wrong with the line."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        start, line = number + 1, lines[number]
        number += 1
        if not line.strip() or line.strip().startswith("#"):
            continue
        found = _ASSIGNMENT.fullmatch(line)
        if not found:
            yield start, line, "write KEY=VALUE, with quotes around a value of several lines"
            continue
        name, value = found.groups()
        value = value.strip()
        if not value.startswith(('"', "'")):
            yield start, line, Variable(name, value, name)
            continue
        quote, rest = value[0], value[1:]
        end_of_value, inside = _ENDS[quote], list[str]()
        while not (found := end_of_value.search(rest)) and number < len(lines):
            inside.append(rest)
            rest = lines[number]
            number += 1
        if not found:
            number = start
            yield start, line, f"the quote {quote} has no end; write one behind the last line"
            continue
        value = "\n".join([*inside, rest[: found.start()]])
        yield start, line, Variable(name, value, name)
