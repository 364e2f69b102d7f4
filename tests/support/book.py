"""The documents as their readers have them: headings, links and blocks of code.

Reads files only; what is right of them is for the tests to say.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cli import ROOT

#: All of them, from the root of the repository.
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)

#: Of blocks that a reader types.
COMMANDS = frozenset({"sh", "bash", "console"})

_FENCE = re.compile(r" *```(.*)")
_REMARK = re.compile(r" *<!-- (.*) -->")
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_CODE = re.compile(r"`[^`]*`")


class Block(NamedTuple):
    """``remark``: the comment in the line above it, which a reader does not see."""

    page: str
    line: int
    language: str
    text: str
    remark: str
    indent: int

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


class Page(NamedTuple):
    name: str
    #: Without blocks of code: (number, line).
    prose: tuple[tuple[int, str], ...]
    blocks: tuple[Block, ...]

    @property
    def headings(self) -> tuple[str, ...]:
        return tuple(line.lstrip("#").strip() for _, line in self.prose if line.startswith("#"))

    @property
    def links(self) -> Iterator[tuple[int, str]]:
        """(line's number, target), pictures included."""
        for number, line in self.prose:
            for target in _LINK.findall(_CODE.sub("``", line)):
                yield number, target

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in self.prose)


@cache
def page(name: str) -> Page:
    prose: list[tuple[int, str]] = []
    blocks: list[Block] = []
    opened: tuple[int, str, str] | None = None
    inside: list[str] = []
    above = ""
    for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
        fence = _FENCE.fullmatch(line)
        if fence and opened is None:
            remark = _REMARK.fullmatch(above)
            opened, inside = (number, fence[1], remark[1] if remark else ""), []
        elif fence and opened:
            begun, language, said = opened
            indent = len(line) - len(line.lstrip())
            text = "".join(f"{row[indent:]}\n" for row in inside)
            blocks.append(Block(name, begun, language, text, said, indent))
            opened = None
        elif opened:
            inside.append(line)
        else:
            prose.append((number, line))
        above = line
    assert opened is None, f"{name}: a block of code has no end"
    return Page(name, tuple(prose), tuple(blocks))


def blocks() -> Iterator[Block]:
    for name in PAGES:
        yield from page(name).blocks


def to_type(name: str, start: str) -> Block:
    """The commands of a page that begin with ``start``, for a test to run.

    The remark above them is `run by` this test; tests/unit/docs/test_blocks.py finds it by this
    call, with both as literals.
    """
    found = all_to_type(name, start)
    assert len(found) == 1, f"{name}: {len(found)} blocks of commands begin with {start!r}"
    return found[0]


def all_to_type(name: str, start: str) -> tuple[Block, ...]:
    """All of them that begin so; else the same."""
    return tuple(
        block
        for block in page(name).blocks
        if block.language in COMMANDS and block.text.startswith(start)
    )


def literal_calls(path: Path, *functions: str) -> list[tuple[str, ...]]:
    """The texts that a module passes to these functions, call by call."""
    return [
        tuple(
            item.value
            for item in call.args
            if isinstance(item, ast.Constant) and isinstance(item.value, str)
        )
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in functions
    ]


def section(name: str, heading: str) -> str:
    """What is below a heading of the second level, up to the next one, blocks left out."""
    _, found, rest = f"\n{page(name).text}".partition(f"\n## {heading}\n")
    assert found, f"{name} has no section {heading!r}"
    return rest.partition("\n## ")[0]


def rows(name: str, heading: str) -> Iterator[list[str]]:
    """Of the tables of a section, without their heads and what is below a heading in it."""
    inside = False
    for line in section(name, heading).partition("\n### ")[0].splitlines():
        if line.startswith("|---"):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside:
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def words(cell: str) -> list[str]:
    """What of it is code."""
    return re.findall(r"`([^`]+)`", cell)


def files_told() -> dict[str, str]:
    """What docs/reference.md says of each file beside those that are settings, by its path from
    there; a folder's ends with /."""
    found = {}
    for names, text in rows("docs/reference.md", "Files"):
        folder = ""
        for name in words(names) if "next to" in names else ():
            folder, _, last = name.rpartition("/") if "/" in name else (folder, "", name)
            found[f"{folder}/{last}" if folder else last] = text
    return found


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading; mkdocs.yml asks for the same."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def folder_of(name: str) -> Path:
    return (ROOT / name).parent
