"""What HAProxy shows of certificates, and what is known of it without asking again.

A certificate is immutable and named by its content, so that one which was shown once is asked for
again only with the next look for what others changed. Must not change anything, but for a
transaction that is open: with one in the way none of ours would work. For the loop's thread.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence

from sidecar.common.errors import CommandRefusedError
from sidecar.haproxy.certificates import (
    SHOW_NAMES,
    Abort,
    Stored,
    is_locked,
    parse_entries,
    parse_names,
    parse_stored,
    show,
    show_entries,
)
from sidecar.haproxy.client import RuntimeClient
from sidecar.planning.certificates import UNUSED, USED, Observed, Wanted

log = logging.getLogger(__name__)

#: How long another connection's commit may take: 10,000 entries take HAProxy a second.
_LOCKED_SECONDS = 5.0
_PAUSE_SECONDS = 0.005

#: So many take HAProxy, and this, some 30 ms.
IN_TURN = 500

#: Of an entry that HAProxy shows.
_NUMBER = re.compile(r":[0-9]+(?= |$)", re.MULTILINE)


class CertificateLooks:
    """Over ``client``, at the crt-list ``list_file``. ``forgets_use``: whether HAProxy shows
    certificates as unused that an entry has. ``in_turn``: how many `confirm` asks for."""

    def __init__(
        self,
        client: RuntimeClient,
        list_file: str,
        forgets_use: Callable[[], bool],
        in_turn: int = IN_TURN,
    ) -> None:
        self._client = client
        self._forgets_use = forgets_use
        self._in_turn = in_turn
        #: The questions for all names, and for all entries.
        self.overview = SHOW_NAMES, show_entries(list_file)
        #: As last shown, by name.
        self.stored: dict[str, Stored] = {}
        # all names that HAProxy had then, whosever
        self._names: set[str] = set()
        # by which connection
        self._connection = 0

    @property
    def are_current(self) -> bool:
        """Whether it is the same HAProxy still, as far as anybody knows."""
        return self._client.connected and self._client.connections == self._connection

    def look(self, wanted: Wanted, *, aborts: bool = False) -> Observed:
        """Ask only for certificates that are not known. ``aborts``: a transaction that is open."""
        return self.seen(wanted, self.ask(self.overview), aborts=aborts)

    def seen(self, wanted: Wanted, overview: Sequence[str], *, aborts: bool) -> Observed:
        """What HAProxy has, of its answers to `overview`."""
        names, listed = overview
        self._connection = self._client.connections
        found, entries = parse_names(names), parse_entries(listed)
        if entries is None:
            raise CommandRefusedError(self.overview[1], listed)
        if aborts and found.open is not None:
            self._abort(found.open)
        relevant = set(wanted.names)
        self._names = set(found.names)
        ours = [name for name in found.names if name in relevant or wanted.is_ours(name)]
        self.stored = {name: self.stored[name] for name in ours if name in self.stored}
        unknown = [name for name in ours if name not in self.stored]
        self.note(unknown, self.ask([show("cert", name) for name in unknown]))
        there = {name: self.stored[name] for name in ours if name in self.stored}
        if self._forgets_use():
            used = {entry.certificate for entry, _ in entries} | {wanted.default}
            for name in there.keys() & used:
                if there[name].status == UNUSED:
                    there[name] = there[name]._replace(status=USED)
        return Observed(entries, there)

    def confirm(self, lines: Iterable[str]) -> bool:
        """Whether HAProxy has what it had then, in its crt-list these ``lines``, and no
        transaction. Some certificates are asked for again, in turn, at each call."""
        names, listed = self.ask(self.overview)
        found = parse_names(names)
        _, _, shown = _NUMBER.sub("", listed.replace("\0", "")).partition("\n")
        if found.open or set(found.names) != self._names or shown != "\n".join(lines):
            return False
        turn = list(self.stored)[: self._in_turn]
        before = [self.stored[name] for name in turn]
        self.note(turn, self.ask([show("cert", name) for name in turn]))
        return [self.stored.get(name) for name in turn] == before

    def note(self, names: Iterable[str], answers: Iterable[str]) -> None:
        """HAProxy's ``answers`` to the questions for ``names``."""
        for name, answer in zip(names, answers, strict=True):
            self.stored.pop(name, None)
            self._names.discard(name)
            if stored := parse_stored(answer):
                self.stored[name] = stored
                self._names.add(name)

    def ask(self, questions: Sequence[str]) -> list[str]:
        return self.unlocked(questions, self._client.ask_all(questions) if questions else [])

    def unlocked(self, questions: Sequence[str], answers: list[str]) -> list[str]:
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
