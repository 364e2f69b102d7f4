"""``shell``: the Runtime API of the running HAProxy by hand.

Owns what may be typed, which replies mean "no", and completion, whose words and names all come
from the HAProxy that answers. Must not know the pool, nor judge or change a command beyond what
`sidecar.protocol` can carry: the person at the keyboard knows better.

First the pure parts (lines, replies, HAProxy's help, candidates), then what asks and prints.
"""

import csv
import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from typer import Exit

from sidecar.cli.context import load_settings
from sidecar.durations import format_duration
from sidecar.errors import LocalProtocolError, SidecarError, UsageError
from sidecar.observed import ProcessInfo, parse_info
from sidecar.protocol import encode_line
from sidecar.runtime import RuntimeClient
from sidecar.settings import Settings

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import History

# -- lines and replies -------------------------------------------------------------------------

_SEPARATOR = re.compile(r"(?<!\\);")

# How a refusal starts, on 2.6 to 3.2: HAProxy has no status codes. The number is there after
# "set severity-output number". What is not listed passes for an answer.
_REFUSAL = re.compile(
    r"(?:\[\w+\]: )?(?:"
    r"Unknown (?:command|map|ACL)|No such |Can't |Cannot |Could not |Failed|Invalid |Missing "
    r"|Permission denied|This command is restricted|Required? |Expects |[Uu]sage: "
    r"|(?:Absolute|Relative|Empty) weight|Integer value expected|A frontend name is expected"
    r"|Already exists |Only servers in maintenance|Server still has|(?:health|agent) checks are "
    r"|Frontend was previously shut down|(?:Variable|Session|Key) not found|Session pointer "
    r"|'[^'\n]*'? expects |one of '|[^\n]*problem converting port )"
)


def split_line(line: str) -> list[str]:
    """The commands of a line, separated by ``;``; none of a comment.

    They are sent one by one, since HAProxy's framing of ``;`` differs by version. Raises
    UsageError for what cannot be sent, so that nothing of such a line is.
    """
    if line.lstrip().startswith("#"):
        return []
    # Quotes and backslashes cannot be sent, hence spaces never mean more than "the next word".
    commands = [" ".join(part.split()) for part in _SEPARATOR.split(line)]
    commands = [command for command in commands if command]
    for command in commands:
        if "<<" in command:
            raise UsageError(f"a payload (<<) cannot be sent, only what fits on a line: {command}")
        if command.split(" ")[0] == "prompt":
            raise UsageError("'prompt' is not sent: the shell has its connection in that mode")
        try:
            encode_line(command)
        except LocalProtocolError as exc:
            raise UsageError(str(exc)) from exc
    return commands


def leaves(command: str) -> bool:
    """Whether this ends the shell instead of being sent: HAProxy would close the connection."""
    return command.split(" ", maxsplit=1)[0] in ("quit", "exit")


def is_refusal(reply: str) -> bool:
    """Whether HAProxy's ``reply`` is known to mean that it did not do it."""
    return _REFUSAL.match(reply) is not None


# -- HAProxy's help, and what may come next ----------------------------------------------------

# What HAProxy's help leaves out, in its notation; offered if it lists the line's first two words.
_MORE_USAGE = (
    "set server <bk>/<srv> state {ready|drain|maint}",
    "set server <bk>/<srv> weight <weight>",
    "set server <bk>/<srv> addr <ip> [port <port>]",
    "set server <bk>/<srv> {check-addr|agent-addr|agent-send|fqdn} <value>",
    "set server <bk>/<srv> {check-port|agent-port} <port>",
    "set server <bk>/<srv> health {up|stopping|down}",
    "set server <bk>/<srv> agent {up|down}",
    "set server <bk>/<srv> ssl {on|off}",
    "enable server <bk>/<srv>",
    "enable health <bk>/<srv>",
    "enable agent <bk>/<srv>",
    "disable server <bk>/<srv>",
    "disable health <bk>/<srv>",
    "disable agent <bk>/<srv>",
    "clear counters all",
    "show stat <px>",
)

# A word of a usage line; brackets, nested at most once, hold theirs together.
_USAGE_WORD = re.compile(r"(?:\[(?:[^\[\]]|\[[^\]]*\])*\]|\S)+")
_LITERAL = re.compile(r"[a-z][a-z0-9-]*")


class Element(NamedTuple):
    """A place in a usage line. ``choices``: words as they are typed, and placeholders, which
    start with ``<`` and stand for any word."""

    choices: tuple[str, ...]
    optional: bool = False
    repeated: bool = False

    def accepts(self, word: str) -> bool:
        return word in self.choices or any(choice.startswith("<") for choice in self.choices)


class HelpLine(NamedTuple):
    """A command of HAProxy's ``help``: its usage, and what HAProxy says that it does."""

    elements: tuple[Element, ...]
    text: str


#: A question to HAProxy, one of those below -> the names in its answer, in HAProxy's order.
Names = Callable[[str], Sequence[str]]

FRONTENDS = "show stat -1 1 -1"
BACKENDS = "show stat -1 2 -1"
SERVERS = "show servers state {}"


def parse_help(text: str) -> tuple[HelpLine, ...]:
    """The lines ``  command args  : text`` of HAProxy's ``help``, and what they leave out."""
    found = []
    for line in text.splitlines():
        # "set severity-output [none|number|string]: ..." has no space before its colon.
        usage, colon, about = line.partition(": ")
        if colon and usage.startswith("  ") and usage.split()[:1] != ["prompt"]:
            found.append(HelpLine(parse_usage(usage), about.strip()))
    known = {line.elements[:2] for line in found}
    more = (parse_usage(usage) for usage in _MORE_USAGE)
    return (*found, *(HelpLine(elements, "") for elements in more if elements[:2] in known))


def parse_usage(usage: str) -> tuple[Element, ...]:
    """``set profiling <what> {auto|on|off}`` as elements; what is too intricate to say word by
    word becomes a placeholder."""
    elements = []
    for word in _USAGE_WORD.findall(usage):
        bare = word.rstrip("*.")
        if not bare or bare.startswith("("):  # "..." and "(DEPRECATED)"
            continue
        optional = bare.startswith("[")
        choices = bare[1:-1].split("|") if optional or bare.startswith("{") else [bare]
        # A single word in brackets, like "[id]", says what goes there.
        named = optional and len(choices) == 1 and " " not in choices[0]
        typed = tuple(_choice(choice.strip().split(" ")[0], named) for choice in choices)
        elements.append(Element(typed, optional, repeated=bare != word))
    return tuple(elements)


def _choice(word: str, named: bool) -> str:
    literal = word.startswith("<") or (_LITERAL.fullmatch(word) and not named)
    return word if literal else f"<{word}>"


def _next_choices(elements: Sequence[Element], words: Sequence[str]) -> Iterator[str]:
    """The choices for the word that follows ``words``."""
    if not elements:
        return
    first, rest = elements[0], elements[1:]
    if first.optional:
        yield from _next_choices(rest, words)
    if not words:
        yield from first.choices
    elif first.accepts(words[0]):
        yield from _next_choices(elements if first.repeated else rest, words[1:])


def candidates(
    help_lines: Iterable[HelpLine], before: str, names: Names
) -> tuple[str, list[tuple[str, str]]]:
    """What may stand at the cursor, given the line ``before`` it: the word's beginning there, and
    each whole word with HAProxy's help text, or ""."""
    *words, prefix = _SEPARATOR.split(before)[-1].split(" ")
    words = [word for word in words if word]
    # choice -> what HAProxy says of the commands that it may belong to
    texts: dict[str, set[str]] = {}
    for line in help_lines:
        for choice in _next_choices(line.elements, words):
            texts.setdefault(choice, set()).add(line.text)
    found: dict[str, str] = {}
    for choice, said in texts.items():
        about = said - {""}
        text = about.pop() if len(about) == 1 and not choice.startswith("<") else ""
        for word in _words_for(choice, prefix, names):
            if word.startswith(prefix):
                found.setdefault(word, text)
    return prefix, list(found.items())


def _words_for(choice: str, prefix: str, names: Names) -> Iterable[str]:
    match choice:
        case "<frontend>":
            return names(FRONTENDS)
        case "<backend>" | "<bk>":
            return names(BACKENDS)
        case "<px>":
            return [*names(FRONTENDS), *names(BACKENDS)]
        case "<bk>/<srv>":
            # A backend at a time: all servers together are too many to ask for and to look at.
            backend, slash, _ = prefix.partition("/")
            if slash:
                return (f"{backend}/{server}" for server in names(SERVERS.format(backend)))
            return (f"{backend}/" for backend in names(BACKENDS))
        case _:
            return () if choice.startswith("<") else (choice,)


def parse_names(text: str) -> tuple[str, ...]:
    """The proxies of ``show stat`` or the servers of ``show servers state``, by their column;
    nothing where HAProxy said something else."""
    delimiter, column = (",", "pxname") if text.startswith("# pxname,") else (" ", "srv_name")
    table = text.partition("# ")[2].splitlines()
    rows = csv.DictReader(table, delimiter=delimiter)
    return tuple(name for row in rows if (name := row.get(column)))


# -- asking and printing -----------------------------------------------------------------------

_KEEP_SECONDS = 5.0

#: HAProxy answers within milliseconds; if it hangs, typing hangs this long, once in a while.
_COMPLETION_PATIENCE_SECONDS = 0.5

_T = TypeVar("_T")


def shell(config: Path | None, execute: str | None) -> None:
    """Interactive on a terminal; else the lines of ``execute`` or, without it or for "-", stdin.

    A script goes on after a refused command, as HAProxy does, and exits with 1 at its end. A line
    that cannot be sent ends it (UsageError, 2), and so does HAProxy's absence (RuntimeAPIError, 3).
    """
    settings = load_settings(config)
    with RuntimeClient(settings.haproxy.socket, settings.haproxy.timeout) as client:
        if execute is None and sys.stdin.isatty() and sys.stdout.isatty():
            _interact(client, settings)
        elif not run_script(client, _stdin() if execute in (None, "-") else execute.splitlines()):
            raise Exit(1)


def run_script(client: RuntimeClient, lines: Iterable[str]) -> bool:
    """Send each line's commands and print the replies; whether HAProxy refused none."""
    accepted = True
    for line in lines:
        for command in split_line(line):
            if leaves(command):
                return accepted
            reply = _ask(client, command)
            if reply:
                sys.stdout.write(reply + "\n")
                sys.stdout.flush()
            accepted = accepted and not is_refusal(reply)
    return accepted


def _stdin() -> Iterator[str]:
    """Lines as they come; what is no UTF-8 shows up in the message that refuses it."""
    return (line.decode(errors="replace") for line in sys.stdin.buffer)


def _ask(client: RuntimeClient, command: str) -> str:
    """The reply as HAProxy sent it. A connection that HAProxy closed while nothing was asked (a
    restart, ``stats timeout``) is not worth an error: nothing was under way."""
    descriptor = client.fileno()
    if descriptor is not None and select.select([descriptor], [], [], 0)[0]:
        client.close()
    return client.ask(command).encode("latin-1").decode(errors="replace")


class Asker:
    """What completion needs of the HAProxy at ``address``: asked when needed, kept for seconds.

    Each question has a connection of its own, so that it does not disturb the conversation, and
    none is held, since HAProxy has only ten. Where there is no answer there are no candidates.
    """

    def __init__(self, address: str, timeout_seconds: float) -> None:
        self._address = address
        self._timeout_seconds = min(timeout_seconds, _COMPLETION_PATIENCE_SECONDS)
        self._kept: dict[str, tuple[float, Any]] = {}  # command -> until when, what was parsed

    def help_lines(self) -> Sequence[HelpLine]:
        return self._ask("help", parse_help)

    def names(self, question: str) -> Sequence[str]:
        return self._ask(question, parse_names)

    def _ask(self, command: str, parse: Callable[[str], Sequence[_T]]) -> Sequence[_T]:
        until, kept = self._kept.get(command, (0.0, ()))
        parsed: Sequence[_T] = kept
        if time.monotonic() >= until:
            try:
                with RuntimeClient(self._address, self._timeout_seconds) as client:
                    parsed = parse(client.ask(command))
            except SidecarError:
                parsed = ()
            self._kept[command] = (time.monotonic() + _KEEP_SECONDS, parsed)
        return parsed


def completer(asker: Asker) -> "Completer":
    """`candidates` as prompt_toolkit wants them."""
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class RuntimeCompleter(Completer):
        def get_completions(self, document: Document, _: CompleteEvent) -> Iterator[Completion]:
            before = document.text_before_cursor
            prefix, found = candidates(asker.help_lines(), before, asker.names)
            for word, text in found:
                yield Completion(word, -len(prefix), display_meta=text)

    return RuntimeCompleter()


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


def in_words(seconds: int) -> str:
    """``2 hours 5 minutes``: the two largest units."""
    parts = []
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}{'s' * (count != 1)}")
    return " ".join(parts[:2]) or "0 seconds"


def header(info: ProcessInfo, address: str, resync_seconds: float) -> str:
    """What one should know before the first command."""
    age, resync = in_words(info.uptime_seconds), format_duration(resync_seconds)
    return (
        f"HAProxy {info.version}, PID {info.pid}, up {age}, at {address}\n"
        "help lists its commands, Tab completes, Ctrl-D leaves.\n"
        f"What is changed here by hand, the sidecar sets right again within {resync}."
    )


def _interact(client: RuntimeClient, settings: Settings) -> None:
    """Ask for lines until the user leaves. Raises RuntimeAPIError if HAProxy is away at first."""
    from prompt_toolkit import PromptSession, print_formatted_text
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
    from prompt_toolkit.formatted_text import FormattedText

    def say(style: str, text: str) -> None:
        print_formatted_text(FormattedText([(style, text)]))

    info = parse_info(client.ask("show info"))
    say("", header(info, client.address, settings.timing.resync))
    session: PromptSession[str] = PromptSession(
        "haproxy> ",
        history=_history(),
        auto_suggest=AutoSuggestFromHistory(),
        completer=completer(Asker(client.address, client.timeout_seconds)),
        # In this thread: a candidate costs a microsecond, while prompt_toolkit's threads hand over
        # at most 1,000 at once and then stall for seconds when the next key is typed.
        complete_in_thread=False,
    )
    while True:
        try:
            line = session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        try:
            for command in split_line(line):
                if leaves(command):
                    return
                connections = client.connections
                reply = _ask(client, command)
                if client.connections != connections:
                    say("ansiyellow", "(a new connection: modes set on the former one are off)")
                if reply:
                    sys.stdout.write(reply + "\n")
                else:
                    say("ansibrightblack", "ok")
        except SidecarError as exc:
            say("ansired", str(exc))
        except KeyboardInterrupt:
            client.close()  # its reply is still to come
            say("ansired", "not waited for; HAProxy may have carried it out")
