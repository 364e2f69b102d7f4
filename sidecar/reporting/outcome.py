"""What became of each Route, as the daemon tells it to whoever passes it on to its author.

Owns the words between the loop and a `Reporter`. Must not know who is told, nor how. Pure.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from sidecar.model.change import Change
from sidecar.model.objects import Key
from sidecar.model.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a Route that names this router: the `Verdict` that the claims give, and how
    far HAProxy has got, of which a verdict must know nothing.

    ``port``: the one that it owns, even where the verdict is that it is not admitted, as without a
    Service; the rest is only said of a Route that has one. ``verified``:
    HAProxy was read back and shows what the port should be. ``open``: it takes connections.
    ``failure``: why HAProxy does not get there, tried more than once; "" otherwise. ``left_out``:
    how many of its servers found no room. ``subject``: what it has, ``port 30000`` or a host and
    path. ``host``: the effective one of a Route by host, ``wildcard`` whether it has its domain.
    """

    verdict: Verdict
    port: int | None = None
    verified: bool = False
    open: bool = False
    failure: str = ""
    left_out: int = 0
    subject: str = ""
    host: str = ""
    wildcard: bool = False


class Reporter(AbstractContextManager[Any], Protocol):
    """Passes on what became of Routes; entered for as long as the loop runs."""

    def tell(
        self,
        changes: Sequence[Change],
        outcomes: Mapping[Key, Outcome | None],
        proposed_ports: Mapping[Key, int],
    ) -> None:
        """Take what is new since the last call; returns at once, and never raises.

        ``changes``: as the source had them. ``outcomes``: None for a Route that does not name
        this router. ``proposed_ports``: all that `Routing.proposed_ports` has now.
        """

    def leave(self) -> None:
        """Let another replica pass it on: end what is under way, then write nothing more, whatever
        is told. Returns at once; may be called from any thread, and again."""
