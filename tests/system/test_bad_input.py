"""Bad input, end to end: what the user is told, in each place where it is told, and that everything
else keeps working meanwhile.
"""

import contextlib
import json
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from cli import one_line, run_cli
from relay import Mode, Relay
from stand import (
    EchoServer,
    Stand,
    app,
    await_,
    route_manifest,
    running,
    slice_manifest,
)

from sidecar.common.metrics import Metrics
from sidecar.control.outage import START_SECONDS
from sidecar.control.reconciler import Reconciler
from sidecar.planning.schedule import Timing

MakeStand = Callable[..., Stand]
MakeServer = Callable[..., EchoServer]


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sidecar")


@pytest.fixture
def files() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


#: What stands beside the bad object, and must not notice.
GOOD_PORT = 30005


def expect_told(stand: Stand, caplog: pytest.LogCaptureFixture, message: str) -> None:
    """``message`` is in the daemon's log, in ``check`` (exit code 1 or 0) and in ``status``."""
    await_(lambda: message in caplog.text, f"the log says {message!r}, not {caplog.text}", 5)
    checked = run_cli("check", "-c", stand.settings_file, stand.manifests)
    assert message in one_line(checked.out)
    status = run_cli("status", "-c", stand.settings_file, "--json")
    assert status.code == 0
    report = json.loads(status.out)
    told = [entry["message"] for entry in [*report["ports"], *report["waiting"]]]
    assert any(message in text for text in told + report["problems"])
    assert message in one_line(run_cli("status", "-c", stand.settings_file).out)


def bad_slice(**changed: Any) -> list[dict[str, Any]]:
    """An application whose EndpointSlice is bad."""
    return [*app("bad", 30001)[:2], {**slice_manifest("bad", ["10.1.2.3"]), **changed}]


#: name -> (the bad objects, what the user is told, check's exit code)
BAD_OBJECTS: dict[str, tuple[list[dict[str, Any]], str, int]] = {
    "port of letters": (
        list(app("bad", "abc", ["10.1.2.3"])),
        '\'abc\' is not a valid port; write a number from 1 to 65535, like "13306", or "auto"',
        1,
    ),
    "port 0": (
        list(app("bad", "0", ["10.1.2.3"])),
        "'0' is not a valid port; write a number from 1",
        1,
    ),
    "port 70000": (
        list(app("bad", "70000", ["10.1.2.3"])),
        "'70000' is not a valid port; write a number",
        1,
    ),
    "port in no pool": (
        list(app("bad", "40000", ["10.1.2.3"])),
        "port 40000 is in no pool of this router; namespace 'demo' may use 30000-30009",
        1,
    ),
    "port claimed twice": (
        list(app("bad", GOOD_PORT, ["10.1.2.3"])),
        f"port {GOOD_PORT} is claimed by an older Route",
        1,
    ),
    "no Service": (
        [route_manifest("bad", 30001)],
        "Service 'bad' does not exist in namespace 'demo'; create it, or correct spec.to.name",
        1,
    ),
    "no endpoints": (list(app("bad", 30001)), "no ready endpoint in Service 'bad'", 0),
    "targetPort matches nothing": (
        list(app("bad", 30001, ["10.1.2.3"], target_port="mysql")),
        "spec.port.targetPort 'mysql' is neither name nor number of an endpoint port",
        1,
    ),
    "address is no IP": (
        list(app("bad", 30001, ["db.example.com"])),
        "1 endpoint skipped: 'db.example.com' is not a valid IP address",
        0,
    ),
    "address denied": (
        list(app("bad", 30001, ["169.254.169.254"])),
        "1 endpoint skipped: 169.254.169.254 is in a network denied by endpoints.deny",
        0,
    ),
    "weight too large": (
        list(app("bad", 30001, ["10.1.2.3"], weight=257)),
        "spec.to.weight: 257 is out of range; write a whole number from 0 to 256",
        1,
    ),
    "weight negative": (
        list(app("bad", 30001, ["10.1.2.3"], also=[("good", -1)])),
        "spec.alternateBackends[0].weight: -1 is out of range; write a whole number from 0 to 256",
        1,
    ),
    "port of an endpoint": (
        bad_slice(ports=[{"port": 99999}]),
        "ports[0].port: 99999 is out of range; write a whole number from 1 to 65535",
        1,
    ),
    "annotation is a number": (
        [
            {
                **route_manifest("bad", 1),
                "metadata": {
                    "name": "bad",
                    "annotations": {"haproxy.router.openshift.io/external-tcp-port": 30001},
                },
            }
        ],
        '30001 is a number; annotations must be strings, write "30001"',
        1,
    ),
    "name with a command in it": (
        list(app("bad; shutdown frontend tcp-30005", 30001, ["10.1.2.3"])),
        "'bad; shutdown frontend tcp-30005' is not a valid name",
        1,
    ),
    "spec is a list": (
        [{**route_manifest("bad", 30001), "spec": ["to"]}],
        "Route demo/bad: spec: ['to'] is a list; write a mapping",
        1,
    ),
}


@pytest.mark.parametrize("name", BAD_OBJECTS)
def test_a_bad_object_is_named_and_stops_nothing_else(
    name: str,
    make_stand: MakeStand,
    make_server: MakeServer,
    caplog: pytest.LogCaptureFixture,
    files: contextlib.ExitStack,
) -> None:
    objects, message, code = BAD_OBJECTS[name]
    stand, good = make_stand(endpoints={"deny": ["169.254.0.0/16"]}), make_server("good")
    age = "2024-01-01T00:00:00Z"
    stand.write("good.yaml", *app("good", GOOD_PORT, [good], created=age))
    files.enter_context(running(stand.daemon()))
    await_(lambda: stand.ready(GOOD_PORT) == [good.address], "the good one is served")
    bystander = stand.connect(GOOD_PORT)
    files.callback(bystander.close)

    stand.write("bad.yaml", *objects)
    expect_told(stand, caplog, message)
    assert run_cli("check", "-c", stand.settings_file, stand.manifests).code == code
    assert stand.is_refused(30001)
    bystander.echo()

    # What is good follows its edits while the bad one is still there, and bad can be mended.
    stand.write("good.yaml", *app("good", 30006, [good], created=age))
    await_(lambda: stand.ready(30006) == [good.address], "the good one moved")
    stand.write("bad.yaml", *app("bad", 30001, [good]))
    await_(lambda: stand.ready(30001) == [good.address], "the bad one is mended")
    bystander.echo()
    assert run_cli("check", "-c", stand.settings_file, stand.manifests).code == 0


GOOD = yaml.safe_dump_all(app("web", 30000, ["10.1.2.3"])).encode()

#: name -> (what the file holds then, what the user is told)
BROKEN_FILES: dict[str, tuple[bytes, str]] = {
    "truncated": (GOOD[: GOOD.index(b"wzh-router-name") + 8], "keeping the 3 objects it had"),
    "truncated in a list": (b"items: [1, 2", "invalid YAML"),
    "binary": (bytes(range(256)), "not UTF-8 text"),
    "zeros": (bytes(4096), "invalid YAML"),
    "tabs": (b"a:\n\t- b\n", "line 2: invalid YAML"),
    "no object": (b"just a text\n", "a Kubernetes object is a mapping"),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_broken_file_keeps_what_it_had(
    name: str, make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    content, message = BROKEN_FILES[name]
    stand, web, good = make_stand(), make_server("web"), make_server("good")
    stand.write("web.yaml", *app("web", 30000, [web]))
    stand.write("good.yaml", *app("good", GOOD_PORT, [good]))
    path = stand.manifests / "web.yaml"
    with running(stand.daemon()):
        await_(lambda: stand.ready(30000) == [web.address], "served")
        path.write_bytes(content)
        await_(lambda: message in one_line(caplog.text), f"the log says {message!r}: {caplog.text}")
        assert "web.yaml" in caplog.text
        # The others follow their edits; this one stays as it was.
        stand.write("good.yaml", *app("good", 30006, [good]))
        await_(lambda: stand.ready(30006) == [good.address], "the good one moved")
        assert stand.ready(30000) == [web.address]
        client = stand.connect(30000)
        client.close()
        # Offline there is nothing to keep: the file is a problem, and the answer is no.
        checked = run_cli("check", "-c", stand.settings_file, path)
        assert checked.code == 1
        assert f"\nproblems\n  {path}" in checked.out
        stand.write("web.yaml", *app("web", 30001, [web]))
        await_(lambda: stand.ready(30001) == [web.address], "mended")
        await_(lambda: "resolved: " in caplog.text, "the log says that it is mended")


def test_hundreds_of_problems_do_not_fill_the_log(
    make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    stand, good = make_stand(), make_server("good")
    stand.write("good.yaml", *app("good", GOOD_PORT, [good]))
    wrong = [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": n}} for n in range(200)]
    with running(stand.daemon()):
        await_(lambda: stand.ready(GOOD_PORT) == [good.address], "served")
        stand.write("wrong.yaml", *wrong)
        await_(lambda: "150 more problems" in caplog.text, "they are counted")
        assert caplog.text.count("wrong.yaml") == 50
        stand.write("wrong.yaml")
        await_(lambda: "resolved: 150 more" in caplog.text, "and mended")


def test_two_objects_of_one_name(
    make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    stand.write("1.yaml", *app("web", 30000, [a]))
    with running(stand.daemon()):
        await_(lambda: stand.ready(30000) == [a.address], "served")
        stand.write("2.yaml", *app("web", 30001, [b]))
        expect_told(stand, caplog, "has it too and takes precedence; remove one of the two")
        assert f"{stand.manifests}/2.yaml, document 1: Route demo/web" in caplog.text
        assert stand.ready(30000) == [a.address]
        assert stand.is_refused(30001)
        stand.remove("1.yaml")
        await_(lambda: stand.ready(30001) == [b.address], "the other counts")
        await_(lambda: stand.is_refused(30000), "the first is gone")


def test_files_that_come_and_go_while_they_are_read(
    make_stand: MakeStand, make_server: MakeServer
) -> None:
    """Atomic replacements, removals and half-written files at full speed: the port, whose Route
    is there all the time in one file or another, never blinks."""
    stand, a = make_stand(), make_server("a")
    objects = app("web", 30000, [a])
    text = yaml.safe_dump_all(objects)
    stand.write("web.yaml", *objects)
    with running(stand.daemon()):
        await_(lambda: stand.ready(30000) == [a.address], "served")
        session = stand.connect(30000)
        link, hidden = stand.manifests / "gone.yaml", stand.manifests / ".next"
        for number in range(150):
            (stand.manifests / "web.yaml").write_text(text[: len(text) * (number % 10) // 10])
            (stand.manifests / "web.yaml").write_text(text)
            link.symlink_to(stand.folder / f"nowhere-{number}")
            link.unlink()
            hidden.write_text(text)
            hidden.replace(stand.manifests / "web.yaml")
            (stand.manifests / "vanishing.json").write_text("{")
            (stand.manifests / "vanishing.json").unlink()
            client = stand.connect(30000)
            client.close()
        session.echo()
        session.close()
        assert stand.ready(30000) == [a.address]


def test_the_folder_goes_and_comes_back(
    make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    stand, a = make_stand(), make_server("a")
    stand.write("web.yaml", *app("web", 30000, [a]))
    away = stand.folder / "away"
    with running(stand.daemon()):
        await_(lambda: stand.ready(30000) == [a.address], "served")
        stand.manifests.rename(away)
        await_(lambda: "cannot be read" in caplog.text, "the log says so")
        assert stand.ready(30000) == [a.address]
        away.rename(stand.manifests)
        stand.write("web.yaml", *app("web", 30001, [a]))
        await_(lambda: stand.ready(30001) == [a.address], "it is read again")


def test_nothing_is_done_before_the_folder_could_be_read(
    make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    stand, a = make_stand(), make_server("a")
    stand.write("web.yaml", *app("web", 30000, [a]))
    with running(stand.daemon()):
        await_(lambda: stand.ready(30000) == [a.address], "served")
    away = stand.folder / "away"
    stand.manifests.rename(away)
    with running(stand.daemon()) as daemon:
        await_(lambda: "waiting for manifests: " in caplog.text, "the log says what it waits for")
        assert daemon.ready() == "not synced yet: manifests"
        assert stand.ready(30000) == [a.address]
        checked = run_cli("check", "-c", stand.settings_file, stand.manifests)
        assert checked.code == 3
        assert "No such file or directory; create it or name another" in checked.err
        away.rename(stand.manifests)
        await_(lambda: not daemon.ready(), "it goes on")


#: mode -> what is told while it lasts
BROKEN_SOCKETS: dict[Mode | Literal["absent"], str] = {
    "absent": "connecting: No such file or directory",
    "refuse": "connecting: Connection refused",
    "hang": "no complete reply within 0.3 s",
    "stall": "'show info': no complete reply within 0.3 s, only 'Name: HAProxy",
    "cut": "waiting for the reply to 'show info': HAProxy closed the connection",
    "nonsense": "it replied b'HTTP/1.1 400 Bad",
    "garbage": "'ÿ\\x00what did you say?'",
}


@pytest.mark.parametrize("mode", BROKEN_SOCKETS)
def test_a_broken_socket_is_named_and_waited_for(
    mode: Mode | Literal["absent"],
    make_stand: MakeStand,
    make_server: MakeServer,
    caplog: pytest.LogCaptureFixture,
    files: contextlib.ExitStack,
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    path, message = stand.folder / "relay.sock", BROKEN_SOCKETS[mode]
    relay = None if mode == "absent" else Relay(path, stand.settings.haproxy.socket, mode)
    stand.write("web.yaml", *app("web", 30000, [a]))
    daemon = files.enter_context(running(stand.daemon(socket=str(path), timeout=0.3)))
    await_(lambda: message in daemon.ready(), f"{message!r}, not {daemon.ready()!r}")
    assert str(path) in daemon.ready()
    assert message in caplog.text
    assert "retrying until it answers" in caplog.text
    assert not daemon.healthy()
    # Commands that only look say the same.
    status = run_cli("status", "-c", _settings_with(stand, path))
    assert status.code == 3
    assert message in one_line(status.out)
    plan = run_cli("plan", "-c", _settings_with(stand, path))
    assert (plan.code, plan.out) == (3, "")
    assert message in plan.err

    relay = relay or Relay(path, stand.settings.haproxy.socket)
    files.callback(relay.close)
    relay.set_mode("pass")
    await_(lambda: not daemon.ready(), "it recovers", 5)
    await_(lambda: "HAProxy answers again" in caplog.text, "the log says so")
    client = stand.connect(30000)
    client.close()

    # And the same in the middle of the work.
    if mode != "absent":
        relay.set_mode(mode)
        stand.write("web.yaml", *app("web", 30000, [b]))
        await_(lambda: message in daemon.ready(), f"{message!r} again")
        relay.set_mode("pass")
        await_(lambda: stand.ready(30000) == [b.address], "the change is caught up with", 5)
    # One line for each time it broke, not one for each try.
    assert caplog.text.count(message) <= 3


def _settings_with(stand: Stand, path: Path) -> Path:
    """The stand's settings with another socket."""
    data = {**stand.settings_data, "haproxy": {**stand.settings_data["haproxy"]}}
    data["haproxy"] |= {"socket": str(path), "timeout": "300ms"}
    file = stand.folder / "other.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


def test_haproxy_over_tcp_that_is_not_there(make_stand: MakeStand) -> None:
    stand = make_stand(start=False)
    with socket.socket() as unused:
        unused.bind((stand.ip, 0))
        where = f"{stand.ip}:{unused.getsockname()[1]}"
    data = {**stand.settings_data, "haproxy": {"socket": where}}
    stand.settings_file.write_text(yaml.safe_dump(data))
    status = run_cli("status", "-c", stand.settings_file)
    assert status.code == 3
    assert f"HAProxy's Runtime API at {where}: connecting: Connection refused" in one_line(
        status.out
    )
    assert "HAProxy away" in one_line(status.out)


def test_a_haproxy_that_does_not_come_is_an_error_after_a_while(
    make_stand: MakeStand, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stand, now = make_stand(start=False), [0.0]
    reconciler = Reconciler(stand.client, stand.ports, Metrics(), Timing(), lambda: now[0])

    def said_at(seconds: float) -> list[str]:
        now[0] = seconds
        caplog.clear()
        reconciler.step(None)
        return [record.levelname for record in caplog.records]

    assert said_at(0.0) == ["INFO"]
    assert said_at(START_SECONDS - 0.1) == []
    assert said_at(START_SECONDS + 1.0) == ["ERROR"]
    assert said_at(START_SECONDS + 2.0) == []
    stand.start()
    assert said_at(START_SECONDS + 3.0) == ["INFO"]
    assert not reconciler.known.serving, "nobody knows what it should do"
