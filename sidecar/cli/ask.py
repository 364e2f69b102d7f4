"""Queries the running sidecar over its HTTP port, as a browser would."""

from collections.abc import Mapping
from typing import Any

import requests

from sidecar.admin.pages import token_reader
from sidecar.common.errors import SidecarError, UsageError
from sidecar.common.hostport import split_host_port
from sidecar.settings.schema import Settings

#: Beside what the sidecar may wait for HAProxy: longer than it takes to find that it has no time.
_PATIENCE_SECONDS = 5.0


class NoSidecarError(SidecarError):
    """No sidecar of these settings answers; ``str()`` says why."""

    exit_code = 3


def ask_sidecar(settings: Settings, path: str, query: Mapping[str, str]) -> Any:
    """The JSON at ``path``. Raises NoSidecarError; UsageError if it does not understand."""
    listen = settings.http.listen
    if listen is None:
        raise NoSidecarError("http.listen is null")
    headers = {}
    if settings.http.token_file:
        headers["Authorization"] = f"Bearer {token_reader(settings.http.token_file)()}"
    with requests.Session() as session:
        # A proxy of the environment would look for the sidecar on its own machine.
        session.trust_env = False
        try:
            answer = session.get(
                f"http://{_here(listen)}{path}",
                params=query,
                headers=headers,
                timeout=settings.haproxy.timeout + _PATIENCE_SECONDS,
            )
            if answer.status_code == requests.codes.bad_request:
                raise UsageError(answer.text.strip())
            if not answer.ok:
                said = answer.text.strip()[:300]
                raise NoSidecarError(f"{listen} answered {answer.status_code}: {said}")
            return answer.json()
        except requests.exceptions.JSONDecodeError as exc:
            raise NoSidecarError(f"the server at {listen} is not a sidecar") from exc
        except requests.RequestException as exc:
            raise NoSidecarError(f"nothing answers at {listen}: {_reason(exc)}") from exc


def _here(listen: str) -> str:
    """Where to find, from this machine, what listens there: 0.0.0.0 is nowhere to connect to."""
    host, port = split_host_port(listen)
    if host in ("0.0.0.0", "::"):  # noqa: S104  what is compared is not bound
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: BaseException) -> str:
    """The innermost one says what happened, without the layers above it."""
    while isinstance(error.__context__, Exception):
        error = error.__context__
    return getattr(error, "strerror", None) or type(error).__name__
