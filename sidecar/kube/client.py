"""The connection to a Kubernetes API server: JSON in and out, and the lines of a watch.

Configuration, credentials, TLS and transport are the official client's (`kubernetes`, `urllib3`);
ours is how errors are told, what is asked once more (a read on a kept connection that turns out to
be closed; anything after a 401, with credentials that were read anew) and that nothing else is,
and that a read which blocks can be ended from another thread. Must not know any kind of object, nor
decide what an error leads to.

`kubernetes` is imported where it is first needed: it takes 35 MB with version 37, 58 MB with 36.
"""

import contextlib
import json
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import urllib3

from sidecar import __version__
from sidecar.common.errors import ApiError, ApiUnreachableError, SourceError
from sidecar.common.text import one_line, reason_of
from sidecar.kube.credentials import SERVICE_ACCOUNT, place_of
from sidecar.kube.framing import LineFraming

if TYPE_CHECKING:
    from kubernetes.client import Configuration

#: For connecting, and for each step of TLS. Linux before 6.5 tries after 1 s and 3 s, and then only
#: after 7 s: by then a new attempt of ours finds sooner that the network works again.
CONNECT_TIMEOUT_SECONDS = 3.5

#: Whatever Retry-After says: who waited for longer would be taken for dead.
RETRY_AFTER_MAX_SECONDS = 120.0

#: HTTP's word for "I do not know you".
_UNAUTHORIZED = 401

#: Most of a server's own words that a message shows, in characters.
_MESSAGE_MAX = 400

#: A Status object is a few hundred bytes; what is longer is some proxy's page.
_STATUS_MAX_BYTES = 64 * 1024

_READ_BYTES = 64 * 1024

#: Finds a peer that is gone without a word in 45 s, as client-go does (30 s and 15 s).
_KEEPALIVE = (
    *urllib3.connection.HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Access:
    """What was read of server and user, and the connections that were made with it."""

    configuration: "Configuration"
    pools: urllib3.PoolManager

    @classmethod
    def by(cls, configuration: "Configuration") -> "_Access":
        from kubernetes.client.rest import RESTClientObject

        configuration.socket_options = list(_KEEPALIVE)
        return cls(configuration, RESTClientObject(configuration).pool_manager)


class KubeClient:
    """One API server, as one user. Any number of threads may use it at once; each request has a
    connection of its own, and idle ones are kept for the next.

    ``host``: the server's URL. Nothing is sent before the first request. ``read_again``: the
    configuration as it is now, for when the server does not know us any more.
    """

    def __init__(
        self,
        configuration: "Configuration",
        read_again: "Callable[[], Configuration] | None" = None,
    ) -> None:
        self.host: str = configuration.host
        self._read_again = read_again or (lambda: configuration)
        self._access = _Access.by(configuration)
        self._lock = threading.Lock()
        self._closed = False
        self._streams: weakref.WeakSet[LineStream] = weakref.WeakSet()

    @classmethod
    def from_environment(
        cls,
        kubeconfig: Path | None = None,
        context: str | None = None,
        account: Path = SERVICE_ACCOUNT,
    ) -> Self:
        """The cluster that ``kubeconfig`` or ``context`` names; else that of the environment's
        KUBECONFIG; else the one whose pod we are in, by ``account``; else that of
        ``~/.kube/config``. Tokens and certificates there may be replaced at any time.

        Raises SourceError, with the remedy, if there is none or it cannot be used.
        """
        place = place_of(kubeconfig, context, account)
        try:
            return cls(place.read(), place.read)
        # What is wrong in a kubeconfig comes as whatever Python raises on the way.
        except Exception as exc:
            raise SourceError(
                f"no Kubernetes API: {place.name}: {_cause(exc)}; set source.kubeconfig"
                " (or KUBECONFIG) to a usable file and source.context to one of its contexts,"
                " or run in a pod with a service account"
            ) from exc

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        timeout_seconds: float = 30.0,
    ) -> dict[str, Any]:
        """Send one request and wait for its JSON: an object of the API.

        Blocks for about ``timeout_seconds`` at most. Raises ApiError for every answer but 2xx, and
        ApiUnreachableError where there is none, or none that is an object.
        """
        asked = f"{method} {path}"
        headers = {} if body is None else {"Content-Type": content_type}
        raw = None if body is None else json.dumps(body).encode()
        response = self._send(method, path, query, headers, raw, timeout_seconds)
        with contextlib.closing(response), _translated(self.host, asked):
            _check(asked, response)
            answer = response.read()
        try:
            data = json.loads(answer)
        except (ValueError, RecursionError) as exc:
            raise ApiUnreachableError(self.host, asked, "the answer is not JSON") from exc
        if not isinstance(data, dict):
            raise ApiUnreachableError(self.host, asked, "the answer is not an object of the API")
        return data

    def stream(
        self, path: str, *, query: Mapping[str, str], read_timeout_seconds: float
    ) -> "LineStream":
        """Begin a watch: a context manager that iterates over its lines.

        Blocks until the server answers. Raises as `request` does; the iteration raises
        ApiUnreachableError when the connection breaks, or is silent for ``read_timeout_seconds``.
        """
        asked = f"watch {path}"
        response = self._send("GET", path, query, {}, None, read_timeout_seconds)
        with contextlib.ExitStack() as failing:
            failing.callback(response.close)
            with _translated(self.host, asked):
                _check(asked, response)
            failing.pop_all()
        stream = LineStream(self.host, asked, response)
        with self._lock:
            self._streams.add(stream)
            closed = self._closed
        if closed:
            stream.close()
        return stream

    def close(self) -> None:
        """End all streams, from whatever thread; requests under way end by themselves. What is
        asked afterwards gets ApiUnreachableError."""
        with self._lock:
            self._closed = True
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        self._access.pools.clear()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
        body: bytes | None,
        read_timeout_seconds: float,
    ) -> urllib3.BaseHTTPResponse:
        asked = f"{method} {path}"
        if self._closed:
            raise ApiUnreachableError(self.host, asked, "the client is closed")
        url = self.host + path + (f"?{urlencode(query)}" if query else "")
        ends_at = time.monotonic() + read_timeout_seconds

        def send(access: _Access) -> urllib3.BaseHTTPResponse:
            sent = {
                "Accept": "application/json",
                "User-Agent": f"haproxy-sidecar/{__version__}",
                **self._credentials(access, asked),
                **headers,
            }
            # Of the one time that there is, if it is sent once more.
            left_seconds = max(0.1, ends_at - time.monotonic())
            return access.pools.request(
                method,
                url,
                headers=sent,
                body=body,
                timeout=urllib3.Timeout(
                    connect=min(CONNECT_TIMEOUT_SECONDS, left_seconds), read=left_seconds
                ),
                preload_content=False,
                # A redirect would take our token elsewhere.
                redirect=False,
                retries=False,
            )

        with _translated(self.host, asked):
            access = self._access
            response = self._send_again_if_stale(access, send) if method == "GET" else send(access)
            if response.status != _UNAUTHORIZED:
                return response
            # Nothing was done, whatever the method.
            response.close()
            return send(self._renewed(access, asked))

    def _send_again_if_stale(
        self, access: _Access, send: Callable[[_Access], urllib3.BaseHTTPResponse]
    ) -> urllib3.BaseHTTPResponse:
        """``send``, and once more on a fresh connection if a kept one turns out to be closed."""
        pool = access.pools.connection_from_url(self.host)
        opened = pool.num_connections
        try:
            return send(access)
        except (urllib3.exceptions.ProtocolError, urllib3.exceptions.SSLError):
            if pool.num_connections != opened:
                raise
        # Others that are kept are as old.
        return send(self._replaced(access, access.configuration))

    def _renewed(self, former: _Access, asked: str) -> _Access:
        """With credentials that were read anew after ``former`` was refused."""
        try:
            with self._lock:
                if self._access is not former:
                    # Another thread was faster.
                    return self._access
                configuration = self._read_again()
        except Exception as exc:
            raise self._no_credentials(asked, _cause(exc)) from exc
        if configuration.host != self.host:
            # Whoever switches the context of a kubeconfig does not mean the running router.
            raise self._no_credentials(asked, f"they are now for {configuration.host}: restart")
        return self._replaced(former, configuration)

    def _replaced(self, former: _Access, configuration: "Configuration") -> _Access:
        """Fresh connections instead of those of ``former``; whoever uses one still has it."""
        with self._lock:
            if self._access is former:
                self._access = _Access.by(configuration)
            return self._access

    def _no_credentials(self, asked: str, problem: str) -> ApiUnreachableError:
        return ApiUnreachableError(self.host, asked, f"credentials: {problem}")

    def _credentials(self, access: _Access, asked: str) -> Mapping[str, str]:
        """The library renews what expires (a pod's token, an exec plugin's) as it is asked."""
        try:
            # One at a time: a plugin is a process to start, and files are read.
            with self._lock:
                settings: Mapping[str, Any] = access.configuration.auth_settings()
        except Exception as exc:
            raise self._no_credentials(asked, _cause(exc)) from exc
        sent = {item["key"]: item["value"].strip() for item in settings.values() if item["value"]}
        if not all(value.isascii() and value.isprintable() for value in sent.values()):
            # Who is given such a header says what it is, in an error for everybody to read.
            problem = "the token is not a single line of ASCII; renew it"
            raise self._no_credentials(asked, problem)
        return sent


class LineStream:
    """The lines of a response that does not end, however its bytes are split.

    One thread iterates; `close` may be called from any other, and ends a read that blocks. The
    iteration ends when the server ends the response, or when it was closed. Half a line at the
    end is left out.
    """

    def __init__(self, host: str, asked: str, response: urllib3.BaseHTTPResponse) -> None:
        self._host = host
        self._asked = asked
        self._response = response
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._closed.set()
        # Not drained: there may always be more. The connection is of no further use.
        self._response.close()

    def __iter__(self) -> Iterator[bytes]:
        framing = LineFraming()
        while not self._closed.is_set():
            try:
                with _translated(self._host, self._asked):
                    data = self._response.read1(_READ_BYTES)
                    lines = framing.receive_data(data)
            except ApiUnreachableError:
                if self._closed.is_set():
                    return
                raise
            if not data:
                return
            yield from lines

    def close(self) -> None:
        """End the iteration, now."""
        self._closed.set()
        # Only what wakes a reader: it closes the response itself. There may be none any more.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self._response.shutdown()


@contextlib.contextmanager
def _translated(host: str, asked: str) -> Iterator[None]:
    """The one place where urllib3's errors (and ValueError, for what cannot be sent or framed)
    become ours."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as exc:
        raise ApiUnreachableError(host, asked, _cause(exc)) from exc


def _check(asked: str, response: urllib3.BaseHTTPResponse) -> None:
    """Raise what an answer other than success means."""
    if 200 <= response.status < 300:
        return
    raw = response.read(_STATUS_MAX_BYTES)
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        data = None
    status = data if isinstance(data, dict) and data.get("kind") == "Status" else {}
    details = status.get("details")
    details = details if isinstance(details, dict) else {}
    raise ApiError(
        asked,
        response.status,
        one_line(str(status.get("reason") or response.reason or "no reason"), _MESSAGE_MAX),
        one_line(
            str(status.get("message") or raw.decode(errors="replace") or "no message"), _MESSAGE_MAX
        ),
        retry_after_seconds=_retry_after(response.headers, details),
        details=details,
    )


def _retry_after(headers: Mapping[str, str], details: Mapping[str, Any]) -> float | None:
    """In seconds; a date, which the API server never sends, counts as nothing said."""
    for given in (headers.get("Retry-After"), details.get("retryAfterSeconds")):
        with contextlib.suppress(TypeError, ValueError):
            seconds = float(given or 0)
            if 0 < seconds < float("inf"):
                return min(seconds, RETRY_AFTER_MAX_SECONDS)
    return None


def _cause(error: BaseException) -> str:
    """What is at the bottom of ``error``, without urllib3's pools and object addresses; a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError):
        return "timed out"
    return one_line(reason_of(error), _MESSAGE_MAX)
