"""The sidecar's own HTTP: the page, /api, probes, metrics."""
