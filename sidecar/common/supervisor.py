"""``run`` as two processes: a parent that stays, and the worker, which is the sidecar itself.

A container that exits makes its pod not ready, and is restarted with increasing delays. The parent
therefore starts another worker at once, within what a readiness probe tolerates. It knows nothing
of HAProxy and imports almost nothing: it runs before everything else is loaded, and needs 4 MB of
its own.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

_STOP = frozenset({signal.SIGTERM, signal.SIGINT})
_HEARD = _STOP | {signal.SIGCHLD}

#: What a worker ends with on purpose: its work is done; its usage or settings are wrong, or there
#: is no cluster to connect to. Another one would do the same: whoever started us is to see it.
_FINAL = (0, 2, 3)

#: Who lived for this long, in which a readiness probe (every 2 s) found it, is replaced at once;
#: who did not, a little later each time. But not so late that three probes in a row find nobody.
_LIVED_SECONDS = 3.0
_FIRST_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

_PR_SET_PDEATHSIG = 1


class Predecessors:
    """The workers before this one. ``count``: how many died. ``last``: how the last one did."""

    __slots__ = ("count", "last")

    def __init__(self, count: int = 0, last: str = "") -> None:
        self.count = count
        self.last = last


def supervise() -> Predecessors:
    """Split in two. Returns in each worker; the parent exits as its last worker did.

    SIGTERM and SIGINT are passed on, and what the worker then ends with is final. The worker is
    killed when the parent dies: no two may drive one HAProxy.
    """
    parent, former_mask = os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    before, early = Predecessors(), 0
    while True:
        began = time.monotonic()
        worker = os.fork()
        if not worker:
            # Ctrl-C is for the parent, which passes it on: the worker is to hear it once.
            os.setpgid(0, 0)
            dying_with(parent, signal.SIGKILL)()
            signal.pthread_sigmask(signal.SIG_SETMASK, former_mask)
            return before
        code, told = _outlive(worker)
        if told or code in _FINAL:
            sys.exit(code if code >= 0 else 128 - code)
        lived = time.monotonic() - began
        early = early + 1 if lived < _LIVED_SECONDS else 0
        before = Predecessors(before.count + 1, f"{_shown(code)} after {lived:.1f} s")
        if _told_within(pause_seconds(early)):
            sys.exit(0)


def pause_seconds(early: int) -> float:
    """Before the next worker, after ``early`` ones in a row that did not live long."""
    return min(LONGEST_PAUSE_SECONDS, _FIRST_SECONDS * 2.0 ** min(early - 1, 10)) if early else 0.0


def dying_with(parent: int, number: int) -> Callable[[], None]:
    """What a child calls after the fork to get signal ``number`` when ``parent`` dies, on Linux; it
    exits if that has happened already."""
    import ctypes  # what the parent need not load

    prctl = getattr(ctypes.CDLL(None), "prctl", None)

    def prepare() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, number)
            if os.getppid() != parent:
                os._exit(1)

    return prepare


def _outlive(worker: int) -> tuple[int, bool]:
    """The exit code of ``worker`` (less than 0: of which signal it died), and whether it was told
    to end."""
    told = False
    while True:
        number = signal.sigwait(_HEARD)
        if number in _STOP:
            told = True
            os.kill(worker, number)
        elif (code := _reap().get(worker)) is not None:
            return code, told


def _told_within(seconds: float) -> bool:
    """Wait; whether we are told to end meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        heard = signal.sigtimedwait(_HEARD, left)
        if heard and heard.si_signo in _STOP:
            return True
        _reap()
    return False


def _reap() -> dict[int, int]:
    """PID -> exit code, of all that ended: PID 1 of a container inherits what others left."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if not pid:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def _shown(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
