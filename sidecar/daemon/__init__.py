"""The running sidecar: assembly of the parts, and the loop."""
