"""Every error that this package raises on purpose, sorted by who is at fault.

Each carries data (the request, the answer) besides its text, and the exit code that the command
line returns for it. Must not import any other package of ours: all layers raise these.
"""

from collections.abc import Mapping, Sequence
from typing import Any


class SidecarError(Exception):
    """The base of all our errors; ``str()`` of it is a message for a user."""

    exit_code = 1


class UsageError(SidecarError):
    """The command line asked for something that does not exist."""

    exit_code = 2


class SettingsError(SidecarError):
    """The settings cannot be used. ``problems``: one line each, naming key, value and remedy."""

    exit_code = 2

    def __init__(self, origin: str, problems: Sequence[str]) -> None:
        self.origin = origin
        self.problems = tuple(problems)
        super().__init__("\n".join([f"settings {origin}:", *(f"  {line}" for line in problems)]))


class ObjectError(SidecarError):
    """A Kubernetes object has a field of the wrong shape.

    ``field`` is a path (``spec.to.name``), ``problem`` names the value and what would be right.
    """

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class CertificateError(SidecarError):
    """Text that should be certificates or private keys is not; shows nothing of that text."""


class SourceError(SidecarError):
    """A source (folder of manifests, Kubernetes API) cannot be read at all."""

    exit_code = 3


class HAProxyError(SidecarError):
    """HAProxy could not be started, or is not the one that we rendered for."""

    exit_code = 3


class BusyError(SidecarError):
    """The running sidecar has no time for a question now."""

    exit_code = 3


class LocalProtocolError(SidecarError):
    """We were about to send HAProxy something that it would misread. A fault of ours."""


class RuntimeAPIError(SidecarError):
    """The base of what goes wrong between us and HAProxy's Runtime API."""

    exit_code = 3


class CommandRefusedError(RuntimeAPIError):
    """HAProxy answered ``command`` with something that does not mean success."""

    def __init__(self, command: str, reply: str) -> None:
        self.command = command
        self.reply = reply
        super().__init__(f"HAProxy answered {reply[:200]!r} to {command[:200]!r}")


class CertificateRefusedError(RuntimeAPIError):
    """HAProxy does not serve the certificate ``name``: it said ``problem``, or shows it."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(f"certificate {name}: {problem}")


class AddressNotShownError(RuntimeAPIError):
    """HAProxy accepted a server's address, and does not show it: it must not get traffic yet."""

    def __init__(self) -> None:
        super().__init__("HAProxy accepted an address but does not show it")


class RemoteProtocolError(RuntimeAPIError):
    """HAProxy (or whatever listens there) sent bytes that are no reply of the Runtime API."""


class MasterSocketError(RemoteProtocolError):
    """``address`` is the CLI of HAProxy's master process, not of the worker that has the pool."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(
            f"{address} is the CLI of HAProxy's master (-S); name the worker's own,"
            " which is `stats socket` in haproxy.cfg"
        )


class DisconnectedError(RuntimeAPIError):
    """The socket is absent, refuses, hangs or broke: ``address`` says where, ``doing`` when.

    Commands that were under way may or may not have been carried out: observe again.
    """

    def __init__(self, address: str, doing: str, problem: str) -> None:
        self.address = address
        self.doing = doing
        self.problem = problem
        super().__init__(f"HAProxy's Runtime API at {address}: {doing}: {problem}")


class StoppingError(DisconnectedError):
    """HAProxy got SIGUSR1: its ports are closed, it takes no changes, and it ends with the last of
    its ``sessions``; not before our own connection ends, though."""

    def __init__(self, address: str, pid: int, sessions: int) -> None:
        self.sessions = sessions
        super().__init__(address, "looking", f"HAProxy (PID {pid}) is stopping")


class APIServerError(SidecarError):
    """The base of what goes wrong between us and the Kubernetes API server."""

    exit_code = 3


class ApiError(APIServerError):
    """The API server answered ``asked`` (verb and path) with something other than success.

    ``status``: of HTTP. ``reason``, ``message``, ``details``: those of the Status object, where
    the body is one (``reason`` is HTTP's otherwise). ``retry_after_seconds``: None where it names
    no time.
    """

    def __init__(
        self,
        asked: str,
        status: int,
        reason: str,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.asked = asked
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        self.details = details or {}
        super().__init__(f"{asked}: {status} {reason}: {message}")


class ApiUnreachableError(APIServerError):
    """There is no API server at ``host``, it hangs, the connection broke, or TLS or credentials
    do not work. ``doing`` says when.

    What was asked may or may not have been carried out: look again.
    """

    def __init__(self, host: str, doing: str, problem: str) -> None:
        self.host = host
        self.doing = doing
        self.problem = problem
        super().__init__(f"the API server at {host}: {doing}: {problem}")
