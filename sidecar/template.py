"""Renders haproxy.cfg from the settings. Owns what the template may use.

Must not decide what the pool is (`sidecar.pool` does) nor start anything.
"""

from pathlib import Path

import jinja2

from sidecar import __version__
from sidecar.addresses import is_unix_socket, split_host_port
from sidecar.durations import format_duration
from sidecar.errors import SettingsError
from sidecar.pool import WEIGHT_MAX, PortPool, backend_name, format_ports, frontend_name
from sidecar.settings import Settings

_NAME = "haproxy.cfg.j2"


def template_path() -> Path:
    """Our template: inside the installed package, or beside it in the source tree."""
    package = Path(__file__).parent
    shipped = package / _NAME
    return shipped if shipped.exists() else package.parent / "haproxy" / _NAME


def render(settings: Settings) -> str:
    """The text of haproxy.cfg. Raises SettingsError if the user's template does not work.

    A template gets ``pools`` (each a `PortPool`), ``socket``, ``state_file``, ``maxconn`` and
    ``metrics_listen``, and the filters below.
    """
    path = settings.haproxy.template or template_path()
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
        ports=format_ports,
        duration=format_duration,
        server_options=server_options,
    )
    pool = settings.pool()
    socket = settings.haproxy.socket
    unix = is_unix_socket(socket)
    try:
        template = environment.from_string(path.read_text(encoding="utf-8"))
        return template.render(
            version=__version__,
            port_count=len(pool.by_port),
            slot_count=sum(item.slots for item in pool.by_port.values()),
            pools=pool.classes,
            socket=str(Path(socket).absolute()) if unix else socket,
            socket_is_unix=unix,
            state_file=str(settings.haproxy.state_file.absolute()),
            maxconn=settings.haproxy.maxconn,
            metrics_listen=settings.haproxy.metrics_listen,
        )
    except (OSError, UnicodeDecodeError, jinja2.TemplateError) as exc:
        where = f" line {exc.lineno}" if isinstance(exc, jinja2.TemplateSyntaxError) else ""
        raise SettingsError(
            "haproxy.template", [f"{path}{where}: {exc}; leave the key out to use ours"]
        ) from exc


def server_options(pool: PortPool) -> str:
    """What every server of a pool has, as haproxy.cfg and ``add server`` write it alike."""
    options = [f"init-addr last,127.0.0.1 weight {WEIGHT_MAX}"]
    if pool.send_proxy != "none":
        options.append({"v1": "send-proxy", "v2": "send-proxy-v2"}[pool.send_proxy])
    if pool.check:
        interval = format_duration(pool.check.interval_seconds)
        options.append(f"check inter {interval} rise {pool.check.rise} fall {pool.check.fall}")
    return " ".join(options)


def quote(text: str) -> str:
    """A word of haproxy.cfg, whatever is in it (configuration.txt 2.2, "Quoting")."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def _bind_ip(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def _bind_address(address: str) -> str:
    host, port = split_host_port(address)
    return f"{_bind_ip(host)}:{port}"
