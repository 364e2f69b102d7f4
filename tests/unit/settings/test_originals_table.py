"""docs/reference.md names a setting for each of OpenShift's router, and the setting exists."""

import re

from cli import ROOT

from sidecar.importers.router_env_table import TABLE
from sidecar.settings.schema import Settings
from sidecar.settings.web import ListenerSettings

SECTION = re.compile(r"\n## Settings of OpenShift's router\n(.*?)\n## ", re.DOTALL)

WORDS = {"needless", "not offered", "template"}


def test_the_document_has_what_the_importer_has() -> None:
    found = SECTION.search((ROOT / "docs" / "reference.md").read_text())
    assert found
    lines = [line for line in found[1].splitlines() if line.startswith("| ")]
    assert lines[1:] == [row.line() for row in TABLE]


def rows() -> list[tuple[str, str]]:
    found = SECTION.search((ROOT / "docs" / "reference.md").read_text())
    assert found
    lines = [line.split("|") for line in found[1].splitlines() if line.startswith("| ")]
    return [(cells[1].strip(), cells[2].strip()) for cells in lines[1:]]


def exists(key: str) -> bool:
    of = Settings.model_fields
    if key.startswith("listeners[]."):
        return key.partition(".")[2] in ListenerSettings.model_fields
    for part in key.split("."):
        if part not in of:
            return False
        of = getattr(of[part].annotation, "model_fields", {})
    return True


def test_each_has_a_setting_or_says_why_not() -> None:
    seen: list[str] = []
    for names, here in rows():
        seen += re.findall(r"`([A-Z_0-9]+[*]?|--[a-z-]+)`", names)
        if here not in WORDS:
            keys = re.findall(r"`([^`]+)`", here)
            assert keys, here
            assert [key for key in keys if not exists(key)] == []
    assert len(seen) == len(set(seen))
    assert len(seen) > 90
