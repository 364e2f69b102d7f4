"""HAProxy's Runtime API as bytes: encode commands, frame replies. Sans-IO, like h11.

Follows management.txt 9.3 ("Unix Socket commands") and measurements on 2.4 to 3.5. The rules:

* The connection is put into interactive mode once, by the command ``prompt``. From then on one
  line is one command, and each reply ends with a newline, ``>`` and a space, on every version.
  (Without the prompt, or with several commands joined by ``;``, framing differs by version.)
* So one command is one line: an argument with a newline or ``;`` would become a second command,
  ``<<`` would open a payload, a space would split it, a backslash would escape what follows.
  None of our arguments needs any of them, hence they are refused instead of escaped; quotes too,
  which HAProxy takes for letters. ``#`` is a letter as well (``show map #0``), no comment.
* A payload (a map's entries, a certificate) stands on the lines after ``<<`` and ends with an empty
  one, so it has none itself: what came behind it would run as commands.
* A client that goes away while replies wait for it ends what HAProxy begins then, without a word.
  For a commit of certificates or CAs that is fatal: HAProxy frees what it was about and goes on to
  remember it, so that the next client's abort, or for CAs its look, kills it (found on 2.6 with
  AddressSanitizer; 3.0 and 3.2 can be killed so, too). So one is sent when all else is answered.
* At most `IN_FLIGHT_MAX_BYTES` may be unanswered: 3.2.0 hangs above 16,384 (haproxy #3064). A
  command with its payload goes alone, and stays below tune.bufsize: 2.6 dies at exactly that.

Must not import sockets or clocks; `sidecar.haproxy.client` moves the bytes.
"""

import re
from dataclasses import dataclass, field
from typing import Self

from sidecar.common.errors import LocalProtocolError, RemoteProtocolError

#: Half of HAProxy's default tune.bufsize.
IN_FLIGHT_MAX_BYTES = 8192

#: A command and its payload, with some room below HAProxy's default tune.bufsize of 16,384.
WITH_PAYLOAD_MAX_BYTES = 16_000

#: What ends each reply in interactive mode.
PROMPT = b"\n> "

#: What a HAProxy master's own CLI shows instead (management.txt 9.4).
MASTER_PROMPT = b"master> "

#: More than `show servers state` of 65,535 ports with 16 slots each; beyond it is no reply.
REPLY_MAX_BYTES = 256 * 1024 * 1024

_COMMIT = b"commit ssl "

_ECHO = re.compile(r"\A(?:\+ )*")

_UNSAFE = re.compile(r"[^ -~]|[;\\\"']|<<")
# The same the other way round, but for "<<": three times as fast, and asked for each command.
_SAFE = re.compile(r"[ !#-&(-:<-\[\]-~]*")


@dataclass(frozen=True, slots=True)
class Command:
    """What HAProxy is sent. ``line``: for anybody to read. ``payload``: what follows it, without
    an empty line in it; ``str()`` and ``repr()`` never show it, as it may be a private key."""

    line: str
    payload: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, *words: str, payload: bytes | None = None) -> Self:
        """The command that has these words. Raises LocalProtocolError if HAProxy would see
        others."""
        line = " ".join(words)
        if line.count(" ") != len(words) - 1 or not all(words):
            raise LocalProtocolError(f"a word is empty or has a space: {words!r}")
        return cls(line, payload)

    def __str__(self) -> str:
        return self.line


def encode(command: Command) -> bytes:
    """The bytes of one command. Raises LocalProtocolError, which never shows the payload, if they
    would not arrive as exactly that."""
    line = encode_line(command.line)
    if command.payload is None:
        return line
    payload = command.payload.rstrip(b"\n")
    if b"\0" in payload or not all(part.strip() for part in payload.split(b"\n")):
        raise LocalProtocolError(f"the payload of {command.line!r} has an empty line or a NUL")
    encoded = b"%s <<\n%s\n\n" % (line[:-1], payload)
    if len(encoded) > WITH_PAYLOAD_MAX_BYTES:
        raise LocalProtocolError(
            f"{command.line!r} has {len(encoded)} bytes with its payload, HAProxy takes"
            f" {WITH_PAYLOAD_MAX_BYTES}"
        )
    return encoded


def waits_for_all(command: bytes) -> bool:
    """Whether it may be sent only when all that was sent before is answered."""
    return command.startswith(_COMMIT)


def encode_line(line: str) -> bytes:
    """A command that already is one line, with single spaces between its arguments.

    Raises LocalProtocolError if it would not arrive as exactly one command.
    """
    if (not _SAFE.fullmatch(line) or "<<" in line) and (found := _UNSAFE.search(line)):
        raise LocalProtocolError(f"{found[0]!r} cannot be sent in a command: {line!r}")
    if not line or line.isspace():
        # HAProxy up to 2.6 answers an empty line with its whole help.
        raise LocalProtocolError("a command cannot be empty")
    if len(line) >= IN_FLIGHT_MAX_BYTES:
        raise LocalProtocolError(f"a command of {len(line)} bytes is longer than HAProxy's buffer")
    return f"{line}\n".encode("ascii")


class ReplyFraming:
    """Cuts the stream of an interactive connection into replies, whatever way it is split.

    Feed it what arrived; it gives each reply that became complete, in the order of the commands,
    as text without the newlines around it.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no PROMPT starts before this offset

    def receive_data(self, data: bytes) -> list[str]:
        """Raises RemoteProtocolError if what piles up cannot be a reply."""
        self._buffer += data
        if self._buffer.find(PROMPT, self._searched) < 0:
            self._searched = max(0, len(self._buffer) - len(PROMPT) + 1)
            if len(self._buffer) > REPLY_MAX_BYTES:
                raise RemoteProtocolError(f"a reply of more than {REPLY_MAX_BYTES} bytes")
            return []
        replies, _, self._buffer = self._buffer.rpartition(PROMPT)
        self._searched = 0
        return [reply.strip("\n") for reply in _text(replies).split(_text(PROMPT))]

    @property
    def idle(self) -> bool:
        """Whether nothing of a further reply has come."""
        return not self._buffer

    @property
    def unfinished(self) -> str:
        """The start of a reply that has not ended yet, for an error message."""
        return reply_text(self._buffer[:80])


def without_echo(reply: str) -> str:
    """The reply to a command with a payload, for each line of which 2.6 and 3.0 say ``+ ``."""
    return _ECHO.sub("", reply, count=1)


def reply_text(reply: bytes | bytearray) -> str:
    """A complete reply as text, without the newlines around it."""
    return _text(reply).strip("\n")


def _text(data: bytes | bytearray) -> str:
    # latin-1 never fails, and everything that we compare is ASCII.
    return data.decode("latin-1")
