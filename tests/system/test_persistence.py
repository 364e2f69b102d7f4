"""What outlives a sidecar: that it cannot be written is said once, and costs nothing else."""

import contextlib
import logging
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli import run_cli
from drive import PORT
from relay import Relay
from stand import MakeServer, MakeStand, app, await_, await_told, converged, running

from sidecar.common.files import KeptFile
from sidecar.daemon.persistence import MapFile, read_programmed
from sidecar.haproxy.maps import parse_map_file


def test_a_file_says_once_that_it_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "run"
    folder.write_text("in the way")
    file = KeptFile(folder / "servers.state")
    for _ in range(3):
        assert not file.write("text")
    folder.unlink()
    for _ in range(3):
        assert file.write("text")
    folder.joinpath("servers.state").unlink()
    folder.rmdir()
    folder.write_text("again")
    assert not file.write("text")
    path = folder / "servers.state"
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    cannot = f"cannot write {path}: File exists; retrying until it succeeds"
    assert levels == [("ERROR", cannot), ("INFO", f"{path} is writable again"), levels[0]]


def test_a_map_is_written_when_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "maps" / "routes.map"
    file = MapFile(path)
    assert file.write({"a": "b"})
    first = path.stat().st_ino
    assert file.write({"a": "b"})
    assert path.stat().st_ino == first
    assert file.write({})
    assert path.read_text() == ""
    path.unlink()
    path.mkdir()
    assert not file.write({"a": "c"})
    assert file.saved == {}
    path.rmdir()
    assert file.write({"a": "c"})
    assert parse_map_file(path.read_text()) == {"a": "c"}
    assert MapFile(path).saved == file.saved == {"a": "c"}


def test_of_a_map_that_somebody_touched_only_what_can_be_written_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "routes.map"
    path.write_text('a b\n#c d\n"e" f\ng;h i\nj "k\nl\n')
    file = MapFile(path)
    assert "a" in file.saved
    assert file.write(file.saved)
    assert MapFile(path).saved == file.saved


def test_a_sidecar_goes_on_though_nothing_can_be_saved(
    make_stand: MakeStand, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    folder = stand.folder / "full"
    folder.write_text("in the way")
    path = folder / "servers.state"
    stand.write("web.yaml", *app("web", "auto", [a]))
    with running(stand.daemon(state_file=path)) as daemon:
        converged(daemon)
        await_told(caplog, f"cannot write {path}")
        stand.write("web.yaml", *app("web", "auto", [b]))
        await_(lambda: stand.ready(PORT) == [b.address], "it drives on")
        tries_until = time.monotonic() + 3.0
        await_(lambda: time.monotonic() > tries_until, "it tries again, and again")
        said = [item.getMessage() for item in caplog.records if "cannot write" in item.getMessage()]
        assert len(said) == len(set(said)) == 3, "the state, the `auto` ports, which HAProxy it is"
        folder.unlink()
        for name in ("servers.state", "auto-ports.json", "programmed.json"):
            await_told(caplog, f"{folder / name} is writable again")
        assert read_programmed(folder / "programmed.json") == stand.info().identity
    assert b.address.ip in path.read_text()


class Slow(Relay):
    """A HAProxy whose answers take their time while ``pause_seconds`` is above 0."""

    pause_seconds = 0.0

    def _pass_commands(self, sidecar: socket.socket, haproxy: socket.socket) -> None:
        while data := sidecar.recv(65536):
            time.sleep(self.pause_seconds)
            haproxy.sendall(data)


def test_a_haproxy_that_was_slow_once_does_not_keep_us_from_saving(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand = make_stand()
    relay = Slow(stand.folder / "relay.sock", stand.settings.haproxy.socket)
    files.callback(relay.close)
    stand.write("web.yaml", *app("web", PORT, [make_server("a")]))
    daemon = files.enter_context(running(stand.daemon(socket=relay.path)))
    converged(daemon)
    saved = stand.settings.haproxy.state_file.with_name("auto-ports.json")
    relay.pause_seconds = 0.6  # as if it were stopped, but for less than we wait for a reply
    stand.write("more.yaml", *app("more", "auto", [make_server("b")]))
    await_(lambda: saved.exists() and "more" in saved.read_text(), "the slow save began")
    await_(lambda: daemon._persistence._saved_changes == daemon.reconciler.changes, "it ended")
    relay.pause_seconds = 0.0
    stand.write("last.yaml", *app("last", "auto", [make_server("c")]))
    await_(lambda: "last" in saved.read_text(), "what changed since is saved")


@pytest.mark.parametrize("text", ["", "[1]", "[1, 2, 3]", "nonsense", "{}", "7"])
def test_what_is_not_ours_is_not_known(tmp_path: Path, text: str) -> None:
    path = tmp_path / "programmed.json"
    path.write_text(text)
    assert read_programmed(path) is None
    assert read_programmed(tmp_path / "absent") is None


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """A limit on the size of files fails the write as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)


def test_hold_says_what_it_could_not_write(make_stand: MakeStand) -> None:
    stand = make_stand(start=False)
    with no_room():
        failed = run_cli("hold", PORT, "-c", stand.settings_file)
    path = stand.folder / "held-ports.json"
    assert (failed.code, failed.out) == (2, "")
    assert (
        failed.err
        == f"haproxy-sidecar: port {PORT} is not held: cannot write {path}: File too large\n"
    )
    path.write_text(f"[{PORT}]")
    with no_room():
        failed = run_cli("release", PORT, "-c", stand.settings_file)
    assert failed.err.startswith(
        f"haproxy-sidecar: port {PORT} is still held: cannot write {path}: "
    )
    assert path.read_text() == f"[{PORT}]"
    path.write_text("{}")
    failed = run_cli("hold", PORT, "-c", stand.settings_file)
    assert failed.code == 2
    assert failed.err.startswith(f"haproxy-sidecar: {path} is not a list of ports: delete it")
