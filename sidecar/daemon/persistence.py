"""What outlives HAProxy and the sidecar: small files next to HAProxy's own state.

HAProxy's servers and maps, for an HAProxy that restarts on its own; the ports of `auto` Routes; and
which HAProxy has converged, for a sidecar that replaces another one. Decides only when to write.
"""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from sidecar.common.errors import LocalProtocolError
from sidecar.common.files import KeptFile
from sidecar.control.certificate_files import AuthorityFiles
from sidecar.control.reconciler import Reconciler
from sidecar.haproxy.maps import parse_map_file, render_map
from sidecar.listeners.attributes import AttributeMap
from sidecar.listeners.mapped import MappedBackends
from sidecar.listeners.port_maps import PORT_GUARDS, between
from sidecar.listeners.tcp import TCPPorts
from sidecar.model.desired import BackendName
from sidecar.routing.table import Routing
from sidecar.settings.schema import Settings

log = logging.getLogger(__name__)

#: All is written at most this often, and in at most one part of this many of the time; but what
#: changed is not left unsaved for long because HAProxy or a disk was slow once.
_SAVE_SECONDS = 1.0
_SAVE_SHARE = 50
_SAVE_MOST_SECONDS = 5.0

_NEVER_SECONDS = 3600.0


class Persistence:
    """Writes them when they changed. ``auto_ports``: as they are in the file; None: somebody else
    keeps them, the Routes themselves say it. ``ports``, ``web``: their maps are saved, too. For the
    loop's thread."""

    def __init__(
        self,
        settings: Settings,
        routing: Routing,
        reconciler: Reconciler,
        auto_ports: Mapping[str, int] | None,
        ports: TCPPorts,
        web: MappedBackends | None,
    ) -> None:
        told = ports.maps.maps if ports.maps.is_known else ()
        self._ports = [(MapFile(Path(item.file)), item) for item in told]
        self._maps = [(MapFile(Path(item.file)), item) for item in web.maps] if web else []
        self._attributes = (
            [(MapFile(Path(item.file)), item) for item in web.attribute_maps] if web else []
        )
        self._trust = web.trust if web else None
        self._authorities = AuthorityFiles()
        if routing.web:
            saved = (file.saved.values() for file, _ in self._maps)
            routing.web.was_saved(BackendName(value) for values in saved for value in values)
        self._routing = routing
        self._reconciler = reconciler
        self._state_file = KeptFile(settings.haproxy.state_file)
        self._auto_ports_file = KeptFile(auto_ports_file(settings))
        self._programmed_file = KeptFile(programmed_file(settings))
        # None: whether a predecessor lived to save what it changed is not known
        self._saved_changes: int | None = None
        # what is in the file, and how often the ports had changed when that was last compared
        self._auto_ports = auto_ports
        self._auto_changes = 0
        self._programmed = reconciler.known.programmed
        self._save_at = float("-inf")

    def save(self, *, at_once: bool = False) -> float:
        """Write what is due; in how many seconds to come again."""
        reconciler = self._reconciler
        changes = reconciler.changes
        web = self._routing.web
        stale = changes != self._saved_changes or bool(web and web.waits_for_saving())
        stale = stale and not reconciler.known.connection_error
        if not (
            stale
            or self._routing.autos.changes != self._auto_changes
            or reconciler.known.programmed != self._programmed
        ):
            return _NEVER_SECONDS
        wait = self._save_at - time.monotonic()
        if wait > 0 and not at_once:
            return wait
        started = time.monotonic()
        self._save_auto_ports()
        if stale:
            self._save_state(changes)
        if reconciler.known.programmed != self._programmed:
            self._save_programmed()
        ended = time.monotonic()
        pause = min(_SAVE_MOST_SECONDS, max(_SAVE_SECONDS, _SAVE_SHARE * (ended - started)))
        self._save_at = ended + pause
        return pause

    def saved(self, name: str) -> Mapping[str, str]:
        """What is in the file of the entry map ``name``; another object once that is another."""
        return next((file.saved for file, item in self._maps if item.name == name), {})

    def _save_auto_ports(self) -> None:
        changes, ports = self._routing.autos.changes, self._routing.autos.ports
        if self._auto_ports is not None and ports != self._auto_ports:
            if not self._auto_ports_file.write(json.dumps(ports, indent=1) + "\n"):
                return
            self._auto_ports = ports
        self._auto_changes = changes

    def _save_state(self, changes: int) -> None:
        # Between two steps no port is half way: each is as desired, or still as it was.
        state = self._reconciler.observer.state
        if not state or not self._save_port_maps() or not self._state_file.write(state):
            return
        if self._save_maps():
            self._saved_changes = changes
            if self._routing.web:
                self._routing.web.saved()

    def _save_port_maps(self) -> bool:
        """Make them hold what guards each port, whether HAProxy restarts with its servers as they
        were saved or as they are."""
        written = [
            file.write(
                between(file.saved, item.entries)
                if item.name == PORT_GUARDS
                else {**file.saved, **item.entries}
            )
            for file, item in self._used_port_maps
        ]
        return all(written)

    @property
    def _used_port_maps(self) -> list[tuple["MapFile", AttributeMap]]:
        return [(file, item) for file, item in self._ports if file.saved or item.entries]

    def _save_maps(self) -> bool:
        """Whether all are as HAProxy has them. Whenever HAProxy restarts in between, no entry leads
        to a backend without what guards that: it is written first, and goes last."""
        attributes = self._attributes
        guards = [file.write({**file.saved, **item.entries}) for file, item in attributes]
        if self._trust:
            guards.append(self._authorities.save(self._trust.shown))
        if not all(guards):
            return False
        # Each, though another fails.
        entries = [file.write(item.leads) for file, item in self._maps]
        if not all(entries):
            return False
        guards = [file.write(item.entries) for file, item in (*attributes, *self._used_port_maps)]
        return all(guards)

    def _save_programmed(self) -> None:
        if self._programmed_file.write(json.dumps(self._reconciler.known.programmed) + "\n"):
            self._programmed = self._reconciler.known.programmed


class MapFile:
    """The file of a map, which HAProxy reads when it starts and never writes. ``saved``: what is in
    it."""

    def __init__(self, path: Path) -> None:
        self._file = KeptFile(path)
        self.saved = _entries(path)
        # Somebody else's file may say the same in other words, which HAProxy reads otherwise.
        self._is_ours = False

    def write(self, entries: Mapping[str, str]) -> bool:
        """Make it hold ``entries``, which HAProxy has taken; whether it does."""
        if not self._is_ours or entries != self.saved:
            self._is_ours = self._file.write(render_map(entries))
            if self._is_ours:
                self.saved = dict(entries)
        return self._is_ours


def _entries(path: Path) -> Mapping[str, str]:
    """Those of a saved map that could be ours. Without the file, HAProxy starts with none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    return {key: value for key, value in parse_map_file(text).items() if _is_fit(key, value)}


def _is_fit(key: str, value: str) -> bool:
    try:
        render_map({key: value})
    except LocalProtocolError:
        return False
    return True


def answers_file(settings: Settings) -> Path:
    """Where the last answers of DNS outlive the sidecar."""
    return settings.haproxy.state_file.with_name("dns-answers.json")


def auto_ports_file(settings: Settings) -> Path:
    """Where the ports of ``auto`` Routes outlive the sidecar."""
    return settings.haproxy.state_file.with_name("auto-ports.json")


def programmed_file(settings: Settings) -> Path:
    """Where it outlives the sidecar which HAProxy was brought to what is desired."""
    return settings.haproxy.state_file.with_name("programmed.json")


def read_auto_ports(path: Path) -> Mapping[str, int]:
    """Route UID -> port, as the last sidecar wrote it; empty if it cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {str(uid): int(port) for uid, port in data.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as exc:
        log.error("%s: %s; auto Routes may get different ports than before", path, exc)  # noqa: TRY400
        return {}


def read_programmed(path: Path) -> tuple[int, int] | None:
    """PID and start time of that HAProxy; None if they are not known, which only costs time."""
    try:
        pid, start_time_seconds = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return None
    return pid, start_time_seconds
