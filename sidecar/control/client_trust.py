"""Keeps the CAs by which HAProxy verifies clients, and what these have revoked, as in two files.

Owns when they are looked at, the transactions of their stores, and the files that HAProxy starts
with: each is written once HAProxy has what is in it. What HAProxy shows decides, not its replies.
A file that became bad changes nothing but a message. The rules of `sidecar.haproxy.certificates`
hold; besides, before 3.2 no certificate of the same listener may be replaced under its name, or the
next change here kills HAProxy: see `sidecar.haproxy.dialect`. For the loop's thread.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sidecar.common.errors import CommandRefusedError, RemoteProtocolError, SidecarError
from sidecar.common.files import KeptFile, remove_partial
from sidecar.common.text import one_line
from sidecar.control.commit_mark import CommitMark
from sidecar.control.watched_files import WatchedFiles
from sidecar.haproxy.certificates import (
    Abort,
    Commit,
    Set,
    Store,
    ask_begun,
    checked_name,
    is_locked,
    parse_begun,
    show,
)
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.operations import Outcome, Request

log = logging.getLogger(__name__)

#: After a failure: this long, then twice as long, and so on.
_RETRY_SECONDS = 2.0

#: Of HAProxy's words in an error.
_WORDS_MAX = 200

_LOCKED = "HAProxy says nothing while another client changes certificates"
_NOT_ASKED = "HAProxy has no such file; render haproxy.cfg from these settings and restart HAProxy"


class Verifying(Protocol):
    """What HAProxy verifies clients by. ``mark``: by what it shows of it."""

    @property
    def pem(self) -> bytes: ...
    @property
    def mark(self) -> str: ...
    @property
    def title(self) -> str: ...


@dataclass(frozen=True, slots=True)
class TrustFile:
    """``key``: of the setting that names it. ``file``: where HAProxy has it. ``parse_mark``: of
    what HAProxy shows of it, None where that is nothing."""

    key: str
    store: Store
    file: Path
    watched: WatchedFiles[Verifying]
    parse_mark: Callable[[str], str | None]


@dataclass(slots=True)
class _State:
    """``kept``: the file, and ``saved``, what is in it. ``held``: what HAProxy has, as far as we
    know: its marks may be those of another content. ``failure``: why that is not what is wanted."""

    kept: KeptFile
    saved: bytes | None = None
    held: bytes | None = None
    failure: str = ""
    said: str = field(default="", repr=False)


class ClientTrust:
    """``files``: in the order in which they change. ``resync_seconds``: between looks for what
    others changed. ``marks``: of commits that ``client`` begins."""

    def __init__(
        self,
        client: RuntimeClient,
        files: Sequence[TrustFile],
        resync_seconds: float,
        marks: CommitMark,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._marks = marks
        self._states = [(item, _State(KeptFile(item.file))) for item in files]
        self._resync_seconds = resync_seconds
        self._clock = clock
        self._look_at = float("-inf")
        self._retry_seconds = _RETRY_SECONDS
        self._connection = -1

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not as wanted, a line each."""
        return tuple(state.said for _, state in self._states if state.said)

    @property
    def seconds(self) -> float:
        """In how many to step again, if nothing happens before."""
        return max(0.0, self._look_at - self._clock())

    def step(self) -> None:
        """Do what is due. Raises RuntimeAPIError when HAProxy goes away."""
        now = self._clock()
        changed = [item.watched.look() for item, _ in self._states]
        if self._is_new():
            # What a writer before left half written; never beside one that writes.
            remove_partial(item.file for item, _ in self._states)
            self._look_at = now
        if now >= self._look_at or any(changed):
            done = [self._keep(item, state) for item, state in self._states]
            self._connection = self._client.connections
            if all(done):
                self._look_at, self._retry_seconds = now + self._resync_seconds, _RETRY_SECONDS
            else:
                self._look_at = now + self._retry_seconds
                self._retry_seconds = min(2 * self._retry_seconds, self._resync_seconds)
        for item, state in self._states:
            _say(item, state)

    def prospect(self) -> tuple[list[str], list[str]]:
        """What `step` would change, of one who knows nothing yet, and what is wrong; does nothing
        of it. Raises RuntimeAPIError when HAProxy goes away."""
        changes, problems = [], []
        self._is_new()
        for item, state in self._states:
            item.watched.look()
            _, failure, differs = self._compare(item, state)
            if differs and item.watched.value:
                changes.append(f"{item.key}: {item.watched.value.title}")
            if problem := item.watched.problem or failure:
                problems.append(f"{item.key}: {problem}")
        return changes, problems

    def _is_new(self) -> bool:
        """Whether another HAProxy may answer now: it has what was in the files when it started."""
        if self._client.connected and self._client.connections == self._connection:
            return False
        for item, state in self._states:
            state.saved = state.held = _read(item.file)
        return True

    def _compare(self, item: TrustFile, state: _State) -> tuple[str | None, str, bool]:
        """What HAProxy's transaction is about, why it cannot be told what it has, and whether that
        differs from what is wanted."""
        try:
            names, shown = self._client.ask_all(
                [ask_begun(item.store), show(item.store, checked_name(str(item.file)))]
            )
            if is_locked(names) or is_locked(shown):
                return None, _LOCKED, False
            begun, mark = parse_begun(names), item.parse_mark(shown)
        except RemoteProtocolError as exc:
            if not self._client.connected:
                raise
            return None, str(exc), False
        if mark is None:
            return begun, _NOT_ASKED, False
        if problem := self._marks.problem(item.store, begun):
            return begun, f"{begun}: {problem}", False
        wanted = item.watched.value
        differs = wanted is not None and (mark, state.held) != (wanted.mark, wanted.pem)
        return begun, "", differs

    def _keep(self, item: TrustFile, state: _State) -> bool:
        """Make HAProxy, and then its file, have what is wanted; whether they do."""
        wanted = item.watched.value
        begun, state.failure, differs = self._compare(item, state)
        if wanted is None or state.failure:
            return not state.failure
        self._marks.settle(item.store, begun)
        if differs:
            state.failure = self._change(item, wanted, begun)
            if not state.failure:
                state.held = wanted.pem
                _, state.failure, differs = self._compare(item, state)
                if differs:
                    state.held, state.failure = None, "HAProxy took it, but shows something else"
            if state.failure:
                return False
            log.info("%s: HAProxy now goes by %s", item.key, wanted.title)
        if state.saved != wanted.pem and state.kept.write(wanted.pem.decode("ascii")):
            state.saved = wanted.pem
        return state.saved == wanted.pem

    def _change(self, item: TrustFile, wanted: Verifying, begun: str | None) -> str:
        """Why HAProxy refused it, or "". The last abort does nothing but after a commit that was
        refused."""
        name = str(item.file)
        requests: list[Request] = [] if begun is None else [Abort(item.store, begun)]
        requests += [Set(item.store, name, wanted.pem.rstrip(b"\n"))]
        requests += [Commit(item.store, name), Abort(item.store, name)]
        *_, begins, commits, _ = self._client.apply(requests)
        return _problem(begins) or _problem(commits)


def _problem(outcome: Outcome) -> str:
    if isinstance(outcome, CommandRefusedError):
        return f"HAProxy answered {one_line(outcome.reply, _WORDS_MAX)!r} to {outcome.command!r}"
    return str(outcome) if isinstance(outcome, SidecarError) else ""


def _say(item: TrustFile, state: _State) -> None:
    """What is wrong, once, until it is over."""
    problem = item.watched.problem or state.failure
    text = f"{item.key}: {problem}; the former one is in effect" if problem else ""
    if text == state.said:
        return
    if text:
        log.error("%s", text)
    else:
        log.info("resolved: %s", item.key)
    state.said = text


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None
