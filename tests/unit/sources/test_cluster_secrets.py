"""Secrets that Routes of a cluster refer to, against an API server with bad days."""

import base64
import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from by_host import host_app, secret_manifest
from follow import PATIENCE_SECONDS, World
from kube import FakeAPI, Fault, Request
from pki import CA, Issued
from stand import await_

from sidecar.model.objects import Key, Secret, secret_key
from sidecar.routing.web_tls import secret_of

ROOT = CA.root()
ONE, TWO = ROOT.leaf("a.test"), ROOT.leaf("b.test")


def edge(name: str = "web", secret: str = "web-tls") -> dict[str, Any]:
    tls: Any = {"externalCertificate": {"name": secret}}
    return host_app(name, f"{name}.test", [], termination="edge", tls=tls)[0]


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with FakeAPI() as api:
        yield api


@pytest.fixture
def world(api: FakeAPI) -> Iterator[World]:
    world = World(api, refers=secret_of)
    yield world
    world.close()


def secret(world: World, name: str = "web-tls") -> Secret | None:
    found = world.sink.objects.get(secret_key("demo", name))
    return found if isinstance(found, Secret) else None


def has(world: World, issued: Issued, name: str = "web-tls") -> bool:
    found = secret(world, name)
    return found is not None and found.private_key.text == issued.key_pem


def await_has(world: World, issued: Issued, name: str = "web-tls") -> None:
    await_(lambda: has(world, issued, name), f"{name} is known", PATIENCE_SECONDS)


def only(name: str) -> Any:
    def of(request: Request) -> bool:
        return request.query.get("fieldSelector") == f"metadata.name={name}"

    return of


def kept(issued: Issued) -> bool:
    """Whether the key is in any Secret of this process."""
    gc.collect()
    found = (item for item in gc.get_objects() if isinstance(item, Secret))
    return any(item.private_key.text == issued.key_pem for item in found)


def test_a_secret_is_asked_for_by_its_name_and_followed(world: World) -> None:
    world.api.apply(edge(), secret_manifest("web-tls", ONE), secret_manifest("other", TWO))
    world.api.apply(secret_manifest("web-tls", TWO, namespace="else"))
    world.start().synced()
    world.await_names("web")
    assert has(world, ONE)
    assert world.sink.names("Secret") == {"web-tls"}
    asked = world.api.asked(plural="secrets")
    assert {item.path for item in asked} == {"/api/v1/namespaces/demo/secrets"}
    assert {item.query["fieldSelector"] for item in asked} == {"metadata.name=web-tls"}
    assert {item.verb for item in asked} <= {"list", "watch"}
    world.api.apply(secret_manifest("web-tls", TWO))
    await_has(world, TWO)
    world.api.delete(secret_manifest("web-tls", TWO))
    await_(lambda: secret(world) is None, "it is gone")
    world.api.apply(secret_manifest("web-tls", ONE))
    await_has(world, ONE)
    assert world.sink.removed == [secret_key("demo", "web-tls")]


def test_nothing_is_kept_of_one_that_nobody_refers_to(world: World) -> None:
    world.api.apply(edge(), secret_manifest("web-tls", ONE), secret_manifest("other", TWO))
    world.start().synced()
    await_has(world, ONE)
    assert not kept(TWO)
    watches = world.api.watching("secrets")
    assert watches == 1
    world.api.apply(edge(secret="other"))
    await_has(world, TWO, "other")
    assert secret(world) is None
    await_(lambda: not kept(ONE), "nothing is left of it")
    await_(lambda: world.api.watching("secrets") == 1, "it is watched no more")
    world.api.delete(edge())
    await_(lambda: world.sink.names("Secret") == set(), "the other one is gone")
    await_(lambda: world.api.watching("secrets") == 0, "nor is it watched")


def test_one_that_is_forbidden_concerns_its_routes_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    forbidden = Fault(status=403, reason="Forbidden", message="you may not")
    world.api.apply(edge(), edge("good", "good-tls"), secret_manifest("good-tls", TWO))
    world.api.apply(secret_manifest("web-tls", ONE))
    world.api.fault(forbidden, plural="secrets", times=2, when=only("web-tls"))
    world.start().synced()
    world.await_names("web", "good")
    assert has(world, TWO, "good-tls")
    found = secret(world)
    assert found
    assert not found.unread
    assert found.problem.startswith("may not be read by this router; a Role ")
    rule = (
        'a Role of the router in namespace demo needs apiGroups [""], resources ["secrets"],'
        ' resourceNames ["web-tls"], verbs ["list", "watch"]'
    )
    assert rule in found.problem
    assert rule in world.sink.told("secrets")
    # It is tried again, and nothing more is said meanwhile.
    await_has(world, ONE)
    assert world.sink.told("secrets") == ""
    assert "web-tls" not in caplog.text


def test_once_known_it_stays_whatever_the_server_says(world: World) -> None:
    world.api.apply(edge(), secret_manifest("web-tls", ONE))
    world.start().synced()
    await_has(world, ONE)
    world.api.forbidden |= {("list", "secrets"), ("watch", "secrets")}
    world.api.end_watches("secrets", "break")
    told = "cannot be watched since"
    await_(lambda: told in world.sink.told("secrets"), told, PATIENCE_SECONDS)
    assert 'resourceNames ["web-tls"]' in world.sink.told("secrets")
    assert has(world, ONE)
    world.api.apply(secret_manifest("web-tls", TWO))
    world.api.forbidden.clear()
    await_has(world, TWO)
    assert world.sink.told("secrets") == ""


def test_a_server_that_fails_is_waited_for(world: World) -> None:
    world.api.apply(edge(), secret_manifest("web-tls", ONE))
    world.api.fault(Fault(status=500), plural="secrets", times=4)
    world.start()
    await_has(world, ONE)
    world.synced().await_names("web")
    assert world.sink.removed == []


def test_another_one_that_is_sent_is_not_taken(world: World) -> None:
    """As by a server that heeds no fieldSelector."""
    world.api.apply(edge(), secret_manifest("web-tls", ONE))
    other = secret_manifest("other", TWO)
    other["metadata"]["resourceVersion"] = "5"
    body = {"items": [other], "metadata": {"resourceVersion": "5"}}
    world.api.fault(Fault(status=200, body=_json(body)), verb="list", plural="secrets")
    world.start().synced()
    world.await_names("web")
    assert not kept(TWO)
    assert "other" not in world.sink.names("Secret")


def test_what_a_watch_says_is_not_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    marked = base64.b64encode(b"markedmarkedmarked").decode()
    world.api.apply(edge(), secret_manifest("web-tls", ONE))
    for line in (f'{{"data":{{"tls.key":"{marked}"}}}}\n', f'"{marked}\n'):
        world.api.fault(Fault(lines=line.encode()), verb="watch", plural="secrets")
    world.start().synced()
    listed = "lists again"
    await_(lambda: len(world.api.asked("list", "secrets")) >= 3, listed, PATIENCE_SECONDS)
    await_has(world, ONE)
    assert "bytes is not" in caplog.text
    assert marked not in caplog.text


def test_all_is_read_once_for_a_command(world: World) -> None:
    world.api.apply(edge(), secret_manifest("web-tls", ONE), edge("none", "none-tls"))
    world.api.apply(edge("bad", "bad-tls"))
    world.api.fault(Fault(status=500), plural="secrets", when=only("bad-tls"))
    world.source().load(world.sink)
    assert has(world, ONE)
    assert secret(world, "none-tls") is None
    bad = secret(world, "bad-tls")
    assert bad
    assert bad.unread
    assert world.sink.names("Route") == {"web", "none", "bad"}
    assert world.api.asked("watch") == []


def test_without_the_setting_none_is_ever_asked_for(api: FakeAPI) -> None:
    world = World(api)
    api.apply(edge(), secret_manifest("web-tls", ONE))
    world.start().synced()
    world.await_names("web")
    assert api.asked(plural="secrets") == []
    assert Key("Secret", "demo", "web-tls") not in world.sink.objects
    world.close()


def _json(data: Any) -> bytes:
    import json

    return json.dumps(data).encode()
