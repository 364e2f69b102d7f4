"""Asks the running sidecar for what is new, again and again, in a thread of its own.

Owns the connection's failures: whoever watches is told, and it goes on. Must not touch the screen:
what it has is handed over.
"""

import threading
import time
from collections.abc import Callable

from sidecar.cli.ask import ask_shaped
from sidecar.cli.top.memory import Known, Memory, read_update
from sidecar.cli.whom import Sidecar
from sidecar.common.errors import SidecarError

#: As often as the page does: a sidecar makes a report once a second at most.
ASK_SECONDS = 2.0


class Feed:
    """``take``, ``miss``: get what is known, or why nothing is; ``fail``: an error of ours, after
    which it is over. All are called in the thread."""

    def __init__(
        self,
        sidecar: Sidecar,
        *,
        take: Callable[[Known], object],
        miss: Callable[[str], object],
        fail: Callable[[BaseException], object],
    ) -> None:
        self._sidecar = sidecar
        self._take, self._miss, self._fail = take, miss, fail
        self._memory = Memory()
        self._soon = threading.Event()
        self._stopped = False

    def start(self) -> None:
        # It may wait for an answer when the program ends; nothing is lost with it.
        threading.Thread(target=self._run, name="feed", daemon=True).start()

    def stop(self) -> None:
        self._stopped = True
        self._soon.set()

    def hurry(self) -> None:
        """Ask now: something was changed."""
        self._soon.set()

    def _run(self) -> None:
        try:
            while not self._stopped:
                self._soon.clear()
                self._ask()
                self._soon.wait(ASK_SECONDS)
        except Exception as exc:  # noqa: BLE001  a thread that ended would leave the screen as it was
            self._fail(exc)

    def _ask(self) -> None:
        try:
            since = {"since": self._memory.version}
            update = ask_shaped(self._sidecar, "/api/updates", since, read_update)
            self._sidecar.refuse_another(update.head.router_name, update.head.socket)
        except SidecarError as exc:
            self._miss(str(exc))
            return
        self._take(self._memory.take(update, time.monotonic() - update.age_seconds))
