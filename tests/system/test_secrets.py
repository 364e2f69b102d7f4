"""A private key is in nothing that the sidecar or HAProxy says, whatever becomes of it."""

import base64
import contextlib
import re
import signal
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from by_host import NamedServer, WebStand, host_app, secret_manifest
from cli import Process, Start, command, spawn_cli
from handshake import shake_hands
from kube import FakeAPI
from pki import CA, Issued
from stand import MakeStand, Stand, await_

ROOT = CA.root()
PAGES = ("/", "/metrics", "/readyz", "/healthz", "/api/status", "/api/history")


def found_in(text: str, *keys: str) -> list[str]:
    """What of these keys (P-256, in PEM) is in ``text``, as it is or encoded again. Only what is
    secret counts: what is around it is in every key, or in the certificate."""
    flat = re.sub(r"\\n|[\s\"']", "", text)
    pieces: list[str] = []
    for key in keys:
        first, second, *_ = key.splitlines()[1:]
        secret = base64.b64decode(first + second)[36:68]
        pieces += [first[48:], second[:24], secret.hex(), secret.hex().upper()]
        pieces += [base64.b64encode(part.encode()).decode()[:32] for part in (key, first, second)]
    begin = base64.b64encode(b"-----BEGIN PRIVATE KEY-----").decode()[:32]
    return [piece for piece in pieces if piece in flat and piece != begin]


def test_what_looks_for_a_key_finds_it() -> None:
    """Or the test below would prove nothing."""
    key = ROOT.leaf().key_pem
    assert found_in(f"a log: {key!r}", key)
    assert found_in(f"a log: {key[70:125]}", key)
    assert found_in(base64.b64encode(key.splitlines()[2].encode()).decode(), key)
    assert not found_in(f"a log: {ROOT.leaf().key_pem}", key)


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with FakeAPI() as server:
        yield server


def get(stand: Stand, path: str) -> tuple[int, str]:
    """Status and body; status 0 where nobody listens."""
    try:
        with urllib.request.urlopen(f"http://{stand.settings.http.listen}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()
    except OSError:
        return 0, ""


def await_shown(web: WebStand, host: str, issued: Issued) -> None:
    def is_shown() -> bool:
        with shake_hands(web.tls, host) as secured:
            return secured.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(issued.pem)

    await_(is_shown, f"{host} has its certificate", 30)


def edge(
    name: str, server: NamedServer, tls: Mapping[str, str], **annotations: str
) -> tuple[dict[str, Any], ...]:
    host = f"{name}.example"
    route, *rest = host_app(name, host, [server], termination="edge", tls=tls)
    route["metadata"]["annotations"] = annotations
    return route, *rest


def external(name: str, server: NamedServer, secret: str = "") -> tuple[dict[str, Any], ...]:
    """A Route whose certificate is in a Secret."""
    tls: Any = {"externalCertificate": {"name": secret or name}}
    return host_app(name, f"{name}.example", [server], termination="edge", tls=tls)


def secret_with(name: str, issued: Issued, **others: Any) -> dict[str, Any]:
    return secret_manifest(name, issued) | others


def tls_of(issued: Issued, key: str | None = None) -> dict[str, str]:
    return {"certificate": issued.pem, "key": key or issued.key_pem}


@pytest.mark.timeout(180)
def test_a_private_key_is_said_nowhere(
    make_stand: MakeStand, api: FakeAPI, start: Start, tmp_path: Path, files: contextlib.ExitStack
) -> None:
    server = NamedServer("web")
    files.callback(server.close)
    config = str(api.kubeconfig(tmp_path / "kubeconfig"))
    web = WebStand.make(
        make_stand,
        {
            "source": {"kind": "kubernetes", "kubeconfig": config},
            "log": {"level": "debug"},
        },
        external_certificates=True,
    )
    stand = web.stand
    first, second, bad = (ROOT.leaf("web.example") for _ in range(3))
    keys = [first.key_pem, second.key_pem, bad.key_pem]
    misplaced = ROOT.leaf().key_pem
    keys.append(misplaced)
    wrongs = {
        "mismatch": tls_of(first, bad.key_pem),
        "garbage": tls_of(first, f"garbage\n{bad.key_pem[40:]}"),
        "misplaced": {"certificate": misplaced, "key": misplaced},
        "doubled": {"certificate": first.pem + misplaced, "key": first.key_pem},
        "as-ca": {**tls_of(first), "caCertificate": misplaced},
    }

    kept, renewed, strange, plain = (ROOT.leaf("kept.example") for _ in range(4))
    keys += [item.key_pem for item in (kept, renewed, strange, plain)]
    bare = {"tls.crt": kept.pem, "tls.key": strange.key_pem}
    #: Routes whose Secrets do not do, each in its way.
    secrets = {
        "unfit": secret_with("unfit", kept, data={}, stringData=bare),
        "raw": secret_with("raw", strange, data=bare),
        "shapeless": secret_with("shapeless", strange, data={"tls.key": [strange.key_pem]}),
        "opaque": secret_with("opaque", strange, type="Opaque"),
        "as-type": secret_with("as-type", strange, type=strange.key_pem),
        "swapped": secret_with(
            "swapped", strange, stringData={"tls.crt": strange.key_pem, "tls.key": strange.pem}
        ),
    }

    def secret_manifests(issued: Issued) -> list[dict[str, Any]]:
        routes = [item for name in ("kept", *secrets) for item in external(name, server)]
        # That one nobody refers to.
        loose = secret_manifest("loose", plain)
        return [*routes, secret_manifest("kept", issued), *secrets.values(), loose]

    def manifests(issued: Issued) -> list[dict[str, Any]]:
        noted = {
            "haproxy.router.openshift.io/timeout": misplaced,
            "haproxy.router.openshift.io/drain-deadline": misplaced,
            "router.openshift.io/cookie_name": misplaced,
        }
        made = [*edge("web", server, tls_of(issued)), *edge("noted", server, {}, **noted)]
        return made + [item for name, tls in wrongs.items() for item in edge(name, server, tls)]

    api.apply(*manifests(first), *secret_manifests(kept))
    sidecar: Process = start(command("run", "-c", stand.settings_file), POD_NAMESPACE="ingress")
    said: dict[str, str] = {}

    def ask_all(when: str) -> None:
        for path in PAGES:
            said[f"{when} {path}"] = get(stand, path)[1]
        # `status` has the message of the others.
        named = ("web", "kept", "noted", *wrongs, "unfit", "swapped")
        subjects = [f"demo/{name}" for name in named]
        questions: list[tuple[str, ...]] = [
            ("status", "--json"),
            ("history", "--json"),
            ("plan",),
            *(("why", subject) for subject in subjects[: None if when == "added" else 3]),
        ]
        for question in questions:
            done = spawn_cli(*question, "-c", str(stand.settings_file))
            said[f"{when} {question}"] = done.out + done.err

    await_shown(web, "web.example", first)
    await_shown(web, "kept.example", kept)
    await_(lambda: web.ended("web.example") == "web", "it is served")
    ask_all("added")
    api.apply(*manifests(second), secret_manifest("kept", renewed))
    await_shown(web, "web.example", second)
    await_shown(web, "kept.example", renewed)
    ask_all("renewed")
    api.apply(*edge("web", server, tls_of(second, bad.key_pem)))
    await_(lambda: web.ended("web.example") == "503", "what does not fit is refused")
    ask_all("refused")
    api.apply(*edge("web", server, tls_of(second)))
    await_(lambda: web.ended("web.example") == "web", "it is served again")
    stand.stop_haproxy()
    stand.start_haproxy()
    await_(lambda: get(stand, "/readyz")[0] == 200, "ready after the restart", 30)
    ask_all("restarted")

    # By hand: what is put there is refused, and not said.
    for number, payload in enumerate((f"\n{bad.key_pem}\n", bad.key_pem.replace("\n", " "))):
        line = f"set ssl cert x <<{payload}"
        done = spawn_cli("shell", "-e", line, "-c", str(stand.settings_file))
        assert done.code == 2
        assert "payloads (<<) are not supported" in done.err
        said[f"shell {number}"] = done.out + done.err
    shown = spawn_cli("shell", "-e", "show ssl cert", "-c", str(stand.settings_file))
    said["shell show"] = shown.out + shown.err

    # Offline, on files.
    folder = tmp_path / "offline"
    folder.mkdir()
    offline = [*manifests(first), *secret_manifests(kept)]
    (folder / "all.yaml").write_text(yaml.safe_dump_all(offline))
    checked = spawn_cli("check", str(folder), "-c", str(stand.settings_file))
    said["check"] = checked.out + checked.err
    (folder / "all.yaml").write_text(f"a: {misplaced}\n  b: [")
    checked = spawn_cli("check", str(folder), "-c", str(stand.settings_file))
    said["check of bad YAML"] = checked.out + checked.err

    await_(lambda: len(api.asked("patch")) > 3, "status.ingress was written", 20)
    asked = [(item.method, item.path, item.body) for item in api.asked()]
    said["requests"] = repr(asked)
    said["events"] = repr(api.all("/api/v1", "events"))
    sidecar.send(signal.SIGINT)
    sidecar.wait(40)
    said["log"] = sidecar.said
    said["haproxy.log"] = (stand.folder / "haproxy.log").read_text()
    assert {name: found for name, text in said.items() if (found := found_in(text, *keys))} == {}
    assert "mismatch" in said["log"]
    for name in secrets:
        assert f"\n  demo/{name}: " in said["check"], "it is said why it does not do"
    assert "Secret demo/kept" in said["added ('why', 'demo/kept')"]
    assert "ExtendedValidationFailed" in said["requests"]
    assert len(said["added ('status', '--json')"]) > 500, "it said something"

    shared = stand.settings.haproxy.state_file.parent
    holding = [path for path in shared.rglob("*") if path.is_file()]
    holding = [path for path in holding if found_in(path.read_text("latin-1"), *keys)]
    assert holding, "HAProxy has its files"
    for path in holding:
        assert path.parent == shared / "certificates"
        assert path.stat().st_mode & 0o777 == 0o640
    assert (shared / "certificates").stat().st_mode & 0o777 == 0o750
