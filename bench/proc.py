"""What the kernel counts of a process."""

import os
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
