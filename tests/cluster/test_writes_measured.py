"""The benches of a whole cluster run, in a network of their own beside this one."""

import subprocess
import sys
from pathlib import Path

import pytest
from cli import ROOT, clean_environment
from plane import HERE
from stand import HAPROXY

_SMOKE_SECONDS = 400


@pytest.mark.timeout(_SMOKE_SECONDS + 30)
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("cluster", "| Routes | 1 | 3 |"),
        ("against", "|  | haproxy-sidecar | reloads, 0.5 s apart |"),
    ],
)
def test_every_write_shows_in_haproxy(tmp_path: Path, name: str, row: str) -> None:
    figures = tmp_path / "figures.md"
    figures.write_text(f"# Before\n<!-- bench: {name} -->\n<!-- end -->\nafter\n")
    bench = ["bench/all.py", "--smoke", "--only", name, "--write", str(figures)]
    done = subprocess.run(
        [HERE / "within", sys.executable, *bench],
        cwd=ROOT,
        env={**clean_environment(), "HAPROXY": HAPROXY},
        capture_output=True,
        text=True,
        check=False,
        timeout=_SMOKE_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    text = figures.read_text()
    assert text.startswith(f"# Before\n<!-- bench: {name} -->\nKubernetes v")
    assert text.endswith("|\n<!-- end -->\nafter\n")
    assert row in text
