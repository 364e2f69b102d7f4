"""What `make build` makes can be installed anywhere: a wheel and an sdist with all that the program
needs, and metadata that a package index takes. Nothing is fetched; the dependencies are those of
this environment.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from sidecar import __version__

ROOT = Path(__file__).parents[2]
WHEEL = f"haproxy_sidecar-{__version__}-py3-none-any.whl"
SDIST = f"haproxy_sidecar-{__version__}.tar.gz"
URL = "https://git.example/edge/haproxy-sidecar"


def build(
    source: Path, target: Path, *arguments: str, url: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "hatchling", "build", "--directory", target, *arguments],
        cwd=source,
        env={**os.environ, "PROJECT_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, as built for an index."""
    target = tmp_path_factory.mktemp("dist")
    done = build(ROOT, target, url=URL)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in target.iterdir()} == {WHEEL, SDIST}
    return target


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def metadata_of(wheel: Path) -> Metadata:
    """Raises for whatever is not as the specification of metadata wants it."""
    text = contents(wheel)[f"haproxy_sidecar-{__version__}.dist-info/METADATA"]
    return Metadata.from_email(text)


def test_the_wheel_has_everything_that_the_package_has(built: Path) -> None:
    shipped = {name for name in contents(built / WHEEL) if ".dist-info/" not in name}
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "sidecar").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped == ours | {"sidecar/haproxy.cfg.j2", "sidecar/503.http"}
    assert "sidecar/py.typed" in shipped, "without it nobody's mypy sees our types"


def test_the_sdist_makes_the_same_wheel_without_knowing_the_address(
    built: Path, tmp_path: Path
) -> None:
    with tarfile.open(built / SDIST) as archive:
        archive.extractall(tmp_path, filter="data")
    done = build(tmp_path / SDIST.removesuffix(".tar.gz"), tmp_path / "dist", "--target", "wheel")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "dist" / WHEEL) == contents(built / WHEEL)


def test_metadata_names_the_project_and_its_readme_has_no_link_that_is_dead_elsewhere(
    built: Path,
) -> None:
    metadata = metadata_of(built / WHEEL)
    assert (metadata.name, str(metadata.version)) == ("haproxy-sidecar", __version__)
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.description_content_type == "text/markdown"
    assert metadata.project_urls == {
        "Source": URL,
        "Documentation": f"{URL}/blob/v{__version__}/README.md",
        "Changelog": f"{URL}/blob/v{__version__}/CHANGELOG.md",
        "Issues": f"{URL}/issues",
    }
    text = metadata.description or ""
    links = re.findall(r"\]\(([^)]+)\)", text)
    relative = [link for link in links if not link.startswith(("https://", "#"))]
    assert (len(links) > 20, relative) == (True, [])
    # Each leads to a file of the repository, or to a heading of the README itself.
    for link in links:
        path = re.sub(rf"^{URL}/(blob|raw)/v{__version__}/", "", link).partition("#")[0]
        assert not path or path.startswith("https:") or (ROOT / path).exists(), link
    assert "![The sidecar's page" in text
    assert f"({URL}/raw/v{__version__}/docs/page.png)" in text


def test_without_an_address_there_are_no_links_rather_than_dead_ones(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path, "--target", "wheel")
    assert done.returncode == 0, done.stderr
    metadata = metadata_of(tmp_path / WHEEL)
    assert not metadata.project_urls
    assert re.findall(r"\]\((?!https:|#)[^)]*\)", metadata.description or "") == []
    assert "docs/deploy.md describes the overlays" in (metadata.description or "")


@pytest.mark.parametrize("url", ["git.example/a/b", "https://git.example", "http://git.example/a"])
def test_an_address_that_cannot_be_one_is_refused(url: str, tmp_path: Path) -> None:
    done = build(ROOT, tmp_path, "--target", "wheel", url=url)
    assert done.returncode != 0
    assert f"PROJECT_URL={url}: not the address of a repository" in done.stderr
    assert not list(tmp_path.glob("*.whl"))


def test_the_installed_wheel_works_with_what_it_ships(built: Path, tmp_path: Path) -> None:
    place = tmp_path / "venv"
    venv.create(place, symlinks=True, with_pip=False)
    pip: list[str | Path] = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "--python",
        place / "bin/python",
        "install",
    ]
    offline = ["--quiet", "--no-deps", "--no-index", "--no-warn-conflicts"]
    subprocess.run([*pip, *offline, built / WHEEL], check=True)
    # Our dependencies, but not ourselves: paths in a .pth do not bring their own .pth along.
    names = {"base": str(place), "platbase": str(place)}
    own = Path(sysconfig.get_path("purelib", scheme="venv", vars=names))
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(*arguments: str | Path, program: str = "haproxy-sidecar") -> str:
        done = subprocess.run(
            [place / "bin" / program, *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    assert Path(run("-c", "print(__import__('sidecar').__file__)", program="python").strip()) == (
        own / "sidecar/__init__.py"
    )
    assert run("--version") == f"haproxy-sidecar {__version__}\n"
    assert "13306" in run("check", ROOT / "examples/mysql.yaml")
    config = tmp_path / "haproxy.cfg"
    run("render", "-o", config)
    assert __version__ in config.read_text()
    assert (tmp_path / "run").is_dir()
