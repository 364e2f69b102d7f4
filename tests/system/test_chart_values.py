"""What the chart says agrees with the program and with docs/deploy.md. What helm makes of it is
`make test-cluster`'s to say.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sidecar import __version__
from sidecar.settings.parsing import parse_settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/haproxy-sidecar"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())


def test_the_version_is_the_programs() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


def test_the_default_settings_are_ours() -> None:
    parse_settings(yaml.safe_dump(VALUES["settings"]), {}, "values.yaml")


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    # Helm's own, which every chart may be given.
    assert schema["properties"].keys() - {"global"} == VALUES.keys()
    for key, part in schema["properties"].items():
        if part.get("additionalProperties") is False and key != "settings":
            assert part["properties"].keys() == VALUES[key].keys(), key


def test_deploy_md_has_every_value_with_its_default() -> None:
    section = (ROOT / "docs/deploy.md").read_text().partition("### Values of the chart")[2]
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \| ", section.partition("\n#")[0], re.MULTILINE)
    listed = {key: yaml.safe_load(default.strip("`") or "null") for key, default in rows}
    assert listed == dict(leaves(VALUES))


def leaves(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(key, default) down to what is a value by itself. Of the settings, those that are given."""
    for key, value in values.items():
        at = f"{above}{key}"
        if isinstance(value, dict) and value and at not in WHOLE:
            yield from leaves(value, f"{at}.")
        else:
            yield at, value


#: Values whose keys are not the chart's.
WHOLE = {"sidecar.resources", "haproxy.resources", "service.spec", "topologySpread"}
