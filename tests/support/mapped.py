"""A HAProxy with maps, to be asked over HTTP what it finds in them."""

import contextlib
import http.client
from collections.abc import Mapping
from pathlib import Path

from stand import Stand

from sidecar.common.errors import CommandRefusedError
from sidecar.haproxy.maps import AddEntry, DeleteEntry, SetEntry, parse_map
from sidecar.haproxy.operations import Operation
from sidecar.model.desired import BackendName, ClaimKey

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

    def seen(self) -> Mapping[str, str]:
        return parse_map(self.client.ask(f"show map {self.routes}"))

    def shown(self) -> list[str]:
        """Every entry, also a key's second one."""
        lines = self.client.ask(f"show map {self.routes}").splitlines()
        return [line.partition(" ")[2] for line in lines if line]

    def served(self, path: str) -> str | None:
        """By a request: the value; None where there is none."""
        connection = http.client.HTTPConnection(self.stand.ip, PORT, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode()
            return body if answer.status == 200 else None

    def apply(self, *operations: Operation) -> list[str]:
        """What HAProxy answered, to what succeeded and to what it refused."""
        outcomes = self.client.apply(operations)
        return [
            item.reply if isinstance(item, CommandRefusedError) else str(item) for item in outcomes
        ]

    def add(self, entry: str, value: str) -> AddEntry:
        return AddEntry(UNIT, KEY, self.routes, entry, value)

    def set(self, entry: str, value: str) -> SetEntry:
        return SetEntry(UNIT, KEY, self.routes, entry, value)

    def delete(self, entry: str) -> DeleteEntry:
        return DeleteEntry(UNIT, KEY, self.routes, entry)


def many(count: int, generation: str) -> dict[str, str]:
    return {f"/k{number}?": f"{generation}-{number}" for number in range(count)}
