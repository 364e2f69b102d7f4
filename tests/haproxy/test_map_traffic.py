"""While a map changes, no request misses its key: on the real HAProxy, by its clients."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import IO

import pytest
from mapped import PORT, Maps, many
from stand import Stand, await_

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
        newest = [""] * self._keys
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
                # What was set stays so: nobody gets an older value after a newer one.
                if of != str(asked_for) or generation < newest[asked_for]:
                    self.wrong.append(f"{value!r} for {asked_for} after {newest[asked_for]!r}")
                newest[asked_for] = generation
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
def test_no_request_misses_its_key_while_others_come_and_go(maps: Maps) -> None:
    count = 1000
    stable = many(count, "g00")
    maps.apply(*(maps.add(*entry) for entry in stable.items()))
    readers = Readers(maps, count, threads=2)
    with readers.reading():
        for number in range(30):
            # Also keys that begin as theirs do, and keys that theirs begin with.
            others = [f"/k{index}?{number}" for index in range(400)] + ["/k", "/k1", "/"]
            assert set(maps.apply(*(maps.add(key, "be_1") for key in others))) == {""}
            readers.await_more()
            assert set(maps.apply(*(maps.delete(key) for key in others))) == {""}
            readers.await_more()
    assert readers.wrong == []
    assert maps.seen() == stable


@pytest.mark.serial
def test_no_request_misses_its_key_while_its_value_changes(maps: Maps) -> None:
    count, changes = 1000, 12
    maps.apply(*(maps.add(*entry) for entry in many(count, "g00").items()))
    readers = Readers(maps, count, threads=2)
    with readers.reading():
        for number in range(1, changes + 1):
            desired = many(count, f"g{number:02}")
            assert set(maps.apply(*(maps.set(*entry) for entry in desired.items()))) == {""}
            readers.await_more()
            assert maps.seen() == desired
    assert readers.wrong == []
