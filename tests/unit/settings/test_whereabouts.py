"""The few settings that say where the sidecar is: never other ones than those of `Settings`."""

from pathlib import Path

import pytest

from sidecar.cli.config import whereabouts_of
from sidecar.common.errors import SettingsError
from sidecar.settings.parsing import parse_settings
from sidecar.settings.schema import HAProxySettings, HTTPSettings, Settings
from sidecar.settings.whereabouts import HAPROXY_KEYS, HTTP_KEYS, KEYS, whereabouts

MANIFESTS = Path(__file__).parents[3] / "manifests"


def test_the_keys_are_those_of_the_settings() -> None:
    assert Settings.model_fields.keys() == KEYS
    assert HAProxySettings.model_fields.keys() == HAPROXY_KEYS
    assert HTTPSettings.model_fields.keys() == HTTP_KEYS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "router_name: mine\nhttp:\n",
        "haproxy: {socket: /run/h, timeout: 500ms}\nhttp: {listen: '[::1]:9', token_file: t/k}",
        "haproxy: {socket: 'localhost:9999'}",
        "http: {listen: null}",
        (MANIFESTS / "base/sidecar.yaml").read_text(),
        (MANIFESTS / "laptop/sidecar.yaml").read_text(),
        (MANIFESTS / "overlays/hostnetwork/sidecar.yaml").read_text(),
    ],
)
@pytest.mark.parametrize("environment", [{}, {"WZH_ROUTER_NAME": "other"}])
def test_they_are_the_same(text: str, environment: dict[str, str]) -> None:
    found = whereabouts(text, environment)
    assert found == whereabouts_of(parse_settings(text, environment, "test"))


@pytest.mark.parametrize(
    "text",
    [
        "htpp: {}",
        "http: {lisen: a}",
        "haproxy: {sokcet: a}",
        "http: [1]",
        "[1]",
        "a: b: c",
        "--- {}\n--- {}\n",
        "router_name: ''",
        "router_name: 1",
        'router_name: "a\\tb\\x1b"',
        "haproxy: {timeout: 5}",
        "haproxy: {timeout: null}",
        "haproxy: {timeout: 0s}",
        "haproxy: {timeout: 30d}",
        "haproxy: {socket: null}",
        "haproxy: {socket: ''}",
        f"haproxy: {{socket: /{'a' * 200}}}",
        "haproxy: {socket: 'fe80::1:9'}",
        "http: {listen: '8405'}",
        "http: {listen: 'a:0'}",
        "http: {listen: '[fe80::1]:9'}",
        "http: {listen: 'fe80::1%eth0:9'}",
        "http: {token_file: ''}",
        "http: {token_file: 1}",
    ],
)
def test_what_may_be_a_mistake_is_left_to_those_who_judge(text: str) -> None:
    assert whereabouts(text, {}) is None
    with pytest.raises(SettingsError):
        parse_settings(text, {}, "test")


def test_what_is_only_unusual_is_left_to_them_too() -> None:
    assert whereabouts("router_name: my router", {}) is None
    assert parse_settings("router_name: my router", {}, "test").router_name == "my router"
