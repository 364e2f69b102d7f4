"""Tokens and certificates that are replaced while the sidecar runs, and connections of long ago."""

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from follow import PATIENCE_SECONDS, Recorder
from kube import FakeAPI, Fault
from kubernetes.client import Configuration
from shapes import KEYS
from stand import app, await_, route_manifest, service_manifest

from sidecar.common.errors import ApiError, ApiUnreachableError
from sidecar.kube.client import KubeClient
from sidecar.sources.kubernetes.source import KubernetesSource, Scope

SERVICES = "/api/v1/services"
WEB = service_manifest("web")
PATH = "/api/v1/namespaces/demo/services/web"
MERGE_PATCH = "application/merge-patch+json"


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with FakeAPI() as api:
        api.apply(*app("web", 30000, []))
        yield api


@pytest.fixture
def tls_api(tmp_path: Path) -> Iterator[FakeAPI]:
    with FakeAPI(Authority(tmp_path)) as api:
        api.apply(*app("web", 30000, []))
        yield api


def kubeconfig(
    path: Path, server: str, user: Mapping[str, str], authority: Path | None = None
) -> Path:
    cluster = {"server": server}
    if authority:
        cluster["certificate-authority"] = str(authority)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fake", "cluster": cluster}],
        "users": [{"name": "fake", "user": dict(user)}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        "current-context": "fake",
    }
    path.write_text(json.dumps(config))
    return path


@contextlib.contextmanager
def followed(client: KubeClient) -> Iterator[Recorder]:
    """What a source makes of the cluster; it is known and watched."""
    sink, stop = Recorder(), threading.Event()
    source = KubernetesSource(client, KEYS, Scope())
    thread = threading.Thread(target=source.run, args=(sink, stop), daemon=True)
    thread.start()
    try:
        await_(lambda: set(source.origins) <= set(sink.problems), "synced", PATIENCE_SECONDS)
        yield sink
    finally:
        stop.set()
        thread.join(10)


def assert_a_new_token_is_taken(api: FakeAPI, client: KubeClient, token_file: Path) -> None:
    troubled: list[str] = []
    with followed(client) as sink:
        await_(lambda: api.watching() == 3, "it watches")
        token_file.write_text("new\n")
        api.token = "new"
        api.end_watches()
        api.apply(route_manifest("next", 30001))

        def is_seen() -> bool:
            troubled.extend(filter(None, map(sink.told, ("routes", "services", "endpointslices"))))
            return "next" in sink.names("Route")

        await_(is_seen, "the next Route is seen", PATIENCE_SECONDS)
        await_(lambda: api.watching() == 3, "it watches again", PATIENCE_SECONDS)
        # What is written, too: nothing was done when it was refused.
        body = {"metadata": {"labels": {"a": "b"}}}
        KubeClient.request(client, "PATCH", PATH, body=body, content_type=MERGE_PATCH)
    assert not troubled
    assert api.get(WEB)["metadata"]["labels"]["a"] == "b"


def test_a_token_file_of_a_kubeconfig_is_followed(api: FakeAPI, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("old")
    api.token = "old"
    config = kubeconfig(tmp_path / "config", api.host, {"tokenFile": "token"})
    assert_a_new_token_is_taken(api, KubeClient.from_environment(config), token_file)


def test_a_pods_own_token_is_followed(
    tls_api: FakeAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _, port = tls_api.host.removeprefix("https://").partition(":")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    token_file = tmp_path / "token"
    token_file.write_text("old")
    tls_api.token = "old"
    client = KubeClient.from_environment(account=tmp_path)
    assert_a_new_token_is_taken(tls_api, client, token_file)


def test_a_client_certificate_is_followed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    for name in ("old", "new"):
        authority.issue(name)

    def install(name: str) -> None:
        for kind in ("crt", "key"):
            shutil.copy(tmp_path / f"{name}.{kind}", tmp_path / f"mine.{kind}")

    install("old")
    user = {"client-certificate": "mine.crt", "client-key": "mine.key"}
    with FakeAPI(authority) as api:
        api.user = "old"
        config = kubeconfig(tmp_path / "config", api.host, user, authority.certificate)
        client = KubeClient.from_environment(config)
        client.request("GET", SERVICES)
        install("new")
        # The connection that is kept was made with the old one.
        client.request("GET", SERVICES)
        api.user = "new"
        client.request("GET", SERVICES)


def test_who_is_not_known_at_all_is_told_so(api: FakeAPI, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("old")
    api.token = "new"
    client = KubeClient.from_environment(
        kubeconfig(tmp_path / "config", api.host, {"tokenFile": "token"})
    )
    with pytest.raises(ApiError, match="401"):
        client.request("GET", SERVICES)
    assert len(api.requests) == 2
    token_file.unlink()
    with pytest.raises(ApiUnreachableError, match="credentials"):
        client.request("GET", SERVICES)


def test_a_kubeconfig_that_names_another_server_is_not_followed(
    api: FakeAPI, tmp_path: Path
) -> None:
    api.token = "old"
    path = tmp_path / "config"
    client = KubeClient.from_environment(kubeconfig(path, api.host, {"token": "old"}))
    client.request("GET", SERVICES)
    with FakeAPI() as other:
        kubeconfig(path, other.host, {"token": "new"})
        api.token = "new"
        with pytest.raises(ApiUnreachableError, match="restart"):
            client.request("GET", SERVICES)
        assert not other.requests
    kubeconfig(path, api.host, {"token": "new"})
    client.request("GET", SERVICES)


@pytest.fixture
def kept(api: FakeAPI) -> Iterator[KubeClient]:
    """A client with two connections that are kept from earlier requests."""
    client = KubeClient(Configuration(host=api.host))
    api.fault(Fault(slow_seconds=0.005), times=2)
    threads = [
        threading.Thread(target=client.request, args=("GET", SERVICES), daemon=True)
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    api.requests.clear()
    yield client
    client.close()


def asked(api: FakeAPI) -> list[str]:
    return [request.method for request in api.requests]


def test_a_kept_connection_that_is_closed_costs_no_read(api: FakeAPI, kept: KubeClient) -> None:
    # It was open when it was looked at, and closed when the request got there.
    api.fault(Fault(drop=True))
    assert kept.request("GET", SERVICES)["items"]
    assert asked(api) == ["GET", "GET"]


def test_a_read_is_repeated_once(api: FakeAPI, kept: KubeClient) -> None:
    api.fault(Fault(drop=True), times=3)
    with pytest.raises(ApiUnreachableError):
        kept.request("GET", SERVICES)
    assert asked(api) == ["GET", "GET"]


def test_a_write_is_not_repeated(api: FakeAPI, kept: KubeClient) -> None:
    api.fault(Fault(drop=True))
    body: Mapping[str, Any] = {"metadata": {"labels": {"a": "b"}}}
    with pytest.raises(ApiUnreachableError):
        kept.request("PATCH", PATH, body=body, content_type=MERGE_PATCH)
    assert asked(api) == ["PATCH"]
