"""Who may read the page and /api: a pure decision based on a request's headers.

Over a loopback address anyone on this machine may, which in a pod is who may `kubectl exec` or
port-forward; the Host header must be a loopback name, too, or a foreign web page could have its
name resolved to 127.0.0.1 and read everything (DNS rebinding). Otherwise a token is required, and
without one they are disabled. Does not cover probes and metrics.
"""

import base64
import binascii
import hmac
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from sidecar.common.hostport import split_host_port

#: Dots, letters and the like, or an IPv6 address in brackets; what else a URI may have in a host's
#: place (IPvFuture, zones) no client of ours has.
_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*))"
    r"(?::(?P<port>[0-9]{0,5}))?"
)


@dataclass(frozen=True, slots=True)
class Denied:
    """``status``: of HTTP. ``challenge``: whether a browser shall ask its user for the token."""

    status: int
    message: str
    challenge: bool = False


class Access:
    """``listen``: ``host:port`` that we answer on; where that is a loopback address, its clients
    need the token, too. ``token``: reads it, "" if it cannot be read, each time, since Secrets are
    renewed; None where none is set."""

    def __init__(self, listen: str, token: Callable[[], str] | None) -> None:
        self._host = split_host_port(listen)[0].lower()
        self._token = token

    def check(self, host: str | None, authorization: str | None, reached: str) -> Denied | None:
        """None if the request may read. ``host``, ``authorization``: its headers. ``reached``: the
        address of ours that the client is connected to."""
        name = host_name(host or "")
        is_here = name is not None and (is_loopback(name) or name == self._host)
        is_wide = not is_loopback(self._host)
        if is_wide and is_here and is_loopback(reached):
            return None
        if self._token is not None:
            return self._check_token(self._token(), authorization)
        if is_wide:
            return Denied(
                404,
                f"disabled: http.listen ({self._host}) is not a loopback address; set"
                " http.token_file, or come over the pod's loopback: kubectl port-forward, or"
                " kubectl exec with haproxy-sidecar",
            )
        if is_here:
            return None
        return Denied(403, "the Host header is not a loopback address; use 127.0.0.1")

    def _check_token(self, token: str, authorization: str | None) -> Denied | None:
        if not token:
            return Denied(503, "http.token_file is empty or cannot be read")
        if hmac.compare_digest(_given(authorization or "").encode(), token.encode()):
            return None
        return Denied(
            401,
            "send the token in http.token_file as `Authorization: Bearer TOKEN`, or as the"
            " password of any user",
            challenge=True,
        )


def is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    # A listener for both has clients of IPv4 by addresses of IPv6.
    mapped = address.ipv4_mapped if address.version == 6 else None
    return (mapped or address).is_loopback


def host_name(header: str) -> str | None:
    """The host in a Host header, lower-case and without brackets: ``[::1]:8405`` is ``::1``. None
    if it is not ``host`` or ``host:port`` (RFC 9110 section 7.2, RFC 3986 section 3.2.2)."""
    found = _HOST.fullmatch(header)
    if not found or int(found["port"] or 0) > 65535:
        return None
    if found["v6"] is None:
        return found["name"].lower()
    try:
        return str(ipaddress.IPv6Address(found["v6"]))
    except ValueError:
        return None


def _given(authorization: str) -> str:
    """The token in an Authorization header, "" if there is none: a bearer's, or, as browsers send
    it, a basic one's password."""
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
