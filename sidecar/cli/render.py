"""``render``: haproxy.cfg from the settings."""

import resource
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from sidecar.cli.config import load_settings
from sidecar.common.errors import CertificateError, SettingsError
from sidecar.common.files import SECRET, remove_partial, write_atomically
from sidecar.common.text import reason_of
from sidecar.control.client_files import CLIENTS, read_authorities, read_revocations
from sidecar.control.default_certificate import read_certificate
from sidecar.haproxy import config as haproxy_config
from sidecar.haproxy.error_pages import PAGE_MAX_BYTES, check_page
from sidecar.haproxy.naming import verified_backends
from sidecar.haproxy.web_files import NO_HOST, WebFiles
from sidecar.model.certificates import ServerCertificate, is_for
from sidecar.settings.schema import Settings

#: An empty state file: without it HAProxy warns at its first start.
_NO_STATE = "1\n"


def render(config: Path | None, output: str | None) -> None:
    """Write haproxy.cfg; ``output`` "-" is stdout, None is where the settings say."""
    settings = load_settings(config)
    if output == "-":
        sys.stdout.write(_text(settings))
        return
    path = Path(output) if output else settings.haproxy.config
    write_files(settings, path)
    sys.stderr.write(f"wrote {path}: {describe_pool(settings)}\n")


def write_files(settings: Settings, path: Path) -> None:
    """haproxy.cfg to ``path``, the files that it needs if there are none, and the socket's folder.

    Raises SettingsError if they cannot be written, or one of those is bad that `web` names.
    """
    text = _text(settings)
    default = _default_certificate(settings)
    clients = _client_files(settings)
    pages = _error_pages(settings)
    try:
        write_atomically(path, text)
        if not settings.haproxy.state_file.exists():
            write_atomically(settings.haproxy.state_file, _NO_STATE)
        files = WebFiles.beside(settings.haproxy.state_file)
        _write_maps(() if files.unfit else files.port_maps)
        if settings.pool().web:
            _write_web_files(files, _verified(settings), default)
            for file, content in (clients | pages).items():
                write_atomically(file, content)
        if "/" in settings.haproxy.socket:
            Path(settings.haproxy.socket).parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        problem = f"{exc.filename or path}: cannot be written: {reason_of(exc)}"
        raise SettingsError("haproxy", [problem]) from exc


def _verified(settings: Settings) -> list[str]:
    """The backends with a CA file."""
    return list(verified_backends(settings.pool().web))


def _default_certificate(settings: Settings) -> ServerCertificate | None:
    """The one that the settings name."""
    path, pool = settings.web.default_certificate, settings.pool().web
    if path is None or not (pool and pool.ends_tls):
        return None
    try:
        return read_certificate(path)
    except CertificateError as exc:
        raise SettingsError("web", [f"web.default_certificate: {exc}"]) from None


def _error_pages(settings: Settings) -> dict[Path, str]:
    """Those of the user's: where HAProxy has it -> content."""
    files = WebFiles.beside(settings.haproxy.state_file)
    places = {503: files.unavailable_page, 404: files.not_found_page}
    made: dict[Path, str] = {}
    for status, path in settings.web.error_pages.items():
        try:
            made[places[status]] = check_page(_start_of(path), status)
        except UnicodeDecodeError:
            problem = "not UTF-8 text"
        except OSError as exc:
            problem = f"cannot be read: {reason_of(exc)}"
        except ValueError as exc:
            problem = str(exc)
        else:
            continue
        raise SettingsError("web", [f"web.error_pages.{status}: {path}: {problem}"])
    return made


def _start_of(path: Path) -> bytes:
    """A byte more than a page may have, at most."""
    if not path.is_file():
        raise ValueError("not a file; write the path of one with a whole HTTP answer")
    with path.open("rb") as file:
        return file.read(PAGE_MAX_BYTES + 1)


def _client_files(settings: Settings) -> dict[Path, str]:
    """By which clients' certificates are verified: file -> content."""
    named, files = settings.web.client_certificates, WebFiles.beside(settings.haproxy.state_file)
    made: dict[Path, str] = {}
    key = "ca"
    try:
        if named.ca:
            made[files.client_authorities] = read_authorities(named.ca, CLIENTS).text
        key = "crl"
        if named.crl:
            made[files.client_revocations] = read_revocations(named.crl).text
    except CertificateError as exc:
        raise SettingsError("web", [f"web.client_certificates.{key}: {exc}"]) from None
    return made


def _write_web_files(
    files: WebFiles, verified: Collection[str], default: ServerCertificate | None
) -> None:
    """The page is ours, and replaced; what is in the maps, and the certificates, are HAProxy's
    memory, and stay. ``verified``: backends with a CA file."""
    page = haproxy_config.unavailable_page_path().read_bytes().decode("ascii")
    write_atomically(files.unavailable_page, page)
    _write_maps(files.maps)
    _write_certificate_list(files.certificate_list)
    path = files.default_certificate
    write_atomically(files.default_list, f"{path} {NO_HOST}\n")
    if default:
        write_atomically(path, default.pem.decode("ascii"), SECRET)
    elif not (path.exists() and is_for(NO_HOST, path.read_bytes())):
        # Its making takes a moment that nobody else is to pay for.
        from sidecar.haproxy.own_certificates import self_signed

        made = self_signed(NO_HOST, time.time())
        write_atomically(path, made.pem.decode("ascii"), SECRET)
    if verified:
        _write_authorities(files, verified)


def _write_maps(paths: Iterable[Path]) -> None:
    for path in paths:
        if not path.exists():
            write_atomically(path, "")


def _write_certificate_list(path: Path) -> None:
    """It stays, without lines that would keep HAProxy from starting."""
    from sidecar.control.certificate_files import startable

    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
    kept = startable(text or "")
    if kept != text:
        write_atomically(path, kept, SECRET)


def _write_authorities(files: WebFiles, verified: Iterable[str]) -> None:
    """With one that is not good HAProxy would not start, so it is replaced by one that trusts
    nobody."""
    from sidecar.control.certificate_files import read_authority
    from sidecar.haproxy.own_certificates import placeholder_authority, self_signed

    # Which nobody else writes.
    remove_partial([files.no_authority, files.client_certificate])
    nobody = read_authority(files.no_authority)
    if nobody is None:
        nobody = placeholder_authority(time.time())
        write_atomically(files.no_authority, nobody.text)
    for path in map(files.authority, verified):
        if read_authority(path) is None:
            write_atomically(path, nobody.text)
    if not files.client_certificate.exists():
        made = self_signed(NO_HOST, time.time())
        write_atomically(files.client_certificate, made.pem.decode("ascii"), SECRET)


def _text(settings: Settings) -> str:
    """haproxy.cfg for a HAProxy with this process's limits; says on stderr what they lowered."""
    # HAProxy raises its soft limit to the hard one by itself.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    open_files_max = None if hard == resource.RLIM_INFINITY else hard
    for lowered in settings.capacity(open_files_max).lowered:
        sys.stderr.write(f"warning: {lowered}\n")
    return haproxy_cfg(settings, open_files_max)


def haproxy_cfg(settings: Settings, open_files_max: int | None = None) -> str:
    """The text of haproxy.cfg, for a HAProxy that may have so many files open (None: no limit).

    Raises SettingsError if it cannot be rendered, or the files are too few.
    """
    capacity = settings.capacity(open_files_max)
    return haproxy_config.render(settings.haproxy, settings.pool(), capacity)


def describe_pool(settings: Settings) -> str:
    """``103 ports, 16 server slots each``, in all pools."""
    pool = settings.pool()
    slots = {item.slots for item in pool.classes}
    each = f"{slots.pop()} server slots each" if len(slots) == 1 else "server slots by pool"
    ports = len(pool.by_port)
    parts = [f"{ports} port{'s' * (ports != 1)}, {each}"]
    web = pool.web
    for item in web.classes if web else ():
        others = web.further if web else ()
        further = sum(other.count for other in others if other.name == item.name)
        more = f" (and {further} for other balances)" if further else ""
        parts.append(f"{item.count} {item.name} backends{more}")
    return "; ".join(parts)
