"""docs/figures.md: each table has the script that measures it above, which a test runs."""

import re
import runpy

from book import COMMANDS, literal_calls, page
from cli import ROOT

FIGURES = page("docs/figures.md")
_ALL = runpy.run_path(str(ROOT / "bench/all.py"))
BENCHES, IN_A_CLUSTER = _ALL["BENCHES"], _ALL["CLUSTER"]

_MARK = re.compile(r"<!-- bench: (\w+) -->")


def scripts() -> dict[str, str]:
    """The command above each mark, by the mark's name."""
    found = {}
    marks = [(number, mark[1]) for number, line in FIGURES.prose if (mark := _MARK.match(line))]
    blocks = [block for block in FIGURES.blocks if block.language in COMMANDS]
    for block, below in zip(blocks, [*blocks[1:], None], strict=True):
        end = below.line if below else FIGURES.prose[-1][0]
        (name,) = (name for number, name in marks if block.line < number <= end)
        found[name] = block.text.strip()
    return found


def test_each_table_is_below_the_command_that_measures_it() -> None:
    ours = {name: f"python bench/{name}.py" for name in BENCHES}
    assert scripts() == {**ours, **dict.fromkeys(IN_A_CLUSTER, "make bench-cluster")}


def test_each_bench_is_run_by_a_test() -> None:
    here = {call[0] for call in literal_calls(ROOT / "tests/system/test_bench.py", "rows_of")}
    assert here | set(IN_A_CLUSTER) == set(BENCHES)
    text = (ROOT / "tests/cluster/test_writes_measured.py").read_text()
    assert re.findall(r'^        \("(\w+)", ', text, re.MULTILINE) == list(IN_A_CLUSTER)
