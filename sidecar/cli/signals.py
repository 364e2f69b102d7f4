"""How commands that run until they are stopped handle Ctrl-C and the termination of a container."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self


class Signals:
    """SIGINT and SIGTERM as a request to stop, which never interrupts what is being done.

    (A KeyboardInterrupt may be raised anywhere: after HAProxy was started, and before anybody
    knows its PID.) ``received``: whether there was one.
    """

    def __init__(self) -> None:
        self.received = False
        self._stop: Callable[[], None] | None = None
        self._leave: Callable[[], None] | None = None
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def call(self, stop: Callable[[], None], leave: Callable[[], None] | None = None) -> None:
        """From now on ``stop`` is what a signal leads to; at once if there was one. ``leave``: what
        SIGTERM leads to instead, when it is the first signal."""
        self._stop, self._leave = stop, leave
        if self.received:
            stop()

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        leaves = number == signal.SIGTERM and not self.received
        action = (self._leave if leaves else None) or self._stop
        self.received = True
        # A handler runs between two instructions of what it interrupts, whose locks it must not
        # wait for.
        if action:
            threading.Thread(target=action, name="stop").start()
