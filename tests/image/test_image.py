"""The image as `make image` builds it: what is in it, and that it works as any user on a read-only
root.

tests/image/run builds it and says where its files are. No container engine starts it: what one does
to a process that matters here (root, user, environment) tests/image/enter does as well.
"""

import contextlib
import json
import os
import re
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from cli import ROOT, Process, run_cli
from kube import FakeAPI
from stand import MakeServer, MakeStand, app, await_leads_to

from sidecar import __version__

IMAGE = Path(os.environ["IMAGE_ROOT"])
CONFIG: dict[str, Any] = json.loads(os.environ["IMAGE_CONFIG"])["OCIv1"]["config"]
SITE = next(IMAGE.glob("opt/sidecar/lib/python3*/site-packages"))
SBOM = IMAGE / "opt/sidecar/share/haproxy-sidecar/sbom.cdx.json"

#: As OpenShift picks one: any number, and the group 0.
SOMEBODY = "1000680000:0"


def inside(folder: Path, *command: str | Path, user: str = SOMEBODY) -> list[str]:
    """The command line that runs ``command`` in the image."""
    enter = Path(__file__).with_name("enter")
    return [
        *("unshare", "--mount", str(enter), str(IMAGE), str(folder), user),
        *CONFIG["Env"],
        *map(str, command),
    ]


def run(folder: Path, *command: str | Path, user: str = SOMEBODY) -> tuple[int, str, str]:
    done = subprocess.run(
        inside(folder, *command, user=user), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One that anybody may write to, as the pod's `emptyDir` with its `fsGroup`."""
    tmp_path.chmod(0o777)
    return tmp_path


def test_it_starts_the_sidecar_as_nobody_in_particular() -> None:
    assert CONFIG["Entrypoint"] == ["haproxy-sidecar"]
    assert CONFIG["Cmd"] == ["run"]
    # A number, or `runAsNonRoot` could not tell; the group is that of HAProxy's official image.
    assert CONFIG["User"] == "65532:99"


def test_it_says_what_it_is() -> None:
    prefix = "org.opencontainers.image."
    labels = {
        name.removeprefix(prefix): text
        for name, text in CONFIG["Labels"].items()
        if name.startswith(prefix)
    }
    assert labels["title"] == "haproxy-sidecar"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == __version__
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert labels["base.name"] == os.environ["IMAGE_BASE"].partition("@")[0]
    assert "source" not in labels, "nobody said where the project is"


def test_it_can_install_nothing_and_runs_nothing_else(folder: Path) -> None:
    for module in ("pip", "setuptools", "ensurepip"):
        code, out, err = run(folder, "python3", "-c", f"import {module}")
        assert (code, out, err.splitlines()[-1]) == (
            1,
            "",
            f"ModuleNotFoundError: No module named '{module}'",
        )
    commands = {path.name for path in (IMAGE / "opt/sidecar/bin").iterdir()}
    assert {name for name in commands if not name.startswith("python")} == {"haproxy-sidecar"}


def test_what_is_never_imported_is_not_there() -> None:
    names = {item.name.lower() for item in distributions(path=[str(SITE)])}
    assert {"haproxy-sidecar", "kubernetes", "cryptography"} <= names
    assert not {"aiohttp", "pip", "hatchling", "pytest"} & names
    size = sum(item.stat().st_size for item in SITE.rglob("*") if item.is_file())
    assert size < 80_000_000, "docs/deploy.md says how large it is"


def test_its_sbom_lists_what_is_there() -> None:
    bill = json.loads(SBOM.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["purl"] == f"pkg:pypi/haproxy-sidecar@{__version__}"
    listed = {item["purl"] for item in bill["components"] if "purl" in item}
    there = {
        f"pkg:pypi/{item.name.lower().replace('_', '-')}@{item.version}"
        for item in distributions(path=[str(SITE)])
        if item.name != "haproxy-sidecar"
    }
    assert {purl for purl in listed if purl.startswith("pkg:pypi/")} == there
    debian = re.findall(r"^Package: ", (IMAGE / "var/lib/dpkg/status").read_text(), re.MULTILINE)
    assert len([purl for purl in listed if purl.startswith("pkg:deb/")]) == len(debian) > 50
    beside = ROOT / f"dist/haproxy-sidecar-{__version__}.cdx.json"
    assert beside.read_bytes() == SBOM.read_bytes()


def test_nothing_can_be_written_but_what_the_pod_gives(folder: Path) -> None:
    code, _, err = run(folder, "sh", "-c", f"touch {folder}/here && touch /opt/sidecar/there")
    assert (code, "Read-only file system" in err) == (1, True)
    assert (folder / "here").stat().st_uid == 1000680000


@pytest.mark.parametrize("user", [SOMEBODY, "65532:99"])
def test_check_says_the_same_as_anywhere(folder: Path, user: str) -> None:
    for name in ("mysql.yaml", "hosts.yaml"):
        examples = folder / name
        examples.write_bytes((ROOT / "examples" / name).read_bytes())
        examples.chmod(0o644)
        found = run(folder, "haproxy-sidecar", "check", examples, user=user)
        assert found == run_cli("check", str(examples))


def test_it_runs_against_haproxy_and_a_cluster(
    make_stand: MakeStand, make_server: MakeServer, folder: Path, files: contextlib.ExitStack
) -> None:
    api, server = files.enter_context(FakeAPI()), make_server()
    kubeconfig = api.kubeconfig(folder / "kubeconfig")
    kubeconfig.chmod(0o644)
    api.apply(*app("web", 30000, [server], created="2026-01-02T00:00:00Z"))
    stand = make_stand(source={"kind": "kubernetes", "kubeconfig": str(kubeconfig)})
    for path in folder.rglob("*"):
        # As in a pod, where HAProxy and the sidecar share a group: the socket is 0660, too.
        path.chmod(path.stat().st_mode | 0o666 | (0o111 if path.is_dir() else 0))
    pod = ("env", "POD_NAMESPACE=ingress", "POD_NAME=router-0", "POD_UID=1")
    command = (*pod, "haproxy-sidecar", "run", "-c", stand.settings_file)
    process = Process(inside(folder, *command), folder)
    files.callback(process.close)
    await_leads_to(stand, 30000, server)
