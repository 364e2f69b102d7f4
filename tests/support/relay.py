"""A unix socket between the sidecar and HAProxy: it records what the sidecar sends, or misbehaves
in the ways a broken HAProxy (or something else that listens there) would.
"""

import contextlib
import socket
import threading
from pathlib import Path
from typing import Literal

#: ``hang``: accepts and never answers. ``stall``: the handshake works, then half of a reply comes
#: and no more. ``cut``: as ``stall``, but the connection is closed there. ``nonsense``: something
#: that is no Runtime API. ``garbage``: the handshake works, then each reply is nonsense.
#: ``refuse``: the socket's file is there, and nobody listens.
Mode = Literal["pass", "hang", "stall", "cut", "nonsense", "garbage", "refuse"]

_PROMPT = b"\n> "
CHANGING = ("set ", "enable ", "disable ", "add ", "del ", "shutdown ", "clear ")


class Relay:
    """Listens at ``path`` and passes everything on to ``target`` while `mode` is ``pass``."""

    def __init__(self, path: Path, target: str, mode: Mode = "pass") -> None:
        self.path = str(path)
        self.mode: Mode = mode
        #: Each command that the sidecar sent, in order.
        self.commands: list[str] = []
        self._target = target
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self.set_mode(mode)

    @property
    def changing(self) -> list[str]:
        """The commands that change something in HAProxy."""
        return [line for line in self.commands if line.startswith(CHANGING)]

    def set_mode(self, mode: Mode) -> None:
        """From now on; connections made before are broken."""
        self.mode = mode
        self._stop_listening()
        self._break_connections()
        Path(self.path).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.path)
        if mode == "refuse":
            listener.close()
            return
        listener.listen()
        self._listener = listener
        self._start(self._accept, listener)

    def close(self) -> None:
        self._stop_listening()
        self._break_connections()
        for thread in self._threads:
            thread.join(5)
        Path(self.path).unlink(missing_ok=True)

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            # Closing alone does not wake the thread in accept().
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _break_connections(self) -> None:
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._start(self._serve, connection, self.mode)

    def _serve(self, connection: socket.socket, mode: Mode) -> None:
        with contextlib.ExitStack() as ends:
            self._own(ends, connection)
            with contextlib.suppress(OSError):
                if mode in ("pass", "stall", "cut"):
                    upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    self._own(ends, upstream)
                    upstream.connect(self._target)
                    self._start(self._pass_replies, upstream, connection, mode)
                    self._pass_commands(connection, upstream)
                    return
                if mode == "nonsense":
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                while data := connection.recv(65536):
                    if mode == "garbage":
                        prompt = data == b"prompt\n"
                        reply = b"" if prompt else b"\xff\x00what did you say?\n"
                        connection.sendall((reply + _PROMPT) * data.count(b"\n"))

    def _own(self, ends: contextlib.ExitStack, end: socket.socket) -> None:
        ends.callback(self._disown, end)
        with self._lock:
            self._connections.add(end)

    def _disown(self, end: socket.socket) -> None:
        with self._lock:
            self._connections.discard(end)
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()

    def _pass_commands(self, sidecar: socket.socket, haproxy: socket.socket) -> None:
        pending = b""
        while data := sidecar.recv(65536):
            *lines, pending = (pending + data).split(b"\n")
            self.commands += [line.decode() for line in lines]
            haproxy.sendall(data)

    def _pass_replies(self, haproxy: socket.socket, sidecar: socket.socket, mode: Mode) -> None:
        greeted = False
        with contextlib.suppress(OSError):
            while data := haproxy.recv(65536):
                if mode == "pass" or not greeted:
                    greeted = True
                    sidecar.sendall(data)
                    continue
                sidecar.sendall(data[: min(40, len(data) // 2)])
                if mode == "cut":
                    break
                while haproxy.recv(65536):
                    pass
        with contextlib.suppress(OSError):
            sidecar.shutdown(socket.SHUT_RDWR)
