"""The file of held ports: what is read, also of former versions, and what is refused."""

import json
from pathlib import Path

import pytest

from sidecar.control.holds import held_units, read_holds, write_holds
from sidecar.listeners.tcp import unit_of
from sidecar.model.hold import Hold

HOLDS = {30000: Hold("root@node", 1766750400.0, "moves"), 30001: Hold()}


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "held-ports.json"
    assert read_holds(path) == {}
    write_holds(path, HOLDS)
    assert read_holds(path) == HOLDS
    assert held_units(path) == {unit_of(port): hold for port, hold in HOLDS.items()}


def test_a_file_of_a_former_version(tmp_path: Path) -> None:
    path = tmp_path / "held-ports.json"
    path.write_text("[30000, 30001]\n")
    assert read_holds(path) == {30000: Hold(), 30001: Hold()}


def test_what_is_written_by_hand_is_a_line_of_text(tmp_path: Path) -> None:
    path = tmp_path / "held-ports.json"
    item = {"port": 30000, "by": None, "at_seconds": "x", "reason": "a\n\x1b[2Jb" + "c" * 999}
    path.write_text(json.dumps([item]))
    ((port, hold),) = read_holds(path).items()
    assert (port, hold.by, hold.at_seconds) == (30000, "", None)
    assert hold.reason.startswith("a ?[2Jbc")
    assert len(hold.reason) == 200


@pytest.mark.parametrize("at", ["1e300", "NaN", "-Infinity", "-1", "true"])
def test_a_time_that_is_none(tmp_path: Path, at: str) -> None:
    path = tmp_path / "held-ports.json"
    path.write_text(f'[{{"port": 30000, "by": "a", "at_seconds": {at}}}]')
    (hold,) = read_holds(path).values()
    assert hold.text.startswith(" by a")


@pytest.mark.parametrize(
    "text", ["{}", "[true]", '["30000"]', '[{"port": "1"}]', '[{"port": true}]', "[[]]", "x", "1"]
)
def test_what_is_none_of_ours(tmp_path: Path, text: str) -> None:
    path = tmp_path / "held-ports.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is not a list of ports"):
        read_holds(path)


@pytest.mark.parametrize(
    ("hold", "text"),
    [
        (Hold(), ""),
        (Hold("root@node"), " by root@node"),
        (HOLDS[30000], " by root@node since 2025-12-26 12:00 UTC (moves)"),
        (Hold(reason="moves"), " (moves)"),
    ],
)
def test_what_a_person_reads(hold: Hold, text: str) -> None:
    assert hold.text == text
