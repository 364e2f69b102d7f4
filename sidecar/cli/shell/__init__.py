"""``shell``: HAProxy's Runtime API by hand. `session` puts it together; `lines`, `guard`, `tables`
and the first half of `completion` are pure."""

from sidecar.cli.shell.session import shell

__all__ = ["shell"]
