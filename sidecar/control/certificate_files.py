"""Certificates as files, for an HAProxy that restarts on its own: it never writes any itself.

One bad line or file of its crt-list, and HAProxy does not start. So a file is written only after
HAProxy serves what is in it, before the list names it; and goes after the list does not name it any
more. Whenever this process ends in between, HAProxy starts, with what it served before or after.
Knows nothing of what is wanted. Files with private keys are for the owner and the group only.
"""

import contextlib
import logging
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from sidecar.common.errors import LocalProtocolError
from sidecar.common.files import SECRET, KeptFile, cannot_write, remove_partial
from sidecar.haproxy.certificates import ListEntry, Stored
from sidecar.haproxy.pem import Pem
from sidecar.model.certificate_rules import judge_authority
from sidecar.model.certificates import CertificateAuthority
from sidecar.model.verdicts import Refusal

log = logging.getLogger(__name__)

_FOLDER_MODE = 0o750


class CertificateFiles:
    """Those in ``folder``, and the crt-list at ``list_file``. The folder is ours but for
    ``default``, which haproxy.cfg names: it is replaced and never removed."""

    def __init__(self, folder: Path, list_file: Path, default: Path | None = None) -> None:
        self._folder = folder
        self._kept = {list_file, default}
        self._partial = re.compile(rf"\..*\.pem\..*|{re.escape(f'.{list_file.name}.')}.*")
        self._list_file = KeptFile(list_file, SECRET)
        self._files: dict[str, KeptFile] = {}
        # as far as this process knows
        self._written: dict[str, Pem] = {}
        self._list: str | None = None
        # the lines of that, where all is saved
        self._lines: dict[ListEntry, str] | None = None
        self._problem = ""

    def save(self, entries: Iterable[ListEntry], served: Mapping[str, Pem | Stored]) -> bool:
        """Make them what HAProxy has: ``entries`` in their order. ``served``: name -> content of
        what these have, and of the default certificate; or what HAProxy shows of it, where only
        the file can still have it. An entry whose file cannot be written is left out. Whether all
        is saved."""
        self._lines = None
        if not self._has_folder():
            return False
        saved = {name for name, content in served.items() if self._save(name, content)}
        named = list(entries)
        lines = {entry: f"{entry.line}\n" for entry in named if entry.certificate in saved}
        if not self._save_list(lines):
            return False
        # Only now: until then the former list had them.
        self._remove_others(saved)
        if len(saved) == len(served) and all(entry in lines for entry in named):
            self._lines = lines
        return self._lines is not None

    def change(
        self,
        added: Iterable[ListEntry],
        removed: Iterable[ListEntry],
        served: Mapping[str, Pem],
        gone: Iterable[str],
    ) -> bool:
        """The same, of these entries alone, where all was saved. ``served``: what those have that
        were ``added``. ``gone``: the certificates that no entry has any more."""
        lines, self._lines = self._lines, None
        if lines is None or not all(self._save(*item) for item in served.items()):
            return False
        for entry in removed:
            lines.pop(entry, None)
        lines.update((entry, f"{entry.line}\n") for entry in added)
        if not self._save_list(lines):
            return False
        for name in gone:
            self._remove(name)
        self._lines = lines
        return True

    def _save_list(self, lines: Mapping[ListEntry, str]) -> bool:
        text = "".join(lines.values())
        if text != self._list:
            self._list = text if self._list_file.write(text) else None
        return self._list is not None

    def _save(self, name: str, content: Pem | Stored) -> bool:
        written = self._written.get(name) or read_saved(Path(name))
        if isinstance(content, Pem) and content != written:
            file = self._files.setdefault(name, KeptFile(Path(name), SECRET))
            text = f"{content.payload.decode('ascii')}\n"
            written = content if file.write(text) else None
        if written is None:
            self._written.pop(name, None)
            return False
        self._written[name] = written
        return content == written if isinstance(content, Pem) else content.is_of(written.identity)

    def _remove_others(self, saved: Iterable[str]) -> None:
        """What is no longer in the list, and what an earlier process left half written."""
        # As texts: with thousands of files, paths would take longer than all else.
        stays = {*saved, *map(str, self._kept)}
        for name in os.listdir(self._folder):  # noqa: PTH208
            is_ours = name.endswith(".pem") or self._partial.fullmatch(name)
            path = f"{self._folder}/{name}"
            if is_ours and path not in stays:
                self._remove(path)

    def _remove(self, path: str) -> None:
        self._written.pop(path, None)
        self._files.pop(path, None)
        with contextlib.suppress(OSError):  # tried again with the next save of all
            Path(path).unlink()

    def _has_folder(self) -> bool:
        """Make it, if need be. The group's bit stays: in a pod, files get the volume's group by
        it, which HAProxy's container shares."""
        try:
            self._folder.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
            mode = stat.S_IMODE(self._folder.stat().st_mode)
            if mode & 0o777 != _FOLDER_MODE:
                with contextlib.suppress(PermissionError):  # somebody else made it
                    self._folder.chmod(mode & ~0o777 | _FOLDER_MODE)
        except OSError as exc:
            problem = cannot_write(self._folder, exc)
            if problem != self._problem:
                log.error("%s; retrying until it succeeds", problem)  # noqa: TRY400
            self._problem = problem
            return False
        self._problem = ""
        return True


def read_authority(path: Path) -> CertificateAuthority | None:
    """The CAs in a file, if HAProxy would start with it as far as we can tell."""
    try:
        found = judge_authority(str(path), path.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError):
        return None
    return None if isinstance(found, Refusal) else found


class AuthorityFiles:
    """CA files, one for each backend, which are public, and always there."""

    def __init__(self) -> None:
        self._files: dict[str, KeptFile] = {}
        # as far as this process knows: file -> the mark of what is in it
        self._written: dict[str, str] = {}

    def save(self, shown: Mapping[str, CertificateAuthority]) -> bool:
        """Make them hold what HAProxy has; whether they do."""
        # What an earlier process left.
        remove_partial(Path(name) for name in shown.keys() - self._files.keys())
        for name, authority in shown.items():
            if self._written.get(name) == authority.mark:
                continue
            self._written.pop(name, None)
            file = self._files.setdefault(name, KeptFile(Path(name)))
            written = read_authority(Path(name))
            if (written and written.mark == authority.mark) or file.write(authority.text):
                self._written[name] = authority.mark
        return self._written.keys() >= shown.keys()


def startable(text: str) -> str:
    """The lines of a crt-list that HAProxy would start with, as far as we can tell: somebody may
    have touched it, or the files that it names."""
    return "".join(f"{line}\n" for line in text.splitlines() if _is_startable(line))


def _is_startable(line: str) -> bool:
    name, _, rest = line.partition(" ")
    options, _, names = rest.rpartition("] ")
    try:
        whole = ListEntry(name, options.removeprefix("["), tuple(names.split(" "))).line
    except LocalProtocolError:
        return False
    return whole == line and read_saved(Path(name)) is not None


def read_saved(path: Path) -> Pem | None:
    """What is in a file, if HAProxy would start with it as far as we can tell."""
    try:
        return Pem.of(str(path), path.read_bytes())
    except (OSError, LocalProtocolError):
        return None
