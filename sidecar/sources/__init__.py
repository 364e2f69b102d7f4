"""Where Routes and their endpoints come from: a folder of manifests, or the Kubernetes API."""
