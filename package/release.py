"""Makes a release, here: `make release VERSION=1.2.3`. What to push it says, and pushes nothing.

Owns which files carry the version, and what has to be so before there can be a release. Either all
of it is done, one commit and one annotated tag, or nothing is changed. Must not talk to any remote.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

BRANCH = "main"
CHANGELOG = "CHANGELOG.md"

#: The file -> what stands around the version there. The program's own is in the first; the chart is
#: released with it, and installs the image of that tag.
CARRIERS: Mapping[str, tuple[str, ...]] = {
    "sidecar/__init__.py": (r'^(__version__ = ")[^"]+(")$',),
    "charts/haproxy-sidecar/Chart.yaml": (
        r"^(version: )\S+()$",
        r'^(appVersion: ")[^"]+(")$',
    ),
}

Version = tuple[int, int, int]


class RefusedError(Exception):
    """Why there is no release, and what to do about it."""


def parse_version(text: str) -> Version:
    matched = re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", text)
    if not matched:
        raise RefusedError(f"VERSION={text}: not a version like 1.2.3")
    return int(matched[1]), int(matched[2]), int(matched[3])


def check_newer(version: str, current: str, released: set[str]) -> None:
    """The first release may have the version that is there already; no two have the same."""
    wanted = parse_version(version)
    newest = max(released, key=parse_version, default="")
    if newest and wanted <= parse_version(newest):
        raise RefusedError(f"VERSION={version}: has to be newer than {newest}, which is released")
    if wanted < parse_version(current):
        raise RefusedError(f"VERSION={version}: the program says {current} already")


def released_changelog(text: str, version: str, date: str) -> tuple[str, str]:
    """The changelog of the release, and its notes: what was under Unreleased."""
    matched = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not matched:
        raise RefusedError(f"{CHANGELOG}: has no section `## [Unreleased]`")
    notes = matched[1].strip()
    if not re.search(r"^- ", notes, re.MULTILINE):
        raise RefusedError(f"{CHANGELOG}: nothing under Unreleased; there is nothing to release")
    section = f"## [Unreleased]\n\n## [{version}] - {date}\n\n{notes}\n"
    rest = text[matched.end() :]
    return text[: matched.start()] + section + (f"\n{rest}" if rest else ""), notes


def with_version(text: str, version: str, file: str) -> str:
    for pattern in CARRIERS[file]:
        text, count = re.subn(pattern, rf"\g<1>{version}\g<2>", text, flags=re.MULTILINE)
        if count != 1:
            raise RefusedError(f"{file}: {count} lines are like {pattern}, instead of one")
    return text


def git(*arguments: str, text: str | None = None) -> str:
    # What hooks say may be in any encoding.
    with subprocess.Popen(
        ["git", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            out, err = process.communicate(text)
        except BaseException:
            # subprocess.run would kill it, and it would leave its lock behind.
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        raise RefusedError(f"git {' '.join(arguments)}: {(err or out).strip()}")
    return out.strip()


def undisturbed() -> None:
    """What comes now comes to its end, in git as well."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def check_tree() -> None:
    if git("status", "--porcelain"):
        raise RefusedError("uncommitted changes: commit or stash them (`git status` shows them)")
    branch = git("branch", "--show-current")
    if branch != BRANCH:
        raise RefusedError(f"on branch {branch or '(none)'}: releases are made on {BRANCH}")


def release(version: str) -> str:
    """Returns what is left to do. Whatever it raises, nothing is changed: RefusedError says why."""
    parse_version(version)
    check_tree()
    texts = {file: Path(file).read_text(encoding="utf-8") for file in (CHANGELOG, *CARRIERS)}
    current = re.search(r'^__version__ = "(.*)"$', texts["sidecar/__init__.py"], re.MULTILINE)
    if not current:
        raise RefusedError('sidecar/__init__.py: no line is like __version__ = "1.2.3"')
    headings = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", texts[CHANGELOG], re.MULTILINE)
    tags = re.findall(r"^v(\d+\.\d+\.\d+)$", git("tag", "--list"), re.MULTILINE)
    check_newer(version, current[1], {*headings, *tags})
    date = datetime.now(tz=UTC).date().isoformat()
    changelog, notes = released_changelog(texts[CHANGELOG], version, date)
    after = {file: with_version(texts[file], version, file) for file in CARRIERS}
    before = git("rev-parse", "HEAD")
    try:
        for file, text in {CHANGELOG: changelog, **after}.items():
            Path(file).write_text(text, encoding="utf-8")
        git("commit", "--quiet", "--all", "--message", f"Release {version}")
        # Not git's default clean-up: it takes the headings of the notes for comments.
        message = f"haproxy-sidecar {version}\n\n{notes}\n"
        git("tag", "--annotate", f"v{version}", "--cleanup=whitespace", "--file=-", text=message)
        undisturbed()
    except BaseException:  # by a signal, too
        undisturbed()
        # The tree was clean, so nothing but what was written above is lost.
        git("reset", "--quiet", "--hard", before)
        if git("tag", "--list", f"v{version}"):
            git("tag", "--delete", f"v{version}")
        raise
    image = f"REGISTRY/haproxy-sidecar:{version}"
    return f"""\
{version} is committed, and tagged v{version}. Nothing was pushed; what you may do now:

  git show v{version}
  git push --atomic origin {BRANCH} v{version}
  make build PROJECT_URL=https://HOST/OWNER/NAME && twine upload dist/haproxy_sidecar-{version}*
  make image IMAGE={image} && buildah push {image}
  helm package charts/haproxy-sidecar

To take it back: git tag --delete v{version} && git reset --hard {before[:12]}"""


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit("release: which version? make release VERSION=1.2.3")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print(release(sys.argv[1]))
    except (RefusedError, OSError) as exc:
        sys.exit(f"release: {exc}")
    except KeyboardInterrupt:
        sys.exit("release: interrupted; nothing is changed")


if __name__ == "__main__":
    main()
