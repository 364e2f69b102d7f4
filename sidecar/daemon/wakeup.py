"""What wakes the loop: an explicit call, or HAProxy's socket."""

import logging
import socket

from sidecar.haproxy.client import readable

log = logging.getLogger(__name__)


class Wakeup:
    """An event that can be waited for together with HAProxy's socket."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def set(self) -> None:
        try:
            self._write.send(b"!")
        except BlockingIOError:
            pass  # it is full of wake-ups already
        except OSError:
            log.debug("woken after the end")

    def wait(self, seconds: float, also: int | None) -> bool:
        """Sleep until `set` is called or ``also`` is readable; whether it was ``also``."""
        mine = self._read.fileno()
        found = readable([mine] if also is None else [mine, also], seconds)
        if mine in found:
            try:
                while self._read.recv(4096):
                    pass
            except BlockingIOError:
                pass
        return also in found

    def close(self) -> None:
        self._read.close()
        self._write.close()
