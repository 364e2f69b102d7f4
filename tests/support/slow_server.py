"""An HTTP server whose answers last as long as a test wants."""

import contextlib
import socket
import threading

from stand import fresh_ip

from sidecar.model.pool import Address


class SlowServer:
    """Its answers begin at once, and end when they are let. ``asked``: how many it had."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_end = threading.Event()
        self._socket = socket.create_server((fresh_ip(), 9000), backlog=64)
        self.address = Address(*self._socket.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.may_end.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                while line != b"\r\n":
                    line = stream.readline()
                self.asked += 1
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nslow")
                self.may_end.wait(20)
                connection.sendall(b"slow")
