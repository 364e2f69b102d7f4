"""Whatever the documents tell a reader to type is run by a test, or says why not.

A block of commands without a remark is run by tests/system/test_documented_commands.py.
"""

import re
from pathlib import Path

from book import COMMANDS, Block, all_to_type, blocks, literal_calls
from cli import ROOT

LANGUAGES = COMMANDS | {"yaml", "json", "text"}

_RUN_BY = re.compile(r"run by (tests/\S+\.py)")
#: What a test takes a block by, to run it: with its page, and how it begins.
_TAKES = ("to_type", "all_to_type")
_NOT_RUN = re.compile(r"not run: \S.{15,}")


def test_each_block_says_what_it_is() -> None:
    """Else nobody knows whether it is a command."""
    lacking = [block.where for block in blocks() if block.language not in LANGUAGES]
    assert not lacking, f"write one of {', '.join(sorted(LANGUAGES))} behind ```: {lacking}"


def is_taken_by(test: Path, block: Block) -> bool:
    """It asks for the block by `to_type`, or `all_to_type`."""
    return any(
        block in all_to_type(*call)
        for call in literal_calls(test, *_TAKES)
        if len(call) == len(_TAKES)
    )


def test_commands_are_run_or_say_why_not() -> None:
    """By a test that takes the block, if not by the one for all pages."""
    wrong = []
    for block in blocks():
        if block.language not in COMMANDS or not block.remark:
            continue
        if found := _RUN_BY.fullmatch(block.remark):
            test = ROOT / found[1]
            if not test.exists():
                wrong.append(f"{block.where}: there is no {found[1]}")
            elif not is_taken_by(test, block):
                wrong.append(f"{block.where}: {found[1]} does not take it by book.to_type")
        elif not _NOT_RUN.fullmatch(block.remark):
            wrong.append(f"{block.where}: write `run by tests/….py`, or `not run: ` and why")
    assert wrong == []


def test_our_own_commands_are_run() -> None:
    """They need no cluster: what does has a block of its own."""
    wrong = [
        f"{block.where}: {line}"
        for block in blocks()
        if block.language in COMMANDS and _NOT_RUN.fullmatch(block.remark)
        for line in block.text.splitlines()
        if line.startswith("haproxy-sidecar ")
    ]
    assert wrong == []


def test_what_a_test_takes_says_so() -> None:
    """And is there: a test that is not named is missed by whoever changes the block."""
    taken, wrong = 0, []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if path == Path(__file__):
            continue
        name = str(path.relative_to(ROOT))
        for call in literal_calls(path, *_TAKES):
            if len(call) != len(_TAKES):
                wrong.append(f"{name}: {call}: pass the page and the beginning as literals")
                continue
            found = all_to_type(*call)
            taken += len(found)
            wrong += [f"{name}: {call} is no block"] * (not found)
            wrong += [
                f"{block.where}: write `run by {name}` above it"
                for block in found
                if block.remark != f"run by {name}"
            ]
    assert wrong == []
    assert taken > 20


def test_remarks_name_tests_that_exist() -> None:
    named = {
        (block.where, name)
        for block in blocks()
        for name in re.findall(r"tests/[\w/]+\.py", block.remark)
    }
    assert len(named) > 10
    assert {item for item in named if not (ROOT / item[1]).exists()} == set()
