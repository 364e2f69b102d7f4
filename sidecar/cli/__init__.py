"""The command line. `main` is the whole of it; each command's work is in a module of its own,
imported when the command runs, so that ``--help`` is quick."""

import sys


def main() -> None:
    """Run one command; see docs/reference.md. Exits with 0, 1, 2 or 3."""
    try:
        _run()
    except KeyboardInterrupt:
        # Before the command was so far as to handle it.
        sys.exit(130)


def _run() -> None:
    from sidecar.cli.app import app
    from sidecar.errors import SidecarError

    try:
        app(prog_name="haproxy-sidecar")
    except SidecarError as exc:
        sys.stderr.write(f"haproxy-sidecar: {exc}\n")
        sys.exit(exc.exit_code)
