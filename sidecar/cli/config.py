"""The settings from a file, as commands get them. Loads their whole form only where all of them are
needed."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.common.errors import SettingsError
from sidecar.common.text import reason_of
from sidecar.settings.whereabouts import Whereabouts, whereabouts

if TYPE_CHECKING:
    from sidecar.settings.schema import Settings


def load_settings(path: Path | None) -> "Settings":
    """The settings of ``path``, or the defaults; the environment may name the router.

    Raises SettingsError.
    """
    from sidecar.settings.parsing import parse_settings

    return parse_settings(_text(path), os.environ, "(defaults)" if path is None else str(path))


def load_whereabouts(path: Path | None) -> Whereabouts:
    """The same, of what says where the sidecar is. Mistakes in other sections are not found.

    Raises SettingsError.
    """
    found = whereabouts(_text(path), os.environ)
    return found or whereabouts_of(load_settings(path))


def whereabouts_of(settings: "Settings") -> Whereabouts:
    return Whereabouts(
        settings.router_name,
        settings.haproxy.absolute_socket,
        settings.haproxy.timeout,
        settings.http.listen,
        settings.http.token_file,
    )


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = reason_of(exc) if isinstance(exc, OSError) else "not UTF-8 text"
        raise SettingsError(str(path), [f"cannot be read: {reason}"]) from exc
