"""tests/run: what fails is run once more, and named; but not all that fails may pass so."""

import subprocess
import sys
from pathlib import Path

import pytest
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


def run(folder: Path, tests: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  serial: alone\n")
    for name, text in tests.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    ours = {"PYTEST": f"{sys.executable} -m pytest", "WORKERS": "1", "ONLY": ""}
    return subprocess.run(
        [ROOT / "tests/run", *arguments],
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
    again = done.stdout.partition("=== once more:\n")[2]
    assert "2 passed" in again
    assert again.endswith(
        "=== failed at first, and passed then:\n"
        "  tests/test_a.py::test_impatient1\n  tests/test_b.py::test_impatient1\n"
    )


def test_what_fails_twice_fails(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        {"tests/test_a.py": f"{_impatient(1)}\ndef test_bad(): assert False\n"},
    )
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "passed then" not in done.stdout


def test_many_that_fail_have_no_second_chance(tmp_path: Path) -> None:
    done = run(tmp_path, {"tests/test_a.py": "".join(map(_impatient, range(6)))})
    assert done.returncode == 1
    assert "once more" not in done.stdout


@pytest.mark.parametrize("broken", ["tests/chaos/test_a.py", "tests/haproxy/test_churn.py"])
def test_where_a_promise_was_broken_nothing_has_a_second_chance(
    tmp_path: Path, broken: str
) -> None:
    done = run(tmp_path, {broken: _impatient(1), "tests/test_b.py": _impatient(1)})
    assert done.returncode == 1
    assert "once more" not in done.stdout


def test_what_fails_beside_the_tests_has_no_second_chance(tmp_path: Path) -> None:
    tests = {"tests/test_a.py": _impatient(1), "tests/test_b.py": f"{SERIAL}def test_b(): pass\n"}
    (tmp_path / "conftest.py").write_text(
        "def pytest_sessionfinish(session):\n"
        "    if session.config.option.markexpr == 'serial':\n"
        "        session.exitstatus = 1\n"
    )
    done = run(tmp_path, tests)
    assert done.returncode == 1
    assert "once more" not in done.stdout


def test_some_tests_have_no_second_chance(tmp_path: Path) -> None:
    # With -x, what came behind the one that failed was never run.
    done = run(tmp_path, {"tests/test_a.py": f"{SERIAL}{_impatient(1)}"}, "-x")
    assert done.returncode == 1
    assert "once more" not in done.stdout


def test_without_a_failure_there_is_no_second_run(tmp_path: Path) -> None:
    done = run(tmp_path, {"tests/test_a.py": "def test_good(): pass\n"})
    assert done.returncode == 0
    assert "once more" not in done.stdout


def _impatient(number: int) -> str:
    return IMPATIENT.format(number=number)
