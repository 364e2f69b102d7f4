"""HAProxy's certificates, CA and CRL files over the Runtime API: what they show, what changes them.

Certificates, CA and CRL files are in a *store* each, by names that are paths but need no file; a
crt-list says which certificate is for which SNI. The rules, measured on 2.6, 3.0 and 3.2:

* There is one transaction a store in the whole process, not a connection, and it outlives that
  which began it. ``set`` begins it. On 2.6 a second ``set``, of whatever name, loads into the one
  that is open, and says "updated". So a set worked only if it says "created", and names ours.
* While one connection's ``commit`` runs, all of the others' commands about certificates are
  refused.
* A ``commit`` that is refused mostly leaves the transaction open: abort it. To abort where there is
  none does no harm.
* A refusal may contain the words of success, so replies are compared whole.
* An entry is known by its line, which nothing else ever gets: lines do not move when one goes, and
  numbers are not given twice.
* Of two entries for one SNI the older serves. A filter that HAProxy cannot use, and a second equal
  entry, are taken without a word.
* A PEM without a certificate makes a CA file of none, successfully, and so with a CRL file.

* Of the certificates for an SNI, and those for its wildcard, the kind of key counts first: see
  `sidecar.model.certificates.outranks`. Unless the wildcard's entry says ``!`` and the name.

An entry has one name here, and no ``ca-file`` among its options: replacing the certificate
between two changes of such a CA file kills 2.6 and 3.0 (haproxy #3165). Pure.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sidecar.common.errors import LocalProtocolError, RemoteProtocolError
from sidecar.common.text import shown
from sidecar.haproxy.pem import Identity
from sidecar.haproxy.protocol import Command

#: Which store: as commands have it.
Store = Literal["cert", "ca-file", "crl-file"]

#: What may stand in a name: no blank, quote or backslash, nor the colon before a line's number.
_NAME = re.compile(r"/[A-Za-z0-9_/.+@~=-]+")

#: At the end of a name they mean another certificate's extra file.
_EXTRA = (".key", ".ocsp", ".issuer", ".sctl")

#: A host name, or one with a wildcard for its first label, as clients send it.
_HOST = r"(?=[^ ]{1,253}(?: |\Z))[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*"
_FILTERS = re.compile(rf"{_HOST}|(?=[^ ]{{1,253}}(?: |\Z))\*\.{_HOST}(?: !{_HOST})*")

#: A command may have 16 kB, with all else in it.
_FILTERS_MAX = 8000

#: All that an entry of ours may have. HAProxy shows several options in an order of its own: with
#: one more, they must be written in that, or they look changed for ever.
_OPTIONS = re.compile(r"alpn [A-Za-z0-9_.:/+-]+(?:,[A-Za-z0-9_.:/+-]+)*")

_ENTRY = re.compile(r"([^ ]+):([0-9]+)(?: \[([^\]]*)\])?(?: (.*))?")

#: HAProxy's beginnings of "there is none": of a crt-list, of a certificate or CA file.
_NO_LIST = "didn't find the specified filename"
_NOT_FOUND = ("Can't display the certificate: Not found", "Can't display the CA file : Not found")

#: When another transaction is in the way; what is refused for it may work the next time.
_IN_THE_WAY = re.compile(r"Transaction updated for certificate |The ongoing transaction is about '")

#: That nothing has; and HAProxy's reply to who would abort that, while there is a transaction.
_NO_NAME = "/-"
_BEGUN_IS = re.compile(
    rf"The ongoing transaction is about '(.*)' but you are trying to abort a transaction for"
    rf" '{_NO_NAME}'"
)

#: The end of a reply, to questions too, while HAProxy carries out another connection's commit.
_LOCKED = "\nOperations on certificates are currently locked!"

#: HAProxy's reply, by store.
_BEGUN: Mapping[Store, str] = {
    "cert": "Transaction created for certificate {}!",
    "ca-file": "transaction created for CA {}!",
    "crl-file": "transaction created for CRL {}!",
}


def is_name(name: str) -> bool:
    """Whether HAProxy can keep something under it, and all commands carry it."""
    return _NAME.fullmatch(name) is not None and not name.endswith(_EXTRA)


def checked_name(name: str) -> str:
    """Itself. Raises LocalProtocolError if it is not a name."""
    if not is_name(name):
        raise LocalProtocolError(
            f"{shown(name)} cannot be the name of a certificate: it must be an absolute path of"
            f" letters, digits and _/.+@~=-, and not end in {', '.join(_EXTRA)}"
        )
    return name


class ListEntry(NamedTuple):
    """An entry of a crt-list. ``options``: as between its brackets; empty: those of the bind.
    ``filters``: names, and with a ``!`` those that others' wildcards are not for."""

    certificate: str
    options: str
    filters: tuple[str, ...]

    @property
    def is_wildcard(self) -> bool:
        return any(name.startswith("*.") for name in self.filters)

    @property
    def line(self) -> str:
        """As payloads and files have it. Raises LocalProtocolError if HAProxy would read another,
        or not start with it."""
        checked_name(self.certificate)
        if not _FILTERS.fullmatch(" ".join(self.filters)):
            raise LocalProtocolError(
                f"certificate {self.certificate}: {shown(' '.join(self.filters))} must be one host"
                " name in lower case, or *. and one and then such with a ! before them"
            )
        if len(" ".join(self.filters)) > _FILTERS_MAX:
            raise LocalProtocolError(
                f"certificate {self.certificate}: too many hosts of {self.filters[0]} have one that"
                " HAProxy would not prefer to it; use one with another kind of key"
            )
        if self.options and not _OPTIONS.fullmatch(self.options):
            raise LocalProtocolError(
                f"certificate {self.certificate}: options {shown(self.options)}: valid is alpn with"
                " its protocols"
            )
        options = (f"[{self.options}]",) if self.options else ()
        return " ".join((self.certificate, *options, *self.filters))


class ShownEntry(NamedTuple):
    """One that HAProxy shows, or is known to have. ``number``: of its line, which no other ever
    gets; None where HAProxy did not show it yet."""

    entry: ListEntry
    number: int | None


class Stored(NamedTuple):
    """A certificate or CA file in HAProxy. ``serial``: empty while it is. ``fingerprints``: of
    each certificate in a CA file; of a certificate only that which is served. Those with keys of
    Ed25519 have none. ``algorithm``: of a certificate's key, like ``EC256``; empty for those."""

    status: str
    serial: str
    fingerprints: tuple[str, ...]
    algorithm: str = ""

    def is_of(self, identity: Identity) -> bool:
        """Whether that is the certificate which is served."""
        fingerprint = self.fingerprints[0] if self.fingerprints else identity.fingerprint
        return (self.serial, fingerprint) == identity


class Names(NamedTuple):
    """What is in a store. ``open``: the name that the transaction is about, None without one."""

    open: str | None
    names: tuple[str, ...]


# -- what HAProxy shows ------------------------------------------------------------------------


def ask_begun(store: Store) -> str:
    """The question for the transaction that is open, which aborts none. One that was interrupted
    must not be shown: for CA files that kills HAProxy, see `sidecar.haproxy.protocol`."""
    return f"abort ssl {store} {_NO_NAME}"


def parse_begun(text: str) -> str | None:
    """`ask_begun`: what it is about; None without one. Raises RemoteProtocolError if it is
    something else, as while HAProxy `is_locked`."""
    if text == "No ongoing transaction!":
        return None
    if found := _BEGUN_IS.fullmatch(text):
        return found[1]
    raise RemoteProtocolError(f"no answer of 'abort ssl': {text[:200]!r}")


#: All certificates by their files, see `parse_names`.
SHOW_NAMES = "show ssl cert"


def show(store: Store, name: str) -> str:
    return f"show ssl {store} {name}"


def show_entries(list_file: str) -> str:
    return f"show ssl crt-list -n {list_file}"


def parse_names(text: str) -> Names:
    """`SHOW_NAMES`. Raises RemoteProtocolError if it is something else."""
    begun: str | None = None
    names: list[str] = []
    is_open: bool | None = None
    for line in text.split("\n") if text else ():
        if line in {"# transaction", "# filename"}:
            is_open = line == "# transaction"
            continue
        if is_open is None or line.startswith("*") != is_open:
            raise RemoteProtocolError(f"no answer of 'show ssl': {text[:200]!r}")
        if is_open:
            begun = line[1:]
        else:
            names.append(line)
    return Names(begun, tuple(names))


def parse_stored(text: str) -> Stored | None:
    """`show`; None where there is none of that name. Raises RemoteProtocolError if it is something
    else."""
    if text.startswith(_NOT_FOUND):
        return None
    if not text.startswith("Filename: "):
        raise RemoteProtocolError(f"no answer of 'show ssl': {text[:200]!r}")
    rows = [line.partition(": ") for line in text.split("\n")]
    fields: dict[str, list[str]] = {}
    for key, _, value in rows:
        fields.setdefault(key, []).append(value)
    (status, *_) = fields.get("Status", [""])
    (serial, *_) = fields.get("Serial", [""])
    (algorithm, *_) = fields.get("Algorithm", [""])
    return Stored(status, serial, tuple(fields.get("SHA1 FingerPrint", [])), algorithm)


def parse_entries(text: str) -> tuple[ShownEntry, ...] | None:
    """`show_entries`, in their order; None: HAProxy has no such list. Raises RemoteProtocolError if
    it is something else."""
    if text.startswith(_NO_LIST):
        return None
    head, *lines = text.replace("\0", "").split("\n")  # one follows the value of alpn
    rows = [_ENTRY.fullmatch(line) for line in lines]
    if not head.startswith("# ") or None in rows:
        raise RemoteProtocolError(f"no answer of 'show ssl crt-list': {text[:200]!r}")
    return tuple(
        ShownEntry(ListEntry(row[1], row[3] or "", tuple((row[4] or "").split())), int(row[2]))
        for row in rows
        if row
    )


def is_in_the_way(reply: str) -> bool:
    """Whether it was refused only because of what another connection does."""
    return is_locked(reply) or _IN_THE_WAY.match(reply) is not None


def is_ended(reply: str) -> bool:
    """Whether a commit was refused because there is no transaction any more."""
    return reply.startswith("No ongoing transaction!")


def is_locked(reply: str) -> bool:
    """Whether HAProxy says nothing now, as another connection's commit is not done yet."""
    return reply.endswith(_LOCKED)


# -- the stores --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class New:
    """Make ``name``, empty. A CA file is there from HAProxy's start."""

    store: Literal["cert"]
    name: str

    def command(self) -> Command:
        return Command.of("new", "ssl", self.store, checked_name(self.name))

    def succeeded(self, reply: str) -> bool:
        return reply == f"New empty certificate store '{self.name}'!"


@dataclass(frozen=True, slots=True)
class Set:
    """Begin a transaction that gives ``name`` the content of a `Pem`."""

    store: Store
    name: str
    payload: bytes = field(repr=False)

    def command(self) -> Command:
        return Command.of("set", "ssl", self.store, checked_name(self.name), payload=self.payload)

    def succeeded(self, reply: str) -> bool:
        return reply == _BEGUN[self.store].format(self.name)


@dataclass(frozen=True, slots=True)
class Commit:
    """End the transaction: what has ``name`` serves it from the next handshake on."""

    store: Store
    name: str

    def command(self) -> Command:
        return Command.of("commit", "ssl", self.store, checked_name(self.name))

    def succeeded(self, reply: str) -> bool:
        return _is_done(f"Committing {self.name}", reply)


@dataclass(frozen=True, slots=True)
class Abort:
    """Forget the transaction, if there is one of ``name``."""

    store: Store
    name: str

    def command(self) -> Command:
        # Maybe somebody else's: any name that a command can carry.
        return Command.of("abort", "ssl", self.store, self.name)

    def succeeded(self, reply: str) -> bool:
        done = f"Transaction aborted for certificate '{self.name}'!"
        return reply in {done, "No ongoing transaction!"}


@dataclass(frozen=True, slots=True)
class Delete:
    """Take ``name`` away, which nothing uses. No CA file goes."""

    store: Literal["cert"]
    name: str

    def command(self) -> Command:
        return Command.of("del", "ssl", self.store, checked_name(self.name))

    def succeeded(self, reply: str) -> bool:
        return reply == f"Certificate '{self.name}' deleted!"


# -- the list ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddListEntry:
    """Let a stored certificate serve the entry's filter, if no older entry does."""

    list_file: str
    entry: ListEntry

    def command(self) -> Command:
        payload = self.entry.line.encode("ascii")
        return Command.of("add", "ssl", "crt-list", checked_name(self.list_file), payload=payload)

    def succeeded(self, reply: str) -> bool:
        name = self.entry.certificate
        start = f"Inserting certificate '{name}' in crt-list '{self.list_file}'"
        return _is_done(start, reply)


@dataclass(frozen=True, slots=True)
class DeleteListEntry:
    """Take the entry at that line away; connections stay. Without a line HAProxy refuses it where
    the certificate has several."""

    list_file: str
    certificate: str
    number: int | None

    def command(self) -> Command:
        where = checked_name(self.certificate)
        if self.number is not None:
            where = f"{where}:{self.number}"
        return Command.of("del", "ssl", "crt-list", checked_name(self.list_file), where)

    def succeeded(self, reply: str) -> bool:
        return reply == f"Entry '{self.certificate}' deleted in crtlist '{self.list_file}'!"


def _is_done(start: str, reply: str) -> bool:
    """Whether only a dot for each entry is between ``start`` and success."""
    done = reply.removeprefix(start)
    return reply.startswith(start) and done.lstrip(".") == "\nSuccess!"
