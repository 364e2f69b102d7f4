"""How frontends and backends are called in haproxy.cfg, both ways. Pure.

A port has both to itself. A listener of Routes by host has a frontend; the backends behind it are
numbered by class, from 1, and which Route has which is for the maps to say. Those for Routes that
want another balance have it in their names.
"""

import re
from typing import NamedTuple, cast, get_args

from sidecar.model.desired import BackendName
from sidecar.model.pool import WebBalance, WebClass, WebClassName, WebPool

_BACKEND = re.compile(r"be_tcp-([0-9]+)")
_FRONTEND = re.compile(r"tcp-([0-9]+)")

#: class -> how its backends' names begin.
_PREFIXES: dict[WebClassName, str] = {
    "http": "be_http_",
    "reencrypt": "be_re_",
    "passthrough": "be_pass_",
}
_CLASSES = {prefix: name for name, prefix in _PREFIXES.items()}
_BALANCES = "|".join(get_args(WebBalance))
_WEB_BACKEND = re.compile(rf"({'|'.join(_CLASSES)})(?:({_BALANCES})_)?([1-9][0-9]*)")


class WebBackend(NamedTuple):
    """A backend for Routes by host: its class, and which of them it is. ``balance``: None where it
    is that of its class."""

    of: WebClassName
    number: int
    balance: WebBalance | None = None


def frontend_name(port: int) -> str:
    return f"tcp-{port}"


def backend_name(port: int) -> BackendName:
    return BackendName(f"be_tcp-{port}")


def listener_name(listener: str) -> str:
    """The name of a listener's frontend."""
    return f"web-{listener}"


def web_backend_name(
    of: WebClassName, number: int, balance: WebBalance | None = None
) -> BackendName:
    """``balance``: of one that is for Routes that want this."""
    return BackendName(f"{_PREFIXES[of]}{f'{balance}_' if balance else ''}{number}")


def web_prefix(of: WebClassName) -> str:
    """With which the names of all backends of a class begin, whatever their balance, and of no
    other one."""
    return _PREFIXES[of]


def web_backend_names(
    of: WebClassName, count: int, balance: WebBalance | None = None
) -> list[BackendName]:
    """All backends of a class."""
    return [web_backend_name(of, number, balance) for number in range(1, count + 1)]


def backends_of(item: WebClass) -> list[BackendName]:
    return web_backend_names(item.name, item.count, item.balance if item.further else None)


def balance_of(name: str, web: WebPool | None) -> WebBalance | None:
    """How the servers of a backend for Routes by host are chosen; None of any other."""
    found = web_backend(name)
    if found is None or found.balance or web is None:
        return found and found.balance
    return next((item.balance for item in web.classes if item.name == found.of), None)


def verified_backends(web: WebPool | None) -> list[BackendName]:
    """Those whose servers are verified, each by CAs of its own."""
    return [
        backend
        for item in (web.all_classes if web else ())
        if item.name == "reencrypt"
        for backend in backends_of(item)
    ]


def own_backend(name: str) -> BackendName | None:
    """``name``, if it is one of ours."""
    ours = _BACKEND.fullmatch(name) or _WEB_BACKEND.fullmatch(name)
    return BackendName(name) if ours else None


def port_of_backend(name: str) -> int | None:
    """The port whose backend has this name, or None if it is not a port's."""
    found = _BACKEND.fullmatch(name)
    return int(found[1]) if found else None


def port_of_frontend(name: str) -> int | None:
    """The port whose frontend has this name, or None if it is not a port's."""
    found = _FRONTEND.fullmatch(name)
    return int(found[1]) if found else None


def web_backend(name: str) -> WebBackend | None:
    """The backend for Routes by host that has this name, or None if it is not such a one."""
    found = _WEB_BACKEND.fullmatch(name)
    if found is None:
        return None
    balance = cast("WebBalance | None", found[2])
    return WebBackend(_CLASSES[found[1]], int(found[3]), balance)
