"""The shell's connection to HAProxy's CLI at an address, of a worker or a master."""

from collections.abc import Sequence

from sidecar.cli.shell.lines import split_target
from sidecar.common.errors import MasterSocketError
from sidecar.haproxy.client import MasterClient, RuntimeClient, readable

#: HAProxy answers within milliseconds; if it hangs, typing hangs this long, once in a while.
_ASIDE_PATIENCE_SECONDS = 0.5


class Conversation:
    """One CLI, which shows only when it is talked to whose it is.

    ``target``: of a master's CLI, where commands without a target of their own go (``@1``); "" is
    the master itself.
    """

    def __init__(self, address: str, timeout_seconds: float) -> None:
        self.address = address
        self.target = ""
        self._timeout_seconds = timeout_seconds
        self._worker = RuntimeClient(address, timeout_seconds)
        self._is_master = False

    @property
    def is_master(self) -> bool:
        """Whether it was found to be a master's."""
        return self._is_master

    @property
    def connections(self) -> int:
        """How often a lasting connection was made; a change tells that modes set on the former
        one are off."""
        return self._worker.connections

    def ask(self, command: str) -> str:
        """The reply as HAProxy sent it. A connection that HAProxy closed while nothing was asked
        (a restart, ``stats timeout``) is not worth an error: nothing was under way."""
        if not self._is_master:
            descriptor = self._worker.fileno()
            if descriptor is not None and readable([descriptor], 0):
                self._worker.close()
            try:
                return _as_sent(self._worker.ask(command))
            except MasterSocketError:
                self._is_master = True
        target, rest = split_target(command)
        if target and not rest:
            self.target = "" if target.endswith("master") else target
            return ""
        return self._ask_master(command if target else f"{self.target} {command}".lstrip())

    def _ask_master(self, command: str) -> str:
        return _as_sent(MasterClient(self.address, self._timeout_seconds).ask(command))

    def aside(self, command: str) -> str:
        """Ask on a connection of its own, which is not held, since HAProxy has only ten; a target
        has to be named."""
        return self.aside_all([command])[0]

    def aside_all(self, commands: Sequence[str]) -> list[str]:
        """The same, of several."""
        patience = min(self._timeout_seconds, _ASIDE_PATIENCE_SECONDS)
        if self._is_master:
            return [MasterClient(self.address, patience).ask(command) for command in commands]
        with RuntimeClient(self.address, patience) as client:
            return client.ask_all(commands)

    def close(self) -> None:
        """Drop the connection; the next question opens another."""
        self._worker.close()


def _as_sent(reply: str) -> str:
    return reply.encode("latin-1").decode(errors="replace")
