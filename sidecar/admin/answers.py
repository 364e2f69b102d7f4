"""What the sidecar's HTTP port answers. Read-only and stateless: the content comes from others.

Probes and metrics are open; the page and /api are limited to those whom `sidecar.admin.auth`
admits. Knows no sockets: `sidecar.admin.server` has the connections.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import parse_qsl

from sidecar.admin.auth import Access, host_name
from sidecar.admin.delivery import compressed, is_known, tag_of, takes_gzip
from sidecar.common.errors import BusyError, UsageError

log = logging.getLogger(__name__)

#: RFC 9110 section 4.1 asks for 8,000 at least; ours have some hundred.
TARGET_MAX_BYTES = 8000


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back. ``headers``: those that only this answer has."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """``target``: as in the request line. ``host``, ``authorization``: its headers, or None.
    ``reached``: the address that the client is connected to. ``if_none_match``,
    ``accept_encoding``: what it has, and how it takes what it does not have."""

    method: str
    target: str
    host: str | None = None
    authorization: str | None = None
    reached: str = ""
    if_none_match: str | None = None
    accept_encoding: str | None = None


#: Makes the answer to a request; gets its query's keys and values.
Page = Callable[[Mapping[str, str]], Answer]


class Health(NamedTuple):
    """What a probe says. ``text``: what is wrong, also where that is no reason to say no."""

    ok: bool
    text: str


#: Says it at once.
Probe = Callable[[], Health]

#: Makes an answer; may take its time.
Work = Callable[[], Answer]


def text(status: int, message: str, **headers: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", f"{message}\n".encode(), headers)


def target_too_long() -> Answer:
    return text(414, f"path and query are longer than {TARGET_MAX_BYTES} bytes")


def as_json(data: object) -> Answer:
    return Answer(200, "application/json", json.dumps(data).encode())


@dataclass(frozen=True, slots=True)
class Site:
    """All that there is, by path. ``probes`` wait for nothing, so nothing that waits holds them up;
    ``open``, ``guarded``: pages; ``access``: to the latter."""

    probes: Mapping[str, Probe]
    open: Mapping[str, Page]
    guarded: Mapping[str, Page]
    access: Access

    def answer(self, request: Request) -> Answer | Work:
        """The answer, or what makes it if that may take its time."""
        if request.method not in ("GET", "HEAD"):
            return text(405, "only GET and HEAD are allowed", Allow="GET, HEAD")
        if len(request.target) > TARGET_MAX_BYTES:
            return target_too_long()
        host, target = _target(request)
        if not target.startswith("/"):
            return text(400, "the request's target is not a path")
        if host is not None and host_name(host) is None:
            return text(400, "the Host header is not a host, or host:port")
        path, _, query = target.partition("?")
        if probe := self.probes.get(path):
            return _made(lambda: _probed(probe))
        if page := self.open.get(path):
            return lambda: _made(lambda: page(_asked(query)))
        if guarded := self.guarded.get(path):
            return lambda: _made(
                lambda: self._denied(host, request) or _delivered(guarded(_asked(query)), request)
            )
        there_are = ", ".join([*self.probes, *self.open, *self.guarded])
        return text(404, f"not found; available: {there_are}")

    def _denied(self, host: str | None, request: Request) -> Answer | None:
        denied = self.access.check(host, request.authorization, request.reached)
        if denied is None:
            return None
        answer = text(denied.status, denied.message)
        if not denied.challenge:
            return answer
        asked = {"WWW-Authenticate": 'Basic realm="haproxy-sidecar", charset="UTF-8"'}
        return Answer(answer.status, answer.content_type, answer.body, asked)


def _delivered(answer: Answer, request: Request) -> Answer:
    """``answer``, as this client takes it."""
    tag = tag_of(answer.body)
    headers = {**answer.headers, "ETag": tag, "Vary": "Accept-Encoding"}
    if is_known(tag, request.if_none_match):
        return replace(answer, status=304, body=b"", headers=headers)
    if takes_gzip(request.accept_encoding) and (body := compressed(answer.body)) is not None:
        return replace(answer, body=body, headers={**headers, "Content-Encoding": "gzip"})
    return replace(answer, headers=headers)


def _target(request: Request) -> tuple[str | None, str]:
    """Host and path. A target may be a whole URL, whose host then counts (RFC 9112, 3.2.2)."""
    scheme, separator, rest = request.target.partition("://")
    if not separator or scheme.lower() != "http":
        return request.host, request.target
    host, _, path = rest.partition("/")
    return host, f"/{path}"


def _asked(query: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(query, max_num_fields=16))
    except ValueError as exc:
        raise UsageError(str(exc)) from exc


def _probed(probe: Probe) -> Answer:
    health = probe()
    return text(200 if health.ok else 503, health.text or "ok")


def _made(work: Work) -> Answer:
    try:
        return work()
    except UsageError as exc:
        return text(400, str(exc))
    except BusyError as exc:
        return text(503, str(exc))
    except Exception:
        log.exception("a request could not be answered")
        return text(500, "internal error; see the sidecar's log")
