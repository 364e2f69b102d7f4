"""The connections of the sidecar's HTTP port, and their limits: some memory, one thread for all of
them, a few more for pages that take time.

Every client gets in. A connection has a deadline for its request and one for its answer; if there
are too many, the one that has been sending its request for the longest is closed. HTTP itself is
h11's job; `sidecar.admin.answers` decides what is answered.
"""

import asyncio
import contextlib
import logging
import resource
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Any, cast

import h11

from sidecar.admin.answers import Answer, Request, Site, Work, target_too_long, text
from sidecar.admin.workers import Workers
from sidecar.common.errors import SettingsError
from sidecar.common.hostport import split_host_port
from sidecar.common.text import reason_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take of us."""

    #: Connections at a time; fewer, where the process may open few files.
    connections: int = 256
    #: For a request, from the connection's begin, or the last answer, on.
    receive_seconds: float = 10.0
    #: From then on until the client has taken its answer.
    answer_seconds: float = 20.0
    #: Of answers that their clients do not take, all together; one may always be longer.
    unsent_bytes: int = 16 * 1024 * 1024


#: Of the files that the process may have open, connections are one part of so many.
_FILES_SHARE = 4

#: At one look connections are taken for one part of so many of all places. Some looks may pass
#: before those whose place they take are closed, and a probe that came among them is answered
#: before it could be one of those.
_ACCEPT_SHARE = 16

#: How many the kernel keeps for us meanwhile, if its net.core.somaxconn lets it. One that finds no
#: room tries again a second later, which is too late for a probe.
_BACKLOG = 4096

#: What comes after an answer that ends a connection is read so long: a connection that is closed
#: with unread data resets, and takes the answer with it.
_LINGER_SECONDS = 2.0

#: Of one request line with its headers.
HEADERS_MAX_BYTES = 16 * 1024

#: What the kernel keeps of one connection's request, and of its answer: else some megabytes.
_RECEIVE_BUFFER_BYTES = 16 * 1024
_SEND_BUFFER_BYTES = 64 * 1024

#: Nothing from elsewhere, nothing inline, in nobody's frame.
_HEADERS = {
    "Server": "haproxy-sidecar",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


_HEADERS_TOO_LONG = text(431, f"the headers are longer than {HEADERS_MAX_BYTES} bytes")


class _Server:
    """All connections; used in the loop's thread only."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        site: Site,
        limits: Limits,
    ) -> None:
        self._listener = listener
        self._being_made: set[asyncio.Task[Any]] = set()
        self._paused = False
        self.loop = loop
        self.site = site
        self.limits = limits
        self.workers = Workers()
        # each in the order in which they came to be in it
        self.receiving: dict[_Connection, None] = {}
        self.answering: dict[_Connection, None] = {}
        files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = limits.connections if files_max < 0 else max(1, files_max // _FILES_SHARE)
        self._connections_max = min(limits.connections, room)
        loop.add_reader(listener, self._accept)

    @property
    def _connections(self) -> int:
        return len(self.receiving) + len(self.answering)

    def make_room(self) -> None:
        """For a connection that is new."""
        while self._connections >= self._connections_max:
            next(iter(self.receiving or self.answering)).end("making room for a newer one")

    def _accept(self) -> None:
        for _ in range(1 + self._connections_max // _ACCEPT_SHARE):
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as exc:
                self._give_way(exc)
                return
            self._paused = False
            made = self.loop.connect_accepted_socket(lambda: _Connection(self), client)
            task = self.loop.create_task(made)
            self._being_made.add(task)
            task.add_done_callback(self._being_made.discard)

    def _give_way(self, error: OSError) -> None:
        """The process has no file left, and needs some for HAProxy and its own: keep fewer."""
        if self._connections > 1:
            kept = self._connections_max = self._connections // 2
            log.warning("HTTP: %s: now limited to %d connections", reason_of(error), kept)
            self.make_room()
            return
        if self._being_made:
            return
        if not self._paused:
            reason = reason_of(error)
            log.error("HTTP: cannot accept connections: %s; retrying every second", reason)
            self._paused = True
        self.loop.remove_reader(self._listener)
        self.loop.call_later(1, self.loop.add_reader, self._listener, self._accept)

    def limit_unsent(self, newest: "_Connection") -> None:
        """``newest`` was given its answer: others that do not take theirs may have to go."""
        unsent = {item: item.unsent_bytes for item in self.answering}
        total = sum(unsent.values())
        for item, size in unsent.items():
            if total <= self.limits.unsent_bytes:
                return
            if size and item is not newest:
                item.end("reading too slowly")
                total -= size

    async def close(self) -> None:
        self.workers.close()
        self.loop.remove_reader(self._listener)
        if self._being_made:
            await asyncio.wait(self._being_made)
        for item in [*self.receiving, *self.answering]:
            item.end("stopping")
        await asyncio.sleep(0)  # asyncio closes their sockets a turn later


class _Connection(asyncio.Protocol):
    """One client: a request is received, then answered, and so on. Nothing is read meanwhile, so
    what a client sends ahead waits with the kernel. ``gone``: it is no client of ours any more."""

    _transport: asyncio.Transport

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADERS_MAX_BYTES)
        self._is_head = False
        self._phase: dict[_Connection, None] = {}
        self._deadline: asyncio.TimerHandle | None = None
        self._lingering = False
        self.gone = False

    @property
    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # `resume_writing` is to come when all is sent, not before.
        self._transport.set_write_buffer_limits(high=0)
        self._server.make_room()
        self._enter(self._server.receiving, self._server.limits.receive_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc:
            log.debug("HTTP: client disconnected: %s", exc)
        self.gone = True
        self._leave()

    def data_received(self, data: bytes) -> None:
        if not self._lingering:
            self._http.receive_data(data)
            self._proceed()

    def resume_writing(self) -> None:
        self._sent()

    def end(self, why: str) -> None:
        """Close it now, whatever it is at."""
        log.debug("HTTP: closing a connection: %s", why)
        self.gone = True
        self._leave()
        self._transport.abort()

    def answer_from(self, work: Work) -> None:
        """For a worker's thread."""
        if self.gone:
            return
        answer = work()
        # From here on it is the loop's, which may have ended.
        with contextlib.suppress(RuntimeError):
            self._server.loop.call_soon_threadsafe(self._send, answer)

    def _enter(self, phase: dict["_Connection", None], seconds: float) -> None:
        self._leave()
        self._phase = phase
        phase[self] = None
        self._deadline = self._server.loop.call_later(seconds, self.end, "timed out")

    def _leave(self) -> None:
        self._phase.pop(self, None)
        if self._deadline:
            self._deadline.cancel()

    def _proceed(self) -> None:
        """Answer the next request, if a whole one was received."""
        if self.gone:
            return
        try:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._is_head = event.method == b"HEAD"
                # The end, where there is no body. Nobody here reads one.
                self._http.next_event()
        except h11.RemoteProtocolError as exc:
            log.debug("HTTP: invalid request: %s", exc)
            # h11 raises it in a frame that it holds: all of us would be garbage in a ring.
            exc.__traceback__ = None
            self._answer(self._refusal(exc.error_status_hint))
            return
        if not isinstance(event, h11.Request):
            self._transport.resume_reading()
            return
        # One that came at once h11 takes whole.
        if sum(len(name) + len(value) for name, value in event.headers) > HEADERS_MAX_BYTES:
            self._answer(_HEADERS_TOO_LONG)
            return
        headers = {name: value.decode("latin-1") for name, value in event.headers}
        asked = event.method.decode("ascii"), event.target.decode("latin-1")
        own = headers.get(b"host"), headers.get(b"authorization")
        (reached, *_) = self._transport.get_extra_info("sockname") or ("",)
        takes = headers.get(b"if-none-match"), headers.get(b"accept-encoding")
        self._answer(self._server.site.answer(Request(*asked, *own, reached, *takes)))

    def _refusal(self, status: int) -> Answer:
        if status != 431:
            return text(status, "not a valid HTTP/1.1 request")
        unread, _ = self._http.trailing_data
        return _HEADERS_TOO_LONG if b"\n" in unread else target_too_long()

    def _answer(self, answer: Answer | Work) -> None:
        self._transport.pause_reading()
        self._enter(self._server.answering, self._server.limits.answer_seconds)
        if isinstance(answer, Answer):
            self._send(answer)
        elif not self._server.workers.give(partial(self.answer_from, answer)):
            self._send(text(503, "too many concurrent requests; try again"))

    def _send(self, answer: Answer) -> None:
        if self.gone:
            return
        headers = {
            "Date": formatdate(usegmt=True),
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            **_HEADERS,
            **answer.headers,
        }
        if answer.status == 304:  # it would be that of a body which is not sent
            del headers["Content-Length"]
        if not self._is_received:
            headers["Connection"] = "close"
        events: list[h11.Event] = [
            h11.Response(status_code=answer.status, headers=list(headers.items()))
        ]
        if not self._is_head:
            events.append(h11.Data(data=answer.body))
        events.append(h11.EndOfMessage())
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))
        if self.unsent_bytes:
            self._server.limit_unsent(self)
        else:
            self._sent()

    @property
    def _is_received(self) -> bool:
        """Whether the request has ended, rather than being broken or having a body."""
        return self._http.their_state in (h11.DONE, h11.MUST_CLOSE)

    def _sent(self) -> None:
        if not self._is_received:
            self._lingering = True
            self._enter(self._server.receiving, _LINGER_SECONDS)
            with contextlib.suppress(OSError):  # the client did already
                self._transport.write_eof()
            self._transport.resume_reading()
        elif self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
            self._is_head = False
            self._enter(self._server.receiving, self._server.limits.receive_seconds)
            # Others first: this client may have sent a thousand requests ahead.
            self._server.loop.call_soon(self._proceed)
        else:
            self._transport.close()


@contextlib.contextmanager
def serving(listen: str, site: Site, limits: Limits | None = None) -> Iterator[None]:
    """Answer on ``listen`` from threads of our own for as long as the context lasts.

    Raises SettingsError if the address cannot be bound.
    """
    with _listening(listen) as listener, contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.set_exception_handler(_report)
        server = _Server(loop, listener, site, limits or Limits())
        thread = threading.Thread(target=loop.run_forever, name="http", daemon=True)
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.run_until_complete(server.close())


def _listening(listen: str) -> socket.socket:
    host, port = split_host_port(listen)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit these.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        problem = (
            f"{listen!r} cannot be used ({reason_of(exc)}); choose another, or null to disable"
        )
        raise SettingsError("http.listen", [problem]) from exc
    return listener


def _report(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A mistake of ours cost a connection, no more."""
    log.error("HTTP: %s", context["message"], exc_info=context.get("exception"))
