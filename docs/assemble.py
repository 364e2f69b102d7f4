"""Puts together what mkdocs renders: docs/, its neighbours as pages, the files that they lead to.

`make docs` calls it before mkdocs, and with `--check` behind it: then it fails if a page would
fetch anything from elsewhere. Changes links only. What is right of them is for tests/unit/docs and
`mkdocs build --strict` to say.
"""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE, SITE = ROOT / "run/docs-source", ROOT / "run/docs"

#: Pages that are not in docs/: what they are called in the book.
OTHERS = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}

_LINK = re.compile(r"\[([^\[\]]*)\]\((?![a-z]+:|#)([^()\s#]+)(#[^()\s]*)?\)")
#: With a scheme or without: `//cdn.example/a.js` is the scheme of the page.
_ELSEWHERE = r"(?:https?:)?//"
_FETCHED = re.compile(
    rf"""<(?:script|img|iframe|source|video|audio|track|embed|input)\b
          [^>]*\b(?:src|poster)=["']?\s*{_ELSEWHERE}[^>]*>
      | <(?:img|source)\b[^>]*\bsrcset=(?:"(?:[^"]*,)?|'(?:[^']*,)?)\s*{_ELSEWHERE}[^>]*>
      | <object\b[^>]*\bdata=["']?\s*{_ELSEWHERE}[^>]*>
      | <(?:image|use)\b[^>]*\bhref=["']?\s*{_ELSEWHERE}[^>]*>
      | <link\b(?=[^>]*\brel=["']?(?:[\w-]+\ )*
          (?:stylesheet|preconnect|preload|prefetch|modulepreload|dns-prefetch|manifest
            |(?:[\w-]+-)?icon)\b)
          [^>]*\bhref=["']?\s*{_ELSEWHERE}[^>]*>
      | @import\s*["']\s*{_ELSEWHERE}[^;]*;
      | \burl\(\s*["']?\s*{_ELSEWHERE}[^)]*\)""",
    re.VERBOSE | re.IGNORECASE,
)


def fetched(text: str) -> list[str]:
    """What a page, or a style sheet, would have a browser fetch from elsewhere."""
    return _FETCHED.findall(text)


def moved(page: Path) -> str:
    """The page with its links as they are in the book."""

    def link(found: re.Match[str]) -> str:
        text, path, anchor = found[1], found[2], found[3] or ""
        target = (page.parent / path).resolve()
        name = str(target.relative_to(ROOT))
        if target.parent == ROOT / "docs":
            return f"[{text}]({target.name}{anchor})"
        if name in OTHERS:
            return f"[{text}]({OTHERS[name]}{anchor})"
        if not target.is_file():
            return text  # a folder has no page
        copy = SOURCE / "files" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, copy)
        return f"[{text}](files/{name})"

    inside, lines = False, []
    for line in page.read_text().splitlines():
        inside ^= line.lstrip().startswith("```")
        lines.append(line if inside else _LINK.sub(link, line))
    return "\n".join([*lines, ""])


def assemble() -> None:
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    for page in sorted((ROOT / "docs").glob("*.md")):
        (SOURCE / page.name).write_text(moved(page))
    for name, here in OTHERS.items():
        (SOURCE / here).write_text(moved(ROOT / name))
    for pattern in ("*.png", "*.svg"):
        for picture in sorted((ROOT / "docs").glob(pattern)):
            shutil.copyfile(picture, SOURCE / picture.name)


def check() -> int:
    """How many things the site would fetch from elsewhere; each is told."""
    count = 0
    for path in sorted((*SITE.rglob("*.html"), *SITE.rglob("*.css"))):
        for found in fetched(path.read_text()):
            count += 1
            sys.stderr.write(f"{path.relative_to(ROOT)} fetches from elsewhere: {found}\n")
    return count


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(1 if check() else 0)
    assemble()
