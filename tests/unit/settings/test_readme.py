"""README shows all settings, and their defaults."""

import re
from typing import Any

import yaml
from cli import ROOT

from sidecar.settings.parsing import parse_settings
from sidecar.settings.schema import Settings


def keys(of: Any, path: str = "") -> set[str]:
    """Of a mapping and what is below it; of lists only the key."""
    if not isinstance(of, dict):
        return set()
    return {
        found
        for key, value in of.items()
        for found in (f"{path}{key}", *keys(value, f"{path}{key}."))
    }


def test_all_settings_are_in_readme_with_their_defaults() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (text,) = (block for block in blocks if block.startswith("router_name:"))
    shown, every = yaml.safe_load(text), Settings().model_dump(mode="json")
    assert keys(every) - keys(shown) == set()
    assert keys(shown) - keys(every) == set()
    assert parse_settings(text, {}, "README.md") == Settings()
