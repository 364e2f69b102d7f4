"""Commands that the documents name exist, and have the options that they say; README has all.

Which commands there are is in the table of docs/reference.md, which docs/tables.py writes.
"""

import re
from collections.abc import Iterator

from book import COMMANDS, PAGES, page, rows, words

_OPTION = re.compile(r"(?<=[ \[])--?[a-z][a-z-]*")
#: What is typed, or run in a pod.
_TYPED = re.compile(r"(?:^|^\$ |-- |\| )(?:\.venv/bin/)?haproxy-sidecar (.*)")
#: Options that may stand before the command, and have a value.
_BEFORE = frozenset({"-c", "--config", "--url"})
#: What has commands of its own.
_GROUPS = frozenset({"import"})


def options_of_commands() -> dict[str, set[str]]:
    """Those of all commands are those of "" ."""
    known: dict[str, set[str]] = {}
    command = ""
    for first, option, _ in rows("docs/reference.md", "Commands"):
        command = first.strip("`") or command
        known.setdefault(command, set()).update(_OPTION.findall(f" {option.strip('`')}"))
    return known


def typed(name: str) -> Iterator[str]:
    """What a page has behind `haproxy-sidecar`, as code, wherever lines end."""
    code = [" ".join(item.split()) for item in words(page(name).text)]
    for block in page(name).blocks:
        if block.language in COMMANDS:
            code += block.text.replace("\\\n", " ").splitlines()
    for line in code:
        if found := _TYPED.search(line):
            yield found[1].partition("#")[0].replace("\\|", " ")


def command_of(line: str) -> str:
    """Its command; "" if it has none, as `--version`."""
    is_value, found = False, []
    for word in line.split():
        if not is_value and not word.startswith("-"):
            found.append(word)
            if word not in _GROUPS:
                break
        is_value = word in _BEFORE
    return " ".join(found)


def test_commands_and_options_in_the_documents_exist() -> None:
    known = options_of_commands()
    everywhere = {"-c", "-h", "--help", "--url"} | known[""]
    seen, wrong = 0, []
    for name in PAGES:
        for line in typed(name):
            command, options = command_of(line), set(_OPTION.findall(f" {line}"))
            seen += 1 + len(options)
            if command not in known:
                wrong.append(f"{name}: there is no command {command!r}: {line}")
                continue
            lacking = options - known[command] - everywhere
            wrong += [f"{name}: {command} has no {option}" for option in lacking]
    assert wrong == []
    assert seen > 90


def test_the_readme_has_each_command() -> None:
    told = [
        command_of(item.removeprefix("haproxy-sidecar "))
        for row in rows("README.md", "Commands")
        for item in words(row[0])
    ]
    assert sorted(told) == sorted(options_of_commands().keys() - {""})
