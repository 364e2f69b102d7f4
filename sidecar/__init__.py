"""haproxy-sidecar: the router for OpenShift and Kubernetes that never reloads HAProxy."""

__version__ = "0.1.0"
