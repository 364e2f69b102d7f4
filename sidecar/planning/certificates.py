"""From the certificates that are wanted, and those that HAProxy shows, to the next steps.

A certificate is immutable and named by its content, so a renewal is a new one beside the former. Of
two entries for one SNI the older serves, so there is never a gap: the new entry is added, and takes
over when the former goes. Therefore:

* Nothing goes before all that is missing has come: is loaded, has its entry, and is *shown*.
* An entry goes only if each of its filters that is wanted is shown as wanted. So a filter whose new
  certificate was refused keeps the former.
* A certificate goes when no entry has it.

What to do follows from what is shown alone: do the steps, look, and plan again, until there are
none. Ours is what has its file in our folder, the default certificate, and nothing else: other
entries and certificates are left alone. The default certificate, and one of which HAProxy shows
another serial number or fingerprint than its own, are replaced under their name. Pure.
"""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from sidecar.haproxy.certificates import ListEntry, ShownEntry, Stored, is_name
from sidecar.haproxy.pem import Identity
from sidecar.model.certificates import outranks, wildcard_over

#: Of a certificate, as HAProxy shows it.
USED, UNUSED = "Used", "Unused"


NONE_APART: Mapping[str, Iterable[str]] = MappingProxyType({})


class WantedEntry(NamedTuple):
    """For one filter. ``options``: see `ListEntry`. ``algorithm``: of the certificate's key, see
    `ServerCertificate`. ``excluded``: hosts that a wildcard is not for, see `with_exclusions`."""

    certificate: str
    options: str
    algorithm: str = ""
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """``entries``: filter -> what serves it. ``identities``: name -> what is known by it, of each
    certificate that there is, also of ``default``, which is there for clients without an SNI that
    is known; None: not ours to replace. ``folder``: of our certificates' files."""

    folder: str
    entries: Mapping[str, WantedEntry]
    identities: Mapping[str, Identity]
    default: str | None = None

    def is_ours(self, name: str) -> bool:
        folder, _, file = name.rpartition("/")
        is_inside = folder == self.folder and file.endswith(".pem") and is_name(name)
        return is_inside and name != self.default

    def entry(self, name: str) -> ListEntry:
        """The one for the filter ``name``."""
        certificate, options, _, excluded = self.entries[name]
        return ListEntry(certificate, options, (name, *(f"!{host}" for host in excluded)))

    @property
    def names(self) -> Iterable[str]:
        """The certificates that HAProxy should have, each once."""
        default = [self.default] if self.default in self.identities else []
        used = (item.certificate for item in self.entries.values())
        return dict.fromkeys([*used, *(name for name in default if name)])


@dataclass(frozen=True, slots=True)
class Observed:
    """What HAProxy shows. ``entries``: in their order. ``stored``: by name, as far as ours."""

    entries: tuple[ShownEntry, ...]
    stored: Mapping[str, Stored]


@dataclass(frozen=True, slots=True)
class Steps:
    """What may be done now, in this order; what is later in the order is done after a look."""

    load: tuple[str, ...] = ()
    add: tuple[ListEntry, ...] = ()
    remove: tuple[ShownEntry, ...] = ()
    delete: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.load or self.add or self.remove or self.delete)


def with_exclusions(
    entries: Mapping[str, WantedEntry], apart: Mapping[str, Iterable[str]] = NONE_APART
) -> dict[str, WantedEntry]:
    """The same, each wildcard without the hosts whose own HAProxy would not show beside it.
    ``apart``: wildcard -> hosts without an entry that it is not for either."""
    found: dict[str, set[str]] = {domain: set(hosts) for domain, hosts in apart.items()}
    for host in entries:
        domain = wildcard_over(host)
        if host != domain and domain in entries:
            own, other = entries[host], entries[domain]
            if outranks(other.algorithm, own.algorithm):
                found.setdefault(domain, set()).add(host)
    return {
        name: entry._replace(excluded=tuple(sorted(found.get(name, ()))))
        for name, entry in entries.items()
    }


class Replacement(NamedTuple):
    """What will be another one, for a person. ``filter``: whose clients are shown it, "" for the
    default certificate and for one that no entry has. ``before``, ``after``: certificates, None for
    none; the same where only its content or its entry's options change."""

    filter: str
    before: str | None
    after: str | None


def replacements(wanted: Wanted, observed: Observed) -> Iterator[Replacement]:
    """What the steps from ``observed`` to ``wanted`` come to; nothing if there are none."""
    default = wanted.default
    if default in wanted.identities and default and not is_loaded(default, wanted, observed):
        yield Replacement("", default if default in observed.stored else None, default)
    kept, leaving = _sorted_out(wanted, observed)
    # filter -> the certificate of its first entry that goes
    former: dict[str, str] = {}
    for entry in (item.entry for item in leaving):
        for name in entry.filters or ("",):
            former.setdefault(name, entry.certificate)
    for name, item in wanted.entries.items():
        good = name in kept and is_loaded(item.certificate, wanted, observed)
        if not good or name in former:
            yield Replacement(name, former.get(name), item.certificate)
    for name, certificate in former.items():
        if name not in wanted.entries:
            yield Replacement(name, certificate, None)
    needed = {*wanted.names, *(item.entry.certificate for item in observed.entries)}
    for name, stored in observed.stored.items():
        if wanted.is_ours(name) and name not in needed and stored.status != USED:
            yield Replacement("", name, None)


def plan(wanted: Wanted, observed: Observed, refused: Collection[Hashable] = ()) -> Steps:
    """The next steps. ``refused``: those that are not to be tried again: certificates to load or
    delete by name, entries to add, shown entries to remove."""
    load = tuple(
        name
        for name in wanted.names
        if name in wanted.identities
        and name not in refused
        and not is_loaded(name, wanted, observed)
    )
    there = {item.entry for item in observed.entries}
    missing = (wanted.entry(name) for name in wanted.entries)
    add = tuple(
        entry
        for entry in missing
        if entry not in there
        and entry not in refused
        # Of a certificate that it cannot load HAProxy takes no entry.
        and (entry.certificate in load or is_loaded(entry.certificate, wanted, observed))
    )
    if load or add:
        # For a host that gets its own, its wildcard's was not there before.
        return Steps(load, tuple(sorted(add, key=lambda entry: entry.is_wildcard)))
    leaving = [item for item in _leaving(wanted, observed) if item not in refused]
    # What a wildcard is not for any more has its own, or a former one, until that is so.
    remove = tuple(sorted(leaving, key=lambda item: not item.entry.is_wildcard))
    staying = set(observed.entries).difference(remove)
    needed = {item.entry.certificate for item in staying}.union(wanted.names)
    users = {item.entry.certificate for item in remove}
    delete = tuple(
        name
        for name, stored in observed.stored.items()
        if wanted.is_ours(name)
        and name not in needed
        and name not in refused
        # One that something else uses cannot go.
        and (stored.status != USED or name in users)
    )
    return Steps(remove=remove, delete=delete)


def is_loaded(name: str, wanted: Wanted, observed: Observed) -> bool:
    """Whether HAProxy has the content that ``name`` stands for."""
    stored, identity = observed.stored.get(name), wanted.identities.get(name)
    return stored is not None and identity is not None and stored.is_of(identity)


def is_used(name: str, wanted: Wanted, observed: Observed) -> bool:
    """Whether handshakes may get it."""
    return is_loaded(name, wanted, observed) and observed.stored[name].status == USED


def served(wanted: Wanted, observed: Observed) -> dict[str, str]:
    """Wanted filter -> the certificate that its clients get, where HAProxy leaves no doubt: the one
    wanted, or a former one."""
    found: dict[str, set[str]] = {}
    for entry, _ in observed.entries:
        for name in entry.filters:
            if name in wanted.entries:
                found.setdefault(name, set()).add(entry.certificate)
    shown: dict[str, str] = {}
    for name, certificates in found.items():
        (certificate, *further) = certificates
        stored = observed.stored.get(certificate)
        fits = certificate not in wanted.identities or is_loaded(certificate, wanted, observed)
        if not further and stored and stored.status == USED and fits:
            shown[name] = certificate
    for name in _outranked(shown, observed):
        del shown[name]
    return shown


def _outranked(shown: Mapping[str, str], observed: Observed) -> set[str]:
    """The hosts whose clients get the certificate of a wildcard, though they have one."""
    algorithms = {name: stored.algorithm for name, stored in observed.stored.items()}
    # *.domain -> its entries' certificates, and whom they are not for
    wildcards: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for entry, _ in observed.entries:
        for name in entry.filters:
            if name.startswith("*."):
                wildcards.setdefault(name, []).append((entry.certificate, entry.filters))
    return {
        name
        for name, certificate in shown.items()
        for other, filters in wildcards.get(wildcard_over(name), ())
        if not name.startswith("*.")
        and f"!{name}" not in filters
        and outranks(algorithms.get(other, ""), algorithms[certificate])
    }


def foreign(wanted: Wanted, observed: Observed) -> dict[str, ShownEntry]:
    """Wanted filter -> the first entry that others have put in our list for it: it leaves in doubt
    what clients get."""
    found: dict[str, ShownEntry] = {}
    for item in observed.entries:
        if not wanted.is_ours(item.entry.certificate):
            for name in wanted.entries.keys() & item.entry.filters:
                found.setdefault(name, item)
    return found


def _leaving(wanted: Wanted, observed: Observed) -> Iterable[ShownEntry]:
    """Our entries that are not wanted, or there for a second time, and that nobody would miss."""
    kept, former = _sorted_out(wanted, observed)
    in_place = {
        name for name in kept if is_used(wanted.entries[name].certificate, wanted, observed)
    }
    for item in former:
        # Without a filter it serves the names in its certificate, which may be any.
        positive = [name for name in item.entry.filters if not name.startswith("!")]
        if in_place.issuperset(wanted.entries.keys() & (positive or wanted.entries.keys())):
            yield item


def _sorted_out(wanted: Wanted, observed: Observed) -> tuple[set[str], list[ShownEntry]]:
    """The filters whose entry is as wanted, and our other entries."""
    kept: set[str] = set()
    former: list[ShownEntry] = []
    for item in observed.entries:
        entry = item.entry
        if not wanted.is_ours(entry.certificate):
            continue
        name = entry.filters[0] if entry.filters else ""
        is_wanted = name in wanted.entries and entry == wanted.entry(name)
        if is_wanted and name not in kept:
            kept.add(name)
        else:
            former.append(item)
    return kept, former
