"""The machine's own addresses: reads its network interfaces, and publishes them.

Owns a thread that reads them again periodically: addresses come and go (a virtual IP, a network
that is attached). `sidecar.routing.own_addresses` decides what they mean.
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Collection, Iterator
from typing import Any, Self

import ifaddr

from sidecar.common.hostport import canonical_ip
from sidecar.model.change import Change, Sink
from sidecar.model.objects import LocalAddresses

log = logging.getLogger(__name__)

#: As it stands in `Sink.publish`. It is none of those that must sync first: it is there at once.
ORIGIN = "interfaces"

#: A look takes a fifth of a millisecond.
_LOOK_SECONDS = 5.0


def local_addresses(names: Collection[str]) -> LocalAddresses:
    """The addresses of all interfaces, and of ``names`` as this machine resolves them. None where
    that fails."""
    resolved = ((name, _canonical(_resolved(name))) for name in sorted(names))
    return LocalAddresses(_canonical(_of_interfaces()), tuple(resolved))


class Interfaces(contextlib.AbstractContextManager[Any]):
    """Publishes the addresses to ``sink`` at once; while it is entered, whenever they are others.
    ``names``: as in `local_addresses`."""

    def __init__(self, sink: Sink, names: Collection[str]) -> None:
        self._sink = sink
        self._names = names
        self._known = LocalAddresses()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="interfaces", daemon=True)
        self._look()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join(1)

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        found = local_addresses(self._names)
        # What fails now keeps what it had: DNS may be away.
        known = dict(self._known.names)
        names = tuple((name, ips or known.get(name, ())) for name, ips in found.names)
        found = LocalAddresses(found.addresses or self._known.addresses, names)
        if found != self._known:
            self._known = found
            self._sink.publish(ORIGIN, [Change(found.key, found)], ())


def _of_interfaces() -> Iterator[str]:
    try:
        adapters = list(ifaddr.get_adapters())
    except OSError as exc:
        log.error("cannot list the addresses of this machine: %s", exc)  # noqa: TRY400
        return
    for ip in (ip.ip for adapter in adapters for ip in adapter.ips):
        yield ip if isinstance(ip, str) else ip[0]


def _resolved(name: str) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for *_, place in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM):
            yield str(place[0])


def _canonical(ips: Iterator[str]) -> tuple[str, ...]:
    return tuple(sorted({ip for text in ips if (ip := canonical_ip(text.partition("%")[0]))}))
