"""Other threads' questions, answered by the loop's thread between two steps.

What routing and the reconciler remember belongs to the loop; nobody else may read it. So whoever
wants to know asks here, and gets an immutable answer. Imports no I/O.
"""

import queue
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sidecar.common.errors import BusyError

T = TypeVar("T")

#: More askers than this at once get no answer: each costs the loop some of its time.
WAITING_MAX = 16


class LoopCalls:
    """``wake``: called, from the asker's thread, when there is a question."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue(WAITING_MAX)
        self._closed = False

    def ask(self, question: Callable[[], T], timeout_seconds: float) -> T:
        """What ``question`` returns or raises, called in the loop's thread.

        Raises BusyError if the loop does not come to it in time.
        """
        answer: Future[T] = Future()
        try:
            self._waiting.put_nowait((question, answer))
        except queue.Full:
            raise BusyError("too many concurrent requests; try again") from None
        if self._closed:
            self._refuse()
        self._wake()
        try:
            return answer.result(timeout_seconds)
        except TimeoutError:
            # So that the loop need not work for somebody who went away.
            answer.cancel()
            raise BusyError(
                f"the reconcile loop did not answer within {timeout_seconds:g} s; /healthz says"
                " whether it is stuck"
            ) from None

    def answer(self) -> None:
        """Answer what was asked until now; for the loop's thread only."""
        for _ in range(self._waiting.qsize()):
            question, answer = self._waiting.get_nowait()
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                answer.set_result(question())
            except Exception as exc:  # noqa: BLE001  the asker's
                answer.set_exception(exc)

    def close(self) -> None:
        """The loop has ended: nobody is to wait for it."""
        self._closed = True
        self._refuse()

    def _refuse(self) -> None:
        while True:
            try:
                _, answer = self._waiting.get_nowait()
            except queue.Empty:
                return
            if answer.set_running_or_notify_cancel():
                answer.set_exception(BusyError("the sidecar is shutting down"))
