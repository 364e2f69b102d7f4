"""Lists are lists in the book, too, where Python-Markdown is stricter than GitHub."""

import re

import pytest
from book import PAGES, page
from cli import ROOT

#: What belongs to an item and stands by itself, not behind its first line.
_INDENT = 4
_ITEM = re.compile(r"(?:[-*]|\d+\.) ")
_BOX = re.compile(r" *- \[[ x]\] ")


@pytest.mark.parametrize("name", PAGES)
def test_what_belongs_to_an_item_is_indented_enough(name: str) -> None:
    """By less, it ends the list, and the next step is number 1 again."""
    wrong = [
        f"{name}:{block.line}: ```{block.language}"
        for block in page(name).blocks
        if 0 < block.indent < _INDENT
    ]
    above = ""
    for number, line in page(name).prose:
        indent = len(line) - len(line.lstrip())
        if line.strip() and not above and 0 < indent < _INDENT:
            wrong.append(f"{name}:{number}: {line.strip()}")
        above = line.strip()
    assert not wrong, f"indent by {_INDENT}, or not at all: {wrong}"


@pytest.mark.parametrize("name", PAGES)
def test_an_item_behind_a_paragraph_of_another_one_is_an_item(name: str) -> None:
    """Without an empty line it goes on with that paragraph."""
    wrong, above, is_paragraph = [], "", False
    for number, line in page(name).prose:
        if not above:
            is_paragraph = line.startswith(" " * _INDENT)
        elif is_paragraph and _ITEM.match(line):
            wrong.append(f"{name}:{number}: {line}")
        above = line.strip()
    assert not wrong, f"put an empty line above: {wrong}"


def test_boxes_of_a_checklist_are_drawn() -> None:
    """Else a reader of the book sees brackets."""
    assert any(_BOX.match(line) for name in PAGES for _, line in page(name).prose)
    assert "\n  - pymdownx.tasklist\n" in (ROOT / "mkdocs.yml").read_text()
