"""The shell with a real HAProxy: as a script, on a terminal, through a master's CLI. ``HAPROXY=…``
takes another HAProxy than the one in PATH."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from cli import run_cli
from prompt_toolkit.completion import CompleteEvent, Completer
from prompt_toolkit.document import Document
from relay import Relay
from stand import MakeStand, app, await_, converged, fresh_ip, running

from sidecar.cli.shell.completion import Asker, completer
from sidecar.cli.shell.conversation import Conversation
from sidecar.common.errors import DisconnectedError
from sidecar.haproxy.client import MasterClient
from sidecar.haproxy.process import answering, find_haproxy

REPOSITORY = Path(__file__).parents[2]


class LittleHAProxy:
    """Two ports of which nothing is used but their names, and a map; its listeners are unix
    sockets, so that no port needs to be free. ``environment``: of a shell that talks to it.
    ``master``: it is a worker of a master, whose CLI is `master_socket`."""

    def __init__(self, folder: Path, *, master: bool = False) -> None:
        self.socket = str(folder / "admin.sock")
        self.tcp_socket = f"{fresh_ip()}:9999"
        self.master_socket = str(folder / "master.sock")
        self.map = folder / "clients.map"
        self.map.write_text("10.0.0.0/8 be_tcp-2\n")
        self._master = master
        self.settings = folder / "settings.yaml"
        self.settings.write_text(f"haproxy:\n  socket: {self.socket}\n")
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "XDG_STATE_HOME": str(folder / "state"),
            "TERM": "xterm",
            "PROMPT_TOOLKIT_NO_CPR": "1",  # no terminal answers where its cursor is
        }
        self._config = folder / "haproxy.cfg"
        self._config.write_text(
            f"global\n  stats socket {self.socket} mode 600 level admin\n"
            f"  stats socket {self.tcp_socket} level admin\n"
            "defaults\n  mode tcp\n"
            "  timeout connect 1s\n  timeout client 1m\n  timeout server 1m\n"
            + "".join(
                f"frontend tcp-{port}\n  bind unix@{folder}/{port}.sock\n"
                f"  use_backend %[src,map_ip({self.map})] if FALSE\n"
                f"  default_backend be_tcp-{port}\n"
                f"backend be_tcp-{port}\n"
                "  server s1 127.0.0.1:1 disabled\n  server s2 127.0.0.1:1 disabled\n"
                for port in (1, 2)
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Until it answers, and not its predecessor."""
        master = ["-W", "-S", f"{self.master_socket},mode,600"] if self._master else []
        process = subprocess.Popen(
            [find_haproxy(os.environ), *master, "-db", "-f", str(self._config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._process = process

        def answers() -> bool:
            assert process.poll() is None, "HAProxy did not start"
            info = answering(self.socket)
            return info is not None and (self._master or info.pid == process.pid)

        def master_answers() -> bool:
            with contextlib.suppress(DisconnectedError):
                return bool(MasterClient(self.master_socket).ask("show proc"))
            return False

        await_(answers, "HAProxy answers", 30)
        if self._master:
            await_(master_answers, "its master answers", 30)
        return self

    def stop(self) -> None:
        if self._process is not None:
            # A master that is killed leaves its worker behind.
            self._process.send_signal(signal.SIGTERM if self._master else signal.SIGKILL)
            self._process.wait(10)

    def shell(self, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "sidecar", "shell", "-c", str(self.settings), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            **options,
        )


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LittleHAProxy]:
    instance = LittleHAProxy(tmp_path_factory.mktemp("master"), master=True)
    try:
        yield instance.start()
    finally:
        instance.stop()


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LittleHAProxy]:
    instance = LittleHAProxy(tmp_path_factory.mktemp("shell"))
    try:
        yield instance.start()
    finally:
        instance.stop()


def test_one_command(haproxy: LittleHAProxy) -> None:
    done = haproxy.shell("-e", "get weight be_tcp-1/s1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 (initial 1)\n", "")


def test_several_commands_each_with_its_reply(haproxy: LittleHAProxy) -> None:
    done = haproxy.shell(
        "--yes",
        "-e",
        "set server be_tcp-1/s2 weight 7; get weight be_tcp-1/s2;get weight be_tcp-2/s2;",
    )
    assert (done.returncode, done.stdout) == (0, "7 (initial 1)\n1 (initial 1)\n")


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("nonsense", "Unknown command"),
        ("set server be_tcp-1/s9 state ready", "No such server."),
        ("set server nope/s1 state ready", "No such backend."),
        ("enable frontend nope", "No such frontend."),
        ("enable frontend", "A frontend name is expected."),
        ("show servers state nope", "Can't find backend."),
        ("set server be_tcp-1/s1 addr nope", "Invalid addr"),
        ("set server be_tcp-1/s1 state nope", "expects 'ready', 'drain' and 'maint'"),
        ("set weight be_tcp-1/s1", "Require <weight>"),
        ("set server be_tcp-1/s1 weight 257", "Absolute weight"),
        ("set map nope a b", "Unknown map identifier"),
        ("operator; enable server be_tcp-1/s1", "Permission denied"),
    ],
)
def test_a_refused_command_exits_with_1(haproxy: LittleHAProxy, command: str, reply: str) -> None:
    done = haproxy.shell("--yes", "-e", command)
    assert done.returncode == 1
    assert reply in done.stdout
    assert done.stderr == ""


def test_after_a_refused_command_the_others_are_sent(haproxy: LittleHAProxy) -> None:
    done = haproxy.shell("-e", "get weight be_tcp-1/s9; get weight be_tcp-1/s1")
    assert (done.returncode, done.stdout) == (1, "No such server.\n1 (initial 1)\n")


@pytest.mark.parametrize("arguments", [(), ("-e", "-")])
def test_a_script_on_stdin(haproxy: LittleHAProxy, arguments: tuple[str, ...]) -> None:
    script = (
        "# weights\n\nget weight be_tcp-1/s1\n  # more\nget weight be_tcp-2/s1\nquit\nnonsense\n"
    )
    done = haproxy.shell(*arguments, input=script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 (initial 1)\n" * 2, "")


@pytest.mark.parametrize(
    "command", ["set server be_tcp-1/s1 weight 9", "nonsense", "shutdown frontend tcp-1"]
)
def test_a_script_changes_nothing_unasked(haproxy: LittleHAProxy, command: str) -> None:
    done = haproxy.shell("-e", f"get weight be_tcp-1/s1; {command}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"haproxy-sidecar: commands that change HAProxy need --yes: {command}\n")
    assert haproxy.shell("-e", "get weight be_tcp-1/s1").stdout == "1 (initial 1)\n"


def test_a_script_may_turn_writing_on_itself(haproxy: LittleHAProxy) -> None:
    done = haproxy.shell(
        "-e", ":write on\nset weight be_tcp-2/s2 1\n:write off\nset weight be_tcp-2/s2 2"
    )
    assert (done.returncode, done.stdout) == (2, "")
    done = haproxy.shell("-e", ":wriet on")
    assert (done.returncode, done.stdout) == (2, "")
    assert ":write on   allow commands that change HAProxy" in done.stderr


def test_maps_by_number(haproxy: LittleHAProxy) -> None:
    listed = haproxy.shell("-e", "show map").stdout
    number = re.search(rf"^([0-9]+) \({re.escape(str(haproxy.map))}\)", listed, re.MULTILINE)
    assert number, listed
    done = haproxy.shell(
        "--yes",
        "-e",
        f"add map #{number[1]} 10.9.0.1 x#y; get map #{number[1]} 10.9.0.1; show map #{number[1]}",
    )
    assert done.returncode == 0, done.stdout
    assert 'value="x#y"' in done.stdout
    assert done.stdout.rstrip().endswith(" 10.9.0.1 x#y")


def test_over_tcp(haproxy: LittleHAProxy) -> None:
    done = haproxy.shell("--socket", haproxy.tcp_socket, "-e", "get weight be_tcp-1/s1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 (initial 1)\n", "")


def test_tables_in_a_pipe_are_whole_and_only_on_demand(haproxy: LittleHAProxy) -> None:
    raw = haproxy.shell("-e", "show servers state be_tcp-1").stdout
    assert raw.startswith("1\n# be_id ")
    table = haproxy.shell("--table", "-e", "show servers state be_tcp-1").stdout.splitlines()
    assert [line.split()[:6] for line in table] == [
        ["be_name", "srv_name", "srv_addr", "srv_port", "state", "srv_uweight"],
        ["be_tcp-1", "s1", "127.0.0.1", "1", "maint", "1"],
        ["be_tcp-1", "s2", "127.0.0.1", "1", "maint", table[2].split()[5]],
    ]
    stat = haproxy.shell("--table", "-e", "show stat").stdout.splitlines()
    assert len(stat) == len(haproxy.shell("-e", "show stat").stdout.rstrip().splitlines())
    assert stat[0].split()[:4] == ["pxname", "svname", "addr", "status"]
    info = dict(
        line.split(maxsplit=1)
        for line in haproxy.shell("--table", "-e", "show info").stdout.splitlines()
        if len(line.split()) > 1
    )
    assert info["Name"] == "HAProxy"
    sessions = haproxy.shell("--table", "-e", "show sess").stdout.splitlines()
    assert sessions[0].split() == ["source", "fe", "srv", "age", "left", "id"]
    assert sessions[1].split()[:3] == ["unix:1", "GLOBAL", "-"]
    refused = haproxy.shell("--table", "-e", "show servers state nope")
    assert (refused.returncode, refused.stdout) == (1, "Can't find backend.\n")


def test_tables_name_the_pods(
    make_stand: MakeStand, tmp_path: Path, files: contextlib.ExitStack
) -> None:
    stand = make_stand(pools=[{"ports": ["30000"], "slots": 2}])
    pod = {"addresses": ["127.1.2.3"], "targetRef": {"kind": "Pod", "name": "web-0"}}
    stand.write("web.yaml", *app("web", 30000, [pod]))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        for command in ("show servers state", "show stat"):
            shown = run_cli("shell", "-c", stand.settings_file, "--table", "-e", command).out
            (row,) = (line.split() for line in shown.splitlines() if " s1 " in line)
            assert row[:3] == ["be_tcp-30000", "s1", "web-0"]
        # Who is impatient must not ask for those of all backends at once.
        relay = Relay(tmp_path / "relay.sock", stand.settings.haproxy.socket)
        files.callback(relay.close)
        own = ("-c", stand.settings_file, "--socket", relay.path)
        assert "web-0" in run_cli("shell", *own, "--table", "-e", "show stat").out
        assert "show servers state be_tcp-30000" in relay.commands
        assert "show servers state" not in relay.commands


@pytest.mark.parametrize("command", ["add map #0 <<", "prompt", "show env \u00e9"])
def test_nothing_of_a_line_is_sent_if_some_of_it_cannot_be(
    haproxy: LittleHAProxy, command: str
) -> None:
    done = haproxy.shell("-e", f"get weight be_tcp-1/s1; {command}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("haproxy-sidecar: ")
    assert done.stderr.count("\n") == 1


def test_no_haproxy_exits_with_3(tmp_path: Path) -> None:
    done = LittleHAProxy(tmp_path).shell("-e", "show info")
    assert (done.returncode, done.stdout) == (3, "")
    assert f"{tmp_path}/admin.sock: connecting: No such file or directory" in done.stderr


def test_a_command_does_not_wait_for_prompt_toolkit() -> None:
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, sidecar.cli.shell.session; sys.exit('prompt_toolkit' in sys.modules)",
        ],
        cwd=REPOSITORY,
        timeout=30,
        check=True,
    )


# -- completion --------------------------------------------------------------------------------


def completions(complete: Completer, before: str) -> list[str]:
    return [
        before[: len(before) + found.start_position] + found.text
        for found in complete.get_completions(Document(before), CompleteEvent())
    ]


def test_completion_knows_what_haproxy_has(haproxy: LittleHAProxy) -> None:
    complete = completer(Asker(Conversation(haproxy.socket, 20.0).aside))

    def words(before: str) -> list[str]:
        return completions(complete, before)

    assert {"show", "set", "help"} <= set(words(""))
    assert "prompt" not in words("pro")
    assert words("enable frontend ") == ["enable frontend tcp-1", "enable frontend tcp-2"]
    assert words("set server be_tcp-2/s") == ["set server be_tcp-2/s1", "set server be_tcp-2/s2"]
    assert words("set server be_tcp-2/s1 state m") == ["set server be_tcp-2/s1 state maint"]
    assert words("show servers st") == ["show servers state"]
    assert words("get map /") == [f"get map {haproxy.map}"]
    (show_info,) = complete.get_completions(Document("show inf"), CompleteEvent())
    assert show_info.display_meta_text == "report information about the running process"


def test_completion_offers_nothing_while_haproxy_is_away(tmp_path: Path) -> None:
    asker = Asker(Conversation(str(tmp_path / "nothing.sock"), 5.0).aside)
    assert asker.candidates("sho") == ("sho", [])


# -- a master ----------------------------------------------------------------------------------


def test_through_a_master(master: LittleHAProxy) -> None:
    def shell(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return master.shell("--socket", master.master_socket, *arguments)

    done = shell("-e", "show proc; @1 get weight be_tcp-1/s1")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^[0-9]+ +master ", done.stdout, re.MULTILINE)
    assert done.stdout.endswith("\n1 (initial 1)\n")

    # "@1" alone stays there, "@master" returns.
    done = shell("-e", "@1; get weight be_tcp-1/s2; @master; get weight be_tcp-1/s2")
    assert done.returncode == 1
    assert done.stdout.startswith("1 (initial 1)\nUnknown command")

    done = shell("-e", "@9 show info")
    assert done.returncode == 1
    assert "Can't find the target PID" in done.stdout

    done = shell("-e", "@1 set server be_tcp-1/s1 weight 0")
    assert (done.returncode, done.stdout) == (2, "")
    assert shell("-e", "reload").returncode == 2
    done = shell("--yes", "-e", "@1 set server be_tcp-1/s1 weight 5; @1 get weight be_tcp-1/s1")
    assert (done.returncode, done.stdout) == (0, "5 (initial 1)\n")
    assert shell("-e", "@1 prompt").returncode == 2

    table = shell("--table", "-e", "@1 show servers state be_tcp-2").stdout.splitlines()
    assert table[1].split()[:2] == ["be_tcp-2", "s1"]


def test_the_sidecar_is_told_that_it_has_a_masters_socket(master: LittleHAProxy) -> None:
    settings = master.settings.with_name("wrong.yaml")
    settings.write_text(f"haproxy: {{socket: {master.master_socket}}}\n")
    done = run_cli("plan", "-c", settings)
    assert done.code == 3
    assert "is the CLI of HAProxy's master (-S); name the worker's own" in done.err


def test_completion_through_a_master(master: LittleHAProxy) -> None:
    conversation = Conversation(master.master_socket, 20.0)
    conversation.ask("show proc")
    complete = completer(Asker(conversation.aside, lambda: conversation.target))
    assert {"show proc", "show version"} <= set(completions(complete, "show "))
    assert completions(complete, "@") == ["@1", "@master"]
    assert completions(complete, "@1 enable frontend ") == [
        "@1 enable frontend tcp-1",
        "@1 enable frontend tcp-2",
    ]
    assert "enable" not in completions(complete, "e")
    conversation.ask("@1")
    assert "enable" in completions(complete, "e")


# -- on a terminal -----------------------------------------------------------------------------

# A prompt begins by asking for bracketed paste, once, when keys are read one by one already. The
# text of a prompt is drawn again and again, and a Ctrl-D typed too early is no Ctrl-D.
PROMPT = "\x1b[?2004h"


class Terminal:
    """The shell on a pseudo-terminal: type, and wait for what it shows."""

    def __init__(self, haproxy: LittleHAProxy) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sidecar", "shell", "-c", str(haproxy.settings)],
            env=haproxy.environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)
        os.close(self._master)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def expect(self, text: str) -> str:
        """Everything shown up to and with ``text``, which is then forgotten."""
        deadline = time.monotonic() + 20
        while text not in self._shown:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._master], [], [], left)
            assert ready, f"{text!r} was not shown, only {self._shown!r}"
            self._shown += os.read(self._master, 65536).decode(errors="replace")
        before, found, self._shown = self._shown.partition(text)
        return before + found


def test_a_session_on_a_terminal(haproxy: LittleHAProxy) -> None:
    with Terminal(haproxy) as terminal:
        heading = terminal.expect(PROMPT)
        assert re.search(r"HAProxy [0-9.]+\S*, PID [0-9]+, up ", heading)
        assert "Ctrl-D quits" in heading
        terminal.type("get weight be_tcp-1/s1\r")
        terminal.expect("1 (initial 1)")
        terminal.expect(PROMPT)
        terminal.type("set server be_tcp-1/s1 state maint\r")
        terminal.expect("the sidecar will revert port 1 within 30s; `haproxy-sidecar hold 1`")
        terminal.expect("not sent: it changes HAProxy; `:write on`")
        terminal.expect(PROMPT)
        terminal.type(":write on\r")
        terminal.expect("write is on")
        terminal.expect(PROMPT)
        terminal.type("set server be_tcp-1/s1 state maint\r")
        terminal.expect("ok\x1b")
        terminal.expect(PROMPT)
        terminal.type("show servers state\r")
        terminal.expect("be_name  srv_name  srv_addr")
        terminal.expect("(4 unused slots and ports hidden; `:all on` shows them)")
        terminal.expect(PROMPT)
        terminal.type("get weight be_tcp-1/s9\r")
        terminal.expect("No such server.")
        terminal.expect(PROMPT)
        terminal.type("prompt\r")
        terminal.expect("'prompt' is not sent")
        terminal.expect(PROMPT)
        terminal.type("half a command\x03")  # Ctrl-C
        terminal.expect(PROMPT)
        terminal.type("\x04")  # Ctrl-D
        assert terminal.process.wait(20) == 0
    history = Path(haproxy.environment["XDG_STATE_HOME"], "haproxy-sidecar", "history")
    assert "get weight be_tcp-1/s9" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_a_session_outlives_haproxy(tmp_path: Path) -> None:
    haproxy = LittleHAProxy(tmp_path)
    haproxy.environment["XDG_STATE_HOME"] = "/dev/null/nowhere"  # no history, but a session
    try:
        haproxy.start()
        with Terminal(haproxy) as terminal:
            terminal.expect(PROMPT)
            haproxy.stop()
            terminal.type("get weight be_tcp-1/s1\r")
            terminal.expect("connecting: Connection refused")
            terminal.expect(PROMPT)
            haproxy.start()
            terminal.type("get weight be_tcp-1/s1\r")
            terminal.expect("reconnected: ")
            terminal.expect("1 (initial 1)")
            terminal.expect(PROMPT)
            terminal.type("quit\r")
            assert terminal.process.wait(20) == 0
    finally:
        haproxy.stop()


def test_a_terminal_without_haproxy(tmp_path: Path) -> None:
    with Terminal(LittleHAProxy(tmp_path)) as terminal:
        terminal.expect("connecting: No such file or directory")
        assert terminal.process.wait(20) == 3
