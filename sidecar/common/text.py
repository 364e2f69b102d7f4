"""Shortens long text for people: nothing that users send can fill a message. Pure."""

import reprlib
from collections.abc import Sequence

#: Most of a value that a message shows, in characters.
_SHOWN_MAX = 80


def cut(text: str, most: int) -> str:
    """The beginning of ``text``, ``most`` characters of it."""
    return text if len(text) <= most else text[: most - 1] + "…"


def few(items: Sequence[str], most: int, joint: str = ", ") -> str:
    """The first ``most`` of ``items``, and how many more there are."""
    more = [f"and {len(items) - most} more"] if len(items) > most else []
    return joint.join([*items[:most], *more])


# Never the whole repr: that of a value with YAML aliases in it could fill the memory.
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = _SHOWN_MAX


def shown(value: object) -> str:
    """``value`` for a message, cut to what fits into a line; never a control character."""
    return cut(_SHORT.repr(value), _SHOWN_MAX)
