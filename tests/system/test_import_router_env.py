"""``import router-env``: what a user gives it, and what is said and written."""

from pathlib import Path
from textwrap import dedent

from book import to_type
from cli import run_cli, run_lines

#: As the operator of an OpenShift cluster writes it.
DEPLOYMENT = """\
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: router-default, namespace: openshift-ingress}
  spec:
    template:
      spec:
        containers:
        - name: router
          args: ["-v=4"]
          env:
          - {name: RELOAD_INTERVAL, value: 5s}
          - {name: ROUTER_ALLOW_WILDCARD_ROUTES, value: "true"}
          - {name: ROUTER_DEFAULT_SERVER_TIMEOUT, value: soon}
          - {name: ROUTER_DISABLE_HTTP2, value: "true"}
          - {name: ROUTER_DOMAIN, value: apps.example.com}
          - {name: ROUTER_LOAD_BALANCE_ALGORITHM, value: random}
          - {name: ROUTER_SERVICE_NAME, value: default}
          - {name: ROUTER_SET_FORWARDED_HEADERS, value: append}
          - {name: STATS_PORT, value: "1936"}
"""


def test_a_deployment(tmp_path: Path) -> None:
    source, settings = tmp_path / "router.yaml", tmp_path / "sidecar.yaml"
    source.write_text(DEPLOYMENT)
    done = run_cli("import", "router-env", source)
    assert done.code == 1
    assert done.out == dedent("""\
        # From Deployment openshift-ingress/router-default, by import router-env.
        router_name: default  # ROUTER_SERVICE_NAME
        source:
          kind: kubernetes  # it watches a cluster
        listeners:
          - {name: http, kind: http, bind: ["0.0.0.0:80"]}  # ROUTER_SERVICE_HTTP_PORT
          - {name: tls, kind: tls, bind: ["0.0.0.0:443"]}  # ROUTER_SERVICE_HTTPS_PORT
        web:
          wildcards: true  # ROUTER_ALLOW_WILDCARD_ROUTES
          tls:
            http2: false  # ROUTER_DISABLE_HTTP2
          domain: apps.example.com  # ROUTER_DOMAIN
          balance:
            http: random  # ROUTER_LOAD_BALANCE_ALGORITHM
            reencrypt: random  # ROUTER_LOAD_BALANCE_ALGORITHM
        http:
          listen: "0.0.0.0:1936"  # STATS_PORT
        """)
    line = to_type("docs/migrate.md", "haproxy-sidecar import router-env").text
    guide = run_lines(line, tmp_path)
    imported = (tmp_path / "imported.yaml").read_text()
    assert (guide.code, imported, guide.err) == (1, done.out, done.err.replace(f"{tmp_path}/", ""))
    needless, verbosity, ports, probed, review, wrong = done.err.splitlines()
    assert ports.startswith("review listeners: 80, 443: a pod with a network of its own may bind")
    assert probed.startswith("review STATS_PORT: '1936': this router's own manifests probe port")
    assert needless == "needless RELOAD_INTERVAL: '5s': nothing is reloaded"
    assert verbosity.startswith("needless --v: '4'")
    assert review.startswith("review ROUTER_SERVICE_NAME: 'default': while both routers run")
    assert wrong.startswith("ROUTER_DEFAULT_SERVER_TIMEOUT: 'soon': OpenShift's router ignores it")

    settings.write_text(done.out)
    manifests = tmp_path / "none"
    manifests.mkdir()
    checked = run_cli("check", "-c", settings, manifests)
    assert checked.code == 0


def test_lines_of_an_environment(tmp_path: Path) -> None:
    source = tmp_path / "router.env"
    source.write_text("# deployments/router-default, container router\nROUTER_STRICT_SNI=true\n")
    done = run_cli("import", "router-env", source)
    assert done.code == 0
    assert [line.split()[0] for line in done.err.splitlines()] == ["review"]
    assert "strict_sni: true  # ROUTER_STRICT_SNI\n" in done.out

    # As some editors save it.
    source.write_text("ROUTER_STRICT_SNI=true\n", encoding="utf-8-sig")
    assert "strict_sni: true" in run_cli("import", "router-env", source).out

    key = "-----BEGIN PRIVATE KEY-----\nMIIsecret\nROUTERsecret==\n-----END PRIVATE KEY-----"
    source.write_text(f"DEFAULT_CERTIFICATE={key}\nROUTER_STRICT_SNI=true\n")
    done = run_cli("import", "router-env", source)
    assert done.code == 1
    assert "secret" not in done.out + done.err
    assert "strict_sni: true" in done.out


def test_what_is_no_router(tmp_path: Path) -> None:
    source = tmp_path / "objects.yaml"
    source.write_text("kind: Service\nmetadata: {name: a}\n")
    done = run_cli("import", "router-env", source)
    assert (done.code, done.out) == (2, "")
    assert "no router of OpenShift in" in done.err
    source.write_text(DEPLOYMENT + "---\n" + DEPLOYMENT.replace("router-default", "router-two"))
    done = run_cli("import", "router-env", source)
    assert (done.code, done.out) == (2, "")
    assert "openshift-ingress/router-default, Deployment openshift-ingress/router-two" in done.err
    assert run_cli("import", "router-env", tmp_path / "none").code == 2


def test_a_router_whose_variables_are_all_elsewhere(tmp_path: Path) -> None:
    source = tmp_path / "router.yaml"
    head, _, _ = DEPLOYMENT.partition("          env:\n")
    source.write_text(f"{head}          envFrom: [{{configMapRef: {{name: router}}}}]\n")
    done = run_cli("import", "router-env", source)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(
        f"no router of OpenShift in {source}\n"
        "Deployment openshift-ingress/router-default, container router: envFrom: there is no"
        " ConfigMap openshift-ingress/router in the files; pass it, too\n"
    )
    # A dump of a cluster has many such containers; they matter only if none is a router.
    line = "- {name: c, envFrom: [{configMapRef: {name: none}}]}\n"
    source.write_text(head + "".join(f"        {line}" for _ in range(12)))
    assert run_cli("import", "router-env", source).err.endswith("\nand 2 more\n")
    source.write_text(f"{DEPLOYMENT}        {line}")
    assert "none" not in run_cli("import", "router-env", source).err


def test_two_containers_of_one_deployment(tmp_path: Path) -> None:
    source = tmp_path / "router.yaml"
    beside = """\
        - name: beside
          env:
          - {name: ROUTER_DOMAIN, value: beside.example.com}
"""
    source.write_text(DEPLOYMENT + beside)
    done = run_cli("import", "router-env", source)
    assert (done.code, done.out) == (2, "")
    title = "Deployment openshift-ingress/router-default"
    assert done.err.endswith(
        f"2 routers, which have settings each: {title} (container router), {title}"
        " (container beside); leave its other containers out of the file\n"
    )
    other = DEPLOYMENT.replace("router-default", "router-two")
    source.write_text(f"{DEPLOYMENT}{beside}---\n{other}")
    done = run_cli("import", "router-env", source)
    assert done.code == 2
    assert "3 routers" in done.err
    assert done.err.endswith("; pass one, and leave its other containers out of the file\n")
