"""The content of the sidecar's HTTP port, path by path. Assembles the pages;
`sidecar.admin.answers` serves them."""

import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from sidecar.admin.answers import Answer, Probe, Site, as_json
from sidecar.admin.auth import Access
from sidecar.admin.queries import Queries
from sidecar.common.errors import UsageError
from sidecar.control.history import history_json
from sidecar.listeners.tcp import unit_of
from sidecar.model.desired import BackendName
from sidecar.reporting.status import narrowed, report_json

log = logging.getLogger(__name__)


_PAGE = Path(__file__).with_name("page")

#: The page and what it needs: path -> file, content type.
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}


def make_site(
    listen: str,
    token_file: Path | None,
    *,
    healthy: Probe,
    ready: Probe,
    registry: CollectorRegistry,
    queries: Queries,
) -> Site:
    """All paths. ``token_file``: holds the token that the page and /api ask for."""

    def metrics(_: Mapping[str, str]) -> Answer:
        return Answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))

    def status(query: Mapping[str, str]) -> Answer:
        names = query.get("names", "").split()
        return as_json(report_json(narrowed(queries.report(), query.get("namespace"), names)))

    def operations(query: Mapping[str, str]) -> Answer:
        port = query.get("port")
        if port is not None and not re.fullmatch("[0-9]{1,5}", port):
            raise UsageError("port must be a number")
        unit = unit_of(int(port)) if port else BackendName(query.get("backend", "")) or None
        return as_json(history_json(queries.history, unit))

    def why(query: Mapping[str, str]) -> Answer:
        return as_json(asdict(queries.why(query.get("subject", ""))))

    page = {
        path: partial(_file, kind, (_PAGE / name).read_bytes())
        for path, (name, kind) in _FILES.items()
    }
    return Site(
        probes={"/healthz": healthy, "/readyz": ready},
        open={"/metrics": metrics},
        guarded={**page, "/api/status": status, "/api/why": why, "/api/history": operations},
        access=Access(listen, token_reader(token_file) if token_file else None),
    )


def _file(content_type: str, body: bytes, _: Mapping[str, str]) -> Answer:
    return Answer(200, content_type, body)


def token_reader(path: Path) -> Callable[[], str]:
    """Reads the token; "" while there is none to read, which lets nobody in. Says so when that
    begins or its reason changes, and when it ends. May be used from any thread."""
    lock = threading.Lock()
    said = ""

    def read() -> str:
        nonlocal said
        try:
            token = path.read_text(encoding="utf-8").strip()
            problem = "" if token else "is empty"
        except (OSError, UnicodeDecodeError) as exc:
            token, problem = "", f"cannot be read: {exc}"
        with lock:
            if problem != said:
                said = problem
                if problem:
                    log.error("http.token_file %s %s", path, problem)
                else:
                    log.info("http.token_file %s is readable again", path)
        return token

    return read
