"""Writes the table of commands and options in reference.md from the commands themselves.

`make format` does it; with `--check` it fails if that is not up to date, as `make check` does.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).parent / "reference.md"
sys.path.insert(0, str(REFERENCE.parents[1]))

import typer  # noqa: E402

from sidecar.cli.app import app  # noqa: E402 (this repository's, installed or not)

#: What all, or several, commands have in common is said once, in the first rows.
COMMON = ("config", "url")
BEGIN, END = "<!-- docs/tables.py: begin -->\n", "<!-- docs/tables.py: end -->\n"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def option(parameter: Any) -> str:
    takes = parameter.metavar or parameter.name.upper()
    if parameter.param_type_name == "argument":
        return cell(f"`{takes}`")
    names = ", ".join((*parameter.opts, *parameter.secondary_opts))
    return cell(f"`{names}`" if parameter.is_flag else f"`{names} {takes}`")


def explanation(parameter: Any) -> str:
    environment = f" Or the variable `{parameter.envvar}`." if parameter.envvar else ""
    return cell(f"{parameter.help or ''}{environment}")


def rows(command: Any, path: str = "") -> Iterator[str]:
    """Of a command: what it does, its argument, its options; of a group: those of its commands."""
    if hasattr(command, "commands"):
        for parameter in command.params:
            yield f"| {path} | {option(parameter)} | {explanation(parameter)} |"
        for name, item in command.commands.items():
            yield from rows(item, f"{path} {name}".strip())
        return
    yield f"| `{path}` | | {cell(command.help.partition(chr(10))[0])} |"
    for parameter in command.params:
        if parameter.name in COMMON:
            continue
        yield f"| | {option(parameter)} | {explanation(parameter)} |"


def table() -> str:
    head = "| command | argument or option | what it does |\n|---|---|---|\n"
    return head + "".join(f"{row}\n" for row in rows(typer.main.get_command(app)))


def main(arguments: list[str]) -> int:
    before = REFERENCE.read_text()
    head, found, rest = before.partition(BEGIN)
    _, ended, tail = rest.partition(END)
    if not (found and ended):
        sys.stderr.write(f"{REFERENCE}: the lines {BEGIN.strip()} and {END.strip()} are missing\n")
        return 2
    after = f"{head}{BEGIN}\n{table()}\n{END}{tail}"
    if arguments == ["--check"]:
        if after != before:
            sys.stderr.write("docs/reference.md: the commands have changed; run `make format`\n")
        return int(after != before)
    REFERENCE.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
