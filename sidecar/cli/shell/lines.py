"""What may be typed in the shell, and which replies mean failure.

Must not know the pool, nor judge or change a command beyond what `sidecar.haproxy.protocol` can
transport: the person at the keyboard knows better. Pure.
"""

import re

from sidecar.common.errors import LocalProtocolError, UsageError
from sidecar.haproxy.protocol import encode_line

_SEPARATOR = re.compile(r"(?<!\\);")

_TARGET = re.compile(r"@{1,2}(?:!?[0-9]+|master)")

# How a refusal starts, on 2.6 to 3.2: HAProxy has no status codes. The number is there after
# "set severity-output number". What is not listed passes for an answer.
_REFUSAL = re.compile(
    r"(?:\[\w+\]: )?(?:"
    r"Unknown (?:command|map|ACL)|No such |Can't |Cannot |Could not |Failed|Invalid |Missing "
    r"|Permission denied|This command is restricted|Required? |Expects |[Uu]sage: "
    r"|(?:Absolute|Relative|Empty) weight|Integer value expected|A frontend name is expected"
    r"|Already exists |Only servers in maintenance|Server still has|(?:health|agent) checks are "
    r"|Frontend was previously shut down|(?:Variable|Session|Key) not found|Session pointer "
    r"|'[^'\n]*'? expects |one of '|[^\n]*problem converting port )"
)


def split_line(line: str) -> list[str]:
    """The commands of a line, separated by ``;``; none of a comment.

    They are sent one by one, since HAProxy's framing of ``;`` differs by version. Raises
    UsageError for what cannot be sent, so that nothing of such a line is.
    """
    if line.lstrip().startswith("#"):
        return []
    # Quotes and backslashes cannot be sent, hence spaces never mean more than "the next word".
    commands = [" ".join(part.split()) for part in _SEPARATOR.split(line)]
    commands = [command for command in commands if command]
    for command in commands:
        if "<<" in command:
            # What is behind it may be a private key.
            begun = command.partition("<<")[0]
            raise UsageError(f"payloads (<<) are not supported, only single lines: {begun}<<")
        if split_target(command)[1].split(" ")[0] == "prompt":
            raise UsageError("'prompt' is not sent: the shell already uses that mode")
        try:
            encode_line(command)
        except LocalProtocolError as exc:
            raise UsageError(str(exc)) from exc
    return commands


def last_command(line: str) -> str:
    """The unfinished command at the end of ``line``, as it was typed."""
    return _SEPARATOR.split(line)[-1]


def split_target(command: str) -> tuple[str, str]:
    """``@1 show info`` as ``@1`` and ``show info``; without a target "" and the command.

    Only a master's CLI knows targets: which of its processes a command is for.
    """
    first, _, rest = command.partition(" ")
    return (first, rest) if _TARGET.fullmatch(first) else ("", command)


def leaves(command: str) -> bool:
    """Whether this ends the shell instead of being sent: HAProxy would close the connection."""
    return command.split(" ", maxsplit=1)[0] in ("quit", "exit")


def is_refusal(reply: str) -> bool:
    """Whether HAProxy's ``reply`` is known to mean that it did not do it."""
    return _REFUSAL.match(reply) is not None
