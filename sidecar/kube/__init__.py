"""The Kubernetes API: the connection to it, and what is written there."""
