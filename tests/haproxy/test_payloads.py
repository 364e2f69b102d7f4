"""Commands with a payload, on the real HAProxy: they arrive whole, are judged, and never shown."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from core import PORTS
from stand import Stand

from sidecar.common.errors import CommandRefusedError, LocalProtocolError, RuntimeAPIError
from sidecar.control.history import History
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.operations import Operation
from sidecar.haproxy.protocol import WITH_PAYLOAD_MAX_BYTES, Command
from sidecar.listeners.tcp import unit_of
from sidecar.model.desired import Unit

#: What must never be seen.
KEY = b"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----"
MARK = "MIIEvQIBADANBgkq"
UNIT = unit_of(30000)


@dataclass(frozen=True)
class Load:
    """Any command with a payload."""

    line: str
    payload: bytes
    unit: Unit = UNIT

    def command(self) -> Command:
        return Command(self.line, self.payload)

    def succeeded(self, reply: str) -> bool:
        return reply == ""


@pytest.fixture
def mapped(make_stand: Callable[..., Stand]) -> Stand:
    """A HAProxy with an empty map."""
    stand = make_stand()
    stand.stop_haproxy()
    config, hosts = stand.settings.haproxy.config, stand.folder / "hosts.map"
    hosts.write_text("")
    use = f"http-request return status 200 if {{ str(a),map({hosts}) -m found }}"
    config.write_text(
        f"{config.read_text()}\nfrontend extra\n  mode http\n  timeout client 1s\n"
        f"  bind {stand.ip}:39999\n  {use}\n"
    )
    stand.start_haproxy()
    return stand


def entries(stand: Stand) -> list[str]:
    shown = stand.client.ask(f"show map {stand.folder / 'hosts.map'}")
    return [line.partition(" ")[2] for line in shown.splitlines() if line]


def test_a_payload_arrives_whole_among_other_commands(mapped: Stand) -> None:
    line = f"add map {mapped.folder / 'hosts.map'}"
    lines = [f"host-{number}.example be_{number} and more; of it" for number in range(250)]
    load = Load(line, "\n".join(lines).encode())
    more = Load(line, b"last.example be_last")
    outcomes, answers = mapped.client.apply_and_ask([load, more], ["show info"])
    assert outcomes == ["", ""]
    assert "Version" in answers[0]
    assert sorted(entries(mapped)) == sorted([*lines, "last.example be_last"])
    assert mapped.client.connections == 1


def test_the_largest_payload(mapped: Stand) -> None:
    line = f"add map {mapped.folder / 'hosts.map'}"
    rest = len(line) + len(" <<\n\n\n") + len("a.example ")
    value = "x" * (WITH_PAYLOAD_MAX_BYTES - rest)
    assert mapped.client.apply([Load(line, f"a.example {value}".encode())]) == [""]
    assert entries(mapped) == [f"a.example {value}"]


def test_a_key_is_in_no_error_no_history_and_no_log(
    mapped: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    line = f"add map {mapped.folder / 'hosts.map'}"
    operations: list[Operation] = [
        Load("add map nothing-there.map", KEY),
        Load("set ssl cert nothing-there.pem", KEY),
        Load(line, KEY + b"\n\n" + KEY),
        Load(line, KEY * 1000),
    ]
    outcomes = mapped.client.apply(operations)
    kinds = [type(item) for item in outcomes]
    assert kinds == [CommandRefusedError] * 2 + [LocalProtocolError] * 2
    history = History(PORTS, lambda: 1.0)
    history.record(operations, outcomes, 0.1)
    shown = [*map(str, outcomes), *map(repr, outcomes), str(history.entries())]

    mapped.stop_haproxy()
    with (
        RuntimeClient(mapped.settings.haproxy.socket) as client,
        pytest.raises(RuntimeAPIError) as gone,
    ):
        client.apply([Load(line, KEY)])
    shown += [str(gone.value), repr(gone.value), caplog.text]
    assert not any(MARK in text or "PRIVATE KEY" in text for text in shown)
