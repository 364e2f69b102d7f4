"""ingress-nginx's ``tcp-services`` as Routes: the lines, and the command."""

import contextlib
import json
import re
import subprocess
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from book import to_type
from cli import ROOT, clean_environment, command, run_cli
from hypothesis import given
from hypothesis import strategies as st
from stand import (
    ROUTER,
    MakeServer,
    MakeStand,
    await_leads_to,
    converged,
    pool_of,
    running,
    service,
    slice_manifest,
)

from sidecar.common.errors import ObjectError
from sidecar.importers.annotated import Router
from sidecar.importers.tcp_services import Line, convert, parse_line
from sidecar.model.objects import Key, Service, ServicePort
from sidecar.settings.schema import Settings

KEYS = Settings().annotations.keys()

# -- a line ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("default/example-go:8080", Line(9000, "default", "example-go", "8080", False, False)),
        ("a/b:mqtt", Line(9000, "a", "b", "mqtt", False, False)),
        ("a/b:1:PROXY", Line(9000, "a", "b", "1", True, False)),
        ("a/b:1:proxy:Proxy", Line(9000, "a", "b", "1", True, True)),
        ("a/b:1::PROXY", Line(9000, "a", "b", "1", False, True)),
        ("a/b:1::", Line(9000, "a", "b", "1", False, False)),
    ],
)
def test_what_a_line_says(value: str, line: Line) -> None:
    assert parse_line("9000", value) == line
    assert parse_line("9000", yaml.safe_load(f"{{{line}}}")["9000"]) == line, "str() reads back"


@pytest.mark.parametrize(
    ("outside", "value", "problem"),
    [
        ("http", "a/b:1", "'http' is not a valid port from 1 to 65535"),
        ("0", "a/b:1", "'0' is not a valid port from 1 to 65535"),
        ("65536", "a/b:1", "'65536' is not a valid port from 1 to 65535"),
        ("9000", 8080, '8080 is a number; write "namespace/service:port"'),
        ("9000", None, "missing; write"),
        ("9000", "", "'' is empty; write"),
        ("9000", "b:1", "'b:1' is not a valid line"),
        ("9000", "a/b", "'a/b' is not a valid line"),
        ("9000", "a/b:", "'a/b:' is not a valid line"),
        ("9000", "A/b:1", "data['9000'], namespace: 'A' is not a valid name"),
        ("9000", "a/b c:1", "data['9000'], Service: 'b c' is not a valid name"),
        (
            "9000",
            "a/b:1:PROXY-V1",
            "is not a valid line; only PROXY, at most twice, may follow the port",
        ),
        ("9000", "a/b:1:::a/secret", "is not a valid line"),
    ],
)
def test_what_a_line_cannot_say(outside: str, value: object, problem: str) -> None:
    with pytest.raises(ObjectError) as caught:
        parse_line(outside, value)
    assert problem in str(caught.value)


@given(st.text() | st.just("\n"), st.text() | st.none() | st.integers() | st.lists(st.text()))
def test_any_line_is_understood_or_refused_in_a_line(outside: str, value: object) -> None:
    told = ""
    try:
        parse_line(outside, value)
    except ObjectError as exc:
        told = str(exc)
    assert len(told) < 400
    assert "\n" not in told


# -- its Route ---------------------------------------------------------------------------------

LINE = Line(9000, "shop", "go", "8080", decode=False, encode=False)


def _router(**pool: Any) -> Router:
    return Router(ROUTER, KEYS, pool_of({"ports": ["9000"], **pool}))


def _known(*ports: ServicePort) -> dict[Key, Service]:
    known = service("go", *ports, namespace="shop")
    return {known.key: known}


def test_the_route_of_a_line() -> None:
    known = _known(ServicePort("http", 8080, "TCP", "80"), ServicePort("x", 1, "TCP", "1"))
    found = convert(LINE, known, _router())
    assert found.route == {
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": {
            "name": "go-9000",
            "namespace": "shop",
            "annotations": {
                "haproxy.router.openshift.io/external-tcp-port": "9000",
                "haproxy.router.openshift.io/wzh-router-name": ROUTER,
            },
        },
        "spec": {
            "to": {"kind": "Service", "name": "go"},
            "port": {"targetPort": "http"},
            "tls": {"termination": "passthrough"},
        },
    }
    assert (found.problems, found.doubts) == ((), ())


@pytest.mark.parametrize(
    ("service_port", "ports", "target_port", "doubt"),
    [
        ("http", None, "http", ""),
        ("8080", None, 8080, "8080 is the Service's port, but a Route names the endpoints'"),
        ("8080", [ServicePort("", 8080, "TCP", "80")], None, ""),
        ("http", [ServicePort("http", 8080, "TCP", "80")], "http", ""),
        ("9", [ServicePort("", 8080, "TCP", "80")], 9, "no port '9'; available ports: - (8080)"),
        (
            "53",
            [ServicePort("udp", 53, "UDP", "53"), ServicePort("dns", 53, "TCP", "53")],
            "dns",
            "",
        ),
    ],
)
def test_the_services_port_becomes_the_endpoints(
    service_port: str, ports: list[ServicePort] | None, target_port: object, doubt: str
) -> None:
    known = {} if ports is None else _known(*ports)
    found = convert(LINE._replace(service_port=service_port), known, _router())
    assert found.route["spec"].get("port", {}).get("targetPort") == target_port
    assert bool(found.doubts) == bool(doubt)
    assert doubt in "".join(found.doubts)


def test_a_udp_port_is_refused() -> None:
    with pytest.raises(ObjectError, match="its port '8080' is UDP; only TCP can be converted"):
        convert(LINE, _known(ServicePort("dns", 8080, "UDP", "53")), _router())


@pytest.mark.parametrize(
    ("decode", "encode", "pool", "problem"),
    [
        (True, False, {}, "its clients speak the PROXY protocol: set accept_proxy: true in pool"),
        (True, False, {"accept_proxy": True}, ""),
        (False, False, {"accept_proxy": True}, "do not speak the PROXY protocol: unset it"),
        (False, True, {}, "its servers are sent the PROXY protocol: set send_proxy: v1 in pool"),
        (False, True, {"send_proxy": "v2"}, ""),
        (False, False, {"send_proxy": "v1"}, "its servers do not expect the PROXY protocol"),
        (False, False, {"ports": ["1"]}, "port 9000 is in no pool of this router"),
        (False, False, {"namespaces": ["a"]}, "port 9000 is not open to namespace 'shop'"),
    ],
)
def test_what_the_router_has_to_have(
    decode: bool, encode: bool, pool: dict[str, Any], problem: str
) -> None:
    found = convert(LINE._replace(decode=decode, encode=encode), {}, _router(**pool))
    assert bool(found.problems) == bool(problem)
    assert problem in "".join(found.problems)


# -- the command -------------------------------------------------------------------------------


def config_map(name: str = "tcp-services", **data: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "ingress-nginx"},
        "data": {key.removeprefix("p"): value for key, value in data.items()},
    }


def test_import_writes_routes_that_work(
    make_stand: MakeStand, make_server: MakeServer, files: contextlib.ExitStack
) -> None:
    stand, a = make_stand(), make_server("a")
    source = stand.folder / "cluster.yaml"
    known = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 9000}]},
    }
    ends = slice_manifest("web", [a], port_name="http")
    source.write_text(yaml.safe_dump_all([config_map(p30000="demo/web:80"), known, ends]))
    ours = ("-c", stand.settings_file)
    done = run_cli("import", "tcp-services", source, "-o", stand.manifests, *ours)
    assert done == (0, "", f"wrote 1 Route to {stand.manifests}\n")
    stand.write("web.yaml", known, ends)
    converged(files.enter_context(running(stand.daemon())))
    await_leads_to(stand, 30000, a)

    # Once more changes nothing; what somebody edited is left alone.
    again = run_cli("import", "tcp-services", source, "-o", stand.manifests, *ours)
    assert again == (0, "", f"wrote 0 Routes to {stand.manifests}\n")
    path = stand.manifests / "demo.web-30000.yaml"
    assert path.read_text().startswith('---\n# tcp-services: "30000": "demo/web:80"\n')
    path.write_text("# mine\n")
    edited = run_cli("import", "tcp-services", source, "-o", stand.manifests, *ours)
    assert edited.code == 1
    assert f"{path} already exists with other content and was not changed" in edited.err
    assert path.read_text() == "# mine\n"


def test_import_says_what_is_not_carried_over(tmp_path: Path) -> None:
    settings = tmp_path / "sidecar.yaml"
    settings.write_text(
        "router_name: r\npools: [{ports: ['9000-9001']}]\nannotations: {port: example.com/port}\n"
    )
    source = tmp_path / "maps.yaml"
    others = [config_map("app", key="value"), config_map("udp-services", p53="kube-system/dns:53")]
    tcp = config_map(
        p9001="a/b:mqtt", p9000="a/b:80:PROXY", p9002="a/c:redis", p9003="nonsense", x="a/b:1"
    )
    listed = {"apiVersion": "v1", "kind": "ConfigMapList", "items": [*others, tcp]}
    source.write_text(yaml.safe_dump(listed))
    done = run_cli("import", "tcp-services", source, "-c", settings)
    assert done.code == 1
    routes = list(yaml.safe_load_all(done.out))
    assert [item["metadata"]["annotations"]["example.com/port"] for item in routes] == [
        "9000",
        "9001",
        "9002",
    ]
    told = done.err.splitlines()
    for start, text in [
        ("review 9000: 80 is the Service's port", "pass the Service, too"),
        ("ConfigMap ingress-nginx/udp-services: 1 UDP line skipped", "TCP only"),
        ("ConfigMap ingress-nginx/tcp-services: data['9003']: ", "'nonsense' is not a valid line"),
        ("ConfigMap ingress-nginx/tcp-services: data['x']: ", "'x' is not a valid port"),
        ("9000: its clients speak the PROXY protocol", "accept_proxy: true"),
        ("9002: port 9002 is in no pool of this router", "pools[].ports"),
    ]:
        (line,) = (line for line in told if line.startswith(start))
        assert text in line
    assert len(told) == 6


def test_import_from_a_pipe(tmp_path: Path) -> None:
    source = json.dumps(config_map(p13306="a/mysql:mysql"))
    done = subprocess.run(
        command("import", "tcp-services", "-"),
        input=source,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=clean_environment(),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert yaml.safe_load(done.stdout)["metadata"]["name"] == "mysql-13306"
    # Offline, `check` takes what was written.
    path = tmp_path / "routes.yaml"
    path.write_text(done.stdout)
    assert "13306  a/mysql-13306" in run_cli("check", path).out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "none.yaml: cannot be read: No such file or directory"),
        ("kind: [", "none.yaml: cannot be read: "),
        ("kind: ConfigMap\ndata: {a: b}", 'has lines like "9000": "namespace/service:port"'),
        ("- 1", "no ConfigMap in "),
    ],
)
def test_what_cannot_be_imported(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "none.yaml"
    if text is not None:
        path.write_text(text)
    done = run_cli("import", "tcp-services", path)
    assert (done.code, done.out) == (2, "")
    assert told in done.err


# -- docs/migrate.md ---------------------------------------------------------------------------

GUIDE = (ROOT / "docs" / "migrate.md").read_text()


def _block(start: str) -> str:
    """The block of the guide that begins with ``start``."""
    blocks = re.findall(r"^    ```\w*\n(.*?)^    ```", GUIDE, re.MULTILINE | re.DOTALL)
    (found,) = (item for block in blocks if (item := dedent(block)).lstrip().startswith(start))
    return found


def _slices(*rows: tuple[str, str, int, str, int, int]) -> list[dict[str, Any]]:
    """Services with endpoints: namespace, name, port, its name, targetPort, how many."""
    objects: list[dict[str, Any]] = []
    for namespace, name, port, port_name, target, count in rows:
        ports = [{"name": port_name, "port": port, "targetPort": target}]
        metadata = {"name": name, "namespace": namespace}
        objects.append(
            {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}}
        )
        ips = [f"10.0.0.{number}" for number in range(1, count + 1)]
        objects.append(
            slice_manifest(name, ips, namespace=namespace, port=target, port_name=port_name)
        )
    return objects


def test_the_guide_from_tcp_services_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tcp-services.yaml").write_text(_block("# tcp-services.yaml"))
    objects = _slices(
        ("default", "example-go", 8080, "http", 80, 2),
        ("queues", "mosquitto", 1883, "mqtt", 1883, 1),
        ("shop", "mysql", 3306, "mysql", 3306, 1),
    )
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    Path("cluster.yaml").write_text(yaml.safe_dump(listed))
    Path("sidecar.yaml").write_text("pools: [{name: default, ports: ['9000-9001']}]\n")
    convert = to_type("docs/migrate.md", "haproxy-sidecar import tcp-services").text.split()[1:]
    assert run_cli(*convert) == (1, "", _block("wrote 3 Routes"))
    Path("sidecar.yaml").write_text(_block("# sidecar.yaml"))
    assert run_cli(*convert) == (0, "", "wrote 0 Routes to routes\n")
    check_line = to_type("docs/migrate.md", "haproxy-sidecar check -c sidecar.yaml routes/").text
    assert run_cli(*check_line.split()[1:]) == (0, _block("PORT  ROUTE                    V"), "")


def test_the_guide_from_the_annotated_route_router_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = [
        item
        for name in ("mysql", "ottcache-002", "web")
        for item in yaml.safe_load_all((ROOT / "examples" / f"{name}.yaml").read_text())
    ]
    monkeypatch.chdir(tmp_path)
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    Path("cluster.yaml").write_text(yaml.safe_dump(listed))
    Path("sidecar.yaml").write_text("pools: [{ports: [13306, 6620]}]\nendpoints: {deny: []}\n")
    check = to_type("docs/migrate.md", "haproxy-sidecar check -c sidecar.yaml cluster.yaml")
    done = run_cli(*check.text.split()[1:])
    assert (done.code, done.err) == (1, "")
    assert done.out.strip() == _block("PORT  ROUTE              V").strip()
