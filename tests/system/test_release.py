"""`make release`, in repositories of its own with this one's files that carry the version."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from stand import await_

ROOT = Path(__file__).parents[2]
NOTES = "### Added\n\n- One thing.\n- Another,\n  in two lines.\n\n### Fixed\n\n- A third."
HEAD = "# Changelog\n\nThe format.\n\n## [Unreleased]\n"
IDENTITY = {
    f"GIT_{who}_{what}": text
    for who in ("AUTHOR", "COMMITTER")
    for what, text in (("NAME", "Somebody"), ("EMAIL", "somebody@example"))
}


def environment(place: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(place), **IDENTITY}


def run(place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=place, env=environment(place), capture_output=True, text=True, check=False
    )


def git(place: Path, *arguments: str) -> str:
    done = run(place, "git", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


RELEASE = (sys.executable, "-P", str(ROOT / "package/release.py"))


def release(place: Path, version: str) -> subprocess.CompletedProcess[str]:
    return run(place, *RELEASE, version)


def commit(place: Path, changelog: str) -> None:
    (place / "CHANGELOG.md").write_text(changelog)
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", "A change")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A repository with nothing released: the program says 0.1.0, as at the first release."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    for file in ("sidecar/__init__.py", "charts/haproxy-sidecar/Chart.yaml"):
        target = tmp_path / file
        target.parent.mkdir(parents=True)
        target.write_text((ROOT / file).read_text())
    program = tmp_path / "sidecar/__init__.py"
    lines = program.read_text().splitlines()
    program.write_text("\n".join([*lines[:-1], '__version__ = "0.1.0"', ""]))
    commit(tmp_path, f"{HEAD}\n{NOTES}\n")
    return tmp_path


def state(place: Path) -> tuple[str, str, str]:
    return (
        git(place, "rev-parse", "HEAD"),
        git(place, "tag", "--list"),
        git(place, "status", "--porcelain"),
    )


def refused(place: Path, version: str) -> str:
    """What it says; and nothing has changed."""
    before = state(place)
    done = release(place, version)
    assert (done.returncode, done.stdout) == (1, "")
    assert state(place) == before
    return done.stderr.strip()


def test_the_first_release_has_the_version_that_is_there(place: Path) -> None:
    earliest = datetime.now(tz=UTC).date()
    done = release(place, "0.1.0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "git push --atomic origin main v0.1.0" in done.stdout
    assert git(place, "status", "--porcelain") == ""
    assert git(place, "log", "--format=%s") == "Release 0.1.0\nA change"
    dates = [(earliest + timedelta(days=days)).isoformat() for days in (0, 1)]
    assert (place / "CHANGELOG.md").read_text() in [
        f"{HEAD}\n## [0.1.0] - {date}\n\n{NOTES}\n" for date in dates
    ]
    # An annotated tag with the notes, headings and all.
    assert git(place, "cat-file", "-t", "v0.1.0") == "tag"
    assert git(place, "rev-parse", "v0.1.0^{commit}") == git(place, "rev-parse", "HEAD")
    message = git(place, "tag", "--list", "--format=%(contents)", "v0.1.0")
    assert message == f"haproxy-sidecar 0.1.0\n\n{NOTES}"


def test_the_next_release_changes_whatever_carries_the_version(place: Path) -> None:
    assert release(place, "0.1.0").returncode == 0
    text = (place / "CHANGELOG.md").read_text()
    commit(place, text.replace(HEAD, f"{HEAD}\n### Added\n\n- News.\n"))
    done = release(place, "0.2.0")
    assert (done.returncode, done.stderr) == (0, "")
    assert '\n__version__ = "0.2.0"\n' in (place / "sidecar/__init__.py").read_text()
    chart = yaml.safe_load((place / "charts/haproxy-sidecar/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == ("0.2.0", "0.2.0")
    headings = [
        line.partition(" - ")[0]
        for line in (place / "CHANGELOG.md").read_text().splitlines()
        if line.startswith("## ")
    ]
    assert headings == ["## [Unreleased]", "## [0.2.0]", "## [0.1.0]"]
    assert "One thing" not in git(place, "tag", "--list", "--format=%(contents)", "v0.2.0")


@pytest.mark.parametrize("version", ["", "1", "v1.2.3", "1.2.3rc1", "01.2.3", "1.2.3\n"])
def test_a_version_is_three_numbers(place: Path, version: str) -> None:
    assert "1.2.3" in refused(place, version)


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9"])
def test_a_version_is_newer_than_all_that_are_released(place: Path, version: str) -> None:
    assert release(place, "0.1.0").returncode == 0
    commit(place, (place / "CHANGELOG.md").read_text().replace(HEAD, f"{HEAD}\n- News.\n"))
    assert refused(place, version) == (
        f"release: VERSION={version}: has to be newer than 0.1.0, which is released"
    )


def test_a_version_is_never_older_than_the_program_says(place: Path) -> None:
    assert refused(place, "0.0.9") == ("release: VERSION=0.0.9: the program says 0.1.0 already")


def test_a_tag_is_a_release_even_if_the_changelog_does_not_know(place: Path) -> None:
    git(place, "tag", "v0.3.0")
    assert "newer than 0.3.0" in refused(place, "0.2.0")


def test_the_tree_has_to_be_clean_and_main(place: Path) -> None:
    (place / "new").touch()
    assert refused(place, "0.1.0").startswith("release: uncommitted changes")
    (place / "new").unlink()
    git(place, "switch", "--quiet", "--create", "other")
    assert refused(place, "0.1.0") == "release: on branch other: releases are made on main"
    git(place, "switch", "--quiet", "--detach")
    assert refused(place, "0.1.0") == "release: on branch (none): releases are made on main"


@pytest.mark.parametrize("changelog", ["# Changelog\n", f"{HEAD}\n### Added\n"])
def test_there_has_to_be_something_to_release(place: Path, changelog: str) -> None:
    commit(place, changelog)
    assert "Unreleased" in refused(place, "0.1.0")


def hook(place: Path, script: str) -> None:
    """What git runs before it commits."""
    file = place / ".git/hooks/pre-commit"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def signer(place: Path, script: str) -> None:
    """What git runs to sign a tag, when the commit is there already."""
    file = place / ".git/signer"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    git(place, "config", "gpg.program", str(file))
    git(place, "config", "tag.gpgSign", "true")


def test_what_git_refuses_leaves_nothing_behind(place: Path) -> None:
    hook(place, "echo not today >&2; exit 1")
    assert "not today" in refused(place, "0.1.0")
    assert "## [0.1.0]" not in (place / "CHANGELOG.md").read_text()


def test_a_tag_that_cannot_be_made_takes_its_commit_along(place: Path) -> None:
    signer(place, "exit 1")
    assert "failed to sign" in refused(place, "0.1.0")
    # The next one is not told that it is released already.
    git(place, "config", "tag.gpgSign", "false")
    assert release(place, "0.1.0").returncode == 0


def test_a_disk_that_is_full_half_way(place: Path) -> None:
    """Of which a limit is what a test can have: the new changelog is longer than the old one."""
    commit(place, f"{HEAD}\n{NOTES}\n\n{'An old line.' * 9000}\n")
    before = state(place)
    limit = f"--fsize={(place / 'CHANGELOG.md').stat().st_size}"
    done = run(place, "prlimit", limit, *RELEASE, "0.1.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "release: [Errno 27] File too large\n"
    assert state(place) == before


def test_what_a_hook_says_need_not_be_text(place: Path) -> None:
    hook(place, "printf 'non, d\\351sol\\351\\n' >&2; exit 1")
    assert "non, d\N{REPLACEMENT CHARACTER}sol" in refused(place, "0.1.0")


def test_nobody_can_make_a_release_without_a_name(place: Path) -> None:
    before = state(place)
    git(place, "config", "user.useConfigOnly", "true")
    nameless = {"PATH": os.environ["PATH"], "HOME": str(place)}
    done = subprocess.run(
        [*RELEASE, "0.1.0"], cwd=place, env=nameless, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "git config --global user.email" in done.stderr
    assert state(place) == before


@pytest.mark.parametrize("during", [hook, signer])
@pytest.mark.parametrize("ctrl_c", [True, False], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_release_is_none(
    place: Path, during: Callable[[Path, str], None], ctrl_c: bool
) -> None:
    before = state(place)
    reached = place / ".git/reached"
    during(place, f"touch {reached}; exec sleep 100")
    with subprocess.Popen(
        [*RELEASE, "0.1.0"],
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            await_(reached.exists, "git has come so far")
            if ctrl_c:  # a terminal's, for all that run in it
                os.killpg(process.pid, signal.SIGINT)
            else:
                process.terminate()
            out, err = process.communicate(timeout=10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, out) == (1, "")
    assert err == "release: interrupted; nothing is changed\n"
    assert state(place) == before
    (place / ".git/hooks/pre-commit").unlink(missing_ok=True)
    git(place, "config", "tag.gpgSign", "false")
    assert release(place, "0.1.0").returncode == 0


def test_a_file_that_carries_the_version_otherwise_is_named(place: Path) -> None:
    (place / "charts/haproxy-sidecar/Chart.yaml").write_text("name: other\n")
    commit(place, (place / "CHANGELOG.md").read_text())
    assert "charts/haproxy-sidecar/Chart.yaml: 0 lines" in refused(place, "0.1.0")


def test_this_repository_is_ready_for_a_release() -> None:
    """Its files are what release.py looks for; its changelog has a place for what comes next."""
    chart = yaml.safe_load((ROOT / "charts/haproxy-sidecar/Chart.yaml").read_text())
    program = (ROOT / "sidecar/__init__.py").read_text()
    assert f'\n__version__ = "{chart["version"]}"\n' in program
    assert (ROOT / "CHANGELOG.md").read_text().count("\n## [Unreleased]\n") == 1
