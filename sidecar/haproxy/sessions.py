"""HAProxy's sessions as values: the parsing of ``show sess`` and ``show sess all``.

HAProxy writes both for people and changes them from version to version (2.6 says ``rx=`` per
channel where 3.0 says ``rex=`` per side), so what is not found is None, and what is not known is
passed over. Sources: management.txt 9.3 ("show sess"), and the output of 2.6, 3.0 and 3.2. Pure.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sidecar.common.errors import RemoteProtocolError
from sidecar.haproxy.naming import backend_name, frontend_name, web_backend

_START = re.compile(r"^(0x[0-9a-f]+): ", re.MULTILINE)

#: In one line, and in several: the same fields by their two names.
_WORD = re.compile(r"(?<=[\s(])(src|source|fe|frontend|be|backend|srv|server|age)=([^\s,)]*)")
_NAMES = {"src": "source", "fe": "frontend", "be": "backend", "srv": "server"}

#: ``req=…`` and ``scf=…`` belong to the client's side, ``res=…`` and ``scb=…`` to the server's:
#: ``rq[…]`` and ``scf=[…]`` in one line, a section up to the next one in several.
_SECTION = re.compile(r"(?<=\s)(req|res|rq|rp|scf|scb)(?:=|(?=\[))")
_CLIENT_SIDE = frozenset({"req", "rq", "scf"})
_READ_EXPIRES = re.compile(r"\br(?:e)?x=([^\s,\]]*)")
_TOTAL = re.compile(r"\btotal=([0-9]+)")
_SERVER_ADDRESS = re.compile(r"\n *server=\S+ \(id=[^)]*\) addr=(\S+)")

_SPAN = re.compile(r"(?:[0-9]+[dhms])+")
_PART = re.compile(r"([0-9]+)([dhms])")
_UNITS_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class Session(NamedTuple):
    """One connection through HAProxy.

    ``id``: HAProxy's name for it, an address in its memory that is used again once it ended.
    ``client``: ``ip:port``. ``backend``, ``server``: None until HAProxy chose one.
    ``age_seconds``: to the minute where it is over an hour, since HAProxy writes it so.
    ``client_left_seconds``, ``server_left_seconds``: until the time-out of that side.
    ``address``, ``bytes_in`` (from the client), ``bytes_out``: of ``show sess all`` only; the
    address is the one that this session is connected to.
    """

    id: str
    client: str
    frontend: str
    backend: str | None
    server: str | None
    age_seconds: int | None
    client_left_seconds: int | None
    server_left_seconds: int | None
    address: str | None
    bytes_in: int | None
    bytes_out: int | None

    def idle_seconds(self, client_timeout_seconds: float, server_timeout_seconds: float) -> int:
        """For how long neither side has sent anything; all its age where HAProxy does not say.

        Each byte starts its side's time-out anew, so what is left of it tells.
        """
        pairs = (
            (client_timeout_seconds, self.client_left_seconds),
            (server_timeout_seconds, self.server_left_seconds),
        )
        idle = [round(timeout) - left for timeout, left in pairs if left is not None]
        if self.age_seconds is not None:
            idle.append(self.age_seconds)  # HAProxy rounds what is left down
        return max(0, min(idle, default=0))


def parse_sessions(text: str) -> list[Session]:
    """``show sess`` or ``show sess all``, of all proxies.

    Raises RemoteProtocolError if it is something else.
    """
    return [_session(block) for block in _blocks(text)]


def parse_port_sessions(text: str, port: int) -> list[Session]:
    """Those that came in on ``port`` of the pool; the others are not even looked at. On a port that
    is shared by SNI, slots of several backends have one name: there it is ``backend/slot``."""
    ours = frontend_name(port)
    pattern = re.compile(rf"\b(?:fe|frontend)={re.escape(ours)}[\s(]")
    found = (_session(block) for block in _blocks(text) if pattern.search(block))
    return [named for item in found if (named := _with_slot_of(item, port))]


def _with_slot_of(item: Session, port: int) -> Session | None:
    """``item`` as one of ``port``; None if its backend is none that the port can lead to."""
    if item.backend in (None, backend_name(port)):
        return item
    if web_backend(item.backend or "") is None:
        return None
    return item._replace(server=item.server and f"{item.backend}/{item.server}")


def with_ages(found: Iterable[Session], briefly: Iterable[Session]) -> list[Session]:
    """``found``, of ``show sess all``, as old as ``briefly``, of ``show sess``, says.

    In the former 2.6 subtracts the machine's time from its own, which falls behind with each pause:
    it says too little, or ``?``.
    """
    ages = {item.id: item.age_seconds for item in briefly}
    return [item._replace(age_seconds=ages.get(item.id, item.age_seconds)) for item in found]


def _blocks(text: str) -> Iterator[str]:
    """The text of each session."""
    bounds = [*(found.start() for found in _START.finditer(text)), len(text)]
    if len(bounds) == 1 and text.strip():
        raise RemoteProtocolError(f"not a reply to 'show sess': {text[:200]!r}")
    for start, end in itertools.pairwise(bounds):
        yield text[start:end]


def _session(block: str) -> Session:
    name, _, rest = block.partition(": ")
    fields: dict[str, str] = {}
    for key, value in _WORD.findall(f" {rest}"):
        fields.setdefault(_NAMES.get(key, key), value)
    left: dict[bool, int | None] = {}
    total: dict[bool, int] = {}
    for client_side, part in _sections(rest):
        if (found := _READ_EXPIRES.search(part)) and client_side not in left:
            left[client_side] = parse_span(found[1])
        if found := _TOTAL.search(part):
            total[client_side] = int(found[1])
    address = _SERVER_ADDRESS.search(rest)
    return Session(
        name,
        fields.get("source", ""),
        fields.get("frontend", ""),
        _named(fields.get("backend")),
        _named(fields.get("server")),
        parse_span(fields.get("age", "")),
        left.get(True),
        left.get(False),
        address[1] if address else None,
        total.get(True),
        total.get(False),
    )


def _sections(rest: str) -> Iterator[tuple[bool, str]]:
    """Whether it is of the client's side, and its text."""
    marks = list(_SECTION.finditer(rest))
    bounds = [*(mark.start() for mark in marks), len(rest)]
    for mark, end in zip(marks, bounds[1:], strict=True):
        yield mark[1] in _CLIENT_SIDE, rest[mark.end() : end]


def _named(value: str | None) -> str | None:
    """``<NONE>`` and ``<none>`` stand for what is not there."""
    return None if value is None or value.startswith("<") else value


def parse_span(text: str) -> int | None:
    """Seconds of ``59m58s``; None where HAProxy writes nothing, or ``<NEVER>``."""
    if not _SPAN.fullmatch(text):
        return None
    return sum(int(count) * _UNITS_SECONDS[unit] for count, unit in _PART.findall(text))
