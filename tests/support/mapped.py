"""A HAProxy with maps, to be asked over HTTP what it finds in them."""

import contextlib
import http.client
import socket
from collections.abc import Mapping
from pathlib import Path

from stand import Stand

from sidecar.common.errors import CommandRefusedError
from sidecar.control.map_writer import WrittenMap, read_map, write_map
from sidecar.haproxy.dialect import Dialect
from sidecar.haproxy.maps import (
    AddEntry,
    MapEntry,
    ObservedMap,
    PrepareMap,
    parse_map,
    parse_open_versions,
    prepared_version,
    transaction,
)
from sidecar.haproxy.operations import Operation
from sidecar.model.desired import BackendName, ClaimKey, Unit

#: Of the frontend that looks into the maps.
PORT = 39999

UNIT = BackendName("be_1")
KEY = ClaimKey("http", "a.example")


class Maps:
    """A stand whose HAProxy answers a path with the value that ``routes`` has for it and ``?``,
    else for ``*``, and 404 where it has none; and has ``sources``, a map of addresses."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.client = stand.client
        self.path = stand.folder / "routes.map"
        self.routes = str(self.path)
        self.sources = str(stand.folder / "sources.map")
        stand.stop_haproxy()
        self.path.write_text("")
        Path(self.sources).write_text("")
        config = stand.settings.haproxy.config
        config.write_text(
            f"{config.read_text()}\n"
            "frontend extra\n"
            "  mode http\n"
            "  timeout client 10s\n"
            f"  bind {stand.ip}:{PORT}\n"
            '  http-request set-var-fmt(txn.key) "%[path]?"\n'
            f"  http-request set-var(txn.be) var(txn.key),map_beg({self.routes})\n"
            f"  http-request set-var(txn.be) str(*),map_str({self.routes})"
            " if !{ var(txn.be) -m found }\n"
            f"  http-request set-var(txn.source) src,map_ip({self.sources})\n"
            "  http-request return status 200 content-type text/plain lf-string"
            " %[var(txn.be)] if { var(txn.be) -m found }\n"
            "  http-request return status 404\n"
        )
        stand.start_haproxy()
        self.dialect = Dialect(stand.info().version_tuple)

    def write(self, desired: Mapping[str, str], file: str = "") -> WrittenMap:
        return write_map(self.client, file or self.routes, desired, owner_of, self.dialect)

    def seen(self) -> ObservedMap:
        return read_map(self.client, self.routes)

    def shows(self, entries: Mapping[str, str]) -> bool:
        return self.seen() == ObservedMap(entries, frozenset())

    def open_version(self, entries: Mapping[str, str]) -> int:
        """One that has ``entries``, uncommitted."""
        version = prepared_version(self.apply(PrepareMap(self.routes))[0])
        assert set(self.apply(*transaction(self.routes, entries).fill(version))) == {""}
        return version

    def uncommitted(self, file: str = "") -> int:
        """How many entries there are that no request finds."""
        file = file or self.routes
        versions = parse_open_versions(self.client.ask("show map"), file)
        return sum(
            len(parse_map(self.client.ask(f"show map @{version} {file}")).entries)
            for version in versions
        )

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.stand.ip, PORT, timeout=10)

    def served(self, path: str) -> str | None:
        """By a request: the value; None where there is none."""
        with contextlib.closing(self.connect()) as connection:
            return asked(connection, path)

    def apply(self, *operations: Operation) -> list[str]:
        """What HAProxy answered, to what succeeded and to what it refused."""
        outcomes = self.client.apply(operations)
        return [
            item.reply if isinstance(item, CommandRefusedError) else str(item) for item in outcomes
        ]

    def by_hand(self, command: str) -> None:
        """What somebody does over a connection of their own."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.stand.settings.haproxy.socket)
            connection.sendall(f"{command}\n".encode())
            assert connection.recv(4096).strip() == b""

    def add(self, entry: str, value: str) -> AddEntry:
        return AddEntry(UNIT, KEY, self.routes, entry, value)


def owner_of(entry: MapEntry) -> tuple[Unit, ClaimKey]:
    return BackendName(entry.value), ClaimKey("http", entry.key)


def asked(connection: http.client.HTTPConnection, path: str) -> str | None:
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    return body if answer.status == 200 else None


def many(count: int, generation: str) -> dict[str, str]:
    return {f"/k{number}?": f"{generation}-{number}" for number in range(count)}
