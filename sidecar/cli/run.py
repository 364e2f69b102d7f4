"""``run``: the sidecar next to a running HAProxy.

Imports nothing that only a terminal or an HAProxy of its own needs: in a pod memory counts.
"""

import os
from pathlib import Path

from sidecar.cli.config import load_settings
from sidecar.cli.context import make_source
from sidecar.cli.reporting import make_reporter
from sidecar.cli.signals import Signals
from sidecar.common.logs import set_up_logging
from sidecar.common.metrics import Metrics
from sidecar.common.supervisor import Predecessors
from sidecar.daemon.loop import Daemon


def run(config: Path | None, before: Predecessors | None = None) -> None:
    """Watch and drive until SIGINT, or for a grace time after SIGTERM; HAProxy is left as it is.
    ``before``: the sidecars that this one replaces."""
    settings = load_settings(config)
    set_up_logging(settings.log.format, settings.log.level)
    with Signals() as signals:
        metrics = Metrics()
        metrics.worker_restarts.inc(before.count if before else 0)
        reporter = make_reporter(settings, metrics, os.environ)
        source = make_source(settings, metrics=metrics)
        daemon = Daemon(settings, source, reporter=reporter, metrics=metrics)
        signals.call(daemon.stop, daemon.leave)
        daemon.run()
