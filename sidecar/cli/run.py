"""``run`` and ``up``: the sidecar beside a HAProxy that is there, or with one of its own."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from sidecar.child import HAProxyChild, answering, find_haproxy, refuse_busy_ports
from sidecar.cli.context import load_settings, make_source
from sidecar.cli.render import describe_pool, write_files
from sidecar.daemon import Daemon
from sidecar.errors import HAProxyError
from sidecar.logs import set_up_logging
from sidecar.settings import Settings


def run(config: Path | None) -> None:
    """Watch and drive until SIGTERM or SIGINT; HAProxy is left as it is."""
    settings = load_settings(config)
    set_up_logging(settings.log.format, settings.log.level)
    _until_signal(Daemon(settings, make_source(settings)))


def up(config: Path | None, manifests: Sequence[Path]) -> None:
    """Render, start HAProxy, watch and drive; on Ctrl-C stop both."""
    settings = load_settings(config)
    set_up_logging(settings.log.format, settings.log.level)
    say = Console(stderr=True, highlight=False, soft_wrap=True)
    haproxy = settings.haproxy
    source = make_source(settings, manifests)
    binary = find_haproxy(os.environ)
    if other := answering(haproxy.socket):
        raise HAProxyError(
            f"HAProxy {other.version} (PID {other.pid}) answers at {haproxy.socket} already:"
            " is `up` running in another terminal? Stop that first, or set haproxy.socket"
        )
    refuse_busy_ports(settings.pool())
    write_files(settings, haproxy.config)
    say.print(f"[green]✓[/] rendered {escape(str(haproxy.config))}: {describe_pool(settings)}")
    log_file = haproxy.config.with_name("haproxy.log")
    child = HAProxyChild(binary, haproxy.config, log_file, haproxy.socket)
    info = child.start()
    try:
        say.print(
            f"[green]✓[/] started HAProxy {info.version}, PID {info.pid}; it never restarts or"
            f" reloads\n    its log, with every connection: {escape(str(log_file))}"
        )
        watched = ", ".join(str(path) for path in manifests) or str(settings.source.path)
        say.print(f"[green]✓[/] watching {escape(watched)}; edit, add or delete a manifest there")
        _print_hints(say, settings, config)
        child.supervise()
        _until_signal(Daemon(settings, source))
    finally:
        child.stop()
        say.print("stopped HAProxy; nothing is left running")


def _print_hints(say: Console, settings: Settings, config: Path | None) -> None:
    option = f" -c {config}" if config else ""
    command = _own_name()
    say.print(f"    status:  {command} status{option}", markup=False)
    say.print(f"    by hand: {command} shell{option}", markup=False)
    if settings.http.listen:
        say.print(f"    metrics: http://{settings.http.listen}/metrics", markup=False)
    say.print("    Ctrl-C stops all of it\n")


def _own_name() -> str:
    """What a person types to run this command again."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{sys.executable} -m sidecar"
    return called.name if shutil.which(called.name) else str(called)


def _until_signal(daemon: Daemon) -> None:
    """Run ``daemon`` in this thread; the first SIGINT or SIGTERM asks it to stop."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        # A handler runs between two instructions of the loop: it only leaves a note.
        threading.Thread(target=daemon.stop, name="stop").start()

    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        daemon.run()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
