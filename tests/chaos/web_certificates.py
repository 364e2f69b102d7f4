"""The certificates of a chaos run of Routes by host: who has, and is shown, which; and clients.

Each Route name has a few, made once, which the dice renew it with; a handshake shows one by its
label, "" for the default certificate. What HAProxy's crt-list and its files should have,
`problems_of` says from what HAProxy itself shows; the sidecar is asked nothing.
"""

import bisect
import functools
import random
import ssl
import time
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from pki import CA, Issued
from stand import await_
from web_rig import HTTPLine, WebClients
from web_world import HOSTS, NAMES, QUESTIONS, Question, WebWorld

from sidecar.haproxy.certificates import (
    SHOW_NAMES,
    Abort,
    AddListEntry,
    Commit,
    DeleteListEntry,
    ListEntry,
    New,
    Set,
    ShownEntry,
    is_locked,
    parse_entries,
    parse_names,
    show_entries,
)
from sidecar.haproxy.client import RuntimeClient
from sidecar.haproxy.operations import Request
from sidecar.haproxy.pem import Pem
from sidecar.haproxy.web_files import WebFiles

EACH = 3


@functools.cache
def certificates() -> Mapping[str, Issued]:
    """By label: the Route's name, and a number from 1 on."""
    root = CA.root()
    names = (*HOSTS, "*.apps.example")
    return {
        f"{name}.{number}": root.leaf(*names) for name in NAMES for number in range(1, 1 + EACH)
    }


def tls_of(label: str) -> Mapping[str, str]:
    """What a Route has of it in its ``spec.tls``."""
    if not label:
        return {}
    issued = certificates()[label]
    return {"certificate": issued.pem, "key": issued.key_pem}


@functools.cache
def _labels() -> Mapping[str, str]:
    items = certificates().items()
    return {
        sha256(ssl.PEM_cert_to_DER_cert(issued.pem)).hexdigest(): name for name, issued in items
    }


def label_of(der: bytes) -> str:
    return _labels().get(sha256(der).hexdigest(), "")


def label_of_file(path: Path) -> str:
    """Of the leaf in it."""
    return label_of(ssl.PEM_cert_to_DER_cert(path.read_text().partition("-----END")[0] + _END))


_END = "-----END CERTIFICATE-----\n"


def handshake(address: tuple[str, int], host: str) -> str:
    """The label of what a client is shown that names ``host``. Raises OSError, also where a
    passthrough Route's pod greets in clear."""
    with HTTPLine(address, secured=True, sni=host) as line:
        return label_of(line.certificate)


# -- clients -----------------------------------------------------------------------------------


class CertificateClients(WebClients):
    """And some who name the host in their handshake: a certificate that they are shown is one that
    the host should have, or should have had since HAProxy was last seen to be right."""

    def __init__(self, http: tuple[str, int], tls: tuple[str, int], seed: int) -> None:
        super().__init__(http, tls, seed)
        self._wanted = dict.fromkeys(HOSTS, "")
        # host -> label -> when it was last right
        self._last: dict[str, dict[str, float]] = {host: {"": 0.0} for host in HOSTS}
        self.add(self._shake)
        self.add(self._shake)

    def promise(self, world: WebWorld) -> None:
        super().promise(world)
        now = time.time()
        with self.lock:
            for host in HOSTS:
                label = world.certificate(host)
                self._last[host] |= {self._wanted[host]: now, label: now}
                self._wanted[host] = label

    def judge_certificate(self, host: str, label: str, started: float, era: int) -> None:
        with self.lock:
            if not self.trusts(started, era):
                return
            self.counts["certificate"] = self.counts.get("certificate", 0) + 1
            since = self.quiet_at[max(0, bisect.bisect(self.quiet_at, started) - 1)]
            if label != self._wanted[host] and self._last[host].get(label, 0.0) < since:
                self.faults.append(
                    f"{time.time():.3f}: {host} since {started:.3f} has certificate {label!r},"
                    f" right is {self._wanted[host]!r}, and since {since:.3f} {self._last[host]}"
                )

    def _shake(self, dice: random.Random) -> None:
        questions = [question for question in QUESTIONS if question.secured]
        question, started, era = dice.choice(questions), time.time(), self.era
        host = question.host
        try:
            with HTTPLine(self._tls, secured=True, sni=host) as line:
                self.judge_certificate(host, label_of(line.certificate), started, era)
                self.judge(question, line.ask(question), started, era, "named")
        except OSError as exc:
            if not self._may_be_passed(host, started):
                self.judge(question, f"({exc!r})", started, era, "named")

    def _may_be_passed(self, host: str, started: float) -> bool:
        """Whether a Route may have it whose pods end its TLS, be it one that has none: its clients
        are closed then."""
        with self.lock:
            promise = self.promises[Question(host, None)]
            since = self.quiet_at[max(0, bisect.bisect(self.quiet_at, started) - 1)]
            return promise.served.is_wanted or promise.last_wanted >= since


# -- by hand -----------------------------------------------------------------------------------


def tamper(client: RuntimeClient, files: WebFiles, dice: random.Random) -> str:
    """Somebody else changes HAProxy's certificates; what he does."""

    def shown() -> list[str]:
        answers = client.ask_all([show_entries(str(files.certificate_list)), SHOW_NAMES])
        return [] if any(map(is_locked, answers)) else answers

    listed, names = await_(shown, "no command of the sidecar's is carried out bit by bit")
    entries: tuple[ShownEntry, ...] = parse_entries(listed) or ()
    ours = [name for name in parse_names(names).names if Path(name).parent == files.certificates]
    ours = [name for name in ours if Path(name) != files.default_certificate]
    file, host = str(files.certificate_list), dice.choice((*HOSTS, "*.apps.example"))
    issued = certificates()[dice.choice([*certificates()])]
    own = str(files.certificates / f"{'f' * 32}.pem")
    name = dice.choice(ours or [own])
    payload = Pem.of(name, (issued.pem + issued.key_pem).encode()).payload
    ways: dict[str, list[Request]] = {
        "a transaction for ours, left open": [Set("cert", name, payload)],
        "another content under our name": [
            Set("cert", name, payload),
            Commit("cert", name),
        ],
        "a new one in our folder, unused": [
            New("cert", own),
            Set("cert", own, payload),
            Commit("cert", own),
        ],
        "a new one, half made": [New("cert", own), Set("cert", own, payload)],
        "ours for another host": [AddListEntry(file, ListEntry(name, "", (host,)))],
        "ours for all names in it": [AddListEntry(file, ListEntry(name, "", ()))],
        "aborted": [Abort("cert", name)],
    }
    if entries:
        item = dice.choice(entries)
        gone = DeleteListEntry(file, item.entry.certificate, item.number)
        ways["an entry less"] = [gone]
        ways["no entry at all"] = [
            DeleteListEntry(file, each.entry.certificate, each.number) for each in entries
        ]
        ways["an entry moved to the end"] = [gone, AddListEntry(file, item.entry)]
    how = dice.choice([*ways])
    client.apply(ways[how])
    return f"{how}: {name}, {host}"


# -- at quiet points ---------------------------------------------------------------------------


def problems_of(
    client: RuntimeClient, files: WebFiles, world: WebWorld, *, thorough: bool
) -> Iterator[str]:
    """What HAProxy's list and its files have that is not as ``world`` says."""
    listed, names = client.ask_all([show_entries(str(files.certificate_list)), SHOW_NAMES])
    if is_locked(listed) or is_locked(names):
        # The sidecar is in the middle of a command that HAProxy carries out bit by bit.
        yield f"HAProxy is locked: {listed}, {names}"
        return
    entries = [item.entry for item in parse_entries(listed) or ()]
    wanted = world.certificates()
    if sorted(name for entry in entries for name in entry.filters) != sorted(wanted):
        yield f"crt-list: {entries}, wanted are {wanted}"
        return
    if files.certificate_list.read_text() != "".join(f"{entry.line}\n" for entry in entries):
        yield f"{files.certificate_list} is not what HAProxy shows: {entries}"
        return
    for entry in entries:
        label = label_of_file(Path(entry.certificate))
        if label != wanted[entry.filters[0]]:
            yield f"{entry}: the file has {label}, wanted are {wanted}"
    if not thorough:
        return
    used = {entry.certificate for entry in entries} | {str(files.default_certificate)}
    found = set(map(str, files.certificates.glob("*.pem")))
    if found != used:
        yield f"files {found}, used are {used}"
    shown = parse_names(names)
    if shown.open is not None or set(shown.names) - {str(files.client_certificate)} != used:
        yield f"HAProxy stores {shown}, used are {used}"
    modes = {path.stat().st_mode & 0o777 for path in files.certificates.glob("*.pem")}
    if modes - {0o640}:
        yield f"modes of files with keys: {modes}"
