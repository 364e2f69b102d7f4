"""Which running sidecar a command asks: the one of the settings, or the one at a URL."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from sidecar.cli.config import load_whereabouts
from sidecar.common.errors import SidecarError, UsageError
from sidecar.common.hostport import split_host_port
from sidecar.common.text import shown
from sidecar.settings.whereabouts import TIMEOUT_SECONDS, Whereabouts

#: Instead of http.token_file: where the token is on this machine.
TOKEN_FILE_VARIABLE = "SIDECAR_TOKEN_FILE"  # noqa: S105  its name, not what is in it


#: Longer than it takes the sidecar to find that it has no time.
PATIENCE_SECONDS = 5.0


class NoSidecarError(SidecarError):
    """No sidecar of these settings answers, or none at this URL; ``str()`` says why."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Where it is. ``title``: as its user wrote it. ``base``: of all its paths. ``token_file``:
    None where no token is sent. ``timeout_seconds``: that it may wait for HAProxy;
    ``patience_seconds``: beside these. ``serves``: the
    router and HAProxy's socket that it must have; None: whatever it has, since it was named."""

    title: str
    base: SplitResult
    token_file: Path | None
    timeout_seconds: float
    serves: tuple[str, str] | None
    patience_seconds: float = PATIENCE_SECONDS

    def refuse_another(self, router_name: str, socket: str) -> None:
        """Raises NoSidecarError if who answered drives another HAProxy than the settings'."""
        if self.serves not in (None, (router_name, socket)):
            raise NoSidecarError(
                f"the sidecar at {self.title} serves router {router_name!r} with HAProxy at"
                f" {socket}; is -c right?"
            )


def find_sidecar(config: Path | None, url: str | None) -> Sidecar:
    """The one at ``url``, or else of the settings ``config``. Raises NoSidecarError, UsageError,
    SettingsError."""
    if url is None:
        return sidecar_of(load_whereabouts(config))
    return sidecar_at(url, load_whereabouts(config) if config else None)


def sidecar_of(settings: Whereabouts) -> Sidecar:
    """The one that has these settings. Raises NoSidecarError where it cannot be asked."""
    if settings.listen is None:
        raise NoSidecarError("http.listen is null")
    return Sidecar(
        settings.listen,
        urlsplit(f"http://{_here(settings.listen)}"),
        token_file(settings.token_file),
        settings.timeout_seconds,
        (settings.router_name, settings.socket),
    )


def sidecar_at(url: str, settings: Whereabouts | None) -> Sidecar:
    """The one at ``url``. ``settings``: of it, if there are any here, for its token's file. Raises
    UsageError."""
    base = _base(url)
    if base is None:
        raise UsageError(f"--url: {shown(url)}: write http://HOST:PORT, like http://127.0.0.1:8405")
    own, seconds = None, TIMEOUT_SECONDS
    if settings:
        own, seconds = settings.token_file, settings.timeout_seconds
    return Sidecar(url, base, token_file(own), seconds, None)


def token_file(own: Path | None) -> Path | None:
    """The environment's, or else the settings' ``own``."""
    given = os.environ.get(TOKEN_FILE_VARIABLE)
    return Path(given) if given else own


def _base(url: str) -> SplitResult | None:
    """``url`` taken apart; None if no sidecar could be there."""
    if not (url.isascii() and url.isprintable()) or " " in url:
        return None
    try:
        base = urlsplit(url)
        _ = base.port  # may be no number
    except ValueError:
        return None
    fits = base.scheme in ("http", "https") and base.hostname and "@" not in base.netloc
    return base if fits and not base.query and not base.fragment else None


def _here(listen: str) -> str:
    """Where to find, from this machine, what listens there: 0.0.0.0 is nowhere to connect to."""
    host, port = split_host_port(listen)
    if host in ("0.0.0.0", "::"):  # noqa: S104  what is compared is not bound
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
