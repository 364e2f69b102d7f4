"""docs/deploy.md says what to do about each alert, and no document names another one."""

import re

import yaml
from book import PAGES, page, rows, words
from cli import ROOT

_NAME = re.compile(r"HAProxySidecar\w+|…\w+")


def alerts() -> list[str]:
    rules = yaml.safe_load((ROOT / "manifests/components/alerts/alerts.yaml").read_text())
    return [rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"]]


def test_each_alert_is_explained_and_exists() -> None:
    told = [word for row in rows("docs/deploy.md", "Alerts") for word in words(row[0])]
    assert sorted(told) == sorted(alerts())


def test_alerts_that_documents_name_exist() -> None:
    """… is the beginning of one that is named before."""
    known, seen, wrong = alerts(), 0, []
    for name in PAGES:
        for number, line in page(name).prose:
            if "HAProxySidecar" not in line:
                continue
            for word in filter(_NAME.fullmatch, words(line)):
                seen += 1
                ending = word.removeprefix("…")
                if not any(it == word or (ending != word and it.endswith(ending)) for it in known):
                    wrong.append(f"{name}:{number}: {word}")
    assert wrong == []
    assert seen > 20
