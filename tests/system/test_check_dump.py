"""``check`` on all that a cluster has, as ``oc get … -A -o yaml`` writes it."""

from pathlib import Path
from typing import Any

import yaml
from book import to_type
from by_host import host_app
from cli import run_cli, run_lines

from sidecar.common.documents import MAX_BYTES

SETTINGS = """\
router_name: beside
source: {kind: kubernetes}
listeners:
  - {name: http, kind: http, bind: ["127.0.0.1:8080"]}
  - {name: tls, kind: tls, bind: ["127.0.0.1:8443"]}
"""

STATUS = {
    "ingress": [
        {
            "routerName": "default",
            "host": "a.example",
            "conditions": [{"type": "Admitted", "status": "True"}],
        }
    ]
}


def dumped(path: Path, *objects: Any) -> Path:
    """A List, of which most is nobody's here: managedFields, and objects of other kinds."""
    items = []
    for data in objects:
        managed = [{"manager": "oc", "fieldsV1": {"f:spec": {"f:host": {}}}}]
        metadata = {**data["metadata"], "managedFields": managed}
        status = {"status": STATUS} if data["kind"] == "Route" else {}
        items.append({**data, "metadata": metadata, **status})
    large = {"kind": "ConfigMap", "apiVersion": "v1", "data": {"x": "y" * MAX_BYTES}}
    items.append({**large, "metadata": {"name": "large", "namespace": "demo"}})
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}))
    return path


class Server:
    class address:  # noqa: N801  as a NamedServer
        ip = "10.1.2.3"


def test_a_dump_of_any_size_is_summarized(tmp_path: Path) -> None:
    settings = tmp_path / "sidecar.yaml"
    settings.write_text(SETTINGS)
    key = "haproxy.router.openshift.io/timeout"
    wrong = host_app("b", "b.example", [Server], annotations={key: "1d12h"}, termination="edge")
    dump = dumped(tmp_path / "cluster.yaml", *host_app("a", "a.example", [Server]), *wrong)
    assert dump.stat().st_size > MAX_BYTES
    each = run_cli("check", "-c", settings, dump)
    assert each.code == 0
    assert "a.example  demo/a  Admitted        1\n" in each.out
    done = run_cli("check", "--summary", "-c", settings, dump)
    assert (done.code, done.err) == (0, "")
    first, second = done.out.splitlines()
    assert first == "2 Routes: 1 without a remark, 0 refused"
    assert second.startswith("1  timeout '…': not a duration")
    assert second.endswith("(e.g. demo/b)")
    guide = run_lines(to_type("docs/migrate.md", "haproxy-sidecar check --summary").text, tmp_path)
    assert guide == done


def test_what_is_refused_fails_the_summary_too(tmp_path: Path) -> None:
    settings = tmp_path / "sidecar.yaml"
    settings.write_text(SETTINGS)
    objects = host_app("a", "a.example", [Server], path="/x", termination="passthrough")
    dump = dumped(tmp_path / "dump.yaml", *objects)
    done = run_cli("check", "--summary", "-c", settings, dump)
    assert done.code == 1
    assert "\n1  refused, InvalidPath: spec.path: '…'" in done.out
