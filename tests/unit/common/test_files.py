"""Files that others read are replaced as a whole."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sidecar.common.files import cannot_write, remove_partial, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_its_folder_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "haproxy.cfg"
    write_atomically(path, "text\n\N{SNOWMAN}\n")
    assert path.read_text(encoding="utf-8") == "text\n\N{SNOWMAN}\n"
    assert names(path.parent) == ["haproxy.cfg"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_everybody_can_read_it_and_only_we_write_it(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "haproxy.cfg"
    former = os.umask(umask)
    try:
        write_atomically(path, "one")
        write_atomically(path, "two")
    finally:
        os.umask(former)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_an_old_file_is_replaced_whatever_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text("old and longer")
    path.chmod(0o400)
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_who_has_the_old_file_open_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "servers.state"
    write_atomically(path, "old")
    with path.open() as file:
        write_atomically(path, "new")
        assert file.read() == "old"


def test_readers_never_see_a_half_file(tmp_path: Path) -> None:
    path = tmp_path / "servers.state"
    texts = {letter * size for letter, size in (("a", 1_000_000), ("b", 10), ("c", 300_000))}
    write_atomically(path, "b" * 10)
    stopping = threading.Event()

    def write() -> None:
        while not stopping.is_set():
            for text in texts:
                write_atomically(path, text)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    seen: set[str] = set()
    try:
        for _ in range(5000):
            seen.add(path.read_text())
            if seen == texts:
                break
    finally:
        stopping.set()
        for writer in writers:
            writer.join()
    assert seen == texts
    assert names(tmp_path) == ["servers.state"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "servers.state"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "half" * 100_000 + "\ud800")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["servers.state"]


def test_a_folder_in_its_place_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "servers.state"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(path, "text")
    assert names(tmp_path) == ["servers.state"]
    assert names(path) == []


def test_a_file_where_the_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(OSError, match="run"):
        write_atomically(tmp_path / "run" / "haproxy.cfg", "text")
    assert names(tmp_path) == ["run"]


def test_a_name_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        write_atomically(tmp_path / ("x" * 256), "text")
    assert names(tmp_path) == []


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    # A limit on the size of files fails the write as a full disk does.
    path = tmp_path / "servers.state"
    write_atomically(path, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_atomically(path, "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["servers.state"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "; make room in /run/h"),
        (errno.EDQUOT, "; make room in /run/h"),
        (errno.EACCES, f"; /run/h must be writable by the user running this, UID {os.geteuid()}"),
        (errno.EROFS, "; /run/h must be on a volume that is writable here"),
        (errno.EFBIG, ""),
    ],
)
def test_what_to_do_where_nothing_can_be_written(number: int, remedy: str) -> None:
    error = OSError(number, "No")
    assert cannot_write(Path("/run/h/a.json"), error) == f"cannot write /run/h/a.json: No{remedy}"


#: Writes the file that it is told, and is killed in the midst.
_KILLED = """
import os, pathlib, sys
from sidecar.common.files import write_atomically
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), 9)
write_atomically(pathlib.Path(sys.argv[1]), "secret")
"""


def kill_while_writing(path: Path) -> None:
    done = subprocess.run([sys.executable, "-P", "-c", _KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL


def test_what_was_left_half_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "client.pem"
    for _ in range(2):
        kill_while_writing(path)
    kill_while_writing(tmp_path / "other.pem")
    (own,) = (name for name in names(tmp_path) if name.startswith(".other.pem."))
    others = [".client.pem", ".client.pem.", ".client.pem.old", ".client.pem.12345678.bak"]
    others += ["client.pem.12345678", ".client.pemx12345678", ".a.client.pem.12345678"]
    for name in others:
        (tmp_path / name).write_text("somebody else's")
    (tmp_path / ".client.pem.afolder_").mkdir()
    write_atomically(path, "text")
    assert len(names(tmp_path)) == len(others) + 5
    remove_partial([path])
    assert names(tmp_path) == sorted([*others, own, "client.pem", ".client.pem.afolder_"])
    remove_partial([tmp_path / "missing" / "client.pem"])
