"""What the kernel counts of a process, and of a whole family of them."""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

#: Of prctl(2): orphans of ours become our children, and not those of init.
_PR_SET_CHILD_SUBREAPER = 36


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
    return _read(pid).cpu_seconds


def cpu_while(action: Callable[[], object], *pids: int) -> list[float]:
    """CPU seconds a second of each of ``pids`` for as long as ``action`` takes."""
    before, since = list(map(cpu_seconds, pids)), time.perf_counter()
    action()
    after, took = list(map(cpu_seconds, pids)), time.perf_counter() - since
    return [(now - was) / took for now, was in zip(after, before, strict=True)]


class Usage(NamedTuple):
    """Of the HAProxys of a family, and of what drives them. Processes that have ended are taken for
    HAProxys, or for what reloads them."""

    controller: float
    haproxy: float

    def less(self, other: "Usage") -> "Usage":
        return Usage(self.controller - other.controller, self.haproxy - other.haproxy)

    def times(self, factor: float) -> "Usage":
        return Usage(self.controller * factor, self.haproxy * factor)


class Family:
    """All processes that we, or those, start from now on."""

    def __init__(self) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._others = set(_descendants(os.getpid()))

    def cpu_seconds(self) -> Usage:
        members = self._members()
        ended = sum(process.waited_seconds for process in members.values())
        found = self._divided({pid: process.cpu_seconds for pid, process in members.items()})
        return Usage(found.controller, found.haproxy + ended)

    def memory_bytes(self) -> Usage:
        """Proportional set sizes (PSS): what processes share is counted once."""
        return self._divided({pid: float(_proportional_bytes(pid)) for pid in self._members()})

    def kill(self) -> None:
        """Those that are left, until none is."""
        while members := self._members():
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.01)

    def _divided(self, amounts: Mapping[int, float]) -> Usage:
        """``amounts``: of each process."""
        haproxy = sum(amount for pid, amount in amounts.items() if _is_haproxy(pid))
        return Usage(sum(amounts.values()) - haproxy, haproxy)

    def _members(self) -> dict[int, "_Process"]:
        found = _descendants(os.getpid())
        return {pid: process for pid, process in found.items() if pid not in self._others}


class _Process(NamedTuple):
    """``waited_seconds``: CPU of its children that have ended and that it took leave of."""

    parent: int
    cpu_seconds: float
    waited_seconds: float


def _read(pid: int) -> _Process:
    """Raises FileNotFoundError, or ProcessLookupError, once it is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    second = os.sysconf("SC_CLK_TCK")
    user, system, children_user, children_system = (int(text) / second for text in fields[11:15])
    return _Process(int(fields[1]), user + system, children_user + children_system)


def _processes() -> Iterator[tuple[int, _Process]]:
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield int(path.name), _read(int(path.name))


def _descendants(pid: int) -> dict[int, _Process]:
    """Those that have ended, but that nobody took leave of yet, included."""
    found, parents = dict(_processes()), {pid}
    while more := {child for child, of in found.items() if of.parent in parents} - parents:
        parents |= more
    return {child: found[child] for child in parents - {pid}}


def _is_haproxy(pid: int) -> bool:
    """Also one of `tests/haproxies`, which a loader of its own runs; and one that has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if line := Path(f"/proc/{pid}/cmdline").read_bytes():
            words = line.split(b"\0")[:4]
            return any(Path(os.fsdecode(word)).name == "haproxy" for word in words)
    return True


def _proportional_bytes(pid: int) -> int:
    """0 once it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
