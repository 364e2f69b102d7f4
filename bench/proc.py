"""What the kernel counts of a process."""

import os
import time
from collections.abc import Callable
from pathlib import Path


def resident_bytes(pid: int, which: str = "VmRSS") -> int:
    """Its memory now; ``which``: ``VmHWM`` is the most that it ever was. 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    found = next((line for line in lines if line.startswith(f"{which}:")), None)
    return int(found.split()[1]) * 1024 if found else 0


def cpu_seconds(pid: int) -> float:
    """Of all its threads, since it started; in steps of some 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_while(action: Callable[[], object], *pids: int) -> list[float]:
    """CPU seconds a second of each of ``pids`` for as long as ``action`` takes."""
    before, since = list(map(cpu_seconds, pids)), time.perf_counter()
    action()
    after, took = list(map(cpu_seconds, pids)), time.perf_counter() - since
    return [(now - was) / took for now, was in zip(after, before, strict=True)]
