"""Completion of the shell's line: all words and names come from the connected HAProxy.

First the pure parts (HAProxy's help, candidates), then the queries to HAProxy while somebody types.
"""

import csv
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sidecar.cli.shell.lines import last_command, split_target
from sidecar.common.errors import SidecarError

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer

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
_LITERAL = re.compile(r"@?[a-z][a-z0-9-]*")


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
MAPS = "show map"
ACLS = "show acl"
TABLES = "show table"


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
    *words, prefix = last_command(before).split(" ")
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
        for word in _words_for(choice, words, prefix, names):
            if word.startswith(prefix):
                found.setdefault(word, text)
    return prefix, list(found.items())


def _words_for(choice: str, words: Sequence[str], prefix: str, names: Names) -> Iterable[str]:
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
        case "<map>" | "<acl>" | "<acl>]":  # "get map <acl>", says 2.6
            return names(MAPS if "map" in words else ACLS)
        case "<table>":
            return names(TABLES)
        case "<@<relative>":  # "@<relative pid>"
            return ("@1",)
        case _:
            return () if choice.startswith("<") else (choice,)


_MAP_ROW = re.compile(r"(-?[0-9]+) \(([^)\n]*)\)")
_TABLE_ROW = re.compile(r"# table: ([^\s,]+)")


def parse_names(text: str) -> tuple[str, ...]:
    """The proxies of ``show stat``, the servers of ``show servers state``, the maps or ACLs of
    ``show map`` and ``show acl`` (by file, or number where they have none), or the stick tables;
    nothing where HAProxy said something else."""
    if text.startswith("# id ("):
        found = _MAP_ROW.findall(text)
        return tuple(dict.fromkeys(file or f"#{number}" for number, file in found))
    if text.startswith("# table: "):
        return tuple(_TABLE_ROW.findall(text))
    delimiter, column = (",", "pxname") if text.startswith("# pxname,") else (" ", "srv_name")
    table = text.partition("# ")[2].splitlines()
    rows = csv.DictReader(table, delimiter=delimiter)
    return tuple(name for row in rows if (name := row.get(column)))


# -- asking, and prompt_toolkit ----------------------------------------------------------------

_KEEP_SECONDS = 5.0

_T = TypeVar("_T")


class Asker:
    """What completion needs of HAProxy: asked when needed, kept for seconds.

    ``ask``: must not disturb the conversation, nor wait long. Where there is no answer there are
    no candidates. ``target``: which process is talked to by default, of a master's CLI.
    """

    def __init__(self, ask: Callable[[str], str], target: Callable[[], str] = str) -> None:
        self._put = ask
        self._target = target
        self._kept: dict[str, tuple[float, Any]] = {}  # command -> until when, what was parsed

    def candidates(self, before: str) -> tuple[str, list[tuple[str, str]]]:
        """`candidates` for the line ``before`` the cursor, of the process that it is for."""
        typed = last_command(before).lstrip()
        own, rest = split_target(typed) if " " in typed else ("", typed)
        target = own or self._target()

        def names(question: str) -> Sequence[str]:
            return self._ask(f"{target} {question}".lstrip(), parse_names)

        return candidates(self._ask(f"{target} help".lstrip(), parse_help), rest, names)

    def _ask(self, command: str, parse: Callable[[str], Sequence[_T]]) -> Sequence[_T]:
        until, kept = self._kept.get(command, (0.0, ()))
        parsed: Sequence[_T] = kept
        if time.monotonic() >= until:
            try:
                parsed = parse(self._put(command))
            except SidecarError:
                parsed = ()
            self._kept[command] = (time.monotonic() + _KEEP_SECONDS, parsed)
        return parsed


def completer(asker: Asker) -> "Completer":
    """`Asker.candidates` as prompt_toolkit wants them."""
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class RuntimeCompleter(Completer):
        def get_completions(self, document: Document, _: CompleteEvent) -> Iterator[Completion]:
            prefix, found = asker.candidates(document.text_before_cursor)
            for word, text in found:
                yield Completion(word, -len(prefix), display_meta=text)

    return RuntimeCompleter()
