"""`sidecar.sources.manifests.source`: real files in a real folder, watched by a real thread."""

import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.common.documents import MAX_BYTES
from sidecar.common.errors import SourceError
from sidecar.model.change import Change, Problem
from sidecar.model.objects import Key, Object, Route
from sidecar.model.parsing import AnnotationKeys
from sidecar.sources.manifests.source import SECOND_LOOK_SECONDS, ManifestSource, Reader, Watch

PORT = "haproxy.router.openshift.io/external-tcp-port"
KEYS = AnnotationKeys("haproxy.router.openshift.io/wzh-router-name", PORT, "example.com/kept")

#: A test that waits longer than this for something has failed.
PATIENCE_SECONDS = 30.0


def route(name: str, port: int, annotation: str | None = None) -> str:
    return f"""\
apiVersion: route.openshift.io/v1
kind: Route
metadata:
  name: {name}
  creationTimestamp: 2024-01-31T12:00:00Z
  annotations:
    {PORT}: {annotation or f'"{port}"'}
spec:
  to: {{kind: Service, name: {name}}}
"""


def key(name: str) -> Key:
    return Key("Route", "default", name)


class Recorder:
    """A `Sink` that remembers, and lets a test wait for what it should come to."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.problems: list[str] = []
        self.published: list[list[Change]] = []
        self._news = threading.Condition()

    def publish(self, origin: str, changes: Sequence[Change], problems: Sequence[Problem]) -> None:
        with self._news:
            assert origin == "manifests"
            for changed, new in changes:
                if new is None:
                    del self.objects[changed]
                else:
                    self.objects[changed] = new
            self.problems = [str(problem) for problem in problems]
            self.published.append(list(changes))
            self._news.notify_all()

    @property
    def ports(self) -> dict[str, str | None]:
        """Route's name -> the port it asks for."""
        routes = [item for item in self.objects.values() if isinstance(item, Route)]
        return {item.name: item.port for item in routes}

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._news:
            met = self._news.wait_for(condition, PATIENCE_SECONDS)
        assert met, f"ports {self.ports}, problems {self.problems}"

    def wait_for_ports(self, **ports: int) -> None:
        self.wait(lambda: self.ports == {name: str(port) for name, port in ports.items()})


def load(*paths: Path) -> Recorder:
    found = Recorder()
    ManifestSource(paths, KEYS).load(found)
    return found


@contextmanager
def watching(*paths: Path, sink: Recorder | None = None) -> Iterator[Recorder]:
    sink = sink or Recorder()
    stop = threading.Event()
    source = ManifestSource(paths, KEYS, poll_seconds=0.01)
    thread = threading.Thread(target=source.run, args=(sink, stop))
    thread.start()
    try:
        yield sink
        assert thread.is_alive()
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def replace(path: Path, text: str) -> None:
    """As most programs save: nobody ever sees half of it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def settle(folder: Path) -> None:
    """Make all files old, so that their times can be trusted."""
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)


# --- what is found --------------------------------------------------------------------------


def test_a_folder_is_read_with_all_below_it(tmp_path: Path) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "a.yaml").write_text(f"{route('a', 1)}---\n{route('b', 2)}")
    (tmp_path / "sub" / "c.yml").write_text(route("c", 3))
    (tmp_path / "sub" / "deep" / "d.json").write_text(
        json.dumps(
            {
                "apiVersion": "route.openshift.io/v1",
                "kind": "RouteList",
                "items": [
                    {
                        "metadata": {"name": "d", "annotations": {PORT: "4"}},
                        "spec": {"to": {"name": "d"}},
                    }
                ],
            }
        )
    )
    (tmp_path / "README.md").write_text("not a manifest")
    (tmp_path / ".hidden.yaml").write_text(route("hidden", 9))
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text(route("hidden", 9))
    found = load(tmp_path)
    assert found.ports == {"a": "1", "b": "2", "c": "3", "d": "4"}
    assert found.problems == []


def test_a_file_may_be_named_itself_and_called_anything(tmp_path: Path) -> None:
    file = tmp_path / "manifest.txt"
    file.write_text(route("a", 1))
    (tmp_path / "b.yaml").write_text(route("b", 2))
    assert load(file, file, tmp_path / "b.yaml").ports == {"a": "1", "b": "2"}


def test_the_current_folder_may_be_named_by_a_dot(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(route("a", 1, "1"))
    with chdir(tmp_path):
        found = load(Path())
    assert found.problems == [
        (
            f'./a.yaml, document 1: Route default/a: metadata.annotations["{PORT}"]: 1 is a number;'
            ' annotations must be strings, write "1"; ignored until fixed'
        )
    ]


def test_a_mounted_config_map_is_read_once_and_followed(tmp_path: Path) -> None:
    """As the kubelet lays it out: data folders that a link is moved between."""
    mount = tmp_path / "mount"
    for number in (1, 2):
        (mount / f"..{number}").mkdir(parents=True)
        (mount / f"..{number}" / "a.yaml").write_text(route("a", number))
    (mount / "..data").symlink_to("..1")
    (mount / "a.yaml").symlink_to("..data/a.yaml")
    link = tmp_path / "link"
    link.symlink_to(mount)
    with watching(link) as sink:
        sink.wait_for_ports(a=1)
        (mount / "..new").symlink_to("..2")
        (mount / "..new").replace(mount / "..data")
        sink.wait_for_ports(a=2)
    assert sink.problems == []


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "loop").symlink_to(tmp_path / "m")
    (tmp_path / "m" / "folder.yaml").symlink_to(tmp_path / "m")
    (tmp_path / "m" / "nothing.yaml").symlink_to("nowhere")
    (tmp_path / "m" / "a.yaml").write_text(route("a", 1))
    found = load(tmp_path / "m")
    assert (found.ports, found.problems) == ({"a": "1"}, [])


# --- what cannot be used --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a: [", "bad.yaml, line 2: invalid YAML: "),
        (b"\x7fELF\x02\x01\x00\x00", "bad.yaml: invalid YAML: control characters are not allowed"),
        (b"a: caf\xe9", "bad.yaml, line 1: not UTF-8 text (byte 0xe9); save it as UTF-8"),
        (b"#" * (MAX_BYTES + 1), "bad.yaml: larger than 16 MiB; split it into smaller files"),
        (
            b"replicas: 1",
            "bad.yaml, document 1: kind: missing; a kind must be a non-empty string, like Route",
        ),
        (
            b"kind: Route\napiVersion: v1",
            "bad.yaml, document 1: apiVersion: 'v1' is not a supported apiVersion of Route;",
        ),
        (
            b"kind: Route\napiVersion: route.openshift.io/v1\nspec: {}",
            "bad.yaml, document 1: metadata.name: missing;",
        ),
        (
            route("bad", 1, "1").encode(),
            (
                f'bad.yaml, document 1: Route default/bad: metadata.annotations["{PORT}"]:'
                " 1 is a number;"
            ),
        ),
    ],
)
def test_a_bad_file_is_told_and_touches_no_other(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    (tmp_path / "a.yaml").write_text(route("a", 1))
    (tmp_path / "bad.yaml").write_bytes(content)
    (tmp_path / "c.yaml").write_text(route("c", 3))
    found = load(tmp_path)
    assert found.ports == {"a": "1", "c": "3"}
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{tmp_path}/{problem}")


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert load(tmp_path).problems == [
        (
            f"{tmp_path}/loop.yaml: cannot be read: Too many levels of symbolic links;"
            " make it readable"
        ),
        f"{tmp_path}/pipe.yaml: not a regular file; write the manifests to one",
    ]


def test_two_objects_of_one_name_are_told_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(route("web", 1))
    (tmp_path / "b.yaml").write_text(f"{route('b', 2)}---\n{route('web', 3)}")
    found = load(tmp_path)
    assert found.ports == {"web": "1", "b": "2"}
    assert found.problems == [
        (
            f"{tmp_path}/b.yaml, document 2: Route default/web: {tmp_path}/a.yaml, document 1"
            " has it too and takes precedence; remove one of the two"
        )
    ]


def test_the_order_of_the_paths_decides(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(route("web", 1))
    (tmp_path / "b.yaml").write_text(route("web", 2))
    assert load(tmp_path / "b.yaml", tmp_path / "a.yaml").ports == {"web": "2"}


def test_a_path_that_is_not_there_cannot_be_loaded(tmp_path: Path) -> None:
    sink = Recorder()
    with pytest.raises(SourceError) as caught:
        ManifestSource([tmp_path / "none", tmp_path], KEYS).load(sink)
    assert str(caught.value) == (
        f"{tmp_path}/none: No such file or directory; create it or name another file or folder"
    )
    assert sink.published == []


# --- what changes ---------------------------------------------------------------------------


def test_an_empty_folder_is_synced(tmp_path: Path) -> None:
    with watching(tmp_path) as sink:
        sink.wait(lambda: sink.published == [[]])


def test_additions_changes_and_removals_are_published(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(route("a", 1))
    with watching(tmp_path) as sink:
        sink.wait_for_ports(a=1)
        replace(tmp_path / "b.yaml", route("b", 2))
        sink.wait_for_ports(a=1, b=2)
        replace(tmp_path / "a.yaml", route("a", 3))
        sink.wait_for_ports(a=3, b=2)
        (tmp_path / "b.yaml").unlink()
        sink.wait_for_ports(a=3)
        replace(tmp_path / "a.yaml", "")
        sink.wait_for_ports()
    assert [len(changes) for changes in sink.published] == [1, 1, 1, 1, 1]
    assert sink.problems == []


def test_a_removal_is_believed_at_the_second_look(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    sink = Recorder()
    watch = Watch(Reader([tmp_path], KEYS))
    for emptied_or_gone in (lambda: file.write_text(""), file.unlink):
        file.write_text(f"{route('a', 1)}---\n{route('b', 2)}")
        watch.step(sink)
        emptied_or_gone()
        watch.step(sink)
        assert watch.view.doubted.keys() == {key("a"), key("b")}
        assert sink.ports == {"a": "1", "b": "2"}
        # It was being replaced.
        file.write_text(f"{route('a', 1)}---\n{route('b', 2)}")
        watch.step(sink)
        assert len(sink.published) == 1
        emptied_or_gone()
        watch.step(sink)
        watch.step(sink)
        assert sink.published.pop() == [(key("a"), None), (key("b"), None)]
        sink.published.clear()


def test_a_removal_is_not_believed_while_its_file_is_written(tmp_path: Path) -> None:
    """However often a look falls between an emptying and the writing that follows it."""
    file = tmp_path / "a.yaml"
    file.write_text(route("a", 1))
    sink = Recorder()
    watch = Watch(Reader([tmp_path], KEYS))
    watch.step(sink)
    for number in range(5):
        file.write_text("#" * number)
        watch.step(sink)
    assert sink.ports == {"a": "1"}
    watch.step(sink)
    assert sink.ports == {}


def test_a_file_that_breaks_keeps_what_it_had(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"{route('a', 1)}---\n{route('b', 2)}")
    (tmp_path / "c.yaml").write_text(route("c", 3))
    with watching(tmp_path) as sink:
        sink.wait_for_ports(a=1, b=2, c=3)
        replace(file, "a: [")
        sink.wait(lambda: bool(sink.problems))
        assert sink.problems[0].startswith(f"{file}, line 2: invalid YAML: ")
        assert sink.problems[0].endswith("; keeping the 2 objects it had")
        # The others go on meanwhile.
        replace(tmp_path / "c.yaml", route("c", 4))
        sink.wait_for_ports(a=1, b=2, c=4)
        replace(file, route("a", 5))
        sink.wait_for_ports(a=5, c=4)
        assert sink.problems == []


def test_an_object_that_breaks_keeps_its_last_good_version(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"{route('a', 1)}---\n{route('b', 2)}")
    with watching(tmp_path) as sink:
        sink.wait_for_ports(a=1, b=2)
        replace(file, f"{route('a', 5, annotation='5')}---\n{route('b', 3)}")
        sink.wait_for_ports(a=1, b=3)
        assert sink.problems == [
            (
                f'{file}, document 1: Route default/a: metadata.annotations["{PORT}"]: 5 is a'
                ' number; annotations must be strings, write "5"; keeping its last good version'
            )
        ]


def test_an_object_may_move_between_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "web.yaml").write_text(route("web", 1))
    (tmp_path / "a" / "db.yaml").write_text(route("db", 0))
    with watching(tmp_path) as sink:
        sink.wait_for_ports(web=1, db=0)
        for number in range(1, 20):
            old, new = ("a", "b") if number % 2 else ("b", "a")
            (tmp_path / old / "web.yaml").rename(tmp_path / new / "web.yaml")
            # Seen when this is: the move was before it.
            replace(tmp_path / "a" / "db.yaml", route("db", number))
            sink.wait_for_ports(web=1, db=number)
    assert [change.key for look in sink.published for change in look].count(key("web")) == 1


def test_a_folder_that_is_away_takes_nothing_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "a.yaml").write_text(route("a", 1))
    (folder / "b.yaml").write_text(route("b", 2))
    with watching(folder) as sink:
        sink.wait_for_ports(a=1, b=2)
        folder.rename(tmp_path / "away")
        sink.wait(lambda: bool(sink.problems))
        assert sink.problems == [
            (
                f"{folder}: cannot be read: No such file or directory; create it or name another"
                " file or folder; keeping the 2 objects it had"
            )
        ]
        (tmp_path / "away" / "b.yaml").write_text(route("b", 3))
        (tmp_path / "away").rename(folder)
        sink.wait_for_ports(a=1, b=3)
        assert sink.problems == []
    assert not [change for look in sink.published for change in look if change.object is None]


def test_a_subfolder_that_goes_takes_its_objects_with_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yaml").write_text(route("a", 1))
    (tmp_path / "b.yaml").write_text(route("b", 2))
    with watching(tmp_path) as sink:
        sink.wait_for_ports(a=1, b=2)
        shutil.rmtree(tmp_path / "sub")
        sink.wait_for_ports(b=2)


class Script(threading.Event):
    """A ``stop`` that does something at each pause instead of waiting, and stops at the end."""

    def __init__(self, *actions: Callable[[], object]) -> None:
        super().__init__()
        self.pauses: list[float | None] = []
        self._actions = list(actions)

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        if self._actions:
            self._actions.pop(0)()
        else:
            self.set()
        return self.is_set()


def nothing() -> None:
    pass


def test_the_second_look_is_soon_but_not_at_once(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(route("a", 1))
    sink, script = Recorder(), Script(nothing, file.unlink, nothing)
    ManifestSource([tmp_path], KEYS, poll_seconds=5.0).run(sink, script)
    assert script.pauses == [5.0, 5.0, SECOND_LOOK_SECONDS, 5.0]
    assert sink.ports == {}


class Log(logging.Handler):
    """What the source logs, for as long as this is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.news = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        self.news.set()

    def __enter__(self) -> Self:
        logging.getLogger("sidecar.sources.manifests.source").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("sidecar.sources.manifests.source").removeHandler(self)


def test_a_missing_folder_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "there.yaml").write_text(route("there", 1))
    folder = tmp_path / "m"
    with Log() as log, watching(tmp_path / "there.yaml", folder) as sink:
        assert log.news.wait(PATIENCE_SECONDS)
        assert sink.published == []
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "a.yaml").write_text(route("a", 2))
        (tmp_path / "new").rename(folder)
        sink.wait_for_ports(there=1, a=2)
    assert len(sink.published) == 1
    assert log.messages == [
        (
            f"waiting for manifests: {folder}: No such file or directory;"
            " create it or name another file or folder"
        )
    ]


def test_a_missing_folder_is_logged_once(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    sink, script = Recorder(), Script(nothing, nothing, folder.mkdir)
    with Log() as log:
        ManifestSource([folder], KEYS).run(sink, script)
    assert len(log.messages) == 1
    assert sink.published == [[]]


def test_an_error_in_a_look_does_not_end_the_watching(tmp_path: Path) -> None:
    class Refusing(Recorder):
        refusals = 3

        def publish(
            self, origin: str, changes: Sequence[Change], problems: Sequence[Problem]
        ) -> None:
            if self.refusals:
                self.refusals -= 1
                raise RuntimeError("not now")
            super().publish(origin, changes, problems)

    (tmp_path / "a.yaml").write_text(route("a", 1))
    with Log() as log, watching(tmp_path, sink=Refusing()) as sink:
        sink.wait_for_ports(a=1)
    assert log.messages == ["manifests: cannot be read; keeping the last state"] * 3


# --- cost -----------------------------------------------------------------------------------


def test_of_a_thousand_files_only_the_changed_one_is_read_and_published(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number:04}.yaml").write_text(route(f"r{number}", number))
    settle(tmp_path)
    reader = Reader([tmp_path], KEYS)
    first = reader.look().files
    assert len(first) == 1000
    replace(tmp_path / "0500.yaml", route("r500", 9))
    second = reader.look().files
    assert [Path(name).name for name in second if second[name] is not first[name]] == ["0500.yaml"]
    with watching(tmp_path) as sink:
        sink.wait(lambda: len(sink.ports) == 1000)
        replace(tmp_path / "0700.yaml", route("r700", 9))
        sink.wait(lambda: sink.ports["r700"] == "9")
    assert [len(changes) for changes in sink.published] == [1000, 1]


def test_a_fresh_file_is_not_trusted_to_show_that_it_changed(tmp_path: Path) -> None:
    """Written twice within a tick of the clock, it has the same size and times."""
    file = tmp_path / "a.yaml"
    file.write_text(route("a", 1))
    opened = []

    def hear(event: str, args: tuple[object, ...]) -> None:
        if event == "open" and str(args[0]) == str(file):
            opened.append(event)

    now = time.time_ns()
    reader = Reader([tmp_path], KEYS)
    os.utime(file, ns=(now, now))
    sys.addaudithook(hear)
    looks = [reader.look().files[str(file)] for _ in range(2)]
    assert len(opened) == 2
    settle(tmp_path)
    looks += [reader.look().files[str(file)] for _ in range(2)]
    assert len(opened) == 3
    assert len({id(look) for look in looks[:2]}) == 1, "what is the same is in memory twice"


# --- whatever is in a file ------------------------------------------------------------------

WHOLE = f"{route('web', 1)}---\n{route('db', 2)}---\n{route('mq', 3)}".encode()


@settings(deadline=None)  # a busy machine is no fault
@given(st.lists(st.integers(0, len(WHOLE)) | st.binary(max_size=20), min_size=1, max_size=4))
def test_however_a_file_is_cut_no_other_suffers(cuts: list[int | bytes]) -> None:
    """An int is where the file is cut off, bytes are what it holds instead."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cut.yaml"
        file.write_bytes(WHOLE)
        (Path(folder) / "a.yaml").write_text(route("a", 8))
        (Path(folder) / "z.yaml").write_text(route("z", 9))
        sink = Recorder()
        watch = Watch(Reader([Path(folder)], KEYS))
        watch.step(sink)
        assert sink.ports == {"a": "8", "web": "1", "db": "2", "mq": "3", "z": "9"}
        for cut in cuts:
            file.write_bytes(WHOLE[:cut] if isinstance(cut, int) else cut)
            watch.step(sink)
            assert (sink.ports["a"], sink.ports["z"]) == ("8", "9")
        file.write_bytes(WHOLE)
        watch.step(sink)
        assert sink.ports == {"a": "8", "web": "1", "db": "2", "mq": "3", "z": "9"}
        assert sink.problems == []
