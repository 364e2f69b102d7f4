"""``up``: the sidecar with its own HAProxy, on a laptop."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from sidecar.cli.config import load_settings
from sidecar.cli.context import make_source
from sidecar.cli.render import describe_pool, write_files
from sidecar.cli.reporting import make_reporter
from sidecar.cli.signals import Signals
from sidecar.common.errors import HAProxyError
from sidecar.common.logs import set_up_logging
from sidecar.common.metrics import Metrics
from sidecar.daemon.loop import Daemon
from sidecar.haproxy.process import HAProxyChild, answering, find_haproxy, refuse_busy_ports
from sidecar.settings.schema import Settings


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
            " is `up` running in another terminal? Stop it first, or set haproxy.socket"
        )
    refuse_busy_ports(settings.pool())
    with Signals() as signals:
        write_files(settings, haproxy.config)
        _done(say, f"rendered {haproxy.config}: {describe_pool(settings)}")
        log_file = haproxy.config.with_name("haproxy.log")
        child = HAProxyChild(binary, haproxy.config, log_file, haproxy.socket)
        try:
            signals.call(child.stop)
            info = child.start()
            _done(
                say,
                f"started HAProxy {info.version}, PID {info.pid}; it never restarts or reloads\n"
                f"    its log, with every connection: {log_file}",
            )
            watched = ", ".join(str(path) for path in manifests) or str(settings.source.path)
            _done(say, f"watching {watched}; edit, add or delete a manifest there")
            _print_hints(say, settings, config, manifests)
            child.supervise()
            metrics = Metrics()
            # Manifests of one's own are nobody's to be told of.
            reporter = None if manifests else make_reporter(settings, metrics, os.environ)
            daemon = Daemon(settings, source, reporter=reporter, metrics=metrics)
            signals.call(daemon.stop)
            daemon.run()
        except HAProxyError:
            if not signals.received:
                raise
        finally:
            child.stop()
    say.print("stopped HAProxy; nothing is left running")


def _done(say: Console, text: str) -> None:
    say.print(f"[green]\N{CHECK MARK}[/] {escape(text)}")


def _print_hints(
    say: Console, settings: Settings, config: Path | None, manifests: Sequence[Path]
) -> None:
    option = f" -c {config}" if config else ""
    command = _own_name()
    if not manifests or {path.resolve() for path in manifests} == {settings.source.path.resolve()}:
        # It reads source.path, and would show the Routes of other manifests as nobody's.
        say.print(f"    status:  {command} status{option}", markup=False)
    say.print(f"    shell:   {command} shell{option}", markup=False)
    if settings.http.listen:
        say.print(f"    page:    http://{settings.http.listen}/", markup=False)
    say.print("    Ctrl-C stops all of it\n")


def _own_name() -> str:
    """What a person types to run this command again."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{sys.executable} -m sidecar"
    return called.name if shutil.which(called.name) else str(called)
