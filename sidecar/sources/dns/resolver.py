"""The external names that Routes use: who follows them, and their last known addresses.

Owns the file in which the last answers survive the sidecar, so that its successor needs no DNS to
leave HAProxy unchanged. Routing says which names are needed. `sidecar.sources.dns.following`
follows them; it is not even loaded (asyncio, DNS: 6 MB) until there is one.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.common.files import KeptFile
from sidecar.model.change import Change, Sink
from sidecar.model.objects import DNSAnswer

if TYPE_CHECKING:
    from sidecar.sources.dns.following import Follower

log = logging.getLogger(__name__)

#: As it stands in `Sink.publish`. It is none of those that must sync first: a name that is not
#: known yet holds up nobody else.
ORIGIN = "dns"


class Resolver:
    """Follows names for as long as they are wanted. Its thread starts with the first one.

    ``file``: where the last answers are kept. ``sink``: gets them, and the kept ones at once.
    ``servers``: ``ip:port`` each; without any, those of /etc/resolv.conf. ``timeout_seconds``: for
    one look. ``keep_seconds``: as in `follow`.
    """

    def __init__(
        self,
        file: Path,
        sink: Sink,
        servers: Sequence[str],
        timeout_seconds: float,
        keep_seconds: float,
    ) -> None:
        self._wanted: frozenset[str] | None = None
        self._kept = read_answers(file)
        self._follower: Follower | None = None

        def publish(changes: Sequence[Change]) -> None:
            sink.publish(ORIGIN, changes, ())

        def begin() -> "Follower":
            from sidecar.sources.dns.following import Follower

            kept = KeptFile(file)
            return Follower(
                self._kept,
                publish,
                lambda answers: kept.write(answers_json(answers)),
                servers,
                timeout_seconds,
                keep_seconds,
            )

        self._begin = begin
        if self._kept:
            publish([Change(item.key, item) for item in self._kept])

    def want(self, names: frozenset[str]) -> None:
        """Follow just these names from now on. Called from the reconciler's thread."""
        if names is self._wanted:
            return
        self._wanted = names
        if self._follower is None:
            if not names and not self._kept:
                return
            self._follower = self._begin()
        self._follower.want(names)

    def close(self) -> None:
        """Ask no more, and save the last answers."""
        if self._follower is not None:
            self._follower.close()
            self._follower = None


def read_answers(path: Path) -> list[DNSAnswer]:
    """The last good answers, as the last sidecar wrote them; none if they cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return [DNSAnswer(name, tuple(map(str, addresses)), "") for name, addresses in data.items()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError, TypeError) as exc:
        log.error("%s: %s; external names stay unresolved until DNS answers", path, exc)  # noqa: TRY400
        return []


def answers_json(answers: Iterable[DNSAnswer]) -> str:
    """What `read_answers` is to find."""
    data = {answer.name: answer.addresses for answer in sorted(answers, key=lambda one: one.name)}
    return json.dumps(data, indent=1) + "\n"
