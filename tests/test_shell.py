"""The shell: what may be typed and completed as tables; then against a real HAProxy, as a script
and on a terminal. ``HAPROXY=…`` takes another HAProxy than the one in PATH."""

import fcntl
import os
import pty
import re
import select
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from sidecar.child import answering, find_haproxy
from sidecar.cli.shell import (
    BACKENDS,
    FRONTENDS,
    SERVERS,
    Asker,
    Element,
    candidates,
    completer,
    header,
    in_words,
    is_refusal,
    parse_help,
    parse_names,
    parse_usage,
    split_line,
)
from sidecar.errors import UsageError
from sidecar.observed import ProcessInfo

REPOSITORY = Path(__file__).parent.parent

# -- lines -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("show info", ["show info"]),
        ("  show \t info  ", ["show info"]),
        ("show info;show stat ; ;", ["show info", "show stat"]),
        ("", []),
        (" ; ", []),
        ("# show info; show stat", []),
        ("quit", ["quit"]),
    ],
)
def test_a_line_is_split_into_commands(line: str, commands: list[str]) -> None:
    assert split_line(line) == commands


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("add map #0 <<", "payload"),
        ("show info; set ssl cert x <<\n", "payload"),
        ("prompt", "'prompt' is not sent"),
        ("show info; prompt timed", "'prompt' is not sent"),
        ("set server be/s\u00e9 state ready", "cannot be sent"),
        (r"show info \; show stat", "cannot be sent"),
        ("show env 'HOME'", "cannot be sent"),
        ("x" * 9000, "longer than HAProxy's buffer"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_a_reason(line: str, why: str) -> None:
    with pytest.raises(UsageError, match=re.escape(why)):
        split_line(line)


@pytest.mark.parametrize(
    "reply",
    [
        "Unknown command, but maybe one of the following ones is a better match:\n  show info",
        "Unknown command: 'bogus', but maybe one of the following ones is a better match:",
        "[6]: Unknown command: 'bogus'",
        "[3]: No such backend.",
        "No such server.",
        "No such table",
        "Can't find backend.",
        "Invalid addr 'nope' by 'stats socket command'",
        "IP changed from '127.0.0.1' to '1.2.3.4', problem converting port 'xx' to an int by 'x'",
        "Failed to resume frontend, check logs for precise cause (port conflict?).",
        "Require 'backend/server'.",
        "Required arguments: <table> key <key>",
        "Absolute weight can only be between 0 and 256 inclusive.",
        "Empty weight string empty or preceded by garbage",
        "Permission denied",
        "'set server <srv> state' expects 'ready', 'drain' and 'maint'.",
        "'set ssl cert expects a filename and a certificate as a payload",
        "usage: set server <backend>/<server> addr | agent | agent-addr",
        "health checks are not enabled on this server",
        "Frontend was previously shut down, cannot enable.",
    ],
)
def test_a_known_refusal_is_one(reply: str) -> None:
    assert is_refusal(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "256 (initial 256)",
        "IP changed from '127.0.0.1' to '10.0.0.1', port changed from '1' to '80' by 'x'",
        "no need to change the addr, no need to change the port",
        "All sockets are already enabled.",
        "New server registered.",
        "The following commands are valid at this level:\n  show info : No such thing",
        "Name: HAProxy\nVersion: 2.6.12\nFailedResolutions: 0",
        "1\n# be_id be_name srv_id srv_name",
    ],
)
def test_an_answer_is_no_refusal(reply: str) -> None:
    assert not is_refusal(reply)


# -- completion --------------------------------------------------------------------------------

# Lines of 2.6, 3.0 and 3.2, chosen for their forms.
HELP = """\
The following commands are valid at this level:
  clear counters [all]                    : clear max statistics counters (or all counters)
  disable frontend <frontend>             : temporarily disable specific frontend
  enable frontend <frontend>              : re-enable specific frontend
  enable health                           : enable health checks
  enable server  (DEPRECATED)             : enable a disabled server (use 'set server' instead)
  get weight <bk>/<srv>                   : report a server's current weight
  set maxconn frontend <frontend> <value> : change a frontend's maxconn setting
  set profiling <what> {auto|on|off}      : enable/disable resource profiling (tasks,memory)
  set server <bk>/<srv> [opts]            : change a server's state, weight, address or ssl
  set severity-output [none|number|string]: set presence of severity level in feedback information
  set weight <bk>/<srv>  (DEPRECATED)     : change a server's weight (use 'set server' instead)
  show acl [@<ver>] <acl>]                : report available acls or dump an acl's contents
  show errors [<px>] [request|response]   : report last request and/or response errors
  show info [desc|json|typed|float]*      : report information about the running process
  show servers conn [<backend>]           : dump server connections status
  show servers state [<backend>]          : dump volatile server information
  show sess [<id>|all|susp|older <age>]   : report the list of current sessions
  show ssl ocsp-response [[text|base64] id]  : display the IDs of the OCSP responses used in memory
  shutdown frontend <frontend>            : stop a specific frontend
  shutdown sessions server <bk>/<srv>     : kill sessions on a server
  user                                    : lower the level of the current CLI session to user
  help [<command>]                        : list matching or all commands
  prompt [help | n | i | p | timed ]*     : toggle interactive mode with prompt
  quit                                    : disconnect
"""

NAMES = {
    FRONTENDS: ("tcp-1", "tcp-2", "stats"),
    BACKENDS: ("be_tcp-1", "be_tcp-2", "other"),
    SERVERS.format("be_tcp-1"): ("s1", "s2", "s10"),
}

BACKEND_STARTS = ["be_tcp-1/", "be_tcp-2/", "other/"]
SERVERS_OF_1 = ["be_tcp-1/s1", "be_tcp-1/s2", "be_tcp-1/s10"]


def _names(question: str) -> Sequence[str]:
    return NAMES.get(question, ())


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (
            "",
            [
                "clear",
                "disable",
                "enable",
                "get",
                "set",
                "show",
                "shutdown",
                "user",
                "help",
                "quit",
            ],
        ),
        ("sh", ["show", "shutdown"]),
        ("show servers ", ["conn", "state"]),
        ("show servers s", ["state"]),
        ("show servers state ", ["be_tcp-1", "be_tcp-2", "other"]),
        ("show servers conn be_", ["be_tcp-1", "be_tcp-2"]),
        ("disable frontend ", ["tcp-1", "tcp-2", "stats"]),
        ("enable frontend tcp", ["tcp-1", "tcp-2"]),
        ("shutdown frontend s", ["stats"]),
        ("set maxconn frontend ", ["tcp-1", "tcp-2", "stats"]),
        ("set maxconn frontend tcp-1 ", []),
        ("set server ", BACKEND_STARTS),
        ("set server be_tcp-1/", SERVERS_OF_1),
        ("set server be_tcp-1/s1", ["be_tcp-1/s1", "be_tcp-1/s10"]),
        ("set server nowhere/", []),
        ("set server be_tcp-1/s1 s", ["state", "ssl"]),
        ("set server be_tcp-1/s1 check", ["check-addr", "check-port"]),
        ("set server be_tcp-1/s1 state ", ["ready", "drain", "maint"]),
        ("set server be_tcp-1/s1 addr 10.0.0.1 ", ["port"]),
        ("set  server  be_tcp-1/s1  state  dr", ["drain"]),
        ("enable server be_tcp-1/s2", ["be_tcp-1/s2"]),
        ("enable health o", ["other/"]),
        ("disable server ", []),  # not in this help: not allowed at this level
        ("shutdown sessions server be_tcp-1/", SERVERS_OF_1),
        ("set weight ", BACKEND_STARTS),
        ("get weight be_tcp-1/s1", ["be_tcp-1/s1", "be_tcp-1/s10"]),
        ("show errors ", ["request", "response", *NAMES[FRONTENDS], *NAMES[BACKENDS]]),
        ("show errors tcp-1 ", ["request", "response"]),
        ("show info ", ["desc", "json", "typed", "float"]),
        ("show info desc j", ["json"]),
        ("show sess ", ["all", "susp", "older"]),
        ("set profiling tasks ", ["auto", "on", "off"]),
        ("set severity-output n", ["none", "number"]),
        ("show info; disable frontend t", ["tcp-1", "tcp-2"]),
        ("nonsense ", []),
    ],
)
def test_what_may_come_next(before: str, words: list[str]) -> None:
    _, found = candidates(parse_help(HELP), before, _names)
    assert sorted(word for word, _ in found) == sorted(words)


@pytest.mark.parametrize(
    ("before", "word", "text"),
    [
        ("use", "user", "lower the level of the current CLI session to user"),
        ("set ser", "server", "change a server's state, weight, address or ssl"),
        ("set ", "severity-output", "set presence of severity level in feedback information"),
        ("show inf", "info", "report information about the running process"),
        ("sho", "show", ""),  # said of none of its commands alone
        ("set server ", "be_tcp-1/", ""),
    ],
)
def test_the_text_beside_a_candidate_is_what_haproxy_says(
    before: str, word: str, text: str
) -> None:
    _, found = candidates(parse_help(HELP), before, _names)
    assert dict(found)[word] == text


def test_usage_lines_become_elements() -> None:
    assert parse_usage("  show info [desc|json]*   ") == (
        Element(("show",)),
        Element(("info",)),
        Element(("desc", "json"), optional=True, repeated=True),
    )
    # Intricate ones stand for any word: nothing wrong is offered.
    assert parse_usage("show x [[text|base64] id]")[2].accepts("anything")
    assert parse_usage("show acl [@<ver>] <acl>]")[3].accepts("#0")
    assert parse_usage("") == ()


def test_names_are_read_by_column() -> None:
    assert parse_names("# pxname,svname\ntcp-1,FRONTEND\nb,FRONTEND\n") == ("tcp-1", "b")
    state = "1\n# be_id be_name srv_id srv_name srv_addr\n3 a 1 s1 ::1\n3 a 2 s2 -\n"
    assert parse_names(state) == ("s1", "s2")
    assert parse_names("Can't find backend.") == ()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (130, "2 minutes 10 seconds"),
        (3600, "1 hour"),
        (273_845, "3 days 4 hours"),
    ],
)
def test_uptime_in_words(seconds: int, words: str) -> None:
    assert in_words(seconds) == words


def test_the_header_says_which_haproxy_and_what_happens_to_changes() -> None:
    info = ProcessInfo("2.6.12-1", 7, 0, 60, 0, stopping=False)
    text = header(info, "run/admin.sock", 30.0)
    assert "HAProxy 2.6.12-1, PID 7, up 1 minute, at run/admin.sock" in text
    assert "Ctrl-D" in text
    assert "within 30s" in text


# -- a real HAProxy ----------------------------------------------------------------------------


class LittleHAProxy:
    """Two ports of which nothing is used but their names; its listeners are unix sockets, so
    that no port needs to be free. ``environment``: of a shell that talks to it."""

    def __init__(self, folder: Path) -> None:
        self.socket = str(folder / "admin.sock")
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
            "defaults\n  mode tcp\n"
            "  timeout connect 1s\n  timeout client 1m\n  timeout server 1m\n"
            + "".join(
                f"frontend tcp-{port}\n  bind unix@{folder}/{port}.sock\n"
                f"  default_backend be_tcp-{port}\n"
                f"backend be_tcp-{port}\n"
                "  server s1 127.0.0.1:1 disabled\n  server s2 127.0.0.1:1 disabled\n"
                for port in (1, 2)
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Until it answers, and not its predecessor."""
        process = subprocess.Popen(
            [find_haproxy(os.environ), "-db", "-f", str(self._config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._process = process
        deadline = time.monotonic() + 20
        while not ((info := answering(self.socket)) and info.pid == process.pid):
            assert process.poll() is None, "HAProxy did not start"
            assert time.monotonic() < deadline, "HAProxy does not answer"
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
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
        "-e", "set server be_tcp-1/s2 weight 7; get weight be_tcp-1/s2;get weight be_tcp-2/s2;"
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
    done = haproxy.shell("-e", command)
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
            "import sys, sidecar.cli.shell; sys.exit('prompt_toolkit' in sys.modules)",
        ],
        cwd=REPOSITORY,
        timeout=30,
        check=True,
    )


def test_completion_knows_what_haproxy_has(haproxy: LittleHAProxy) -> None:
    complete = completer(Asker(haproxy.socket, 5.0))

    def words(before: str) -> list[str]:
        return [
            before[: len(before) + found.start_position] + found.text
            for found in complete.get_completions(Document(before), CompleteEvent())
        ]

    assert {"show", "set", "help"} <= set(words(""))
    assert "prompt" not in words("pro")
    assert words("enable frontend ") == ["enable frontend tcp-1", "enable frontend tcp-2"]
    assert words("set server be_tcp-2/s") == ["set server be_tcp-2/s1", "set server be_tcp-2/s2"]
    assert words("set server be_tcp-2/s1 state m") == ["set server be_tcp-2/s1 state maint"]
    assert words("show servers st") == ["show servers state"]
    (show_info,) = complete.get_completions(Document("show inf"), CompleteEvent())
    assert show_info.display_meta_text == "report information about the running process"


def test_completion_offers_nothing_while_haproxy_is_away(tmp_path: Path) -> None:
    asker = Asker(str(tmp_path / "nothing.sock"), 5.0)
    assert (asker.help_lines(), asker.names(FRONTENDS)) == ((), ())


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
        assert "the sidecar sets right again within 30s" in heading
        terminal.type("get weight be_tcp-1/s1\r")
        terminal.expect("1 (initial 1)")
        terminal.expect(PROMPT)
        terminal.type("set server be_tcp-1/s1 state maint\r")
        terminal.expect("ok\x1b")
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
            terminal.expect("a new connection")
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
