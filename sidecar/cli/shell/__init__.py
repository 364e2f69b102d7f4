"""``shell``: an interactive shell for HAProxy's Runtime API. `session` assembles it; `lines`,
`guard`, `tables` and the first half of `completion` are pure."""

from sidecar.cli.shell.session import shell

__all__ = ["shell"]
