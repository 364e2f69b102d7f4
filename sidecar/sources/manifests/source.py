"""Files and folders of manifests, watched by polling.

Owns finding and reading files, and when to read again. Must not decide what a file's content or
absence means: that is `sidecar.sources.manifests.view`.

It polls because inotify reports nothing on NFS and overlay mounts, and checking a thousand
unchanged files takes a few milliseconds of ``stat`` once a second. Every file system error is
either a file being replaced at that moment (it does not exist) or a reason to keep the current
state.
"""

import contextlib
import logging
import os
import stat
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from sidecar.common.documents import MAX_BYTES
from sidecar.common.errors import SourceError
from sidecar.common.text import reason_of
from sidecar.model.change import Problem, Sink
from sidecar.model.objects import Key, Refers
from sidecar.model.parsing import AnnotationKeys
from sidecar.sources.manifests.apart import Apart
from sidecar.sources.manifests.view import (
    NOTHING,
    Parsed,
    changes,
    forgetting_unused,
    merge,
    parse_file,
    printable,
    referred_to,
    reuse,
    without_unused,
)

log = logging.getLogger(__name__)

ORIGIN = "manifests"

#: The names that are manifests in a folder; a file that is named itself may be called anything.
SUFFIXES = (".yaml", ".yml", ".json")

#: How soon to look again before a removal is believed: longer than an editor takes between
#: emptying a file and writing it, or `kubectl … > file` to begin; short for a person who waits.
SECOND_LOOK_SECONDS = 0.2

#: Larger files are parsed apart: one of this size takes some 0.1 s, as long as starting a process.
_LARGE_BYTES = 2**18

#: Not there, or no longer: what replacing a file or a folder looks like from outside.
_ABSENT = (FileNotFoundError, NotADirectoryError)

#: A file is read again while its last write is younger: a second write within the same tick of the
#: file system's clock (up to 2 s on some) would leave size and times as they were.
_UNSETTLED_NS = 2 * 10**9

#: What changes when a file is written, replaced or moved.
_Signature = tuple[int, int, int, int, int]


class Look(NamedTuple):
    """What was found. ``files``: name as the user would write it -> what it holds, in order;
    ``failed``: one message for each configured path that could not be looked at."""

    files: dict[str, Parsed]
    failed: tuple[str, ...]


class ManifestSource:
    """A `Source` of manifest files.

    ``paths`` are files or folders. Folders are read with all below them, in the order of names;
    hidden entries are left out and links to folders are not followed, so that a mounted ConfigMap
    (``web.yaml -> ..data/web.yaml``) is read once. ``poll_seconds``: how often to look.
    ``refers``: of Secrets only those are handed over, or kept, that it names for some Route; None:
    never any. ``load_max_bytes``: of a file that `load` reads.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        keys: AnnotationKeys,
        poll_seconds: float = 1.0,
        refers: Refers | None = None,
        load_max_bytes: int = MAX_BYTES,
    ) -> None:
        self._refers = refers
        self._load_max_bytes = load_max_bytes
        self._paths = tuple(paths)
        self._keys = keys
        self._poll_seconds = poll_seconds

    @property
    def origins(self) -> tuple[str, ...]:
        return (ORIGIN,)

    def load(self, sink: Sink) -> None:
        found = Reader(self._paths, self._keys, max_bytes=self._load_max_bytes).look()
        if found.failed:
            raise SourceError("\n".join(found.failed))
        view = merge(found.files, NOTHING)
        view = without_unused(view, referred_to(view, self._refers))
        sink.publish(ORIGIN, changes(NOTHING, view), view.problems)

    def run(self, sink: Sink, stop: threading.Event) -> None:
        with contextlib.closing(Apart(self._keys)) as apart:
            watch = Watch(Reader(self._paths, self._keys, apart), self._refers)
            while not stop.is_set():
                try:
                    watch.step(sink)
                except Exception:
                    # A thread that ended would leave the router with this view for ever, unnoticed.
                    log.exception("manifests: cannot be read; keeping the last state")
                soon = watch.view.doubted or watch.is_reading
                stop.wait(SECOND_LOOK_SECONDS if soon else self._poll_seconds)


class Watch:
    """One look after the other, and what was published of them."""

    def __init__(self, reader: "Reader", refers: Refers | None = None) -> None:
        self._refers = refers
        self.view = NOTHING
        self._reader = reader
        #: The files that ``view`` is of; None before it was published once.
        self._files: Mapping[str, Parsed] | None = None
        self._waiting_for: tuple[str, ...] = ()
        #: Whether there is a file whose content is not known yet.
        self.is_reading = False

    def step(self, sink: Sink) -> None:
        """Look, and publish what is different."""
        found = self._reader.look()
        self.is_reading = any(parsed.reading for parsed in found.files.values())
        if self._files is None and self.is_reading:
            return
        if self._files is None and found.failed:
            # Half of a first view would take the ports of the other half's Routes away, so
            # nothing is published, and the log is the only place where this can be told.
            if found.failed != self._waiting_for:
                log.warning("waiting for manifests: %s", "; ".join(found.failed))
            self._waiting_for = found.failed
            return
        if found.files == self._files and not self.view.doubted:
            return
        view = merge(found.files, self.view)
        used = referred_to(view, self._refers)
        if again := [name for name, parsed in found.files.items() if parsed.unused & used]:
            # Of what is used from now on nothing was kept.
            self._reader.read_again(again)
            found = self._reader.look()
            self.is_reading = any(parsed.reading for parsed in found.files.values())
            view = merge(found.files, self.view)
        view = without_unused(view, used)
        changed = changes(self.view, view)
        if changed or view.problems != self.view.problems or self._files is None:
            sink.publish(ORIGIN, changed, view.problems)
        self._reader.forget_unused(used)
        self.view = view
        self._files = {name: forgetting_unused(item, used) for name, item in found.files.items()}


class _Known(NamedTuple):
    """What a file held. ``signature``: just before it was read, if that tells it from the next
    writing; ``digest``: of its bytes, None where it is to be read again all the same."""

    signature: _Signature | None
    digest: int | None
    parsed: Parsed


class Reader:
    """Finds files, reads those that changed, and remembers what the others held.

    With ``apart`` nobody waits for a large file: until it was read, it counts as before.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        keys: AnnotationKeys,
        apart: Apart | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._max_bytes = max_bytes
        self._paths = paths
        self._keys = keys
        self._apart = apart
        self._known: dict[str, _Known] = {}
        #: file that is being parsed apart -> signature and digest, as in `_Known`
        self._begun: dict[str, tuple[_Signature | None, int]] = {}

    def look(self) -> Look:
        """All files as they are now; those that rest unchanged are the very same `Parsed`."""
        files: dict[str, Parsed] = {}
        failed = []
        for root in map(str, self._paths):
            for name, error in _find(root):
                if error is None:
                    parsed = self._read(name)
                elif name == root:
                    failed.append(f"{printable(root)}: {_reason(error)}")
                    parsed = _unreadable(name, error)
                else:
                    parsed = None if isinstance(error, _ABSENT) else _unreadable(name, error)
                if parsed is not None:
                    files[name] = parsed
        self._known = {name: known for name, known in self._known.items() if name in files}
        if self._apart:
            self._apart.keep(files)
        return Look(files, tuple(failed))

    def read_again(self, names: Iterable[str]) -> None:
        """Of files that rest unchanged, too, everything is to be known in the next look."""
        for name in self._known.keys() & names:
            self._known[name] = self._known[name]._replace(signature=None, digest=None)

    def forget_unused(self, used: Collection[Key]) -> None:
        """See `forgetting_unused`."""
        for name, known in self._known.items():
            self._known[name] = known._replace(parsed=forgetting_unused(known.parsed, used))

    def _read(self, name: str) -> Parsed | None:
        """What the file holds; None when there is no such file (any more)."""
        path = Path(name)
        now_ns = time.time_ns()
        try:
            status = path.stat()
            if self._apart and name in self._apart:
                parsed = self._apart.take(name)
                if parsed is None:
                    return self._unread(name)
                self._remember(name, *self._begun.pop(name), parsed)
            signature = _signature(status)
            known = self._known.get(name)
            if known and known.signature == signature:
                return known.parsed
            if stat.S_ISDIR(status.st_mode):
                return None
            if not stat.S_ISREG(status.st_mode):
                return _broken(name, "not a regular file; write the manifests to one")
            apart = self._apart if status.st_size > _LARGE_BYTES else None
            if apart and apart.is_full:
                return self._unread(name)
            with path.open("rb") as file:
                raw = file.read(self._max_bytes + 1)
            settled = abs(now_ns - status.st_mtime_ns) > _UNSETTLED_NS
            seen, digest = signature if settled else None, hash(raw)
            if known and known.digest == digest:
                return self._remember(name, seen, digest, replace(known.parsed, version=signature))
            if apart:
                apart.start(name, raw, signature)
                self._begun[name] = seen, digest
                return self._unread(name)
        except _ABSENT:
            return None
        except OSError as exc:
            return _unreadable(name, exc)
        parsed = parse_file(name, raw, self._keys, signature, self._max_bytes)
        return self._remember(name, seen, digest, parsed)

    def _remember(
        self, name: str, signature: _Signature | None, digest: int, parsed: Parsed
    ) -> Parsed:
        if known := self._known.get(name):
            parsed = reuse(parsed, known.parsed)
        self._known[name] = _Known(signature, digest, parsed)
        return parsed

    def _unread(self, name: str) -> Parsed:
        """What the file held, since what it holds is not known yet."""
        known = self._known.get(name)
        return replace(known.parsed if known else Parsed((), ()), reading=True)


def _find(root: str) -> Iterator[tuple[str, OSError | None]]:
    """The files that are to be read, and the folders that could not be listed, with the error."""
    try:
        is_folder = stat.S_ISDIR(Path(root).stat().st_mode)
    except OSError as exc:
        yield root, exc
        return
    if is_folder:
        yield from _find_below(root)
    else:
        yield root, None


def _find_below(folder: str) -> Iterator[tuple[str, OSError | None]]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(
                (entry.name, entry.path, entry.is_dir(follow_symlinks=False)) for entry in found
            )
    except OSError as exc:
        yield folder, exc
        return
    for name, path, is_folder in entries:
        if name.startswith("."):
            continue
        if is_folder:
            yield from _find_below(path)
        elif name.endswith(SUFFIXES):
            yield path, None


def _signature(status: os.stat_result) -> _Signature:
    # The change time is what tools that restore the modification time cannot restore.
    return (
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_size,
        status.st_ino,
        status.st_dev,
    )


def _reason(error: OSError) -> str:
    remedy = (
        "create it or name another file or folder"
        if isinstance(error, _ABSENT)
        else "make it readable"
    )
    return f"{reason_of(error)}; {remedy}"


def _unreadable(name: str, error: OSError) -> Parsed:
    return _broken(name, f"cannot be read: {_reason(error)}")


def _broken(name: str, message: str) -> Parsed:
    return Parsed((), (Problem(printable(name), None, "", message),))
