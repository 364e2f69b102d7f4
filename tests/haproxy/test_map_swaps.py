"""While maps change, no request misses its key: on the real HAProxy, by its clients."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import IO

import pytest
from mapped import PORT, Maps, many
from stand import Stand, await_

from sidecar.control.map_writer import WrittenMap
from sidecar.haproxy.maps import ClearMap, FillMap, PrepareMap, prepared_version

#: So many requests a client sends at once.
BATCH = 100


def body_of(answers: IO[bytes]) -> str:
    """That of the next answer of a keep-alive connection; "" of one that found nothing."""
    status = answers.readline()
    length = 0
    while (line := answers.readline()) != b"\r\n":
        name, _, value = line.decode().partition(":")
        length = int(value) if name.lower() == "content-length" else length
    body = answers.read(length).decode()
    return body if b" 200 " in status else ""


class Readers:
    """Clients that ask for all keys again and again, and note what is not as it must be."""

    def __init__(self, maps: Maps, keys: int, threads: int) -> None:
        self._address = (maps.stand.ip, PORT)
        self._keys = keys
        self.requests = [0] * threads
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, args=(number,), daemon=True)
            for number in range(threads)
        ]

    def _read(self, number: int) -> None:
        try:
            with socket.create_connection(self._address, 10) as connection:
                self._ask(connection, number)
        except (OSError, ValueError) as exc:
            self.wrong.append(repr(exc))

    def _ask(self, connection: socket.socket, number: int) -> None:
        newest = ""
        key = number
        answers = connection.makefile("rb")
        while not self._stop.is_set():
            keys = [(key + 7919 * step) % self._keys for step in range(BATCH)]
            key = keys[-1] + 1
            requests = "".join(f"GET /k{key} HTTP/1.1\r\nHost: a\r\n\r\n" for key in keys)
            connection.sendall(requests.encode())
            for asked_for in keys:
                value = body_of(answers)
                generation, _, of = value.partition("-")
                # What was committed stays so: nobody gets older values after newer ones.
                if of != str(asked_for) or generation < newest:
                    self.wrong.append(f"{value!r} for {asked_for} after {newest!r}")
                newest = generation
            self.requests[number] += BATCH

    def await_more(self) -> None:
        """Until each client has sent further requests, and got their answers."""
        before = [count + BATCH for count in self.requests]
        await_(
            lambda: self.wrong or all(map(int.__gt__, self.requests, before)),
            "all clients are served",
        )

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(20)


@pytest.fixture
def maps(make_stand: Callable[..., Stand]) -> Maps:
    return Maps(make_stand(pools=[{"ports": ["30000"], "slots": 1}]))


@pytest.mark.serial
def test_no_request_misses_its_key_while_all_entries_are_replaced(maps: Maps) -> None:
    count, swaps = 10_000, 12
    maps.write(many(count, "g00"))
    readers = Readers(maps, count, threads=3)
    with readers.reading():
        for swap in range(1, swaps + 1):
            desired = many(count, f"g{swap:02}")
            assert maps.write(desired) == WrittenMap(desired, {})
            readers.await_more()
    assert readers.wrong == []


@pytest.mark.serial
def test_no_request_misses_its_key_while_others_come_and_go(maps: Maps) -> None:
    count = 1000
    stable = many(count, "g00")
    maps.write(stable)
    readers = Readers(maps, count, threads=2)
    with readers.reading():
        for number in range(30):
            more = {f"/more{number}-{index}?": "be" for index in range(1 + 40 * (number % 2))}
            aborted = prepared_version(maps.apply(PrepareMap(maps.routes))[0])
            maps.apply(FillMap(maps.routes, aborted, b"/k1? wrong\n/k2? wrong"))
            maps.apply(ClearMap(maps.routes, aborted))
            assert maps.write({**stable, **more}).failed == {}
            readers.await_more()
    assert readers.wrong == []
