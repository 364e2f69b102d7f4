"""``import egress``: annotated Routes, Services and EndpointSlices from OpenShift's egress routers.

They go to stdout or into a folder; what could not be converted is reported on stderr, and beside
them as comments.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from typer import Exit

from sidecar.cli.config import load_settings
from sidecar.cli.importing import given, router_of, write
from sidecar.common.errors import ObjectError, UsageError
from sidecar.importers.egress import Converted, Exported, convert
from sidecar.importers.egress_sources import Configured, from_environment, from_objects
from sidecar.model.fields import Field


def import_egress(config: Path | None, files: Sequence[str], output: str, namespace: str) -> None:
    """Write the objects of each port of each egress router in ``files`` ("-" is stdin): Kubernetes
    objects, or lines of an environment, which has ``namespace``. Exits with 1 if a line cannot be
    carried over, or not as it is.

    Raises UsageError for a file that cannot be read, and if no egress router is in any.
    """
    router = router_of(load_settings(config))
    try:
        Field("--namespace", namespace).name()
    except ObjectError as exc:
        raise UsageError(str(exc)) from exc
    objects, lines = given(files)
    environments: list[Configured] = []
    for name, text in lines:
        title, stem = (name, Path(name).stem) if name != "-" else ("stdin", "egress")
        if found := from_environment(text, title, namespace, stem):
            environments.append(found)
    configured = list(from_objects(objects))
    broken = [item for item in configured if isinstance(item, str)]
    routers = [*environments, *(item for item in configured if not isinstance(item, str))]
    if not routers and not broken:
        raise UsageError(
            f"no egress router in {', '.join(files)}: no container, ConfigMap or line has"
            " EGRESS_DESTINATION, EGRESS_DNS_PROXY_DESTINATION, EGRESS_HTTP_PROXY_DESTINATION or"
            " SERVICE_DEST, and no object is an EgressRouter"
        )
    done = convert(routers, router)
    problems = [*broken, *(text for item in done for text in item.problems)]
    if output == "-":
        for item in done:
            sys.stdout.write(_comments(item))
            sys.stdout.writelines(_documents(item, port) for port in item.ports)
    else:
        written = [_file(item, port) for item in done for port in item.ports]
        problems += write(Path(output), written, "port")
    for item in done:
        sys.stderr.writelines(f"review {text}\n" for text in item.doubts)
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    if problems:
        raise Exit(1)


def _comments(item: Converted) -> str:
    """What is not, or not wholly, in the documents below."""
    lines = [*item.problems, *(f"review {text}" for text in item.doubts)]
    return "".join(f"# {line}\n" for line in lines)


def _documents(item: Converted, port: Exported) -> str:
    """A YAML document each, with the line that they were above them."""
    first, *others = (yaml.safe_dump(data, sort_keys=False) for data in port.objects)
    return f"---\n# {item.title}, {port.line}\n{first}" + "".join(f"---\n{it}" for it in others)


def _file(item: Converted, port: Exported) -> tuple[str, str]:
    metadata = port.route["metadata"]
    return f"{metadata['namespace']}.{metadata['name']}.yaml", _documents(item, port)
