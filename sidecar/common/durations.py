"""Times as HAProxy writes them (``500ms``, ``5s``, ``1h``) and as floats of seconds.

Follows configuration.txt 2.5, "Time format"; a bare number is refused, since HAProxy would read
it as milliseconds where a person means seconds. Pure.
"""

import re

_UNITS_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h|d)")

#: What belongs where a time does, for errors.
DURATION_RULE = "write a number and a unit of us, ms, s, m, h or d, like 500ms or 5s"

#: HAProxy keeps timeouts in signed 32-bit milliseconds.
DURATION_MAX_SECONDS = (2**31 - 1) / 1000


def parse_duration(text: str) -> float:
    """Seconds from ``text``; raises ValueError with what would be right."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        if text.strip() == "0":
            return 0.0
        raise ValueError(DURATION_RULE)
    seconds = float(found[1]) * _UNITS_SECONDS[found[2]]
    if seconds > DURATION_MAX_SECONDS:
        raise ValueError("must be at most 24d, HAProxy's maximum")
    return seconds


def format_duration(seconds: float) -> str:
    """``seconds`` as HAProxy reads it, exact to the millisecond and as short as that allows."""
    milliseconds = round(seconds * 1000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def format_span(seconds: int | None) -> str:
    """``1h5m``: the two largest units, as HAProxy writes them; ``-`` for what is not known."""
    if seconds is None:
        return "-"
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"
