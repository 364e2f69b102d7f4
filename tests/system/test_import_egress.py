"""``import egress``: what a user gives it, and what is said and written."""

import json
import re
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from book import to_type
from cli import ROOT, clean_environment, command, run_cli

SETTINGS = "router_name: r\npools: [{ports: ['8080-8083'], source: 192.0.2.7}]\n"
ENVIRONMENT = """\
EGRESS_SOURCE=192.0.2.7/24
EGRESS_DESTINATION="
  8080 tcp 203.0.113.25
  8081 udp 203.0.113.25
  8082 tcp 203.0.113.25 https
  8083 tcp 203.0.113.25 443
"
"""


def test_a_file_of_assignments(tmp_path: Path) -> None:
    settings, source = tmp_path / "sidecar.yaml", tmp_path / "egress.env"
    settings.write_text(SETTINGS)
    source.write_text(ENVIRONMENT)
    done = run_cli("import", "egress", source, "-c", settings, "-n", "demo")
    assert done.code == 1
    objects = [item for item in yaml.safe_load_all(done.out) if item]
    assert [(item["kind"], item["metadata"]["name"]) for item in objects] == [
        *(("Route", "egress-8080"), ("Service", "egress-8080"), ("EndpointSlice", "egress-8080-1")),
        *(("Route", "egress-8083"), ("Service", "egress-8083"), ("EndpointSlice", "egress-8083-1")),
    ]
    assert {item["metadata"]["namespace"] for item in objects} == {"demo"}
    udp, wrong = done.err.splitlines()
    start = f"{source}, EGRESS_DESTINATION, line"
    assert udp.startswith(f"{start} 3: '8081 udp 203.0.113.25': stock HAProxy balances TCP only")
    assert (
        wrong
        == f"{start} 4: '8082 tcp 203.0.113.25 https': 'https' is not a valid port from 1 to 65535"
    )
    # Beside the others as comments, and each line with what it has become.
    assert done.out.startswith(f"# {udp}\n# {wrong}\n---\n# {start} 2: '8080 tcp 203.0.113.25'\n")

    checked = tmp_path / "egress.yaml"
    checked.write_text(done.out)
    assert run_cli("check", "-c", settings, checked).code == 0

    source.write_text("\n".join(ENVIRONMENT.splitlines()[:3]) + '"\n')
    done = run_cli("import", "egress", source, "-c", settings)
    assert (done.code, done.err) == (0, "")


def test_a_list_from_a_pipe() -> None:
    variables = [{"name": "EGRESS_DESTINATION", "value": "30000 tcp 203.0.113.25"}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "out", "namespace": "demo"},
        "spec": {"containers": [{"name": "c", "env": variables}]},
    }
    broken = {"kind": "Pod", "metadata": {"name": "Out"}}
    done = subprocess.run(
        command("import", "egress", "-"),
        input=json.dumps({"kind": "List", "items": [broken, pod]}),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=clean_environment(),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("object 1, Pod: metadata.name: 'Out' is not a valid name; ")
    assert next(yaml.safe_load_all(done.stdout))["metadata"]["name"] == "out-30000"


@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        (None, [], "none.yaml: cannot be read: No such file or directory"),
        ("kind: [", [], "none.yaml: cannot be read: "),
        ("kind: Pod\nmetadata: {name: a}", [], "no egress router in "),
        ("A=b", [], "no egress router in "),
        ("EGRESS_DESTINATION=80 tcp 1.2.3.4", ["-n", "A"], "--namespace: 'A' is not a valid name"),
    ],
)
def test_what_cannot_be_imported(
    tmp_path: Path, text: str | None, arguments: list[str], told: str
) -> None:
    path = tmp_path / "none.yaml"
    if text is not None:
        path.write_text(text)
    done = run_cli("import", "egress", path, *arguments)
    assert (done.code, done.out) == (2, "")
    assert told in done.err


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    source, taken = tmp_path / "egress.env", tmp_path / "taken"
    source.write_text("SERVICE_NAME=out\nEGRESS_DESTINATION=30000 tcp 203.0.113.25\n")
    taken.write_text("")
    done = run_cli("import", "egress", source, "-o", taken)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(
        f"-o: {taken}/default.out-30000.yaml: cannot be written: File exists\n"
    )
    assert "settings" not in done.err

    # What is there already and is no text was written by somebody else.
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "default.out-30000.yaml").write_bytes(b"\xff")
    done = run_cli("import", "egress", source, "-o", folder)
    assert done.code == 1
    assert "already exists with other content and was not changed" in done.err


# -- docs/egress.md ----------------------------------------------------------------------------

GUIDE = (ROOT / "docs" / "egress.md").read_text()


def _block(start: str) -> str:
    """The block of the guide that begins with ``start``."""
    blocks = re.findall(r"^    ```\w*\n(.*?)^    ```", GUIDE, re.MULTILINE | re.DOTALL)
    (found,) = (item for block in blocks if (item := dedent(block)).startswith(start))
    return found


def test_the_guide_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source, settings = Path("egress-routers.yaml"), Path("sidecar.yaml")
    source.write_text(_block("# egress-routers.yaml"))
    settings.write_text(_block("# sidecar.yaml\n"))
    convert = to_type("docs/egress.md", "haproxy-sidecar import egress").text.split()[1:]
    assert run_cli(*convert) == (1, "", _block("wrote 3 ports"))

    settings.write_text(_block("# sidecar.yaml, for a machine with"))
    line = "8443 api.partner.example 443"
    source.write_text(source.read_text().replace(line, "8444 api.partner.example 443"))
    assert f"`{line.replace('8443', '8444')}`" in GUIDE
    again = run_cli(*convert)
    assert (again.code, again.err.splitlines()[0]) == (1, "wrote 1 port to egress")
    assert "EGRESS_SOURCE" not in again.err
    assert "8444" not in again.err
    check_line = to_type("docs/egress.md", "haproxy-sidecar check").text
    assert run_cli(*check_line.split()[1:]) == (0, _block("PORT  ROUTE"), "")


def test_the_settings_and_objects_of_egress_by_name_are_good(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    objects, settings = blocks
    (tmp_path / "sidecar.yaml").write_text(settings)
    (tmp_path / "objects.yaml").write_text(objects)
    done = run_cli("check", "-c", tmp_path / "sidecar.yaml", tmp_path / "objects.yaml")
    assert done.code == 0, done.out + done.err
    row = done.out.splitlines()[1].split()
    assert row == ["www.partner.example:30443", "shop/www-partner", "NameNotResolved", "0"]
