"""HAProxy's Runtime API as bytes: encode commands, frame replies. Sans-IO, like h11.

Follows management.txt 9.3 ("Unix Socket commands") and measurements on 2.4 to 3.5. The rules:

* The connection is put into interactive mode once, by the command ``prompt``. From then on one
  line is one command, and each reply ends with a newline, ``>`` and a space, on every version.
  (Without the prompt, or with several commands joined by ``;``, framing differs by version.)
* So one command is one line: an argument with a newline or ``;`` would become a second command,
  ``<<`` would open a payload, a space would split it, a backslash would escape what follows.
  None of our arguments needs any of them, hence they are refused instead of escaped; quotes too,
  which HAProxy takes for letters. ``#`` is a letter as well (``show map #0``), no comment.
* At most `IN_FLIGHT_MAX_BYTES` may be unanswered: 3.2.0 hangs above 16,384 (haproxy #3064).

Must not import sockets or clocks; `sidecar.haproxy.client` moves the bytes.
"""

import re

from sidecar.common.errors import LocalProtocolError, RemoteProtocolError

#: Half of HAProxy's default tune.bufsize.
IN_FLIGHT_MAX_BYTES = 8192

#: What ends each reply in interactive mode.
PROMPT = b"\n> "

#: What a HAProxy master's own CLI shows instead (management.txt 9.4).
MASTER_PROMPT = b"master> "

#: More than `show servers state` of 65,535 ports with 16 slots each; beyond it is no reply.
REPLY_MAX_BYTES = 256 * 1024 * 1024

_UNSAFE = re.compile(r"[^ -~]|[;\\\"']|<<")
# The same the other way round, but for "<<": three times as fast, and asked for each command.
_SAFE = re.compile(r"[ !#-&(-:<-\[\]-~]*")


def encode(*arguments: str) -> bytes:
    """One command as a line. Raises LocalProtocolError for an argument HAProxy would misread."""
    line = " ".join(arguments)
    if line.count(" ") != len(arguments) - 1 or not all(arguments):
        raise LocalProtocolError(f"an argument is empty or has a space: {arguments!r}")
    return encode_line(line)


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


def reply_text(reply: bytes | bytearray) -> str:
    """A complete reply as text, without the newlines around it."""
    return _text(reply).strip("\n")


def _text(data: bytes | bytearray) -> str:
    # latin-1 never fails, and everything that we compare is ASCII.
    return data.decode("latin-1")
