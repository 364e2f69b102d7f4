"""How the benches put figures: percentiles, medians of several runs, tables."""

import datetime as dt
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sidecar.haproxy.process import find_haproxy


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of ``values`` do not exceed; not a number if there are none."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """The median of several runs, and the least and the most where they differ."""
    low, middle, high = min(values), statistics.median(values), max(values)
    text = form(middle)
    return text if form(low) == form(high) else f"{text} ({form(low)} … {form(high)})"


def wait_until_idle(seconds: float) -> None:
    """Wait, at most ``seconds``, until others leave the machine alone: what they do is measured
    too."""
    deadline = time.monotonic() + seconds
    before = _cpu_ticks()
    while time.monotonic() < deadline:
        time.sleep(1)
        now = _cpu_ticks()
        if (now[0] - before[0]) / (now[1] - before[1]) > 0.9:
            return
        before = now


def _cpu_ticks() -> tuple[int, int]:
    """Idle, and all, since the machine started."""
    with Path("/proc/stat").open() as file:
        ticks = [int(word) for word in file.readline().split()[1:]]
    return ticks[3] + ticks[4], sum(ticks)


def machine() -> str:
    """Where and when this is measured, and how busy the machine is before; times move with it."""
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()},"
        f" load {os.getloadavg()[0]:.1f}, {dt.datetime.now(dt.UTC):%Y-%m-%d}"
    )


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> None:
    """Print figures: for a terminal, or for docs/figures.md."""
    if markdown:
        print(f"{title}\n\n| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}")
        for row in rows:
            print(f"| {' | '.join(row)} |")
        return
    table = Table(title=title)
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def haproxy_version() -> str:
    """Of the HAProxy that is measured."""
    command = [find_haproxy(os.environ), "-v"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[2]
