"""The settings of headers: which ones Routes may set and delete, and which ones the router does.

Owns these defaults, and which names HAProxy must keep to itself. What is set for all Routes, and
what Routes say (`sidecar.policies.headers`), is text.
"""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

from sidecar.common.text import shown
from sidecar.haproxy.log_format import log_format
from sidecar.model.header_actions import HeaderNames
from sidecar.model.pool import HEADERS_MAX_BYTES, RouterHeaders
from sidecar.policies.headers import FORBIDDEN
from sidecar.settings.section import Section

#: They say where a message ends, or are of one connection only: another word there would let a
#: client or server smuggle a message in (RFC 9112, 11.2).
_FRAMING = (
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
)

#: Each takes HAProxy three rules in two `defaults`.
_NAMES_MAX = 100


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", value):
        raise ValueError("write a header's name: letters, digits, '-' and '_', 63 at most")
    if value.lower() in _FRAMING:
        raise ValueError("HAProxy itself needs this header as it is; leave it out")
    return value


def _route_name(value: str) -> str:
    if value.lower() in FORBIDDEN:
        raise ValueError("not for Routes, as OpenShift has it; leave it out")
    return value


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    lower = [name.lower() for name in names]
    if twice := [name for name in names if lower.count(name.lower()) > 1]:
        raise ValueError(f"repeats {shown(twice[-1])}; list each header once, in any case")
    if len(names) > _NAMES_MAX:
        raise ValueError(f"has {len(names)} names; {_NAMES_MAX} at most")
    return names


HeaderName = Annotated[str, AfterValidator(_name)]
_RouteHeaders = Annotated[
    tuple[Annotated[HeaderName, AfterValidator(_route_name)], ...], AfterValidator(_distinct)
]


class RouteHeaderSettings(Section):
    """Headers that spec.httpHeaders of Routes may set and delete: HAProxy has rules for these names
    alone, which cost only requests of Routes that use any."""

    request: _RouteHeaders = (
        "Accept-Encoding",
        "Authorization",
        "X-Forwarded-Client-Cert",
        "X-Forwarded-Prefix",
        "X-Real-IP",
        "X-Request-ID",
        "X-SSL-Client-Cert",
    )
    #: What browsers heed for security, who may use an answer, and what tells of the server.
    response: _RouteHeaders = (
        "Access-Control-Allow-Credentials",
        "Access-Control-Allow-Headers",
        "Access-Control-Allow-Methods",
        "Access-Control-Allow-Origin",
        "Cache-Control",
        "Content-Security-Policy",
        "Content-Security-Policy-Report-Only",
        "Cross-Origin-Embedder-Policy",
        "Cross-Origin-Opener-Policy",
        "Cross-Origin-Resource-Policy",
        "Permissions-Policy",
        "Referrer-Policy",
        "Server",
        "X-Content-Type-Options",
        "X-Frame-Options",
        "X-Permitted-Cross-Domain-Policies",
        "X-Powered-By",
        "X-Robots-Tag",
        "X-XSS-Protection",
    )

    def names(self) -> HeaderNames:
        return HeaderNames(self.request, self.response)


def _router_name(value: str) -> str:
    if value.lower() in (*FORBIDDEN, "host"):
        raise ValueError("not for this, as OpenShift has it; leave it out")
    return value


_RouterName = Annotated[HeaderName, AfterValidator(_router_name)]


def _request_value(value: str) -> str:
    log_format(value, "request")
    return value


def _response_value(value: str) -> str:
    log_format(value, "response")
    return value


def _fits(headers: Mapping[str, str]) -> Mapping[str, str]:
    _distinct(tuple(headers))
    size = sum(len(name) + len(value.encode()) + 16 for name, value in headers.items())
    if size > HEADERS_MAX_BYTES:
        raise ValueError(
            f"has {size} bytes, with names and 16 for each; {HEADERS_MAX_BYTES} at most, write less"
        )
    return headers


_Deleted = Annotated[tuple[_RouterName, ...], AfterValidator(_distinct)]


class RequestHeaderSettings(Section):
    """Headers that all requests are sent on with, or without."""

    set: Annotated[
        dict[_RouterName, Annotated[str, AfterValidator(_request_value)]], AfterValidator(_fits)
    ] = {}  # noqa: RUF012  pydantic copies it
    delete: _Deleted = ()


class ResponseHeaderSettings(Section):
    """The same of all answers of servers."""

    set: Annotated[
        dict[_RouterName, Annotated[str, AfterValidator(_response_value)]], AfterValidator(_fits)
    ] = {}  # noqa: RUF012  pydantic copies it
    delete: _Deleted = ()


class HeaderSettings(Section):
    """Headers of all Routes by host that HAProxy speaks HTTP for."""

    request: RequestHeaderSettings = RequestHeaderSettings()
    response: ResponseHeaderSettings = ResponseHeaderSettings()

    def rules(self) -> RouterHeaders:
        request, response = self.request, self.response
        return RouterHeaders(
            tuple((name, log_format(value, "request")) for name, value in request.set.items()),
            request.delete,
            tuple((name, log_format(value, "response")) for name, value in response.set.items()),
            response.delete,
        )
