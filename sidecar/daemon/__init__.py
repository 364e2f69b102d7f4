"""The running sidecar: what the parts are joined to, and the loop."""
