"""``import tcp-services``: annotated Routes from ingress-nginx's ConfigMap.

Routes go to stdout or into a folder; what could not be converted is reported on stderr.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from typer import Exit

from sidecar.cli.config import load_settings
from sidecar.cli.importing import objects_in, read, router_of, write
from sidecar.common.errors import ObjectError, UsageError
from sidecar.importers.annotated import Router
from sidecar.importers.tcp_services import Imported, Line, convert, parse_line
from sidecar.model.fields import Field
from sidecar.model.objects import Key, Service
from sidecar.model.parsing import AnnotationKeys, identify, project


class _ConfigMap(NamedTuple):
    """``title``: ``namespace/name``. ``data``: port -> line."""

    title: str
    data: Mapping[str, Any]

    @property
    def is_udp(self) -> bool:
        return "udp" in self.title.partition("/")[2]


def import_tcp_services(config: Path | None, files: Sequence[str], output: str) -> None:
    """Write a Route for each line of each ConfigMap in ``files`` ("-" is stdin), which may hold
    the Services as well. Exits with 1 if a line cannot be carried over, or not as it is.

    Raises UsageError for a file that cannot be read or has no such ConfigMap.
    """
    settings = load_settings(config)
    router = router_of(settings)
    objects = [data for name in files for data in objects_in(read(name), name)]
    config_maps = _config_maps(objects)
    if not config_maps:
        raise UsageError(
            f'no ConfigMap in {", ".join(files)} has lines like "9000": "namespace/service:port"'
        )
    services = _services(objects, router.annotations)
    found: list[Imported] = []
    problems: list[str] = []
    for config_map in config_maps:
        routes, refused = _convert(config_map, services, router)
        found += routes
        problems += refused
    problems += [f"{item.line.port}: {text}" for item in found for text in item.problems]
    if output == "-":
        sys.stdout.writelines(_document(item) for item in found)
    else:
        problems += write(Path(output), map(_file, found), "Route")
    for item in found:
        sys.stderr.writelines(f"review {item.line.port}: {text}\n" for text in item.doubts)
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    if problems:
        raise Exit(1)


def _config_maps(objects: Iterable[Any]) -> list[_ConfigMap]:
    """Those with a port among their keys: others may stand in the same file."""
    found = []
    for data in objects:
        root = Field("", data)
        if not isinstance(data, dict) or root.at("kind").value != "ConfigMap":
            continue
        lines = data.get("data")
        if isinstance(lines, dict) and any(key.isdigit() for key in lines):
            metadata = root.at("metadata")
            namespace = metadata.at("namespace").label() or "default"
            title = f"{namespace}/{metadata.at('name').label() or '(unnamed)'}"
            found.append(_ConfigMap(title, lines))
    return found


def _services(objects: Iterable[Any], keys: AnnotationKeys) -> dict[Key, Service]:
    """The Services that can be read; of one that cannot, the lines say that it is not known."""
    found: dict[Key, Service] = {}
    for data in objects:
        try:
            key = identify(data)
            if key is not None and key.kind == "Service":
                service = project(data, keys)
                if isinstance(service, Service):
                    found[key] = service
        except ObjectError as exc:
            sys.stderr.write(f"skipped: {exc}\n")
    return found


def _convert(
    config_map: _ConfigMap, services: Mapping[Key, Service], router: Router
) -> tuple[list[Imported], list[str]]:
    """The Routes, by port, and why there is none for the other lines."""
    if config_map.is_udp:
        count = len(config_map.data)
        what = f"{count} UDP line{'s' * (count != 1)} skipped"
        return [], [f"ConfigMap {config_map.title}: {what}: stock HAProxy balances TCP only"]
    lines: list[Line] = []
    found: list[Imported] = []
    refused = []
    for key, value in config_map.data.items():
        try:
            lines.append(parse_line(key, value))
        except ObjectError as exc:
            refused.append(f"ConfigMap {config_map.title}: {exc}")
    for line in sorted(lines, key=lambda line: line.port):
        try:
            found.append(convert(line, services, router))
        except ObjectError as exc:
            refused.append(f"{line.port}: {exc}")
    return found, refused


def _file(item: Imported) -> tuple[str, str]:
    metadata = item.route["metadata"]
    return f"{metadata['namespace']}.{metadata['name']}.yaml", _document(item)


def _document(item: Imported) -> str:
    """One YAML document, with the line that it was above it."""
    body = yaml.safe_dump(item.route, sort_keys=False)
    return f"---\n# tcp-services: {item.line}\n{body}"
