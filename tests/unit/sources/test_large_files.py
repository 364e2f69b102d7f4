"""`sidecar.sources.manifests.apart`: while a large file is parsed nobody waits, and nothing is
lost."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from stand import await_
from test_manifests import KEYS, Recorder, load, route, watching

from sidecar.sources.manifests.apart import Apart
from sidecar.sources.manifests.source import SECOND_LOOK_SECONDS, ManifestSource, Reader, Watch

pytestmark = pytest.mark.serial

#: Half a second or more of parsing, and nothing that a Route needs.
PADDING = f"""\
apiVersion: v1
kind: ConfigMap
metadata: {{name: padding}}
data: [{"1, " * 500_000}1]
---
"""


@pytest.fixture
def apart() -> Iterator[Apart]:
    with contextlib.closing(Apart(KEYS)) as made:
        yield made


def finish(watch: Watch, sink: Recorder) -> None:
    """Look until all is read."""

    def is_read() -> bool:
        watch.step(sink)
        return not watch.is_reading and not watch.view.doubted

    # As often as the source looks: how many looks a file may take is bounded.
    await_(is_read, "all is read", 60, every_seconds=SECOND_LOOK_SECONDS)


def test_what_else_changes_is_published_in_the_same_look(tmp_path: Path, apart: Apart) -> None:
    (tmp_path / "z.yaml").write_text(route("z", 1))
    sink = Recorder()
    watch = Watch(Reader([tmp_path], KEYS, apart))
    watch.step(sink)
    assert sink.ports == {"z": "1"}
    (tmp_path / "a.yaml").write_text(PADDING + route("a", 2))
    (tmp_path / "z.yaml").write_text(route("z", 3))
    watch.step(sink)
    assert watch.is_reading
    assert sink.ports == {"z": "3"}
    finish(watch, sink)
    assert sink.ports == {"z": "3", "a": "2"}
    # What it held stays while its next writing is read, and that counts as any other.
    (tmp_path / "a.yaml").write_text(PADDING + route("b", 4))
    watch.step(sink)
    assert sink.ports == {"z": "3", "a": "2"}
    finish(watch, sink)
    assert sink.ports == {"z": "3", "b": "4"}
    assert sink.problems == []


def test_what_moves_into_a_large_file_is_there_all_the_time(tmp_path: Path, apart: Apart) -> None:
    (tmp_path / "z.yaml").write_text(route("z", 1))
    sink = Recorder()
    watch = Watch(Reader([tmp_path], KEYS, apart))
    watch.step(sink)
    (tmp_path / "a.yaml").write_text(PADDING + route("z", 1))
    (tmp_path / "z.yaml").write_text("")
    finish(watch, sink)
    assert sink.ports == {"z": "1"}
    assert len(sink.published) == 1


def test_nothing_is_published_before_the_first_large_file_was_read(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.yaml").write_text(PADDING + route(name, 1))
    (tmp_path / "z.yaml").write_text(route("z", 2))
    with watching(tmp_path) as sink:
        sink.wait_for_ports(a=1, b=1, c=1, z=2)
    assert len(sink.published) == 1
    assert load(tmp_path).objects == sink.objects


def test_a_file_that_goes_takes_its_process_with_it(tmp_path: Path, apart: Apart) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(PADDING + route("a", 1))
    (tmp_path / "z.yaml").write_text(route("z", 2))
    sink = Recorder()
    watch = Watch(Reader([tmp_path], KEYS, apart))
    watch.step(sink)
    assert str(file) in apart
    file.unlink()
    watch.step(sink)
    assert str(file) not in apart
    assert sink.ports == {"z": "2"}


def test_a_file_that_takes_too_long_is_a_problem_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"[{'1, ' * 5_000_000}1]")
    sink = Recorder()
    with contextlib.closing(Apart(KEYS, cpu_seconds=1)) as apart:
        watch = Watch(Reader([tmp_path], KEYS, apart))
        finish(watch, sink)
    assert sink.problems == [
        f"{file}: takes more than 1 s and 2 GiB to read; split it into smaller files"
    ]


def test_what_is_wrong_in_a_large_file_is_told_as_in_a_small_one(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{PADDING}a: [")
    found = load(tmp_path)
    with watching(tmp_path) as sink:
        sink.wait(lambda: bool(sink.published))
    assert sink.problems == found.problems
    assert "invalid YAML" in sink.problems[0]


def test_a_large_file_that_is_there_alone_is_read(tmp_path: Path) -> None:
    file = tmp_path / "any name"
    file.write_text(PADDING + route("a", 1))
    sink = Recorder()
    ManifestSource([file], KEYS).load(sink)
    assert sink.ports == {"a": "1"}
    with watching(file) as sink:
        sink.wait_for_ports(a=1)
