"""`sidecar.model.secret_parsing`: what of a Secret is used, and that nothing shows any of it."""

import base64
from typing import Any

import pytest
from shapes import KEYS, refused, route

from sidecar.common.secret_text import NO_TEXT, SecretText
from sidecar.model.objects import TLS_SECRET, Key, Secret
from sidecar.model.parsing import identify, project

MARKED = "-----BEGIN PRIVATE KEY-----\nmarkedmarkedmarked\n-----END PRIVATE KEY-----\n"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(**others: Any) -> dict[str, Any]:
    metadata = {"name": "web-tls", "namespace": "demo"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": TLS_SECRET} | others


def parsed(data: dict[str, Any]) -> Secret:
    found = project(data, KEYS)
    assert isinstance(found, Secret)
    return found


def test_certificate_and_key_are_decoded() -> None:
    data = {"tls.crt": encoded("crt"), "tls.key": encoded(MARKED), "ca.crt": encoded("ca")}
    assert identify(secret()) == Key("Secret", "demo", "web-tls")
    found = parsed(secret(data=data))
    assert found == Secret("demo", "web-tls", TLS_SECRET, SecretText("crt"), SecretText(MARKED))
    assert found.key == Key("Secret", "demo", "web-tls")


def test_text_comes_before_base64_as_when_it_is_applied() -> None:
    found = parsed(secret(data={"tls.crt": encoded("old")}, stringData={"tls.crt": "new"}))
    assert (found.certificate.text, found.private_key) == ("new", NO_TEXT)


def test_base64_may_be_on_several_lines() -> None:
    text = encoded(MARKED)
    assert (
        parsed(secret(data={"tls.key": f"{text[:20]}\n  {text[20:]}\n"})).private_key.text == MARKED
    )


def test_of_another_type_nothing_is_kept() -> None:
    for kind in ("Opaque", "", None, "helm.sh/release.v1"):
        found = parsed(secret(type=kind, data={"tls.key": "not base64", "password": "x"}))
        assert found == Secret("demo", "web-tls", kind or "Opaque")


def test_bytes_that_are_no_text_are_for_the_judge() -> None:
    assert parsed(secret(data={"tls.key": base64.b64encode(b"\xff\xfe").decode()})).private_key


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (
            {"data": {"tls.key": MARKED}},
            'data["tls.key"]: the value is not base64; write it in base64, or as it is under',
        ),
        ({"data": {"tls.key": [MARKED]}}, 'data["tls.key"]: the value is a list;'),
        ({"data": MARKED}, "data: the value is text; write a mapping"),
        ({"stringData": {"tls.crt": {MARKED: 1}}}, 'stringData["tls.crt"]: the value is a mapping'),
        ({"type": [MARKED]}, "type: the value is a list;"),
    ],
)
def test_what_is_wrong_is_said_without_the_value(others: Any, message: str) -> None:
    found = refused(secret(**others))
    assert found.startswith(message)
    assert "marked" not in found


def test_nothing_shows_a_private_key() -> None:
    one, other = (parsed(secret(stringData={"tls.key": text})) for text in (MARKED, "other"))
    with pytest.raises(AssertionError) as failure:
        assert one == other
    for text in (repr(one), str(one), str(failure.value)):
        assert "marked" not in text


@pytest.mark.parametrize("name", ["a,metadata.name!=b", "A", "a b", "a/b", "*"])
def test_a_route_can_only_ask_for_one_secret(name: str) -> None:
    message = refused(route({"tls": {"externalCertificate": {"name": name}}}))
    assert message.startswith("spec.tls.externalCertificate.name: the value is not a valid name;")
