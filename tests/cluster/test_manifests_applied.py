"""Every manifest is one that a real API server takes, strictly."""

import pytest
import yaml
from plane import MANIFESTS, ControlPlane


@pytest.mark.parametrize("overlay", ["kubernetes", "openshift", "hostnetwork", "demo", "egress"])
def test_an_overlay_applies(plane: ControlPlane, overlay: str) -> None:
    folder = str(MANIFESTS / "overlays" / overlay)
    plane.kubectl("apply", "--dry-run=client", "--validate=strict", "-k", folder)
