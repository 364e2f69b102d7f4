"""How a port's frontend and backend are called in haproxy.cfg, both ways. Pure."""

import re

from sidecar.model.desired import BackendName

_BACKEND = re.compile(r"be_tcp-([0-9]+)")
_FRONTEND = re.compile(r"tcp-([0-9]+)")


def frontend_name(port: int) -> str:
    return f"tcp-{port}"


def backend_name(port: int) -> BackendName:
    return BackendName(f"be_tcp-{port}")


def own_backend(name: str) -> BackendName | None:
    """``name``, if it is one of ours."""
    return BackendName(name) if _BACKEND.fullmatch(name) else None


def port_of_backend(name: str) -> int | None:
    """The port whose backend has this name, or None if the name is not one of ours."""
    found = _BACKEND.fullmatch(name)
    return int(found[1]) if found else None


def port_of_frontend(name: str) -> int | None:
    """The port whose frontend has this name, or None if the name is not one of ours."""
    found = _FRONTEND.fullmatch(name)
    return int(found[1]) if found else None
