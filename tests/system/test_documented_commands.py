"""Every command of the documents that does not say otherwise works, and prints what they say.

Each page has the demo of `make run` for itself, in a network of its own, where its ports are free.
The remark above a block says who else runs it; see tests/unit/docs/test_blocks.py.
"""

import contextlib
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from book import COMMANDS, PAGES, Block, files_told, page, to_type
from cli import ROOT, Process, Start, clean_environment
from stand import HAPROXY, await_

#: What a clone has that is of use here.
CLONE = ("Makefile", "pyproject.toml", "requirements", "examples", "haproxy", "manifests", "plugin")

#: What is needed for a network with nothing but a loopback. Root's, or as if.
_AS_ROOT = [] if os.geteuid() == 0 else ["--map-root-user"]
_LEAVE = ["unshare", *_AS_ROOT, "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "demo"]

#: What cannot do its work has ended by then.
_GOES_ON_SECONDS = 1

#: What docs/reference.md need not explain: settings say where it is, or it is the demo's own.
OF_THE_DEMO = {"admin.sock", "demo-ca.pem", "haproxy.cfg", "servers.state"}

#: They begin with a clone, and say what to do there: what starts the demo.
FROM_A_CLONE = {
    "README.md": to_type("README.md", "make run"),
    "docs/tutorial.md": to_type("docs/tutorial.md", "make run"),
}


class Command(NamedTuple):
    """``expected``: its output as the document has it; None: it says nothing about that, and the
    command has to succeed."""

    where: str
    line: str
    expected: str | None


def commands(block: Block) -> Iterator[Command]:
    text = block.text.replace("\\\n", " ")
    if block.language != "console":
        for line in text.splitlines():
            yield Command(block.where, line, None)
        return
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, expected = part.partition("\n")
        yield Command(block.where, line, expected)


def to_run(name: str) -> list[Command]:
    return [
        command
        for block in page(name).blocks
        if block.language in COMMANDS and not block.remark
        for command in commands(block)
    ]


def pattern(expected: str) -> re.Pattern[str]:
    """`…` is any text of a line; a line of it alone any lines. How wide columns are does not count,
    nor do blanks at the end."""
    parts = []
    for line in expected.splitlines():
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            text = ".*".join(map(re.escape, line.rstrip().split("…")))
            parts.append(re.sub(r"(\\ ){2,}", " +", text) + r" *\n")
    return re.compile("".join(parts))


def tidy(output: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in output.splitlines())


class Demo:
    """`make run` in a clone, and whoever types commands there."""

    def __init__(self, folder: Path, start: Start, begin: str, *, is_installed: bool) -> None:
        """``begin``: what starts it. ``is_installed``: who reads this has haproxy-sidecar in PATH,
        and settings."""
        self._folder = folder
        self._exports: list[str] = []
        for name in CLONE:
            source = ROOT / name
            subprocess.run(["cp", "-r", source, folder / name], check=True)
        (folder / "examples/made-tls.yaml").unlink(missing_ok=True)
        self._install()
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        self._process: Process = start([*_LEAVE, *shlex.split(begin)], cwd=folder, PATH=path)
        self._environment = {
            **clean_environment(),
            "HAPROXY": HAPROXY,
            "HOME": str(folder / "home"),
            "PATH": path,
        }
        if is_installed:
            self._environment["PATH"] = f"{folder}/.venv/bin:{path}"
            self._environment["SIDECAR_CONFIG"] = "manifests/laptop/sidecar.yaml"
        self._enter = ["nsenter", "--target", str(self._process.pid), "--net"]
        if _AS_ROOT:
            self._enter += ["--user", "--preserve-credentials"]

    def _install(self) -> None:
        """What `make` would: this Python's packages. And what a reader's home has."""
        venv = self._folder / ".venv"
        venv.mkdir()
        for item in Path(sys.prefix).iterdir():
            if item.name not in {"run", "dev", "docs", "newest"}:
                (venv / item.name).symlink_to(item)
        (venv / "run").touch()
        (self._folder / "home/.config/fish/completions").mkdir(parents=True)
        # Whatever a document asks with curl is answered well, unless it shows what curl prints.
        (self._folder / "home/.curlrc").write_text("fail\n")

    def type(self, command: Command, seconds: float = 20) -> None:
        """Until it does what the document says; a change takes a moment to be followed."""
        if command.line.startswith("export "):
            self._exports.append(command.line)
            return
        if "Ctrl-C" in command.line:
            self._interrupt(command)
            return
        done: list[subprocess.CompletedProcess[str]] = []

        def right() -> bool:
            done[:] = [self._run(command.line)]
            if command.expected is None:
                return not done[0].returncode
            return bool(pattern(command.expected).fullmatch(tidy(done[0].stdout)))

        try:
            await_(right, command.line, seconds)
        except AssertionError:
            last = done[0]
            raise AssertionError(
                f"{command.where}: {command.line}\nexits with {last.returncode}:\n{last.stdout}\n"
                f"expected: {command.expected or 'that it succeeds'}"
            ) from None

    def _shell(self, line: str) -> Sequence[str]:
        script = "\n".join((*self._exports, line))
        return [*self._enter, "bash", "-c", script]

    def _run(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._shell(line),
            check=False,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )

    def _interrupt(self, command: Command) -> None:
        """A command that goes on until Ctrl-C: it has said something by then, on a terminal."""
        terminal, inside = pty.openpty()
        with subprocess.Popen(
            self._shell(f"exec {command.line}"),
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=inside,
            stderr=subprocess.STDOUT,
        ) as process:
            try:
                assert select.select([terminal], [], [], 20)[0], f"{command} says nothing"
                said = os.read(terminal, 4096).decode(errors="replace")
                # What cannot begin says so, too, and ends.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(_GOES_ON_SECONDS)
                    raise AssertionError(f"{command} ends with {code}: {said}")
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(10)
                os.close(terminal)
                os.close(inside)

    def end(self) -> None:
        """As the tutorial says: Ctrl-C, and nothing is left running."""
        self._process.ctrl_c()
        self._process.wait(30)


@pytest.mark.parametrize("name", [name for name in PAGES if to_run(name)])
def test_the_commands_of(name: str, tmp_path: Path, start: Start) -> None:
    begin = FROM_A_CLONE.get(name, FROM_A_CLONE["README.md"]).text
    demo = Demo(tmp_path, start, begin, is_installed=name not in FROM_A_CLONE)
    for command in to_run(name):
        demo.type(command)
    demo.end()
    assert unexplained(tmp_path / "run") == []
    # Else there is little to explain: it ended before HAProxy ran.
    assert name not in FROM_A_CLONE or (tmp_path / "run/maps").is_dir()


def unexplained(folder: Path) -> list[str]:
    """The files in it that docs/reference.md has no row for."""
    told = {*files_told(), *OF_THE_DEMO}
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()]
    return [name for name in names if not {name, f"{name.partition('/')[0]}/"} & told]


def test_what_does_not_work_is_found(tmp_path: Path, start: Start) -> None:
    """Each of them says something; none does what a reader would type it for."""
    demo = Demo(tmp_path, start, FROM_A_CLONE["README.md"].text, is_installed=True)
    demo.type(Command("demo", "curl 127.0.0.1:18081/cart -H 'Host: shop.example'", None))
    for line, found in {
        "curl telnet://127.0.0.1:1   # Ctrl-C": "ends with 7: ",
        "haproxy-sidekick top   # Ctrl-C": "ends with 127: ",
        "curl 127.0.0.1:18081/cart -H 'Host: nobody.example'": "exits with 22:.* 503",
    }.items():
        with pytest.raises(AssertionError, match=f"(?s){found}"):
            demo.type(Command("demo", line, None), seconds=1)
    demo.end()


def test_the_pages_that_say_make_run_mean_the_demo() -> None:
    """What starts it is the one command that this runs by itself: README.md, docs/tutorial.md."""
    assert {block.text for block in FROM_A_CLONE.values()} == {"make run\n"}
