"""``python -m sidecar`` is the command ``haproxy-sidecar``."""

from sidecar.cli import main

main()
