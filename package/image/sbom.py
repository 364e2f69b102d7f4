"""Writes what an image consists of: an SBOM in CycloneDX 1.6, as JSON.

    python package/image/sbom.py ENVIRONMENT --base IMAGE --output FILE [--system FOLDER]

Read from what is there when the image is built, not from what was asked for: the environment's
Python packages by their metadata, the system's by dpkg's status if it has one, and Python itself.
The same image makes the same file: it has no time and no random number. Must not ask anybody, nor
guess a licence.
"""

import argparse
import json
import platform
import re
import uuid
from collections.abc import Iterator
from email.parser import HeaderParser
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any
from urllib.parse import quote

from environment import installed, requirements
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name

Component = dict[str, Any]


def licenses(distribution: Distribution) -> list[dict[str, Any]]:
    """As the package says it: an expression of SPDX, or a name of its own."""
    metadata = distribution.metadata
    said = [*metadata.get_all("License-Expression", []), *metadata.get_all("License", [])]
    text = said[0] if said else ""
    try:
        return [{"expression": canonicalize_license_expression(text)}]
    except InvalidLicenseExpression:
        pass
    if text and "\n" not in text:  # otherwise it is the whole licence
        return [{"license": {"name": text}}]
    prefix = "License :: "
    named = [line for line in metadata.get_all("Classifier", []) if line.startswith(prefix)]
    return [{"license": {"name": line.rpartition(" :: ")[2]}} for line in named]


def purl_part(text: str) -> str:
    return quote(text, safe="")


def python_package(distribution: Distribution) -> Component:
    name = canonicalize_name(distribution.name)
    purl = f"pkg:pypi/{name}@{purl_part(distribution.version)}"
    component = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": distribution.version,
        "purl": purl,
    }
    found = licenses(distribution)
    return component | ({"licenses": found} if found else {})


def required(distribution: Distribution, among: dict[str, Distribution]) -> list[str]:
    names = among.keys() & requirements(distribution)
    return [python_package(among[name])["purl"] for name in sorted(names)]


def debian_packages(system: Path) -> Iterator[Component]:
    """Of Debian, or what is made of it. Another base has none, and its packages are not listed."""
    status = system / "var/lib/dpkg/status"
    if not status.exists():
        return
    lines = (system / "etc/os-release").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    release = {name: text.strip("\"'") for name, text in pairs}
    # Debian has no VERSION_ID before it is released.
    version = release.get("VERSION_ID", release.get("VERSION_CODENAME"))
    distro = "-".join(filter(None, [release["ID"], version]))
    for text in status.read_text(encoding="utf-8").strip().split("\n\n"):
        package = HeaderParser().parsestr(text)
        if package["Status"] != "install ok installed":
            continue
        name = package["Package"]
        purl = (
            f"pkg:deb/{purl_part(release['ID'])}/{purl_part(name)}@{purl_part(package['Version'])}"
        )
        purl += f"?arch={purl_part(package['Architecture'])}&distro={purl_part(distro)}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": package["Version"],
            "purl": purl,
        }


def base_image(reference: str) -> Component:
    name, _, digest = reference.partition("@")
    component: Component = {"type": "container", "bom-ref": f"base:{reference}", "name": name}
    if matched := re.fullmatch("sha256:([0-9a-f]{64})", digest):
        component["hashes"] = [{"alg": "SHA-256", "content": matched[1]}]
        component["version"] = digest
    return component


def bill(environment: Path, system: Path, base: str) -> dict[str, Any]:
    packages = installed(environment)
    ours = python_package(packages["haproxy-sidecar"]) | {"type": "application"}
    python = {
        "type": "platform",
        "bom-ref": "python",
        "name": platform.python_implementation(),
        "version": platform.python_version(),
    }
    components = [
        base_image(base),
        python,
        *(python_package(item) for name, item in packages.items() if name != "haproxy-sidecar"),
        *sorted(debian_packages(system), key=lambda item: str(item["name"])),
    ]
    content = {
        "metadata": {"component": ours},
        "components": components,
        "dependencies": [
            {"ref": python_package(item)["purl"], "dependsOn": required(item, packages)}
            for item in packages.values()
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content, sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        **content,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="write the SBOM of an image")
    parser.add_argument("environment", type=Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--system", type=Path, default=Path("/"))
    given = parser.parse_args()
    given.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(bill(given.environment, given.system, given.base), indent=2)
    given.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
