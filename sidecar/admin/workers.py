"""Threads for what takes its time, so that the one thread of all connections does not wait."""

import queue
import threading
from collections.abc import Callable

#: Pages that are made at a time, and that may wait for it.
WORKERS = 4
_WAITING_MAX = 64


class Workers:
    """Daemon threads, since one that is stuck must not hold up the process's end, as an executor's
    would."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        for number in range(WORKERS):
            threading.Thread(target=self._run, name=f"http-{number}", daemon=True).start()

    def give(self, task: Callable[[], None]) -> bool:
        """Whether there was room for it; for the loop's thread only."""
        if self._tasks.qsize() >= _WAITING_MAX:
            return False
        self._tasks.put(task)
        return True

    def close(self) -> None:
        for _ in range(WORKERS):
            self._tasks.put(None)

    def _run(self) -> None:
        while task := self._tasks.get():
            task()
