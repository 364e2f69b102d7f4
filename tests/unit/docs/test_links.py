"""Links among the documents lead to files and headings that exist, and `make` to targets."""

import re

import pytest
from book import PAGES, blocks, folder_of, page, slug
from cli import ROOT

#: Whose headings say what changed, not what it is about: each version has an "Added".
_REPEATS = {"CHANGELOG.md"}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    broken = []
    for number, target in page(name).links:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (folder_of(name) / path).resolve() if path else ROOT / name
        where = f"{name}:{number}: {target}"
        if not file.exists():
            broken.append(f"{where}: there is no such file")
        elif anchor:
            there = str(file.relative_to(ROOT))
            if there not in PAGES or anchor not in map(slug, page(there).headings):
                broken.append(f"{where}: {there} has no such heading")
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("name", sorted(set(PAGES) - _REPEATS))
def test_headings_have_anchors_of_their_own(name: str) -> None:
    anchors = [slug(heading) for heading in page(name).headings]
    assert len(anchors) == len(set(anchors))


def test_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    said = {
        (name, target)
        for name in PAGES
        for target in re.findall(r"`make ([a-z-]+)", page(name).text)
    }
    said |= {
        (block.page, target)
        for block in blocks()
        for target in re.findall(r"^make ([a-z-]+)", block.text, re.MULTILINE)
    }
    assert len(said) > 10
    assert {(name, target) for name, target in said if target not in targets} == set()


def test_every_page_is_found_from_another() -> None:
    reached = {
        (folder_of(name) / target.partition("#")[0]).resolve()
        for name in PAGES
        for _, target in page(name).links
        if not re.match(r"[a-z]+:|#", target)
    }
    lost = {name for name in PAGES if ROOT / name not in reached} - {"README.md"}
    assert lost == set()
