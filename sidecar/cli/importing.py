"""What all ``import`` commands share: reading files, and writing those of the new objects."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.common.documents import DocumentError, read_entries
from sidecar.common.errors import UsageError
from sidecar.common.files import write_atomically
from sidecar.common.text import counted, reason_of
from sidecar.importers.annotated import Router
from sidecar.importers.environment import is_environment
from sidecar.settings.schema import Settings


def router_of(settings: Settings) -> Router:
    """Whom the Routes are for."""
    return Router(settings.router_name, settings.annotations.keys(), settings.pool())


def read(name: str) -> bytes:
    """What is in a file; "-" is stdin. Raises UsageError."""
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as exc:
        raise UsageError(f"{name}: cannot be read: {reason_of(exc)}") from exc


class Given(NamedTuple):
    """``objects``: of all files together. ``environments``: name and text of each that has
    ``KEY=VALUE`` lines instead."""

    objects: list[Any]
    environments: list[tuple[str, str]]


def given(names: Iterable[str]) -> Given:
    """What is in these files; "-" is stdin. Raises UsageError."""
    found = Given([], [])
    for name in names:
        raw = read(name)
        text = raw.decode("utf-8-sig", errors="replace")
        if is_environment(text):
            found.environments.append((name, text))
        else:
            found.objects.extend(objects_in(raw, name))
    return found


def objects_in(raw: bytes, name: str) -> list[Any]:
    """The objects in ``raw``, which was read from this file. Raises UsageError."""
    try:
        return [entry.data for entry in read_entries(raw, is_json=name.endswith(".json"))]
    except DocumentError as exc:
        raise UsageError(f"{name}: cannot be read: {reason_of(exc)}") from exc


def write(folder: Path, files: Iterable[tuple[str, str]], what: str) -> list[str]:
    """A file each, of name and text; why not, for those that are there already and say something
    else, which somebody edited. ``what``: is in each of them. Raises UsageError."""
    problems = []
    written = 0
    for name, text in files:
        path = folder / name
        try:
            if path.exists():
                if path.read_text(encoding="utf-8", errors="surrogateescape") != text:
                    problems.append(f"{path} already exists with other content and was not changed")
                continue
            write_atomically(path, text)
        except OSError as exc:
            raise UsageError(f"-o: {path}: cannot be written: {reason_of(exc)}") from exc
        written += 1
    sys.stderr.write(f"wrote {counted(written, what)} to {folder}\n")
    return problems
