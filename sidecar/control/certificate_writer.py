"""Makes HAProxy have the certificates that are wanted, as `sidecar.planning.certificates` plans.

Owns HAProxy's only transaction: each certificate is set and committed in one exchange, and
whatever transaction is open otherwise is aborted, since on 2.6 ours would become part of it. What
HAProxy replies decides nothing but what is tried again: a filter is served once HAProxy *shows* it,
or for a change of few, shows that the new certificate is used. An entry has no CA file, so that it
cannot be committed in turns with one (haproxy #3165): see `sidecar.haproxy.certificates`.

Errors name the certificate and HAProxy's words, never its content.
"""

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
from sidecar.control.certificate_looks import IN_TURN, CertificateLooks
from sidecar.haproxy.certificates import (
    Abort,
    AddListEntry,
    Commit,
    Delete,
    DeleteListEntry,
    ListEntry,
    New,
    Set,
    ShownEntry,
    Stored,
    checked_name,
    is_ended,
    is_in_the_way,
    show,
)
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.operations import Outcome, Request
from sidecar.haproxy.pem import Pem
from sidecar.planning.certificate_part import KnownList
from sidecar.planning.certificates import (
    Observed,
    Steps,
    Wanted,
    WantedEntry,
    foreign,
    is_used,
    plan,
    served,
)

#: How often a step is tried before it is given up until the next time: another client of HAProxy
#: may be using the transaction.
_TRIES = 5

#: More rounds than any change needs, however often its steps are tried: to load, add and remove.
_ROUNDS_MAX = 4 * _TRIES

#: To load and add, to remove and delete, and to see that nothing is left.
_ROUNDS_OF_A_CHANGE = 3

#: Of HAProxy's words in an error.
_WORDS_MAX = 200


@dataclass(frozen=True, slots=True)
class Written:
    """``served``: filter -> the certificate that HAProxy shows for it, which may be a former one;
    absent where it has none, or in doubt. ``failures``: certificate -> why it is not as wanted.
    ``foreign``: filter -> what others have for it in our list, so that it is not served.
    ``saved``: whether files have it all. ``loaded``, ``refused``: the certificates that HAProxy
    took in this call, and those that it refused, or an entry of which. ``deleted``: those that
    neither it nor any file has any more, as far as this call took them away."""

    served: Mapping[str, str]
    failures: Mapping[str, SidecarError]
    foreign: Mapping[str, str]
    saved: bool
    loaded: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    deleted: frozenset[str] = frozenset()


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
    ``forgets_use``, ``in_turn``: see `CertificateLooks`. For the loop's thread: nothing else may
    change certificates over another client."""

    def __init__(
        self,
        client: RuntimeClient,
        list_file: Path,
        folder: Path,
        default: Path | None = None,
        *,
        forgets_use: Callable[[], bool] = lambda: False,
        in_turn: int = IN_TURN,
    ) -> None:
        self._client = client
        self._list_file = checked_name(str(list_file))
        self._folder = str(folder)
        self._default = None if default is None else checked_name(str(default))
        self._files = CertificateFiles(folder, list_file, default)
        # name -> what it was made of, and that
        self._pems: dict[str, tuple[bytes, Pem]] = {}
        self._looks = CertificateLooks(client, self._list_file, forgets_use, in_turn)
        # as last shown; None: not to be trusted
        self._observed: Observed | None = None
        # the same, and what was wanted then, where HAProxy has it all; with the changes since
        self._known: KnownList | None = None
        self._wanted: dict[str, WantedEntry] = {}

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
        wanted = self._want(entries, contents)
        self._known = None
        if fully or not self._looks.are_current:
            self._looks.stored.clear()
            self._observed = None
        observed = self._observed or self._looks.look(wanted, aborts=True)
        self._observed = None
        for _ in range(_ROUNDS_MAX):
            steps = plan(wanted, observed, attempt.refused)
            if not steps:
                break
            overview, failed = self._carry_out(steps, contents, attempt, self._looks.overview)
            observed = self._looks.seen(wanted, overview, aborts=failed)
            attempt.count(steps)
        self._observed = observed
        saved = self._save(wanted, observed, contents)
        failures = _failures(wanted, observed, attempt)
        others = self._others(wanted, observed)
        if saved and not failures and not others:
            self._known, self._wanted = KnownList(observed.entries), dict(entries)
        return Written(
            served(wanted, observed),
            failures,
            others,
            saved,
            frozenset(attempt.loaded - failures.keys()),
            frozenset(failures.keys() & attempt.failures.keys() & set(wanted.names)),
        )

    def confirm(self) -> bool:
        """Whether HAProxy is as it was left, as far as a look at all entries and some certificates
        shows; where it was left unfinished it is not. Raises as `write` does."""
        known = self._known
        return known is not None and self._looks.are_current and self._looks.confirm(known.lines)

    def change(
        self, entries: Mapping[str, WantedEntry | None], pems: Mapping[str, bytes]
    ) -> Written | None:
        """`write` for these filters alone, None for one that nobody wants any more, at the cost of
        what changes. None: it is not as simple as that, and `write` is to find out how it is.
        Raises as that does."""
        known, self._known, self._observed = self._known, None, None
        if known is None or not self._looks.are_current:
            return None
        self._wanted |= {name: entry for name, entry in entries.items() if entry}
        for name in [name for name, entry in entries.items() if entry is None]:
            self._wanted.pop(name, None)
        attempt = _Attempt()
        self._pems |= self._made(pems, attempt)
        added, deleted = list[ListEntry](), list[str]()
        removed = list[ListEntry]()
        for _ in range(_ROUNDS_OF_A_CHANGE):
            part = known.part(entries, self._wanted)
            if part is None or attempt.failures:
                return None
            inside = {name: self._wanted[name] for name in part.filters if name in self._wanted}
            used = {item.certificate for item in inside.values()}
            contents = {name: self._pems[name][1] for name in used}
            wanted = self._want(inside, contents)
            if not all(wanted.is_ours(item.entry.certificate) for item in part.entries):
                return None
            used.update(item.entry.certificate for item in part.entries)
            stored = self._looks.stored
            observed = Observed(part.entries, {name: stored[name] for name in used & stored.keys()})
            steps = plan(wanted, observed)
            if not steps:
                break
            self._carry_out(steps, contents, attempt)
            known.change(steps.add, steps.remove)
            added += steps.add
            removed += [item.entry for item in steps.remove]
            deleted += steps.delete
        else:
            return None
        if _failures(wanted, observed, attempt):
            return None
        content = {entry.certificate: contents[entry.certificate] for entry in added}
        saved = self._files.change(added, removed, content, deleted)
        if saved:
            self._known = known
        for name in deleted:
            self._pems.pop(name, None)
        shown = served(wanted, observed)
        loaded = frozenset(attempt.loaded)
        return Written(shown, {}, {}, saved, loaded, deleted=frozenset(deleted))

    def _want(self, entries: Mapping[str, WantedEntry], contents: Mapping[str, Pem]) -> Wanted:
        identities = {name: pem.identity for name, pem in contents.items()}
        return Wanted(self._folder, entries, identities, self._default)

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
        wanted = self._want(entries, self._contents(pems, _Attempt()))
        observed = self._looks.look(wanted)
        return wanted, observed, self._others(wanted, observed)

    def _contents(self, pems: Mapping[str, bytes], attempt: _Attempt) -> dict[str, Pem]:
        self._pems = self._made(pems, attempt)
        return {name: pem for name, (_, pem) in self._pems.items()}

    def _made(self, pems: Mapping[str, bytes], attempt: _Attempt) -> dict[str, tuple[bytes, Pem]]:
        made: dict[str, tuple[bytes, Pem]] = {}
        for name, pem in pems.items():
            before = self._pems.get(name)
            try:
                self._check(name)
                made[name] = before if before and before[0] == pem else (pem, Pem.of(name, pem))
            except LocalProtocolError as exc:
                attempt.fail(name, name, exc)
        return made

    def _check(self, name: str) -> None:
        checked_name(name)
        is_ours = Wanted(self._folder, {}, {}, self._default).is_ours(name)
        if not is_ours and name != self._default:
            raise LocalProtocolError(
                f"certificate {name}: its file must be in {self._folder} and end in .pem"
            )

    # -- changing ----------------------------------------------------------------------------------

    def _carry_out(
        self,
        steps: Steps,
        contents: Mapping[str, Pem],
        attempt: _Attempt,
        further: Sequence[str] = (),
    ) -> tuple[list[str], bool]:
        """And look at the certificates, and ask ``further`` questions, in one exchange: clients
        wait for it. The answers to these, and whether one could not be loaded."""
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
        questions = [*further, *(show("cert", name) for name in touched)]
        requests = [*loads, *(change for _, _, change in changes)]
        outcomes, answers = self._client.apply_and_ask(requests, questions)
        failed = _failed_loads(steps.load, outcomes[: len(loads)], attempt)
        attempt.loaded.update(name for name in steps.load if name not in failed)
        for (step, name, _), outcome in zip(changes, outcomes[len(loads) :], strict=True):
            # An entry that was refused because its certificate was is planned again with that.
            if name not in failed and (error := _error(name, outcome)):
                attempt.fail(name, step, error, again=is_in_the_way(_reply(outcome)))
        answers = self._looks.unlocked(questions, answers)
        self._looks.note(touched, answers[len(further) :])
        return answers[: len(further)], bool(failed)

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
