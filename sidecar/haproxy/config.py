"""Renders haproxy.cfg. Owns what the template may use.

Must not decide what the pool is (`sidecar.model.pool` does) nor start anything.
"""

import re
import traceback
from pathlib import Path
from typing import Protocol

import jinja2

from sidecar import __version__
from sidecar.common.durations import format_duration
from sidecar.common.errors import SettingsError
from sidecar.common.hostport import is_unix_socket, split_host_port
from sidecar.common.text import reason_of
from sidecar.haproxy.capacity import Capacity
from sidecar.haproxy.naming import (
    backend_name,
    backends_of,
    frontend_name,
    listener_name,
    web_prefix,
)
from sidecar.haproxy.web_files import WebFiles
from sidecar.model.desired import BackendClass
from sidecar.model.pool import WEIGHT_MAX, Address, Pool, format_ports


def template_path() -> Path:
    """Our template."""
    return _shipped("haproxy.cfg.j2")


def unavailable_page_path() -> Path:
    """HAProxy's answer where no Route matches, or its servers are gone."""
    return _shipped("503.http")


def _shipped(name: str) -> Path:
    """A file of ours: inside the installed package, or beside it in the source tree."""
    package = Path(__file__).parents[1]
    shipped = package / name
    return shipped if shipped.exists() else package.parent / "haproxy" / name


class Section(Protocol):
    """What of the settings' section ``haproxy`` stands in haproxy.cfg."""

    @property
    def template(self) -> Path | None: ...
    @property
    def socket(self) -> str: ...
    @property
    def state_file(self) -> Path: ...
    @property
    def metrics_listen(self) -> str | None: ...


def render(section: Section, pool: Pool, capacity: Capacity) -> str:
    """The text of haproxy.cfg.

    Raises SettingsError if the user's template does not work, or HAProxy could not listen at the
    socket's path, or not find its maps.

    A template gets ``pools`` (each a `PortPool`), ``web`` (a `WebPool` or None) and its ``files``
    (`WebFiles`), ``socket``, ``state_file``, ``maxconn``, ``metrics_listen`` and ``capacity`` (a
    `Capacity`), and the filters below.
    """
    path = section.template or template_path()
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  no HTML
    )
    environment.filters.update(
        quote=quote,
        bind_ip=_bind_ip,
        bind_address=_bind_address,
        frontend=frontend_name,
        backend=backend_name,
        listener=listener_name,
        web_prefix=web_prefix,
        web_backends=backends_of,
        ports=format_ports,
        duration=format_duration,
        server_options=_server_options,
    )
    socket = section.socket
    unix = is_unix_socket(socket)
    if unix and (unfit := re.search(r"[$,]", str(Path(socket).absolute()))):
        problem = (
            f"{Path(socket).absolute()} contains {unfit[0]!r}, which is special in an HAProxy"
            " address even when quoted; choose another path"
        )
        raise SettingsError("haproxy.socket", [problem])
    files = WebFiles.beside(section.state_file)
    if pool.web and files.unfit:
        problem = (
            f"{files.hosts_map.parent}, where the maps are, has a {files.unfit!r}, which HAProxy"
            " gives a meaning in a map's path; choose a path without"
        )
        raise SettingsError("haproxy.state_file", [problem])
    try:
        code = environment.compile(path.read_text(encoding="utf-8"), filename=str(path))
        template = jinja2.Template.from_code(environment, code, environment.make_globals(None))
        return template.render(
            version=__version__,
            port_count=len(pool.by_port),
            slot_count=sum(item.slots for item in pool.by_port.values()),
            pools=capacity.pools,
            web=pool.web,
            files=files,
            capacity=capacity,
            socket=str(Path(socket).absolute()) if unix else socket,
            socket_is_unix=unix,
            state_file=str(section.state_file.absolute()),
            maxconn=capacity.maxconn,
            metrics_listen=section.metrics_listen,
        )
    except Exception as exc:  # a template can raise anything
        fault = f"{path}{_line(exc, path)}: {_problem(exc)}"
        raise SettingsError(
            "haproxy.template", [f"{fault}; omit the key to use the built-in template"]
        ) from exc


def _line(error: Exception, path: Path) -> str:
    """Where in the template it went wrong, if it was there at all: `` line 12``."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f" line {error.lineno}"
    frames = [
        item for item in traceback.extract_tb(error.__traceback__) if item.filename == str(path)
    ]
    return f" line {frames[-1].lineno}" if frames else ""


def _problem(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {reason_of(error)}"
    if isinstance(error, UnicodeDecodeError):
        return "cannot be read: not UTF-8 text"
    if isinstance(error, jinja2.TemplateError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _server_options(of: BackendClass, weight: int = WEIGHT_MAX) -> str:
    """What a slot has beside its name: its class's options, and what makes it a slot."""
    return " ".join(("init-addr last,127.0.0.1 weight", str(weight), *of.server_options))


def quote(text: str) -> str:
    """A word of haproxy.cfg, whatever is in it (configuration.txt 2.2, "Quoting")."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def _bind_ip(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def _bind_address(address: str | Address) -> str:
    host, port = split_host_port(str(address))
    return f"{_bind_ip(host)}:{port}"
