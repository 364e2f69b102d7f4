"""``why --probe``: connects to each server of a port or Route by host, and through the port or the
listeners, like a client.

From where the command runs: in the pod that is HAProxy's network, elsewhere it may differ.
"""

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from sidecar.common.hostport import split_host_port
from sidecar.common.text import one_line, reason_of
from sidecar.model.certificates import title_of
from sidecar.model.pool import Address, PortPool, WebListener
from sidecar.reporting.reports import HostReport, PortReport, ServerReport

#: For a connection to open; a server in the same network takes a millisecond.
CONNECT_SECONDS = 2.0

#: How long one through the port is watched: HAProxy closes it when it found no server, which takes
#: it up to three retries a second apart.
WATCH_SECONDS = 4.0

_AT_ONCE = 16

#: What HAProxy itself answers where no server does.
_NO_SERVER = (502, 503, 504)

#: What TLS 1.3 says to a client behind the handshake.
_NO_CERTIFICATE = "TLSV13_ALERT_CERTIFICATE_REQUIRED"

_WORDS_MAX = 200


class Probed(NamedTuple):
    """``who``: what was connected to. ``what``: how it went."""

    works: bool
    who: str
    what: str


def probe(item: PortReport, pool: PortPool) -> list[Probed]:
    """All servers of ``item`` that take connections, then its port on each address of ``pool``."""
    through = [partial(_through, _reachable(ip), item.port, shared=item.shared) for ip in pool.bind]
    return _all([*_servers(item.servers), *through])


def probe_host(
    item: HostReport, listeners: Iterable[WebListener], port: PortPool | None
) -> list[Probed]:
    """All servers of ``item`` that take connections, then what its clients get at each address
    where it is served: of ``listeners``, or of the pool of the ``port`` that it shares."""
    # Any label is as good as another.
    host = item.host.replace("*", "probe", 1)
    kind = "http" if item.listener == "http" else "tls"
    if port and item.port:
        places = [Address(ip, item.port) for ip in port.bind]
    else:
        places = [
            place for listener in listeners if listener.kind == kind for place in listener.bind
        ]
    ask = _ask_in_clear if kind == "http" else _ask_over_tls
    path = None if item.listener == "passthrough" else item.path or "/"
    through = [
        partial(_through_listener, Address(_reachable(place.ip), place.port), host, path, ask)
        for place in places
    ]
    return _all([*_servers(item.servers), *through])


def _servers(servers: Sequence[ServerReport]) -> Iterator[Callable[[], Probed]]:
    for server in servers:
        if server.state in ("ready", "down"):
            yield partial(_direct, f"{server.slot} {server.address}", server.address)


def _all(probes: Iterable[Callable[[], Probed]]) -> list[Probed]:
    """In their order."""
    with ThreadPoolExecutor(_AT_ONCE) as workers:
        return [task.result() for task in [workers.submit(item) for item in probes]]


def _reachable(ip: str) -> str:
    """Where to connect from this machine to what listens on all addresses."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(ip, ip)  # noqa: S104  nothing is bound


def _direct(who: str, address: str) -> Probed:
    began = time.monotonic()
    try:
        socket.create_connection(split_host_port(address), CONNECT_SECONDS).close()
    except OSError as exc:
        return Probed(False, who, _reason(exc))
    return Probed(True, who, f"connected in {_ms(began)} ms")


def _through(ip: str, port: int, *, shared: bool) -> Probed:
    """``shared``: without a name to ask for, no server is behind it."""
    who, began = f"port {port} at {ip}", time.monotonic()
    try:
        with socket.create_connection((ip, port), CONNECT_SECONDS) as connection:
            took = _ms(began)
            if shared:
                return Probed(True, who, f"connected in {took} ms; no name was asked for")
            connection.settimeout(WATCH_SECONDS)
            try:
                closed = not connection.recv(1)
            except TimeoutError:
                closed = False
    except ConnectionResetError:
        closed, took = True, _ms(began)
    except OSError as exc:
        return Probed(False, who, _reason(exc))
    if closed:
        return Probed(False, who, f"accepted, then closed after {_ms(began)} ms")
    return Probed(True, who, f"connected in {took} ms, still open")


#: What a client asks: over a connection, for a host and path (None: of TLS that is passed through,
#: where what is spoken is not known).
_Ask = Callable[[socket.socket, str, "str | None"], Probed]


def _through_listener(place: Address, host: str, path: str | None, ask: _Ask) -> Probed:
    who, began = f"{host} at {place}", time.monotonic()
    try:
        with socket.create_connection((place.ip, place.port), CONNECT_SECONDS) as connection:
            connection.settimeout(WATCH_SECONDS)
            found = ask(connection, host, path)
    except ssl.SSLError as exc:
        return Probed(False, who, f"no TLS: {one_line(exc.reason or str(exc), _WORDS_MAX)}")
    except TimeoutError:
        return Probed(False, who, f"no answer within {WATCH_SECONDS:g} s")
    except http.client.HTTPException:
        return Probed(False, who, f"no HTTP response; closed after {_ms(began)} ms")
    except ConnectionResetError:
        return Probed(False, who, f"accepted, then closed after {_ms(began)} ms")
    except OSError as exc:
        return Probed(False, who, _reason(exc))
    return found._replace(who=who, what=f"{found.what}, in {_ms(began)} ms")


def _ask_in_clear(connection: socket.socket, host: str, path: str | None) -> Probed:
    request = (
        f"GET {path or '/'} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: haproxy-sidecar\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    )
    connection.sendall(request.encode("ascii"))
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
    finally:
        response.close()
    return Probed(response.status not in _NO_SERVER, "", f"HTTP status {response.status}")


def _ask_over_tls(connection: socket.socket, host: str, path: str | None) -> Probed:
    """Whose certificate it is, a person may judge: nothing is sent that would be secret."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(connection, server_hostname=host) as secured:
        der = secured.getpeercert(binary_form=True) or b""
        try:
            shown = f"certificate {title_of(der)}"
        except ValueError:
            shown = "a certificate that cannot be read"
        if path is None:
            return Probed(True, "", shown)
        try:
            found = _ask_in_clear(secured, host, path)
        except ssl.SSLError as exc:
            if exc.reason != _NO_CERTIFICATE:
                raise
            return Probed(True, "", f"{shown}; asks for a client's, of which the probe has none")
    return found._replace(what=f"{shown}; {found.what}")


def _ms(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"timed out after {CONNECT_SECONDS:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return reason_of(error).lower()
