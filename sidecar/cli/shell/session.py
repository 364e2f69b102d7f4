"""``shell``: the Runtime API of the running HAProxy, on a terminal or as a script.

Owns the sequence: read a line, guard, send, print. The steps are implemented in the other modules
of this package.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from typer import Exit

from sidecar.cli.config import load_settings
from sidecar.cli.grid import lay_out
from sidecar.cli.screen import terminal_width
from sidecar.cli.shell.completion import Asker, completer
from sidecar.cli.shell.conversation import Conversation
from sidecar.cli.shell.guard import caution, changes, port_of, prospect
from sidecar.cli.shell.lines import is_refusal, leaves, split_line, split_target
from sidecar.cli.shell.tables import Pods, read_table
from sidecar.common.durations import format_span
from sidecar.common.errors import RemoteProtocolError, SidecarError, UsageError
from sidecar.control.holds import holds_file, read_holds
from sidecar.haproxy.naming import backend_name
from sidecar.haproxy.state import parse_info, parse_servers_state
from sidecar.settings.schema import Settings

if TYPE_CHECKING:
    from prompt_toolkit.history import History

_KEEP_PODS_SECONDS = 5.0

_HELP = """\
:write on   allow commands that change HAProxy
:raw on     show replies as HAProxy sent them, without tables
:all on     show unused slots and closed ports too
:help       show this; `help` is HAProxy's own"""


@dataclass
class Modes:
    """What ``:NAME on`` and ``:NAME off`` switch; see `_HELP`."""

    write: bool = False
    raw: bool = False
    all: bool = False

    def switch(self, line: str) -> str:
        """Carry out a line that begins with ``:``; what to answer. Raises UsageError."""
        match line.split():
            case [":help"]:
                return _HELP
            case [name, "on" | "off" as value] if name[1:] in {item.name for item in fields(self)}:
                setattr(self, name[1:], value == "on")
                return f"{name[1:]} is {value}"
            case _:
                raise UsageError(f"no such command; available:\n{_HELP}")


def shell(
    config: Path | None, execute: str | None, *, yes: bool, table: bool | None, socket: str | None
) -> None:
    """Interactive on a terminal; else the lines of ``execute`` or, without it or for "-", stdin.

    A script goes on after a refused command, as HAProxy does, and exits with 1 at its end. A line
    that cannot be sent, or changes something without ``yes``, ends it (UsageError, 2), and so does
    HAProxy's absence (RuntimeAPIError, 3).
    """
    settings = load_settings(config)
    on_terminal = sys.stdout.isatty()
    modes = Modes(write=yes, raw=not (on_terminal if table is None else table), all=not on_terminal)
    conversation = Conversation(socket or settings.haproxy.socket, settings.haproxy.timeout)
    printer = Printer(conversation, settings, modes)
    with contextlib.closing(conversation):
        if execute is None and sys.stdin.isatty() and on_terminal:
            _interact(conversation, printer, settings, modes)
            return
        lines = _stdin() if execute in (None, "-") else execute.splitlines()
        if not run_script(conversation, printer, modes, lines):
            raise Exit(1)


def run_script(
    conversation: Conversation, printer: "Printer", modes: Modes, lines: Iterable[str]
) -> bool:
    """Send each line's commands and print the replies; whether HAProxy refused none."""
    accepted = True
    for line in lines:
        if line.startswith(":"):
            modes.switch(line)
            continue
        commands = split_line(line)
        for command in commands:
            if changes(command) and not modes.write:
                raise UsageError(f"commands that change HAProxy need --yes: {command}")
        for command in commands:
            if leaves(command):
                return accepted
            reply = conversation.ask(command)
            printer.print(command, reply)
            accepted = accepted and not is_refusal(reply)
    return accepted


def _stdin() -> Iterator[str]:
    """Lines as they come; what is no UTF-8 shows up in the message that refuses it."""
    return (line.decode(errors="replace") for line in sys.stdin.buffer)


class Printer:
    """Prints replies, as tables where they are long and nobody wants them raw."""

    def __init__(self, conversation: Conversation, settings: Settings, modes: Modes) -> None:
        self._conversation = conversation
        self._settings = settings
        self._modes = modes
        self._pods: dict[str, tuple[float, Pods]] = {}  # target -> until when, what is there

    def print(self, command: str, reply: str) -> None:
        if reply:
            sys.stdout.write(self._text(command, reply) + "\n")
            sys.stdout.flush()

    def _text(self, command: str, reply: str) -> str:
        if self._modes.raw or read_table(command, reply, {}) is None:
            return reply
        table = read_table(command, reply, self._pods_of(command))
        if table is None:
            return reply
        return "\n".join(lay_out(table, terminal_width(), all_rows=self._modes.all))

    def _pods_of(self, command: str) -> Pods:
        """The pods beside HAProxy's servers; none where the source, or HAProxy, does not say."""
        target = split_target(command)[0] or self._conversation.target
        until, pods = self._pods.get(target, (0.0, {}))
        if time.monotonic() >= until:
            try:
                pods = self._ask_pods(target)
            except SidecarError:
                pods = {}
            self._pods[target] = (time.monotonic() + _KEEP_PODS_SECONDS, pods)
        return pods

    def _ask_pods(self, target: str) -> Pods:
        from sidecar.cli.targets import all_pods

        names = all_pods(self._settings)
        if not names:
            return {}
        # Not those of all backends at once: see `Observer.readback_of`.
        ports = sorted({port for port, _ in names})
        lines = [f"{target} show servers state {backend_name(port)}".lstrip() for port in ports]
        tables = self._conversation.aside_all(lines)
        return {
            (port, server.name): names[port, str(server.address)]
            for port, table in zip(ports, tables, strict=True)
            if table.startswith("1\n")
            for server in parse_servers_state(table).get(backend_name(port), {}).values()
            if (port, str(server.address)) in names
        }


def _history() -> "History":
    """What was typed, kept for the user alone where a file can be; else until we leave."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
        path = state / "haproxy-sidecar" / "history"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600))
    except (OSError, RuntimeError):  # RuntimeError: a container's user has no home
        return InMemoryHistory()
    return FileHistory(path)


def header(conversation: Conversation) -> str:
    """Who answers, and what one should know before the first command. Raises RuntimeAPIError."""
    reply = conversation.ask("show info")
    told = ["help lists its commands, :help the shell's own; Tab completes, Ctrl-D quits."]
    if conversation.is_master:
        told += [
            "This is the master: @1 COMMAND asks its worker, @1 switches to it, @master returns."
        ]
        reply = conversation.ask("@1 show info")
    try:
        info = parse_info(reply)
    except RemoteProtocolError:  # a master without a worker
        who = "HAProxy"
    else:
        age = format_span(info.uptime_seconds)
        who = f"HAProxy {info.version}, PID {info.pid}, up {age},"
    return "\n".join([f"{who} at {conversation.address}", *told])


def _interact(
    conversation: Conversation, printer: Printer, settings: Settings, modes: Modes
) -> None:
    """Ask for lines until the user leaves. Raises RuntimeAPIError if HAProxy is away at first."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory

    _say("", header(conversation))
    session: PromptSession[str] = PromptSession(
        lambda: _prompt(conversation, modes),
        history=_history(),
        auto_suggest=AutoSuggestFromHistory(),
        completer=completer(Asker(conversation.aside, lambda: conversation.target)),
        # In this thread: a candidate costs a microsecond, while prompt_toolkit's threads hand over
        # at most 1,000 at once and then stall for seconds when the next key is typed.
        complete_in_thread=False,
    )
    told: set[int | None] = set()  # ports whose fate was foretold
    while True:
        try:
            line = session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        try:
            if line.startswith(":"):
                _say("", modes.switch(line))
                continue
            for command in split_line(line):
                if leaves(command):
                    return
                if changes(command) and not _may_change(command, settings, modes, told):
                    break
                _ask_and_print(conversation, printer, command)
        except SidecarError as exc:
            _say("ansired", str(exc))
        except KeyboardInterrupt:
            conversation.close()  # its reply is still to come
            _say("ansired", "interrupted; HAProxy may have executed it")


def _prompt(conversation: Conversation, modes: Modes) -> str:
    target = f" {conversation.target}" if conversation.target else ""
    return f"haproxy{target}{' (write)' if modes.write else ''}> "


def _may_change(command: str, settings: Settings, modes: Modes, told: set[int | None]) -> bool:
    """Say what comes of a command that changes something; whether it may be sent."""
    if text := caution(command):
        _say("ansiyellow", f"caution: {text}")
    port = port_of(command)
    if port not in told:
        # A file of held ports that cannot be read must not keep anybody from HAProxy.
        held: frozenset[int] = frozenset()
        with contextlib.suppress(OSError, ValueError):
            held = frozenset(read_holds(holds_file(settings.haproxy.state_file)))
        if text := prospect(command, held, settings.timing.resync):
            _say("ansiyellow", text)
    if modes.write:
        told.add(port)
    else:
        _say("ansired", "not sent: it changes HAProxy; `:write on` allows it")
    return modes.write


def _ask_and_print(conversation: Conversation, printer: Printer, command: str) -> None:
    connections = conversation.connections
    reply = conversation.ask(command)
    if conversation.connections != connections:
        _say("ansiyellow", "(reconnected: modes set on the previous connection are off)")
    if reply:
        printer.print(command, reply)
    elif split_target(command)[1]:
        _say("ansibrightblack", "ok")


def _say(style: str, text: str) -> None:
    from prompt_toolkit import print_formatted_text
    from prompt_toolkit.formatted_text import FormattedText

    print_formatted_text(FormattedText([(style, text)]))
