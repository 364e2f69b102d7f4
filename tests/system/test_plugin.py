"""The plugin of kubectl, with a kubectl that knows two pods: two sidecars of this machine."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from book import to_type
from cli import ROOT, Result, clean_environment
from reported import certificate, host, report
from stand import MakeServer, MakeStand, Stand, app, await_, converged, running

from sidecar.reporting.certificate_reports import AuthorityReport, CertificateReport
from sidecar.reporting.reading import report_json

#: Lists the pods of one namespace, and runs what is to be run in a pod here.
KUBECTL = """#!/bin/sh
echo "$*" >> "{folder}/asked"
[ "$1" = haproxy-sidecar ] && { shift; exec kubectl-haproxy_sidecar "$@"; }
while [ $# -gt 0 ]; do
    case $1 in
        --namespace) [ "$2" = routers ] || { echo "no such namespace" >&2; exit 1; }; shift ;;
        get) cat "{folder}/pods"; exit ;;
        exec) verb=exec ;;
        pod-*) pod=$1 ;;
        --) shift; break ;;
    esac
    shift
done
[ "$verb" = exec ] && shift
[ -f "{folder}/$pod.yaml" ] || { echo "pod $pod not found" >&2; exit 1; }
[ -s "{folder}/$pod.json" ] && exec cat "{folder}/$pod.json"
SIDECAR_CONFIG="{folder}/$pod.yaml" exec "{python}" -m sidecar "$@"
"""

ONE = certificate(30)
LATER = replace(ONE, seconds_left=1, served_seconds_ago=2.0)
ANOTHER = replace(ONE, not_after="2027-12-31T00:00:00Z")
CAS = AuthorityReport(("CN=one", "CN=two"), 2, "", "web.service_ca")


def make_kubectl(folder: Path) -> None:
    program = KUBECTL.replace("{folder}", str(folder)).replace("{python}", sys.executable)
    (folder / "kubectl").write_text(program)
    (folder / "kubectl").chmod(0o755)
    (folder / "pods").write_text("pod-a\npod-b\n")


def run_plugin(folder: Path, *arguments: object, code: int | None = 0) -> Result:
    """With the kubectl of ``folder``."""
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", ROOT / "plugin/kubectl-haproxy_sidecar", *map(str, arguments)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**clean_environment(), "PATH": path, "HAPROXY_SIDECAR_NAMESPACE": "routers"},
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
    )
    assert code in (done.returncode, None), done
    return Result(done.returncode, done.stdout, done.stderr)


class Cluster(NamedTuple):
    """``a``, ``b``: what the pods of these names have."""

    folder: Path
    a: Stand
    b: Stand

    def run(self, *arguments: object, code: int | None = 0) -> Result:
        return run_plugin(self.folder, *arguments, code=code)


@pytest.fixture
def cluster(tmp_path: Path, make_stand: MakeStand, make_server: MakeServer) -> Iterator[Cluster]:
    servers = [make_server("a"), make_server("b")]
    found = Cluster(tmp_path, make_stand(), make_stand())
    make_kubectl(tmp_path)
    with contextlib.ExitStack() as stack:
        for name, stand in (("pod-a", found.a), ("pod-b", found.b)):
            (tmp_path / f"{name}.yaml").symlink_to(stand.settings_file)
            stand.write("web.yaml", *app("web", 30000, servers))
            converged(stack.enter_context(running(stand.daemon())))
        yield found


def test_in_one_replica_and_in_all(cluster: Cluster) -> None:
    assert cluster.run("pods").out == "pod-a\npod-b\n"
    one = cluster.run("status", "-n", "demo", "web")
    assert one.out.count("demo/web") == 1
    assert str(cluster.a.manifests) in one.out
    assert str(cluster.b.manifests) in cluster.run("--pod=pod-b", "status").out
    every = cluster.run("--all", "why", "30000").out
    assert every.startswith("== pod-a ==\n")
    assert every.count("it works") == 2
    # The exit code is the highest one.
    assert "== pod-b ==" in cluster.run("--all", "why", "30001", code=1).out
    held = cluster.run("hold", 30000, code=2).err
    assert "hold changes a single replica: write --pod NAME, or --all" in held
    cluster.run("--all", "hold", 30000, "--reason", "two words")
    await_(lambda: "(two words)" in cluster.run("--all", "status").out, "both are held")
    asked = (cluster.folder / "asked").read_text()
    assert "--namespace routers exec --stdin pod-b --container sidecar -- haproxy-sidecar" in asked
    assert "--tty" not in asked


def test_the_commands_of_the_guide(cluster: Cluster, tmp_path: Path) -> None:
    """Those of docs/deploy.md, word for word; the port that is held is another one."""
    block = to_type("docs/deploy.md", "install -m 755 plugin/kubectl-haproxy_sidecar")
    (tmp_path / ".local/bin").mkdir(parents=True)
    done = subprocess.run(
        ["sh", "-euxc", block.text.replace("hold 13306", "hold 30000")],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={
            **clean_environment(),
            "HOME": str(tmp_path),
            "PATH": f"{tmp_path}/.local/bin:{cluster.folder}:{os.environ['PATH']}",
            "HAPROXY_SIDECAR_NAMESPACE": "routers",
        },
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done
    assert "== pod-b ==" in done.stdout
    assert (tmp_path / ".local/bin/kubectl-haproxy_sidecar").exists()


def test_where_they_differ(cluster: Cluster) -> None:
    # Traffic is no difference.
    cluster.a.connect(30000).close()
    same = cluster.run("diff")
    assert (same.out, same.err) == ("2 replicas are the same\n", "")
    cluster.run("--pod", "pod-b", "hold", 30000)
    cluster.b.write("other.yaml", *app("other", 30001, ["10.1.1.1"]))

    def differences() -> list[str]:
        await_(lambda: not cluster.run("diff", code=None).out.endswith("are the same\n"), "they do")
        done = cluster.run("diff", code=1)
        assert done.err == ""
        return done.out.splitlines()

    wanted = {
        "< port 30000: held false",
        "> port 30000: held true",
        '> port 30001: route "demo/other"',
        "> port 30001: server 10.1.1.1:9000 ready",
    }
    await_(lambda: wanted <= set(differences()), "what differs is shown")
    first, *lines = differences()
    assert first == "pod-a (<) and pod-b (>) differ:"
    assert not any("sessions" in line or "changed" in line for line in lines)


@pytest.mark.parametrize(
    ("of", "default", "found"),
    [
        # How long they are valid yet, and have been served, each replica knows for itself.
        ({"certificate": LATER}, LATER, []),
        ({"certificate": ANOTHER}, ONE, ["host shop.example: certificate not_after"]),
        ({"ca": replace(CAS, subjects=("CN=one", "CN=three"))}, ONE, ["host shop.example: ca"]),
        ({"balance": "source"}, ONE, ["host shop.example: balance"]),
        ({}, ANOTHER, ["default_certificate not_after"]),
    ],
)
def test_where_hosts_differ(
    tmp_path: Path, of: Mapping[str, Any], default: CertificateReport, found: Sequence[str]
) -> None:
    base: dict[str, Any] = {"certificate": ONE, "ca": CAS, "balance": "random"}
    reports = {
        "pod-a": report(hosts=(host("shop.example", **base),), default_certificate=ONE),
        "pod-b": report(
            hosts=(host("shop.example", **{**base, **of}),), default_certificate=default
        ),
    }
    for name, item in reports.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(report_json(item), indent=2) + "\n")
        (tmp_path / f"{name}.yaml").touch()
    make_kubectl(tmp_path)
    done = run_plugin(tmp_path, "diff", code=1 if found else 0)
    lines = [line for line in done.out.splitlines() if line[0] in "<>"]
    assert len(lines) == 2 * len(found)
    for line, wanted in zip(lines, (item for item in found for _ in "<>"), strict=True):
        assert line[2:].startswith(wanted), done.out


def test_what_cannot_be_asked(cluster: Cluster) -> None:
    (cluster.folder / "pods").write_text("pod-a\npod-gone\n")
    gone = cluster.run("diff", code=3)
    assert gone.err == (
        "pod pod-gone not found\nkubectl haproxy-sidecar: pod pod-gone: no status\n"
    )
    (cluster.folder / "pods").write_text("pod-a\n")
    assert cluster.run("diff").out == "only one replica is running: pod-a\n"
    (cluster.folder / "pods").write_text("")
    none = cluster.run("status", code=3)
    assert "no pod with app.kubernetes.io/name=haproxy-sidecar is running" in none.err
    other = cluster.run("--namespace", "other", "status", code=3)
    assert "the pods of namespace other cannot be listed" in other.err


def test_a_pod_that_is_named_is_not_looked_for(cluster: Cluster) -> None:
    """Who may not list pods may well be allowed to run something in one."""
    (cluster.folder / "pods").unlink()
    assert str(cluster.b.manifests) in cluster.run("--pod", "pod-b", "status", "-n", "demo").out
    assert "get pods" not in (cluster.folder / "asked").read_text()
    assert "cannot be listed" in cluster.run("status", code=3).err


def test_wrong_usage_of_the_plugin(cluster: Cluster) -> None:
    assert "Usage: kubectl haproxy-sidecar" in cluster.run("--help").out
    assert "Usage: kubectl haproxy-sidecar" in cluster.run(code=2).err
    assert "no such option: --al;" in cluster.run("--al", "status", code=2).err
    assert "-n needs a value" in cluster.run("-n", code=2).err
    assert "either --all or --pod" in cluster.run("--all", "--pod", "x", "status", code=2).err
    assert "hold changes a single replica" in cluster.run("hold", 30000, code=2).err
    for command in ("status -w", "status --watch", "history -fn5", "history -n 5 --follow"):
        endless = cluster.run("--all", *command.split(), code=2).err
        assert "does not end, so --all would show one replica only: write --pod NAME" in endless
    assert not (cluster.folder / "asked").exists()
