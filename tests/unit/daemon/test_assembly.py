"""`sidecar.daemon.assembly`: what is told of bad files that the settings name."""

import os
from pathlib import Path

import pytest
from pki import CA

from sidecar.common.errors import SettingsError
from sidecar.daemon.assembly import make_listeners, make_routing
from sidecar.settings.schema import Settings

ROOT = CA.root()


def made(tmp_path: Path, service_ca: Path) -> None:
    """What needs the CA of Services, for settings that name it."""
    settings = Settings.model_validate(
        {
            "haproxy": {"state_file": str(tmp_path / "servers.state")},
            "listeners": [{"name": "tls", "kind": "tls", "bind": ["127.0.0.1:443"]}],
            "web": {"service_ca": str(service_ca)},
        }
    )
    make_routing(settings, make_listeners(settings), None)


def test_the_ca_of_services_is_read(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(ROOT.pem)
    made(tmp_path, file)


@pytest.mark.parametrize(
    ("content", "told"),
    [("", "empty"), ("x", "PEM"), ("x" * 2**21, "more than 1048576 bytes"), (None, "No such file")],
    ids=["empty", "text", "big", "absent"],
)
def test_a_bad_ca_of_services_is_an_error_of_the_settings(
    tmp_path: Path, content: str | None, told: str
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        made(tmp_path, file)
    (problem,) = caught.value.problems
    assert problem.startswith(f"web.service_ca: {file}: ")
    assert told in problem


@pytest.mark.timeout(10)
def test_nobody_waits_for_who_writes_to_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError, match="pipe: not a file"):
        made(tmp_path, tmp_path / "pipe")
    with pytest.raises(SettingsError, match="not a file"):
        made(tmp_path, tmp_path)
