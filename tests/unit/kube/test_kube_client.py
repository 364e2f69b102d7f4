"""`sidecar.kube.client` against a server that speaks HTTP and misbehaves."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kube import FakeAPI, Fault
from kubernetes.client import Configuration
from stand import await_, service_manifest

from sidecar.common.errors import ApiError, ApiUnreachableError, SourceError
from sidecar.kube.client import KubeClient
from sidecar.kube.framing import LINE_MAX_BYTES, LineFraming

SERVICES = "/api/v1/services"
WEB = service_manifest("web")


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with FakeAPI() as api:
        api.apply(WEB)
        yield api


@pytest.fixture
def client(api: FakeAPI) -> Iterator[KubeClient]:
    client = KubeClient(Configuration(host=api.host))
    yield client
    client.close()


def test_lists_and_says_who_asks(api: FakeAPI, client: KubeClient) -> None:
    data = client.request("GET", SERVICES, query={"labelSelector": "a in (b, c),!d"})
    assert data["kind"] == "ServiceList"
    assert data["items"] == []
    [request] = api.requests
    assert request.query == {"labelSelector": "a in (b, c),!d"}
    assert request.headers["user-agent"].startswith("haproxy-sidecar/")


def test_a_write_carries_its_content_type(api: FakeAPI, client: KubeClient) -> None:
    path = "/api/v1/namespaces/demo/services/web"
    patch = {"metadata": {"labels": {"a": "b"}}}
    client.request("PATCH", path, body=patch, content_type="application/merge-patch+json")
    assert api.get(WEB)["metadata"]["labels"]["a"] == "b"
    stale = {"metadata": {"resourceVersion": "1", "labels": {"a": "c"}}}
    with pytest.raises(ApiError) as caught:
        client.request("PATCH", path, body=stale, content_type="application/merge-patch+json")
    assert (caught.value.status, caught.value.reason) == (409, "Conflict")


def test_a_refusal_carries_the_servers_words(api: FakeAPI, client: KubeClient) -> None:
    api.forbidden.add(("list", "services"))
    with pytest.raises(ApiError) as caught:
        client.request("GET", SERVICES)
    error = caught.value
    assert (error.status, error.reason, error.exit_code) == (403, "Forbidden", 3)
    assert 'cannot list resource "services"' in error.message
    assert str(error).startswith(f"GET {SERVICES}: 403 Forbidden: ")


@pytest.mark.parametrize(
    ("headers", "details", "seconds"),
    [
        ({"Retry-After": "7"}, {}, 7.0),
        ({}, {"retryAfterSeconds": 3}, 3.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}, None),
        ({"Retry-After": "-1"}, {"retryAfterSeconds": "nan"}, None),
        ({"Retry-After": "86400"}, {}, 120.0),
    ],
)
def test_when_to_come_again(
    api: FakeAPI,
    client: KubeClient,
    headers: dict[str, str],
    details: dict[str, Any],
    seconds: float | None,
) -> None:
    body = json.dumps({"kind": "Status", "message": "later", "details": details}).encode()
    api.fault(Fault(status=429, headers=headers, body=body))
    with pytest.raises(ApiError) as caught:
        client.request("GET", SERVICES)
    assert caught.value.retry_after_seconds == seconds


@pytest.mark.parametrize("body", [b"<html>\n\x1b[31m" + b"x" * 100_000, b"", b"[1]", b"[" * 60_000])
def test_an_error_that_is_no_status_is_bounded(
    api: FakeAPI, client: KubeClient, body: bytes
) -> None:
    api.fault(Fault(status=502, body=body))
    with pytest.raises(ApiError) as caught:
        client.request("GET", SERVICES)
    assert caught.value.status == 502
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()
    assert client.request("GET", SERVICES)["items"]


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"\xff", b"[" * 200_000])
def test_a_success_that_is_no_object(api: FakeAPI, client: KubeClient, body: bytes) -> None:
    api.fault(Fault(status=200, body=body))
    with pytest.raises(ApiUnreachableError, match="the answer is n"):
        client.request("GET", SERVICES)


def test_a_redirect_is_not_followed(api: FakeAPI, client: KubeClient) -> None:
    api.fault(Fault(status=307, headers={"Location": f"{api.host}/elsewhere"}))
    with pytest.raises(ApiError, match="307"):
        client.request("GET", SERVICES)
    assert len(api.requests) == 1


def test_nothing_is_retried(api: FakeAPI, client: KubeClient) -> None:
    for fault in (Fault(drop=True), Fault(status=503), Fault(status=429)):
        api.fault(fault)
        with pytest.raises((ApiError, ApiUnreachableError)):
            client.request("GET", SERVICES)
    assert len(api.requests) == 3


def test_no_server_no_answer(api: FakeAPI, client: KubeClient) -> None:
    api.fault(Fault(hang=True))
    with pytest.raises(ApiUnreachableError, match="timed out"):
        client.request("GET", SERVICES, timeout_seconds=0.2)
    api.stop()
    with pytest.raises(ApiUnreachableError, match="Connection refused"):
        client.request("GET", SERVICES)
    api.start()
    assert client.request("GET", SERVICES)["items"]


def test_tls_that_is_none(api: FakeAPI) -> None:
    client = KubeClient(Configuration(host=api.host.replace("http:", "https:")))
    with pytest.raises(ApiUnreachableError, match="SSL"):
        client.request("GET", SERVICES)


def test_a_token_that_expires_is_renewed(api: FakeAPI) -> None:
    configuration = Configuration(host=api.host)
    tokens = iter(["bearer one\n", "bearer two\n"])

    def renew(configuration: Configuration) -> None:
        configuration.api_key["BearerToken"] = next(tokens)

    renew(configuration)
    configuration.refresh_api_key_hook = renew  # type: ignore[assignment]
    api.token = "two"
    client = KubeClient(configuration)
    client.request("GET", SERVICES)
    # The library has no more of them, in whatever way it says so.
    with pytest.raises(ApiUnreachableError, match="credentials"):
        client.request("GET", SERVICES)


@pytest.mark.parametrize("between", ["\n", "\r\nHost: elsewhere", "\x00", "\u2026"])
def test_a_token_that_no_header_can_hold_is_never_shown(api: FakeAPI, between: str) -> None:
    configuration = Configuration(host=api.host)
    configuration.api_key["BearerToken"] = f"Bearer secret{between}secret"
    with pytest.raises(ApiUnreachableError, match="credentials") as caught:
        KubeClient(configuration).request("GET", SERVICES)
    assert "secret" not in str(caught.value)
    assert not api.requests


def test_from_a_kubeconfig(api: FakeAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api.token = "secret"
    path = api.kubeconfig(tmp_path / "config")
    assert KubeClient.from_environment(path).request("GET", SERVICES)["items"]
    with pytest.raises(SourceError, match=r"other.*source\.context"):
        KubeClient.from_environment(path, "other")
    with pytest.raises(SourceError, match=r"absent.*source\.kubeconfig"):
        KubeClient.from_environment(tmp_path / "absent")
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    assert KubeClient.from_environment().host == api.host


def test_in_a_pod_without_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(SourceError, match="service account"):
        KubeClient.from_environment()


def watch(client: KubeClient, version: str = "1000", read_timeout_seconds: float = 30.0) -> Any:
    query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
    return client.stream(SERVICES, query=query, read_timeout_seconds=read_timeout_seconds)


def test_a_watch_is_lines(api: FakeAPI, client: KubeClient) -> None:
    with watch(client) as stream:
        lines = iter(stream)
        assert json.loads(next(lines))["object"]["metadata"]["name"] == "web"
        api.send(b'{"half":')
        api.send(b'1}\n{"next":2}\n{"cut')
        assert [next(lines), next(lines)] == [b'{"half":1}', b'{"next":2}']
        api.end_watches()
        assert list(lines) == []
    await_(lambda: api.watching() == 0, "the watch is left")


def test_a_watch_that_breaks_or_is_silent(api: FakeAPI, client: KubeClient) -> None:
    with watch(client) as stream:
        lines = iter(stream)
        next(lines)
        api.end_watches(how="break")
        with pytest.raises(ApiUnreachableError):
            list(lines)
    with watch(client, read_timeout_seconds=0.2) as stream:
        lines = iter(stream)
        next(lines)
        with pytest.raises(ApiUnreachableError, match="timed out"):
            list(lines)


def test_a_watch_that_is_refused(api: FakeAPI, client: KubeClient) -> None:
    api.compact()
    with pytest.raises(ApiError) as caught:
        watch(client, "1")
    assert caught.value.status == 410


@pytest.mark.parametrize("whole", [False, True])
def test_a_blocked_watch_ends_from_another_thread(
    api: FakeAPI, client: KubeClient, whole: bool
) -> None:
    ended = threading.Event()
    with watch(client) as stream:

        def read() -> None:
            list(stream)
            ended.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        await_(lambda: api.watching() == 1, "it watches")
        client.close() if whole else stream.close()
        assert ended.wait(10)
        reader.join()
    if whole:
        with pytest.raises(ApiUnreachableError, match="closed"):
            client.request("GET", SERVICES)


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b""))), st.data())
def test_lines_however_they_are_split(lines: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(line + b"\n" for line in lines) + b"half"
    framing = LineFraming()
    found = []
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        found += framing.receive_data(raw[:size])
        raw = raw[size:]
    assert found == [line for line in lines if line]


def test_a_line_without_an_end_is_none() -> None:
    framing = LineFraming()
    framing.receive_data(b"x" * LINE_MAX_BYTES)
    with pytest.raises(ValueError, match="a line of more than"):
        framing.receive_data(b"x")
