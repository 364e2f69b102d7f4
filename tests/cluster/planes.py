"""The fixtures of these tests: one control plane for all, with the router and the demo applied."""

from collections.abc import Iterator

import pytest
from plane import ControlPlane


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    control_plane = ControlPlane(tmp_path_factory.mktemp("plane"))
    try:
        control_plane.start()
        control_plane.apply(*control_plane.overlay("kubernetes"))
        control_plane.kubectl(
            "wait", "--for=condition=Established", "crd/routes.route.openshift.io", "--timeout=60s"
        )
        control_plane.apply(*control_plane.overlay("demo"))
        yield control_plane
    finally:
        control_plane.close()
