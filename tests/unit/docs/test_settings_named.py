"""Settings that the documents name or show exist, whatever the page."""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from book import PAGES, blocks, page, rows, words
from cli import ROOT
from setting_keys import leaves, sections, unknown_keys

from sidecar.policies.registry import POLICIES
from sidecar.settings.schema import Settings

#: `pools[].timeouts.connect`, or what is behind a dot of it.
_DOTTED = re.compile(r"[a-z][a-z_0-9]*(?:\[\])?(?:\.[a-z][a-z_0-9]*(?:\[\])?)+")
#: Kubernetes' own words have none.
_WITH_UNDERSCORE = re.compile(r"([a-z]+_[a-z_]+)(?:: .*)?", re.DOTALL)
_SHOWN = re.compile(rf"({'|'.join(Settings.model_fields)}): ([\[{{].*)", re.DOTALL)
_COMMENT = re.compile(r"(?m)(?:^| )# (.*)$")
#: Files, names of hosts; in Kubernetes' objects, in HAProxy's global section, of the kernel, of
#: images, and what our template gets.
_OF_OTHERS = re.compile(
    r".*\.(?:cfg|crt|j2|js|json|key|log|map|pem|py|sock|typed|ya?ml|example|invalid|io)"
    r"|(?:spec|status|addresses\[\]|tune|net|org|files)\..*"
)

#: Words of others, by what they are.
OTHERS = {
    *("act_conn", "conn_cur", "fe_conn", "map_beg"),  # HAProxy's
    *("route_namespace", "target_node", "target_pod", "target_service", "slot_info"),  # of metrics
    *("age_seconds", "complete_since_seconds"),  # of /api
    *("grafana_dashboard",),  # a label that Grafana looks for
}


def keys() -> set[str]:
    return {*leaves(), *sections()}


def endings() -> set[str]:
    """What is left of a key without its beginning, as a text has it that has said that."""
    return {key[found.end() :] for key in keys() for found in re.finditer(r"\.|^", key)}


def of_the_chart(values: Any = None, path: str = "") -> Iterator[str]:
    """Its own values: some begin as a section does, like `haproxy.resources`."""
    if values is None:
        values = yaml.safe_load((ROOT / "charts/haproxy-sidecar/values.yaml").read_text())
        del values["settings"]
    for key, value in values.items():
        yield f"{path}{key}"
        if isinstance(value, dict):
            yield from of_the_chart(value, f"{path}{key}.")


def code(name: str) -> Iterator[str]:
    for word in words(page(name).text):
        yield " ".join(word.split())


def test_settings_with_their_section_exist() -> None:
    """`timing.grace`: whatever has a dot, and is of nobody else."""
    ends, chart, seen, wrong = endings(), set(of_the_chart()), 0, []
    for name in PAGES:
        for word in filter(_DOTTED.fullmatch, code(name)):
            if _OF_OTHERS.fullmatch(word) or word in chart:
                continue
            seen += 1
            if word.removeprefix("settings.") not in ends:
                wrong.append(f"{name}: {word}")
    assert wrong == []
    assert seen > 200


def test_settings_named_by_their_last_word_exist() -> None:
    """`shared_by_sni`, `accept_proxy: true`."""
    last = {ending.rpartition(".")[2] for ending in endings()}
    annotations = {policy.annotation.rpartition("/")[2] for policy in POLICIES}
    seen, wrong = 0, []
    for name in PAGES:
        for word in code(name):
            found = _WITH_UNDERSCORE.fullmatch(word)
            if not found or found[1].startswith("haproxy_"):
                continue
            seen += 1
            if found[1] not in last | annotations | OTHERS:
                wrong.append(f"{name}: {word}")
    assert wrong == []
    assert seen > 70


def test_settings_shown_in_a_line_exist() -> None:
    """`timing: {grace: 600s}`, also in a comment of something else."""
    seen, wrong = 0, []
    comments = [(b.page, found) for b in blocks() for found in _COMMENT.findall(b.text)]
    inline = [(name, word) for name in PAGES for word in code(name)]
    for name, text in (*comments, *inline):
        found = _SHOWN.search(text) if (name, text) in comments else _SHOWN.fullmatch(text)
        if not found:
            continue
        seen += 1
        value = next(yaml.safe_load_all(found[2]))
        wrong += [f"{name}: {key}" for key in unknown_keys(value, found[1])]
    assert wrong == []
    assert seen


def test_settings_in_blocks_exist() -> None:
    """Files of settings, and parts of them; what only the chart has is the chart's."""
    seen, wrong = 0, []
    for block in blocks():
        if block.language != "yaml":
            continue
        for item in yaml.safe_load_all(block.text):
            found = item.get("settings", item)
            if "apiVersion" in item or not set(found) & set(Settings.model_fields):
                continue
            seen += 1
            wrong += [f"{block.where}: {key}" for key in unknown_keys(found)]
    assert wrong == []
    assert seen > 7


def test_settings_of_which_operations_md_says_how_they_change_exist() -> None:
    last, wrong, seen = endings(), [], 0
    for row in rows("docs/operations.md", "Change the settings"):
        for word in words(row[0]):
            if not word.startswith("/") and word != "null":
                seen += 1
                wrong += [word] * (word not in last)
    assert wrong == []
    assert seen > 50
