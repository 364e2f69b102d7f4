"""The content of the sidecar's HTTP port, path by path. Assembles the pages;
`sidecar.admin.answers` serves them."""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from secrets import token_hex

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from sidecar.admin.answers import Answer, Probe, Site, as_json
from sidecar.admin.auth import Access
from sidecar.admin.queries import Queries
from sidecar.admin.updates import Updates
from sidecar.common.errors import UsageError
from sidecar.listeners.tcp import unit_of
from sidecar.model.desired import BackendName
from sidecar.reporting.reading import narrowed, report_json

log = logging.getLogger(__name__)


_PAGE = Path(__file__).with_name("page")

#: By the end of a file's name.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

#: The page's own files hold nothing that is secret: a browser keeps them, and asks whether they are
#: still the same.
_KEPT = {"Cache-Control": "no-cache"}


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
        return as_json(asdict(queries.operations(unit)))

    updates = Updates(token_hex(4))

    def changed(query: Mapping[str, str]) -> Answer:
        report, at = queries.dated_report()
        return as_json(updates.since(report, query.get("since", ""), at, time.monotonic()))

    def why(query: Mapping[str, str]) -> Answer:
        return as_json(asdict(queries.why(query.get("subject", ""))))

    page = {
        f"/{file.name}": partial(_file, file.read_bytes(), kind)
        for file in sorted(_PAGE.iterdir())
        if (kind := _TYPES.get(file.suffix))
    }
    return Site(
        # The last one is OpenShift's router's name for readiness.
        probes={"/healthz": healthy, "/readyz": ready, "/healthz/ready": ready},
        open={"/metrics": metrics},
        guarded={
            "/": page.pop("/index.html"),
            **page,
            "/api/status": status,
            "/api/updates": changed,
            "/api/why": why,
            "/api/history": operations,
        },
        access=Access(listen, token_reader(token_file) if token_file else None),
    )


def _file(body: bytes, content_type: str, _: Mapping[str, str]) -> Answer:
    return Answer(200, content_type, body, _KEPT)


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
