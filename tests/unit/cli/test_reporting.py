"""Whom `run` tells what becomes of Routes, and by which Lease."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kube import FakeAPI

from sidecar.cli.reporting import lease_name, make_reporter
from sidecar.common.errors import SettingsError
from sidecar.common.metrics import Metrics
from sidecar.model.fields import Field
from sidecar.settings.parsing import parse_settings


@given(st.text(min_size=1, max_size=400))
def test_a_lease_has_a_name_that_the_api_server_takes(router: str) -> None:
    Field("", lease_name(router)).name()


def test_routers_whose_names_are_alike_have_leases_of_their_own() -> None:
    assert lease_name("wzh-router-1") == "haproxy-sidecar-wzh-router-1"
    names = ["a-b", "a_b", "A-b", "a b", "a-b-", "x" * 300, "x" * 301, "é", "è", "..", "..."]
    assert len({lease_name(name) for name in names}) == len(names)


def test_nobody_is_told_of_manifests() -> None:
    settings = parse_settings("", {}, "test")
    assert make_reporter(settings, Metrics(), {}) is None


def test_a_lease_needs_a_namespace(tmp_path: Path) -> None:
    with FakeAPI() as api:
        config = api.kubeconfig(tmp_path / "config")
        text = f"source: {{kind: kubernetes, kubeconfig: {config}}}"
        settings = parse_settings(text, {}, "test")
        with pytest.raises(
            SettingsError, match=r"kubernetes\.lease\.namespace(.|\n)*POD_NAMESPACE"
        ):
            make_reporter(settings, Metrics(), {})
        assert make_reporter(settings, Metrics(), {"POD_NAMESPACE": "ingress"}) is not None
        named = parse_settings(text + "\nkubernetes: {lease: {namespace: x}}", {}, "test")
        assert make_reporter(named, Metrics(), {}) is not None
