"""Between a typed command and HAProxy: which commands change it, and what to know before.

Allows only what is known to change nothing, because each version of HAProxy adds commands. Must not
access HAProxy or files. Pure.
"""

import re

from sidecar.cli.shell.lines import split_target
from sidecar.common.durations import format_duration
from sidecar.haproxy.naming import port_of_backend, port_of_frontend

#: First words of commands that look, or that change this connection only.
_HARMLESS = re.compile(
    r"(?:show|get|help|quit|exit|user|operator|echo|wait|dump|experimental-mode|expert-mode"
    r"|mcli-debug-mode|set severity-output|set timeout cli|set anon (?:on|off))(?: |$)"
)

#: What is worse than it looks.
_CAUTIONS = (
    (
        re.compile(r"shutdown frontend "),
        "it closes the port until HAProxy restarts; `disable frontend` can be undone",
    ),
    (
        re.compile(r"set maxconn frontend \S+ 0$"),
        "it crashes HAProxy 2.6 to 3.0 when the limit is raised again (haproxy #2726)",
    ),
    (
        re.compile(r"(?:hard-)?reload$"),
        "it starts a second worker and stops the first, which this router never does",
    ),
    (
        re.compile(r"shutdown sessions? "),
        "`haproxy-sidecar kick` ends the sessions on a port at a limited rate",
    ),
)


def changes(command: str) -> bool:
    """Whether this may change HAProxy."""
    _, rest = split_target(command)
    return bool(rest) and not _HARMLESS.match(rest)


def caution(command: str) -> str:
    """What is worse about ``command`` than it looks, or ""."""
    _, rest = split_target(command)
    return next((text for pattern, text in _CAUTIONS if pattern.match(rest)), "")


def port_of(command: str) -> int | None:
    """The port of the pool that ``command`` names, by its frontend, backend or server."""
    for word in command.split(" "):
        name = word.partition("/")[0]
        port = port_of_backend(name)
        if port is None:
            port = port_of_frontend(name)
        if port is not None:
            return port
    return None


def prospect(command: str, held: frozenset[int], resync_seconds: float) -> str:
    """What becomes of the change, and how to have it otherwise; "" if nothing undoes it."""
    port = port_of(command)
    if port is None:
        return ""
    if port in held:
        return f"port {port} is held, so the change stays until `haproxy-sidecar release {port}`"
    return (
        f"the sidecar will revert port {port} within {format_duration(resync_seconds)};"
        f" `haproxy-sidecar hold {port}` prevents that"
    )
