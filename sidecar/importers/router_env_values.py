"""How OpenShift's router reads a value: as Go does, or its template of haproxy.cfg.

Raises ValueError for what it would ignore, or not start with, and says what would be right. Must
not know variables (`sidecar.importers.router_env`). Pure.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from sidecar.common.durations import format_duration
from sidecar.common.text import shown

#: As Go's strconv.ParseBool reads them.
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")

#: HAProxy's times, as the router's template lets them through; and Go's.
_TIME = re.compile(r"([1-9][0-9]*)(us|ms|s|m|h|d)?")
_TIME_MAX = "2147483647ms"
_UNITS_MS = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SPAN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(ns|us|µs|μs|ms|s|m|h)")
_SPAN_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}


def boolean(value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ValueError("OpenShift's router takes it for false; write true or false")


def _time(value: str) -> str:
    found = _TIME.fullmatch(value)
    if not found:
        raise ValueError(
            "OpenShift's router ignores it and has its default; write a number and a unit of us,"
            " ms, s, m, h or d, like 30s"
        )
    digits, unit = found[1], found[2] or "ms"
    too_long = len(digits) > 18 or int(digits) * _UNITS_MS[unit] > 2147483647
    return _TIME_MAX if too_long else digits + unit


def _span(value: str) -> str:
    text = value.removeprefix("+")
    seconds, at = 0.0, 0
    while found := _SPAN.match(text, at):
        seconds += float(found[1]) * _SPAN_SECONDS[found[2]]
        at = found.end()
    if text != "0" and (at == 0 or at < len(text)):
        raise ValueError("write a time as Go has it, like 45s or 1m30s")
    return format_duration(seconds)


def _count(value: str) -> int:
    if value == "auto":
        raise ValueError("there is no auto here; write a number, or leave it at 20,000")
    if not re.fullmatch(r"[0-9]{1,10}", value):
        raise ValueError("OpenShift's router ignores it; write a number, like 20000")
    return int(value)


READERS: Mapping[str, Callable[[str], Any]] = {
    "text": str,
    "file": str,
    "flag": boolean,
    "not": lambda value: not boolean(value),
    "time": _time,
    "span": _span,
    "count": _count,
}


def decoded(text: str) -> str:
    """As Go's url.QueryUnescape, by which the router reads headers."""
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        raise ValueError(f"{shown(text)} has a % without two hexadecimal digits; write %25")
    raw = text.replace("+", " ").encode(errors="replace")
    return re.sub(rb"%(..)", lambda found: bytes.fromhex(found[1].decode()), raw).decode(
        errors="replace"
    )
