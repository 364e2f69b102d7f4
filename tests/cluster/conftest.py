"""One control plane for all tests here, with the router's manifests applied to it."""

from collections.abc import Iterator

import pytest
from plane import MANIFESTS, ControlPlane


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    control_plane = ControlPlane(tmp_path_factory.mktemp("plane"))
    try:
        control_plane.start()
        control_plane.kubectl("apply", "--server-side", "-k", str(MANIFESTS / "overlays/kubernetes"))
        control_plane.kubectl(
            "wait", "--for=condition=Established", "crd/routes.route.openshift.io", "--timeout=60s"
        )
        yield control_plane
    finally:
        control_plane.close()
