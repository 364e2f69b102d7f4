"""What a person is shown of what others say: nothing that they send fills a message. Pure."""

import reprlib
from collections.abc import Sequence

#: Most of a value that a message shows, in characters.
_SHOWN_MAX = 80


def cut(text: str, most: int) -> str:
    """The beginning of ``text``, ``most`` characters of it."""
    return text if len(text) <= most else text[: most - 1] + "…"


def one_line(text: str, most: int) -> str:
    """``text`` as a line of at most ``most`` characters; never a control character."""
    line = " ".join(text.split())
    return cut("".join(char if char.isprintable() else "?" for char in line), most)


def reason_of(error: BaseException) -> str:
    """What went wrong: the operating system's words without its number, where there are some."""
    words = error.strerror if isinstance(error, OSError) else None
    return words or str(error) or type(error).__name__


def counted(count: int, what: str) -> str:
    """``1 endpoint``, ``2 endpoints``: of ``what`` whose plural is regular."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def few(items: Sequence[str], most: int, joint: str = ", ") -> str:
    """The first ``most`` of ``items``, and how many more there are."""
    more = [f"and {len(items) - most} more"] if len(items) > most else []
    return joint.join([*items[:most], *more])


_PEM = "-----BEGIN"

# Never the whole repr: that of a value with YAML aliases in it could fill the memory.
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = _SHOWN_MAX


def shown(value: object) -> str:
    """``value`` for a message, cut to what fits into a line; never a control character, and
    nothing of PEM, which may be a private key in the wrong place."""
    text = _SHORT.repr(value)
    if _PEM in text or (isinstance(value, str) and _PEM in value):
        return "(PEM, not shown)"
    return cut(text, _SHOWN_MAX)
