"""tests/run: what fails is run once more, alone, and named; but not all that fails may pass so."""

import subprocess
import sys
from pathlib import Path

from cli import ROOT, clean_environment

#: Fails unless it has been run before.
IMPATIENT = """
from pathlib import Path

def test_impatient{number}():
    been = Path(__file__).with_suffix(".been{number}")
    there = been.exists()
    been.touch()
    assert there
"""

SERIAL = """
import pytest

pytestmark = pytest.mark.serial
"""


def run(folder: Path, tests: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  serial: alone\n")
    for name, text in tests.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    ours = {"PYTEST": f"{sys.executable} -m pytest", "WORKERS": "1", "ONLY": ""}
    return subprocess.run(
        [ROOT / "tests/run"],
        cwd=folder,
        env={**clean_environment(), **ours},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_who_fails_in_any_lane_has_a_second_chance_and_is_named(tmp_path: Path) -> None:
    impatient = _impatient(1)
    done = run(
        tmp_path,
        {
            "tests/test_a.py": f"{impatient}\ndef test_good(): pass\n",
            "tests/test_b.py": f"{SERIAL}{impatient}",
        },
    )
    assert done.returncode == 0, done.stdout
    again = done.stdout.partition("=== once more, alone:\n")[2]
    assert "2 passed" in again
    assert again.endswith(
        "=== failed at first, and passed alone:\n"
        "  tests/test_a.py::test_impatient1\n  tests/test_b.py::test_impatient1\n"
    )


def test_what_fails_twice_fails(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        {"tests/test_a.py": f"{_impatient(1)}\ndef test_bad(): assert False\n"},
    )
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "passed alone" not in done.stdout


def test_many_that_fail_have_no_second_chance(tmp_path: Path) -> None:
    done = run(tmp_path, {"tests/test_a.py": "".join(map(_impatient, range(6)))})
    assert done.returncode == 1
    assert "once more" not in done.stdout


def test_chaos_has_no_second_chance(tmp_path: Path) -> None:
    done = run(tmp_path, {"tests/chaos/test_a.py": _impatient(1)})
    assert done.returncode == 1
    assert "once more" not in done.stdout


def test_without_a_failure_there_is_no_second_run(tmp_path: Path) -> None:
    done = run(tmp_path, {"tests/test_a.py": "def test_good(): pass\n"})
    assert done.returncode == 0
    assert "once more" not in done.stdout


def _impatient(number: int) -> str:
    return IMPATIENT.format(number=number)
