"""What the Containerfile copies and runs beside pip, on small environments made for it. `make
test-image` builds a whole image; it needs root and mounts, so it is not part of `make test`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from sidecar import __version__

ROOT = Path(__file__).parents[2]
SITE = "lib/python3.13/site-packages"
DPKG = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12+deb13u1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: libstdc++6
Status: install ok installed
Architecture: amd64
Version: 1:14.2.0-19
Description: a library
 of several lines
"""


def distribution(
    environment: Path, name: str, *files: str, metadata: str = "", version: str = "1.2"
) -> None:
    site = environment / SITE
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    for file in files:
        path = site / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# a module\n")
    (site / folder).mkdir(parents=True)
    (site / folder / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{metadata}\n"
    )
    record = [*files, f"{folder}/METADATA", f"{folder}/RECORD"]
    (site / folder / "RECORD").write_text("".join(f"{file},,\n" for file in record))


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    place = tmp_path / "env"
    (place / "bin").mkdir(parents=True)
    for command in ("python3", "haproxy-sidecar", "wsdump"):
        (place / "bin" / command).touch()
    distribution(
        place,
        "haproxy-sidecar",
        "sidecar/__init__.py",
        metadata="License-Expression: Apache-2.0\nRequires-Dist: kubernetes\n"
        'Requires-Dist: stray; sys_platform == "win32"\n',
    )
    distribution(
        place,
        "kubernetes",
        "kubernetes/__init__.py",
        "kubernetes/aio/__init__.py",
        "kubernetes/client/__init__.py",
        "kubernetes/client/api/__init__.py",
        "kubernetes/client/api/core_v1_api.py",
        "kubernetes/client/api/__pycache__/core_v1_api.cpython-313.pyc",
        "kubernetes/client/api/__pycache__/__init__.cpython-313.pyc",
        "kubernetes/client/models/__init__.py",
        "kubernetes/client/models/v1_pod.py",
        metadata="License: Apache\nRequires-Dist: aiohttp>=3\nRequires-Dist: Py.Yaml\n",
    )
    distribution(place, "aiohttp", "aiohttp/a.py", metadata="Requires-Dist: multidict\n")
    distribution(place, "multidict", "multidict/__init__.py", "__pycache__/x.cpython-313.pyc")
    distribution(place, "py-yaml", "yaml/__init__.py", "both/one.py")
    distribution(place, "stray", "stray.py", "both/two.py", version="1.2+of.here")
    return place


def run(script: str | Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "package/image" / script, *arguments],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def test_slim_removes_what_nobody_imports_and_what_only_that_requires(environment: Path) -> None:
    done = run("slim.py", environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("slim.py: aiohttp, multidict, stray; ")
    left = {str(path.relative_to(environment / SITE)) for path in environment.rglob("*.py*")}
    assert left == {
        "sidecar/__init__.py",
        "kubernetes/__init__.py",
        "kubernetes/client/__init__.py",
        "kubernetes/client/api/__init__.py",
        "kubernetes/client/api/__pycache__/__init__.cpython-313.pyc",
        "kubernetes/client/models/__init__.py",
        "yaml/__init__.py",
        # Shared with what stays.
        "both/one.py",
        "both/two.py",
        "__pycache__/x.cpython-313.pyc",
    } | {str(path.relative_to(environment / SITE)) for path in environment.glob("bin/python*.py*")}
    assert {path.name for path in (environment / "bin").iterdir()} == {"python3", "haproxy-sidecar"}
    infos = {path.name for path in (environment / SITE).glob("*.dist-info")}
    assert infos == {
        f"{name}-1.2.dist-info" for name in ("haproxy_sidecar", "kubernetes", "py_yaml")
    }


def test_slim_fails_where_a_release_has_moved_what_was_to_go(environment: Path) -> None:
    (environment / SITE / "kubernetes/client/models/v1_pod.py").unlink()
    done = run("slim.py", environment)
    assert done.returncode == 1
    assert "kubernetes has no client/models/[!_]* any more" in done.stderr


def prove(examples: Path, before: Path | None = None) -> subprocess.CompletedProcess[str]:
    """On this very environment, with what is in a folder in front of it."""
    return subprocess.run(
        [sys.executable, "-P", ROOT / "package/image/prove.py", examples],
        env={"PATH": os.environ["PATH"], **({"PYTHONPATH": str(before)} if before else {})},
        capture_output=True,
        text=True,
        check=False,
    )


def test_prove_finds_what_slim_removed_too_much_of(source: Path, tmp_path: Path) -> None:
    broken = tmp_path / "kubernetes"
    (broken / "client").mkdir(parents=True)
    (broken / "__init__.py").touch()
    (broken / "client/__init__.py").write_text("class Configuration: ...\n")
    done = prove(source / "examples", tmp_path)
    assert done.returncode == 1
    assert "No module named 'kubernetes.c" in done.stderr
    whole = prove(source / "examples")
    assert (whole.returncode, whole.stderr) == (0, "")
    assert re.fullmatch(
        r"prove.py: \d{3} modules, \d{3,} imports; --version, --help, check, render\n",
        whole.stdout,
    )


@pytest.mark.parametrize("statement", ["import json.no", "from json import no", "import no"])
def test_prove_follows_imports_within_functions(tmp_path: Path, statement: str) -> None:
    ours = tmp_path / "sidecar"
    ours.mkdir()
    (ours / "__init__.py").touch()
    (ours / "part.py").write_text(f"def seldom() -> None:\n    {statement}\n")
    done = prove(ROOT / "examples", tmp_path)
    assert done.returncode == 1
    assert re.search(
        r"^ModuleNotFoundError: No module named '(json\.)?no'", done.stderr, re.MULTILINE
    )


def test_prove_runs_commands(tmp_path: Path) -> None:
    done = prove(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"prove.py: haproxy-sidecar check {tmp_path}/mysql.yaml:\n")


def test_the_sbom_lists_python_and_debian_packages_and_the_base(
    environment: Path, tmp_path: Path
) -> None:
    system = tmp_path / "system"
    (system / "etc").mkdir(parents=True)
    (system / "etc/os-release").write_text('NAME="Debian"\nID=debian\n\nVERSION_ID="13"\n')
    (system / "var/lib/dpkg").mkdir(parents=True)
    (system / "var/lib/dpkg/status").write_text(DPKG)
    digest = "ab" * 32
    target = tmp_path / "share/sbom.cdx.json"
    base = f"registry.example/python:3.13@sha256:{digest}"
    arguments = (environment, "--base", base, "--output", target, "--system", system)
    done = run("sbom.py", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = target.read_text()
    bill = json.loads(text)
    ours = bill["metadata"]["component"]
    assert (ours["name"], ours["version"]) == ("haproxy-sidecar", "1.2")
    assert ours["licenses"] == [{"expression": "Apache-2.0"}]
    image, python, *packages = bill["components"]
    assert (image["type"], image["name"]) == ("container", "registry.example/python:3.13")
    assert image["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert (python["type"], python["name"]) == ("platform", "CPython")
    assert [item["purl"] for item in packages] == [
        "pkg:pypi/aiohttp@1.2",
        "pkg:pypi/kubernetes@1.2",
        "pkg:pypi/multidict@1.2",
        "pkg:pypi/py-yaml@1.2",
        "pkg:pypi/stray@1.2%2Bof.here",
        "pkg:deb/debian/libc6@2.41-12%2Bdeb13u1?arch=amd64&distro=debian-13",
        "pkg:deb/debian/libstdc%2B%2B6@1%3A14.2.0-19?arch=amd64&distro=debian-13",
    ]
    # Not SPDX's name of it, so it stays what the package says.
    assert packages[1]["licenses"] == [{"license": {"name": "Apache"}}]
    depends = {item["ref"]: item["dependsOn"] for item in bill["dependencies"]}
    assert depends["pkg:pypi/haproxy-sidecar@1.2"] == ["pkg:pypi/kubernetes@1.2"]
    assert depends["pkg:pypi/kubernetes@1.2"] == ["pkg:pypi/aiohttp@1.2", "pkg:pypi/py-yaml@1.2"]
    refs = [item["bom-ref"] for item in (ours, *bill["components"])]
    assert len(set(refs)) == len(refs)
    assert run("sbom.py", *arguments).returncode == 0
    assert target.read_text() == text, "the same image makes the same file"


@pytest.mark.parametrize(
    ("release", "namespace", "distro"),
    [
        ('ID="ubuntu"\nVERSION_ID="26.04"\n', "ubuntu", "ubuntu-26.04"),
        ("ID=debian\nVERSION_CODENAME=forky\n", "debian", "debian-forky"),  # before its release
        ("ID=debian\n", "debian", "debian"),
        (None, "", ""),
    ],
)
def test_the_sbom_is_written_on_any_base(
    environment: Path, tmp_path: Path, release: str | None, namespace: str, distro: str
) -> None:
    system = tmp_path / "system"
    (system / "etc").mkdir(parents=True)
    if release:
        (system / "etc/os-release").write_text(release)
        (system / "var/lib/dpkg").mkdir(parents=True)
        (system / "var/lib/dpkg/status").write_text(DPKG)
    target = tmp_path / "sbom.cdx.json"
    done = run("sbom.py", environment, "--base", "base:1", "--output", target, "--system", system)
    assert (done.returncode, done.stderr) == (0, "")
    bill = json.loads(target.read_text())
    purls = [item["purl"] for item in bill["components"] if "purl" in item]
    debian = [purl for purl in purls if not purl.startswith("pkg:pypi/")]
    assert bool(debian) == bool(release)
    for purl in debian:
        assert purl.startswith(f"pkg:deb/{namespace}/lib")
        assert purl.endswith(f"?arch=amd64&distro={distro}")


def instructions() -> Iterator[tuple[str, list[str]]]:
    """Name and words of each in the Containerfile."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE)
    for line in filter(None, text.replace("\\\n", " ").splitlines()):
        name, *words = line.split()
        yield name, words


def is_let_through(path: PurePosixPath) -> bool:
    """Whether .dockerignore gives it to the builder: the last line about it, or a folder that it is
    in, decides."""
    given = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(?:.*/)?")
        pattern = pattern.replace(r"\*", "[^/]*")
        if any(re.fullmatch(pattern, str(item)) for item in (path, *path.parents)):
            given = line.startswith("!")
    return given


def copied() -> Iterator[tuple[str, str]]:
    """Source and target of each that the build has from here."""
    for name, words in instructions():
        if name == "COPY" and not words[0].startswith("--from"):
            *sources, target = words
            for source in sources:
                is_folder = target.endswith("/")
                yield source, f"{target}{Path(source).name}" if is_folder else target


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the build has in /src: of what is copied that which .dockerignore lets through."""
    folder = tmp_path_factory.mktemp("src")
    for name, target in copied():
        here = ROOT / name
        assert here.exists(), f"the Containerfile copies {name}"
        for path in here.rglob("*") if here.is_dir() else [here]:
            inside = PurePosixPath(path.relative_to(ROOT))
            if path.is_file() and is_let_through(inside):
                place = folder / target / path.relative_to(here)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)
    return folder


def wheel_of(folder: Path, target: Path) -> dict[str, bytes]:
    command = [sys.executable, "-P", "-m", "hatchling", "build", "--target", "wheel"]
    done = subprocess.run(
        [*command, "--directory", target], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_build_has_what_it_needs_and_nothing_else(source: Path, tmp_path: Path) -> None:
    assert wheel_of(source, tmp_path / "there") == wheel_of(ROOT, tmp_path / "here")
    words = [word for name, words in instructions() if name == "RUN" for word in words]
    tops = {path.name for path in source.iterdir()}
    files = [word.removeprefix("/src/") for word in words]
    files = [file for file in files if "/" in file and file.partition("/")[0] in tops]
    assert {"requirements/build.txt", "requirements/run.txt"} < set(files)
    assert len(files) > 4
    for file in files:
        assert (source / file).exists(), f"the Containerfile runs something with {file}"
    helped = run(source / "package/image/sbom.py", "--help")
    assert helped.returncode == 0, "it imports what is beside it"
    for name, target in copied():
        assert (source / target).exists(), f".dockerignore keeps {name} from the builder"
    wanted = {name.partition("/")[0] for name, _ in copied()}
    given = {path.name for path in ROOT.iterdir() if is_let_through(PurePosixPath(path.name))}
    assert given <= wanted, "the builder gets what the Containerfile does not copy"


def test_what_is_installed_is_pinned_and_runs_as_nobody_in_particular() -> None:
    lines = [(name, " ".join(words)) for name, words in instructions()]
    commands = [part for name, line in lines if name == "RUN" for part in line.split("&&")]
    installs = [part for part in commands if " install " in part]
    assert len(installs) == 3
    for part in installs:
        # By hash, or what the build itself has made.
        assert ("--require-hashes" in part) != ("--no-index" in part), part
    last = max(number for number, (name, _) in enumerate(lines) if name == "FROM")
    assert [line for name, line in lines[last:] if name == "USER"] == ["65532:99"]


def test_the_base_is_named_by_digest() -> None:
    text = (ROOT / "Containerfile").read_text()
    assert re.findall(r"^ARG BASE=(.*)$", text, re.MULTILINE)[0].count("@sha256:") == 1
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}


def test_without_a_builder_it_names_those_that_would_do(tmp_path: Path) -> None:
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    done = subprocess.run(
        [ROOT / "package/image/build", "haproxy-sidecar:1"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    needs = "package/image/build: needs buildah, podman or docker; there is none"
    assert done.stderr == f"{needs} (on Debian: apt install buildah)\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with what package/image/build reads, in no clone of anything."""
    copy = tmp_path / "copy"
    for file in ("package/image/build", "sidecar/__init__.py", "Containerfile"):
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        (copy / file).write_bytes((ROOT / file).read_bytes())
    (copy / "package/image/build").chmod(0o755)
    return copy


SBOM = '{\n  "bomFormat": "CycloneDX"\n}'


class Build:
    """package/image/build, with a builder that writes down how it was called. ``arguments``: of its
    build; ``labels``: what it was told there; ``shown``: how it was asked for the SBOM."""

    def __init__(self, copy: Path, *arguments: str, sbom: str = SBOM, **more: str) -> None:
        told = copy.parent / "told"
        told.unlink(missing_ok=True)
        builder = copy.parent / "podman"
        builder.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" >>{told}\n[ "$1" = build ] || printf "%s" \'{sbom}\'\n'
        )
        builder.chmod(0o755)
        path = f"{copy.parent}:{os.environ['PATH']}"
        self.done = subprocess.run(
            [copy / "package/image/build", "registry.example/edge:1", *arguments],
            env={"PATH": path, "HOME": str(copy.parent), "BUILDER": "podman", **more},
            capture_output=True,
            text=True,
            check=False,
        )
        build, _, shown = told.read_text().rpartition("run\n")
        self.arguments, self.shown = build.splitlines(), shown.splitlines()
        prefix = "org.opencontainers.image."
        pairs = zip(self.arguments, self.arguments[1:], strict=False)
        labels = [text.removeprefix(prefix) for word, text in pairs if word == "--label"]
        self.labels = dict(label.split("=", 1) for label in labels)


def test_the_builder_is_told_what_the_image_is(copy: Path) -> None:
    it = Build(copy, "--no-cache", PROJECT_URL="https://git.example/edge")
    assert it.done.returncode == 0, it.done.stderr
    head = ["build", "--file", "Containerfile", "--tag", "registry.example/edge:1"]
    assert it.arguments[:5] == head
    assert it.arguments[-2:] == ["--no-cache", "."]
    base = re.search(
        "^ARG BASE=(.*)@(sha256:[0-9a-f]{64})$", (copy / "Containerfile").read_text(), re.MULTILINE
    )
    assert base
    # No clone, so nobody knows a revision.
    assert it.labels == {
        "version": __version__,
        "source": "https://git.example/edge",
        "base.name": base[1],
        "base.digest": base[2],
    }
    inside = "/opt/sidecar/share/haproxy-sidecar/sbom.cdx.json"
    assert it.shown[-2:] == ["registry.example/edge:1", inside]
    (beside,) = (copy / "dist").iterdir()
    assert (beside.name, beside.read_text()) == (f"haproxy-sidecar-{__version__}.cdx.json", SBOM)


@pytest.mark.parametrize("split", [True, False])
def test_another_base_is_what_labels_say(copy: Path, split: bool) -> None:
    value = "BASE=mirror.example/python:3.14"
    it = Build(copy, *(["--build-arg", value] if split else [f"--build-arg={value}"]))
    assert it.labels == {"version": __version__, "base.name": "mirror.example/python:3.14"}


@pytest.mark.parametrize("sbom", ["", SBOM[:-1], '{\n  "a": {\n  }\n'])
def test_an_image_without_an_sbom_is_not_built(copy: Path, sbom: str) -> None:
    it = Build(copy, sbom=sbom)
    assert it.done.returncode == 1
    problem = "its SBOM came out incomplete; build it again"
    assert it.done.stderr == f"package/image/build: registry.example/edge:1: {problem}\n"
    assert list((copy / "dist").iterdir()) == []


def test_the_revision_is_that_of_this_repository(copy: Path) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example")

    def git(folder: Path, *arguments: str) -> str:
        command = ["git", "-C", str(folder), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def commit(folder: Path) -> None:
        git(folder, "init", "--quiet")
        git(folder, "commit", "--quiet", "--allow-empty", "--message", "A change")

    commit(copy.parent)
    assert "revision" not in Build(copy).labels, "it is that of another repository, around it"
    commit(copy)
    git(copy, "add", "--all")
    git(copy, "commit", "--quiet", "--message", "All of it")
    (copy / ".git/info/exclude").write_text("dist\n")
    revision, created = git(copy, "log", "-1", "--format=%H %cI").split()
    labels = Build(copy).labels
    assert (labels["revision"], labels["created"]) == (revision, created)
    (copy / "Containerfile").write_text("ARG BASE=other\n")
    assert Build(copy).labels["revision"] == f"{revision}-dirty"
