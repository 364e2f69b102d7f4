"""Queries the running sidecar over its HTTP port, as a browser would. By no library of the many
that know more: a command that only asks is to be quick."""

import base64
import json
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from sidecar.cli.whom import TOKEN_FILE_VARIABLE, NoSidecarError, Sidecar
from sidecar.common.errors import UsageError
from sidecar.common.shapes import ShapeError
from sidecar.common.text import one_line, reason_of

T = TypeVar("T")

#: Of an answer that is not what was asked for, a message shows so much.
_SHOWN_MAX = 300


def ask_sidecar(sidecar: Sidecar, path: str, query: Mapping[str, str]) -> Any:
    """The JSON at ``path``. Raises NoSidecarError; UsageError if it does not understand."""
    headers = {}
    if sidecar.token_file:
        headers["Authorization"] = _authorization(_token(sidecar.token_file))
    asked = f"?{urlencode(query)}" if query else ""
    # No proxy of the environment: it would look for the sidecar on its own machine.
    connection = _connection(sidecar)
    try:
        connection.request("GET", f"{sidecar.base.path.rstrip('/')}{path}{asked}", headers=headers)
        with connection.getresponse() as answer:
            body = answer.read()
        return _json(sidecar, answer, body)
    except OSError as exc:
        raise NoSidecarError(f"nothing answers at {sidecar.title}: {reason_of(exc)}") from exc
    except HTTPException as exc:
        raise NoSidecarError(f"the server at {sidecar.title} is not a sidecar") from exc
    finally:
        connection.close()


def ask_shaped(
    sidecar: Sidecar, path: str, query: Mapping[str, str], read: Callable[[Any], T]
) -> T:
    """The same as ``read`` makes a value of it, which raises ShapeError for what it does not know.
    Raises as `ask_sidecar` does."""
    try:
        return read(ask_sidecar(sidecar, path, query))
    except ShapeError as exc:
        raise NoSidecarError(f"the sidecar at {sidecar.title} is of another version") from exc


def _connection(sidecar: Sidecar) -> HTTPConnection:
    base, seconds = sidecar.base, sidecar.timeout_seconds + sidecar.patience_seconds
    if base.scheme == "http":
        return HTTPConnection(base.hostname or "", base.port, timeout=seconds)
    from http.client import HTTPSConnection

    return HTTPSConnection(base.hostname or "", base.port, timeout=seconds)


def _json(sidecar: Sidecar, answer: HTTPResponse, body: bytes) -> Any:
    if answer.status == 200:
        try:
            return json.loads(body)
        except ValueError as exc:
            raise NoSidecarError(f"the server at {sidecar.title} is not a sidecar") from exc
    said = one_line(body.decode(errors="replace"), _SHOWN_MAX)
    if answer.status == 400:
        raise UsageError(said)
    if answer.status == 401 and sidecar.token_file is None:
        said += f"; set {TOKEN_FILE_VARIABLE} to a file that has it"
    raise NoSidecarError(f"{sidecar.title} answered {answer.status}: {said}")


def _authorization(token: str) -> str:
    """Of a header, which has no other characters than these."""
    if token.isascii() and token.isprintable():
        return f"Bearer {token}"
    return f"Basic {base64.b64encode(f':{token}'.encode()).decode()}"


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        problem = f"cannot be read: {reason_of(exc)}"
    else:
        if token:
            return token
        problem = "is empty"
    raise NoSidecarError(f"the file of the token, {path}, {problem}")
