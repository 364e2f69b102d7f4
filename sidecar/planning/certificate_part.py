"""HAProxy's crt-list as it is known, by filter and by certificate: the part that a change is about.

`sidecar.planning.certificates` plans for a part as it does for all, at the cost of that part. It
must be whole: all entries of each filter and certificate in it, and nothing whose entry depends on
what is outside, as that of a wildcard does (`with_exclusions`). Pure.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sidecar.haproxy.certificates import ListEntry, ShownEntry
from sidecar.model.certificates import wildcard_over
from sidecar.planning.certificates import WantedEntry


class Part(NamedTuple):
    """``filters``: whose entries are as wanted once the part is. ``entries``: those that HAProxy
    has of them."""

    filters: frozenset[str]
    entries: tuple[ShownEntry, ...]


class KnownList:
    """``entries``: as last shown, and after the changes that were made since."""

    def __init__(self, entries: Iterable[ShownEntry]) -> None:
        self._of_filter: dict[str, dict[ShownEntry, None]] = {}
        self._of_certificate: dict[str, dict[ShownEntry, None]] = {}
        self._lines: dict[ShownEntry, str] = {}
        for item in entries:
            self._put(item)

    @property
    def lines(self) -> Iterable[str]:
        """Each entry, in their order, as HAProxy shows it without a number."""
        return self._lines.values()

    def change(self, added: Iterable[ListEntry], removed: Iterable[ShownEntry]) -> None:
        for item in removed:
            self._lines.pop(item, None)
            for index, name in self._places(item):
                index[name].pop(item, None)
                if not index[name]:
                    del index[name]
        for entry in added:
            self._put(ShownEntry(entry, None))

    def part(self, filters: Iterable[str], wanted: Mapping[str, WantedEntry]) -> Part | None:
        """That with ``filters``, of all that are ``wanted``; None: there is a wildcard in it, or an
        entry for all names of a certificate."""
        found: dict[ShownEntry, None] = {}
        certificates, reached = set[str](), set[str]()
        left = set(filters)
        while left:
            name = left.pop()
            if not name or name.startswith(("*", "!")):
                return None
            domain = wildcard_over(name)
            if domain in wanted or domain in self._of_filter:
                return None
            reached.add(name)
            items = dict(self._of_filter.get(name, {}))
            used = {item.entry.certificate for item in items}
            if entry := wanted.get(name):
                used.add(entry.certificate)
            for certificate in used - certificates:
                certificates.add(certificate)
                items |= self._of_certificate.get(certificate, {})
            found |= items
            left |= {other for item in items for other in item.entry.filters or ("",)} - reached
        return Part(frozenset(reached), tuple(found))

    def _put(self, item: ShownEntry) -> None:
        certificate, options, filters = item.entry
        middle = (f"[{options}]",) if options else ()
        self._lines[item] = " ".join((certificate, *middle, *filters))
        for index, name in self._places(item):
            index.setdefault(name, {})[item] = None

    def _places(self, item: ShownEntry) -> Iterable[tuple[dict[str, dict[ShownEntry, None]], str]]:
        yield self._of_certificate, item.entry.certificate
        for name in item.entry.filters:
            yield self._of_filter, name
