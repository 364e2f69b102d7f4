"""The log of a running sidecar: lines for a person, and the same as fields for machines."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from cli import clean_environment, command
from stand import HAPROXY, MakeServer, MakeStand, Stand, app, await_

FIELDS = {"port", "route", "server", "namespace", "reason", "held", "pid", "version"}


@contextlib.contextmanager
def logging(stand: Stand, style: str, how: str = "run") -> Iterator[Any]:
    """A sidecar's process; yields a function that reads its log's lines so far."""
    stand.settings_file.write_text(
        yaml.safe_dump({**stand.settings_data, "log": {"format": style}})
    )
    log = stand.folder / f"{style}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command(how, "-c", stand.settings_file),
            stdin=subprocess.DEVNULL,
            stderr=file,
            env={**clean_environment(), "HAPROXY": HAPROXY},
        )
    try:
        yield lambda: log.read_text().splitlines()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


@pytest.fixture
def stand(make_stand: MakeStand, make_server: MakeServer) -> Stand:
    found = make_stand()
    found.write("web.yaml", *app("web", 30000, [make_server()]), *app("bad", "70000"))
    return found


def test_json(stand: Stand) -> None:
    stand.client.ask("shutdown frontend tcp-30001")
    stand.write("other.yaml", *app("other", 30001, ["10.1.1.1"]))
    with logging(stand, "json") as lines:

        def told(**fields: object) -> dict[str, Any] | None:
            found = [json.loads(line) for line in lines()]
            return next((item for item in found if fields.items() <= item.items()), None)

        opened = await_(lambda: told(port=30000, route="demo/web"), "the port", 30)
        assert opened["level"] == "info"
        assert opened["message"].startswith("port 30000: open -> Route demo/web -> ")
        info = stand.info()
        assert told(pid=info.pid, version=info.version)
        refused = await_(lambda: told(route="demo/bad", reason="InvalidPort"), "the refusal", 30)
        assert (refused["level"], refused["port"]) == ("warning", None)
        failing = await_(lambda: told(level="error", port=30001), "the failure", 30)
        assert "Frontend was previously shut down" in failing["message"]
        for line in lines():
            item = json.loads(line)
            assert item.keys() <= {"time", "level", "logger", "message", *FIELDS}
            assert item.keys() >= {"time", "level", "logger", "message"}
            assert "0x" not in line
            assert "(key=" not in line, "no object is dumped"


def test_a_start_before_haproxys_is_no_fault(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    """As in a pod, where HAProxy's container comes after the sidecar's."""
    stand = make_stand(start=False)
    stand.write("web.yaml", *app("web", 30000, [make_server()]), *app("none", 30001, []))
    with logging(stand, "json") as lines:

        def told(text: str) -> list[dict[str, Any]]:
            return [item for item in map(json.loads, lines()) if text in item["message"]]

        await_(lambda: told("waiting for HAProxy at"), "it says what it waits for", 30)
        stand.start()
        await_(lambda: told("port 30000: open"), "it serves", 30)
        await_(lambda: told("port 30001: closed, waiting for servers"), "the other one waits", 30)
        assert len(told("waiting for HAProxy at")) == 1
        assert not told("port 30000: closed"), "it has servers"
        assert {json.loads(line)["level"] for line in lines()} == {"info"}


def test_up_starts_without_a_warning(make_stand: MakeStand, make_server: MakeServer) -> None:
    stand = make_stand(start=False)
    stand.write("web.yaml", *app("web", 30000, [make_server()]), *app("none", 30001, []))
    with logging(stand, "human", "up") as lines:
        await_(lambda: any("port 30000: open" in line for line in lines()), "it serves", 30)
        await_(lambda: any("port 30001: closed, waiting" in line for line in lines()), "told", 30)
        assert not [line for line in lines() if "error: " in line or "warning: " in line]


def test_human(stand: Stand) -> None:
    with logging(stand, "human") as lines:
        await_(lambda: any("port 30000: open -> Route demo/web" in x for x in lines()), "told", 30)
        await_(lambda: any("Route demo/bad refused" in x for x in lines()), "told", 30)
        warning = next(line for line in lines() if "refused" in line)
        assert warning[8:].startswith("  warning: Route demo/bad refused: InvalidPort: '70000' is")
        assert not any("{" in line for line in lines())
