"""A TCP port: what a Route's annotation may ask for, looked at alone.

Must not know who else asks for it (`sidecar.routing.claims`), nor Services or endpoints. Pure.
"""

import re

from sidecar.common.text import shown
from sidecar.model.objects import Route
from sidecar.model.pool import Pool, PortPool
from sidecar.model.verdicts import Reason, Verdict

#: The value of the port annotation that leaves the choice to us.
AUTO = "auto"

#: HAProxy passes the bytes of these through untouched; the others would need us to speak TLS.
_RAW_TERMINATIONS = frozenset({None, "", "passthrough"})

#: ASCII, and never more digits than a port has: what users send may be of any length.
_NUMBER = re.compile(r"[0-9]{1,5}")


def judge(route: Route, pool: Pool) -> int | PortPool | Verdict:
    """The port that ``route`` may claim, the class of which it may have any port, or why it may
    claim none. Looks at it alone."""

    def refuse(reason: Reason, message: str, port: int | None = None) -> Verdict:
        return Verdict(route.key, port, reason, message)

    if route.tls_termination not in _RAW_TERMINATIONS:
        return refuse(
            Reason.UNSUPPORTED_TERMINATION,
            f"spec.tls.termination: {shown(route.tls_termination)} is not done on a TCP port;"
            " use passthrough, or leave spec.tls out",
        )
    text = (route.port or "").strip()
    if text == AUTO:
        # One class only: the others may have other timeouts or speak the PROXY protocol, which
        # nobody should get by chance.
        first = next((item for item in pool.classes if item.allows(route.namespace)), None)
        return first or refuse(
            Reason.NAMESPACE_NOT_ALLOWED,
            f"no pool of this router is open to namespace {route.namespace!r}",
        )
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= 65535:
        given = (
            "the port annotation is missing" if not text else f"{shown(text)} is not a valid port"
        )
        return refuse(
            Reason.INVALID_PORT,
            f'{given}; write a number from 1 to 65535, like "13306", or "{AUTO}"',
        )
    port = int(text)
    if port not in pool:
        return refuse(
            Reason.PORT_NOT_IN_POOL,
            f"port {port} is in no pool of this router; namespace {route.namespace!r}"
            f" may use {pool.open_to(route.namespace) or 'none'}",
            port,
        )
    if not pool.by_port[port].allows(route.namespace):
        return refuse(
            Reason.NAMESPACE_NOT_ALLOWED,
            f"port {port} is not open to namespace {route.namespace!r}; it may use"
            f" {pool.open_to(route.namespace) or 'none'}",
            port,
        )
    return port


def port_number(text: str | None) -> int | None:
    """A port as text, where it is one."""
    return int(text) if text and _NUMBER.fullmatch(text) else None
