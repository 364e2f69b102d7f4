"""The patches of docs/deploy.md fit our manifests, and its settings are good; what the documents
show of Kubernetes' objects has fields that exist."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from book import Block, blocks, page
from cli import ROOT
from kubernetes.client import models

from sidecar.settings.parsing import parse_settings

BASE = ROOT / "manifests/base"
COMPONENTS = ROOT / "manifests/components"


#: Parts of objects that a page shows, by their first key: what has them.
PARTS = {
    ("docs/deploy.md", "securityContext"): "V1PodSpec",
    ("docs/deploy.md", "ingress"): "V1NetworkPolicySpec",
    ("docs/how-it-works.md", "spec"): "V1Pod",
}

_LIST, _DICT = re.compile(r"[Ll]ist\[(.*)\]"), re.compile(r"[Dd]ict\[str, (.*)\]")


def objects() -> Iterator[dict[str, Any]]:
    for path in (*BASE.glob("*.yaml"), *COMPONENTS.glob("*/*.yaml")):
        for item in yaml.safe_load_all(path.read_text()):
            if item and item.get("metadata", {}).get("name"):
                yield item


def yaml_blocks() -> list[Block]:
    return [block for block in page("docs/deploy.md").blocks if block.language == "yaml"]


def patches() -> Iterator[Any]:
    for block in yaml_blocks():
        for patch in (yaml.safe_load(block.text) or {}).get("patches", ()):
            yield pytest.param(patch, id=block.where)


def parent(of: Any, path: str) -> Any:
    """Where the last step of a JSON pointer is to be taken."""
    *steps, _ = path.strip("/").split("/")
    for step in steps:
        of = of[int(step) if isinstance(of, list) else step.replace("~1", "/")]
    return of


def inside(kind: str, step: str) -> str | None:
    """What a field of such a value is, or an item; None if there is no such field."""
    if found := _LIST.fullmatch(kind):
        return found[1] if step == "-" or step.isdigit() else None
    if found := _DICT.fullmatch(kind):
        return found[1]
    model: Any = getattr(models, kind, None)
    fields = model.attribute_map if model else {}
    return next((model.openapi_types[name] for name in fields if fields[name] == step), None)


def unknown(kind: str, value: Any, path: str = "") -> Iterator[str]:
    """The fields in it that no such value has."""
    items: Any = ()
    if isinstance(value, dict) and kind != "object":
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for step, item in items:
        found = inside(kind, str(step))
        if found is None:
            yield f"{path}/{step}"
        else:
            yield from unknown(found, item, f"{path}/{step}")


def unknown_in_patch(kind: str, operation: dict[str, Any]) -> Iterator[str]:
    of = f"V1{kind}"
    for step in operation["path"].strip("/").split("/"):
        found = inside(of, step.replace("~1", "/"))
        if found is None:
            yield operation["path"]
            return
        of = found
    yield from unknown(of, operation.get("value"), operation["path"])


@pytest.mark.parametrize("patch", list(patches()))
def test_patches_fit(patch: dict[str, Any]) -> None:
    target, count = patch["target"], 0
    for item in objects():
        name = item["metadata"]["name"]
        if item["kind"] in target["kind"].split("|") and name == target["name"]:
            for operation in yaml.safe_load(patch["patch"]):
                count += 1
                assert list(unknown_in_patch(item["kind"], operation)) == []
                there = parent(item, operation["path"])
                last = operation["path"].rpartition("/")[2]
                assert isinstance(there, dict | list)
                assert last == "-" or operation["op"] == "add" or last in there or last.isdigit()
    assert count, f"nothing of ours is {target}"


def test_fields_of_objects_exist() -> None:
    seen, wrong = 0, []
    for block in blocks():
        if block.language != "yaml":
            continue
        for item in yaml.safe_load_all(block.text):
            kind = PARTS.get((block.page, next(iter(item))), f"V1{item.get('kind')}")
            if hasattr(models, kind):
                seen += 1
                wrong += [f"{block.where}: {path}" for path in unknown(kind, item)]
    assert wrong == []
    assert seen > 8


def test_settings_are_good() -> None:
    """With what they are added to, where they need it."""
    seen = 0
    for block in yaml_blocks():
        found = yaml.safe_load(block.text)
        if not set(found) <= {"pools", "listeners", "web"}:
            continue
        seen += 1
        if "web" in found and "listeners" not in found:
            found["listeners"] = [{"name": "https", "kind": "tls", "bind": ["0.0.0.0:8443"]}]
        parse_settings(yaml.safe_dump(found), {}, block.where)
    assert seen >= 3
