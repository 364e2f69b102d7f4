"""Makes HAProxy have the certificates that are wanted, as `sidecar.planning.certificates` plans.

Owns HAProxy's only transaction: each certificate is set and committed in one exchange, and
whatever transaction is open otherwise is aborted, because with one in the way none of ours would
work, and on 2.6 ours would become part of it. What HAProxy replies decides nothing but what is
tried again: a filter is served once HAProxy *shows* it. An entry has no CA file, so that it cannot
be committed in turns with one (haproxy #3165): see `sidecar.haproxy.certificates`.

Errors name the certificate and HAProxy's words, never its content.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.common.errors import (
    CertificateRefusedError,
    CommandRefusedError,
    LocalProtocolError,
    SidecarError,
)
from sidecar.common.text import one_line
from sidecar.control.certificate_files import CertificateFiles
from sidecar.haproxy.certificates import (
    Abort,
    AddListEntry,
    Commit,
    Delete,
    DeleteListEntry,
    New,
    Set,
    ShownEntry,
    Stored,
    checked_name,
    is_ended,
    is_in_the_way,
    is_locked,
    parse_entries,
    parse_names,
    parse_stored,
    show,
    show_entries,
    show_names,
)
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.operations import Outcome, Request
from sidecar.haproxy.pem import Pem
from sidecar.planning.certificates import (
    UNUSED,
    USED,
    Observed,
    Steps,
    Wanted,
    WantedEntry,
    foreign,
    is_used,
    plan,
    served,
)

log = logging.getLogger(__name__)

#: How often a step is tried before it is given up until the next time: another client of HAProxy
#: may be using the transaction.
_TRIES = 5

#: More rounds than any change needs, however often its steps are tried: to load, add and remove.
_ROUNDS_MAX = 4 * _TRIES

#: How long another connection's commit may take: 10,000 entries take HAProxy a second.
_LOCKED_SECONDS = 5.0
_PAUSE_SECONDS = 0.005

#: Of HAProxy's words in an error.
_WORDS_MAX = 200


@dataclass(frozen=True, slots=True)
class Written:
    """``served``: filter -> the certificate that HAProxy shows for it, which may be a former one;
    absent where it has none, or in doubt. ``failures``: certificate -> why it is not as wanted.
    ``foreign``: filter -> what others have for it in our list, so that it is not served.
    ``saved``: whether files have it all. ``loaded``, ``refused``: the certificates that HAProxy
    took in this call, and those that it refused, or an entry of which."""

    served: Mapping[str, str]
    failures: Mapping[str, SidecarError]
    foreign: Mapping[str, str]
    saved: bool
    loaded: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Attempt:
    """What became of the steps so far, in one call of `CertificateWriter.write`."""

    refused: set[Hashable] = field(default_factory=set)
    failures: dict[str, SidecarError] = field(default_factory=dict)
    tries: Counter[Hashable] = field(default_factory=Counter)
    loaded: set[str] = field(default_factory=set)

    def fail(self, name: str, step: Hashable, error: SidecarError, *, again: bool = False) -> None:
        self.failures[name] = error
        if not again:
            self.refused.add(step)

    def count(self, steps: Steps) -> None:
        """``steps`` were carried out; if HAProxy does not show it, some will be planned again."""
        done = (*steps.load, *steps.add, *steps.remove, *steps.delete)
        self.tries.update(done)
        self.refused.update(step for step in done if self.tries[step] >= _TRIES)


class CertificateWriter:
    """Over ``client``, for the crt-list ``list_file`` and certificates in ``folder``, as
    haproxy.cfg has them; ``default``: the one of the bind itself, None: somebody else's.
    ``forgets_use``: whether HAProxy shows certificates as unused that an entry has. For the loop's
    thread: nothing else may change certificates over another client."""

    def __init__(
        self,
        client: RuntimeClient,
        list_file: Path,
        folder: Path,
        default: Path | None = None,
        *,
        forgets_use: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = client
        self._forgets_use = forgets_use
        self._list_file = checked_name(str(list_file))
        self._folder = str(folder)
        self._default = None if default is None else checked_name(str(default))
        self._files = CertificateFiles(folder, list_file, default)
        # name -> what it was made of, and that
        self._pems: dict[str, tuple[bytes, Pem]] = {}
        # as last shown, by the connection of that number; None: not to be trusted
        self._stored: dict[str, Stored] = {}
        self._observed: Observed | None = None
        self._connection = 0

    def write(
        self,
        entries: Mapping[str, WantedEntry],
        pems: Mapping[str, bytes],
        *,
        fully: bool = True,
    ) -> Written:
        """Make HAProxy serve ``entries`` (filter -> what serves it), and save it. ``pems``: name ->
        certificate with key and chain, also of the default one. ``fully``: first look for changes
        that others made.

        Raises RuntimeAPIError when HAProxy goes away, or has no such crt-list: nothing is saved.
        """
        attempt = _Attempt()
        contents = self._contents(pems, attempt)
        for name in {item.certificate for item in entries.values()} - pems.keys():
            problem = f"certificate {name}: an entry names it, and its content is not given"
            attempt.fail(name, name, LocalProtocolError(problem))
        identities = {name: pem.identity for name, pem in contents.items()}
        wanted = Wanted(self._folder, entries, identities, self._default)
        if fully or not self._client.connected or self._client.connections != self._connection:
            self._stored.clear()
            self._observed = None
        observed = self._observed or self._look(wanted, aborts=True)
        self._observed = None
        for _ in range(_ROUNDS_MAX):
            steps = plan(wanted, observed, attempt.refused)
            if not steps:
                break
            observed = self._carry_out(steps, wanted, contents, attempt)
            attempt.count(steps)
        self._observed = observed
        saved = self._save(wanted, observed, contents)
        failures = _failures(wanted, observed, attempt)
        others = self._others(wanted, observed)
        return Written(
            served(wanted, observed),
            failures,
            others,
            saved,
            frozenset(attempt.loaded - failures.keys()),
            frozenset(failures.keys() & attempt.failures.keys() & set(wanted.names)),
        )

    def _others(self, wanted: Wanted, observed: Observed) -> dict[str, str]:
        return {name: self._told(item) for name, item in foreign(wanted, observed).items()}

    def _told(self, item: ShownEntry) -> str:
        """About an entry of somebody else."""
        entry = one_line(" ".join((item.entry.certificate, *item.entry.filters)), _WORDS_MAX)
        where = f"{item.entry.certificate}:{item.number}"
        return (
            f"in HAProxy's crt-list {self._list_file} somebody else has the entry {entry}; remove"
            f" it: del ssl crt-list {self._list_file} {one_line(where, _WORDS_MAX)}"
        )

    def compare(
        self, entries: Mapping[str, WantedEntry], pems: Mapping[str, bytes]
    ) -> tuple[Wanted, Observed, Mapping[str, str]]:
        """What `write` would begin with, and `Written.foreign`; changes nothing. Raises as `write`
        does."""
        contents = self._contents(pems, _Attempt())
        identities = {name: pem.identity for name, pem in contents.items()}
        wanted = Wanted(self._folder, entries, identities, self._default)
        observed = self._look(wanted)
        return wanted, observed, self._others(wanted, observed)

    def _contents(self, pems: Mapping[str, bytes], attempt: _Attempt) -> dict[str, Pem]:
        made: dict[str, tuple[bytes, Pem]] = {}
        for name, pem in pems.items():
            before = self._pems.get(name)
            try:
                self._check(name)
                made[name] = before if before and before[0] == pem else (pem, Pem.of(name, pem))
            except LocalProtocolError as exc:
                attempt.fail(name, name, exc)
        self._pems = made
        return {name: pem for name, (_, pem) in made.items()}

    def _check(self, name: str) -> None:
        checked_name(name)
        is_ours = Wanted(self._folder, {}, {}, self._default).is_ours(name)
        if not is_ours and name != self._default:
            raise LocalProtocolError(
                f"certificate {name}: its file must be in {self._folder} and end in .pem"
            )

    # -- looking -----------------------------------------------------------------------------------

    @property
    def _overview(self) -> tuple[str, str]:
        return show_names("cert"), show_entries(self._list_file)

    def _look(self, wanted: Wanted, *, aborts: bool = False) -> Observed:
        """Ask only for certificates that are not known. ``aborts``: a transaction that is open."""
        return self._seen(wanted, self._ask(self._overview), aborts=aborts)

    def _seen(self, wanted: Wanted, overview: Sequence[str], *, aborts: bool) -> Observed:
        """What HAProxy has, of its answers."""
        names, listed = overview
        self._connection = self._client.connections
        found, entries = parse_names(names), parse_entries(listed)
        if entries is None:
            raise CommandRefusedError(self._overview[1], listed)
        if aborts and found.open is not None:
            self._abort(found.open)
        relevant = set(wanted.names)
        ours = [name for name in found.names if name in relevant or wanted.is_ours(name)]
        self._stored = {name: self._stored[name] for name in ours if name in self._stored}
        unknown = [name for name in ours if name not in self._stored]
        answers = self._ask([show("cert", name) for name in unknown])
        for name, answer in zip(unknown, answers, strict=True):
            if stored := parse_stored(answer):
                self._stored[name] = stored
        there = {name: self._stored[name] for name in ours if name in self._stored}
        if self._forgets_use():
            used = {entry.certificate for entry, _ in entries} | {self._default}
            for name in there.keys() & used:
                if there[name].status == UNUSED:
                    there[name] = there[name]._replace(status=USED)
        return Observed(entries, there)

    def _ask(self, questions: Sequence[str]) -> list[str]:
        return self._unlocked(questions, self._client.ask_all(questions) if questions else [])

    def _unlocked(self, questions: Sequence[str], answers: list[str]) -> list[str]:
        """Ask again, while another connection keeps HAProxy from answering."""
        deadline = time.monotonic() + _LOCKED_SECONDS
        while True:
            pairs = zip(questions, answers, strict=True)
            locked = next((pair for pair in pairs if is_locked(pair[1])), None)
            if locked is None:
                return answers
            if time.monotonic() > deadline:
                raise CommandRefusedError(*locked)
            time.sleep(_PAUSE_SECONDS)
            answers = self._client.ask_all(questions)

    def _abort(self, name: str) -> None:
        (outcome,) = self._client.apply([Abort("cert", name)])
        if isinstance(outcome, str):
            log.warning("aborted a transaction of HAProxy for certificate %s, left open", name)

    # -- changing ----------------------------------------------------------------------------------

    def _carry_out(
        self, steps: Steps, wanted: Wanted, contents: Mapping[str, Pem], attempt: _Attempt
    ) -> Observed:
        """And what HAProxy has then, in one exchange: clients wait for it."""
        loads = [request for name in steps.load for request in _load(name, contents[name])]
        # each with what is not tried again if it is refused, and its certificate
        changes: list[tuple[Hashable, str, Request]] = [
            (entry, entry.certificate, AddListEntry(self._list_file, entry)) for entry in steps.add
        ]
        for item in steps.remove:
            name, number = item.entry.certificate, item.number
            changes.append((item, name, DeleteListEntry(self._list_file, name, number)))
        changes += [(name, name, Delete("cert", name)) for name in steps.delete]
        touched = dict.fromkeys([*steps.load, *(name for _, name, _ in changes)])
        questions = [*self._overview, *(show("cert", name) for name in touched)]
        requests = [*loads, *(change for _, _, change in changes)]
        outcomes, answers = self._client.apply_and_ask(requests, questions)
        failed = _failed_loads(steps.load, outcomes[: len(loads)], attempt)
        attempt.loaded.update(name for name in steps.load if name not in failed)
        for (step, name, _), outcome in zip(changes, outcomes[len(loads) :], strict=True):
            # An entry that was refused because its certificate was is planned again with that.
            if name not in failed and (error := _error(name, outcome)):
                attempt.fail(name, step, error, again=is_in_the_way(_reply(outcome)))
        names, listed, *shown = self._unlocked(questions, answers)
        for name, answer in zip(touched, shown, strict=True):
            self._stored.pop(name, None)
            if stored := parse_stored(answer):
                self._stored[name] = stored
        return self._seen(wanted, (names, listed), aborts=bool(failed))

    # -- saving ------------------------------------------------------------------------------------

    def _save(self, wanted: Wanted, observed: Observed, contents: Mapping[str, Pem]) -> bool:
        """What HAProxy has of ours, as it has it."""
        entries = [item.entry for item in observed.entries]
        entries = [entry for entry in entries if wanted.is_ours(entry.certificate)]
        names: Iterable[str] = {entry.certificate for entry in entries}
        if self._default in contents:
            names = [*names, *([self._default] if self._default else [])]
        content: dict[str, Pem | Stored] = {}
        for name in names:
            stored = observed.stored.get(name)
            if is_used(name, wanted, observed):
                content[name] = contents[name]
            elif stored:  # a former one, whose file should be there
                content[name] = stored
        return self._files.save(entries, content)


def _failures(wanted: Wanted, observed: Observed, attempt: _Attempt) -> dict[str, SidecarError]:
    """Why those are not as wanted that are not. What HAProxy shows counts more than its replies."""
    there = {item.entry for item in observed.entries}
    failing = {
        item.certificate
        for name, item in wanted.entries.items()
        if wanted.entry(name) not in there or not is_used(item.certificate, wanted, observed)
    }
    failing |= {name for name in wanted.names if not is_used(name, wanted, observed)}
    failing |= attempt.failures.keys() - set(wanted.names)
    unexplained = "HAProxy took it, but does not show that it uses it"
    return {
        name: attempt.failures.get(name) or CertificateRefusedError(name, unexplained)
        for name in sorted(failing)
    }


def _load(name: str, content: Pem) -> tuple[Request, ...]:
    """With an `Abort` behind it, which does nothing but after a commit that was refused: so a bad
    certificate is not in the way of the next one."""
    begin = New("cert", name), Set("cert", name, content.payload)
    return (*begin, Commit("cert", name), Abort("cert", name))


def _failed_loads(
    names: Sequence[str], outcomes: Sequence[Outcome], attempt: _Attempt
) -> Collection[str]:
    failed = set[str]()
    for index, name in enumerate(names):
        own = outcomes[4 * index : 4 * index + 4]
        _, begun, done, _ = own
        if error := _error(name, begun) or _error(name, done):
            failed.add(name)
            # Somebody ended it between the two.
            interrupted = isinstance(begun, str) and is_ended(_reply(done))
            again = interrupted or any(is_in_the_way(_reply(outcome)) for outcome in own)
            attempt.fail(name, name, error, again=again)
    return failed


def _error(name: str, outcome: Outcome) -> SidecarError | None:
    if isinstance(outcome, CommandRefusedError):
        words = one_line(outcome.reply, _WORDS_MAX)
        return CertificateRefusedError(name, f"HAProxy answered {words!r} to {outcome.command!r}")
    return None if isinstance(outcome, str) else outcome


def _reply(outcome: Outcome) -> str:
    return outcome.reply if isinstance(outcome, CommandRefusedError) else str(outcome)
