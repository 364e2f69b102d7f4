"""The real sidecar under its real parent, so that either can be killed at any instant.

    fed.py SETTINGS [FEED]

All is imported before it begins, at a byte on its standard input, so that a worker is there at
once; it ends with its standard input. FEED is a unix socket of a `sources.Feed`; without it the
source is that of the settings.
"""

import os
import pickle
import socket
import sys
import threading
from pathlib import Path

import sidecar.admin.server
import sidecar.kube.client
import sidecar.sources.kubernetes.source  # noqa: F401  what is loaded when it is needed
from sidecar.cli.context import make_source
from sidecar.common.logs import set_up_logging
from sidecar.common.supervisor import supervise
from sidecar.daemon.loop import Daemon
from sidecar.model.change import Sink
from sidecar.settings.parsing import parse_settings


class Fed:
    """A `Source` that publishes what comes."""

    origins = ("feed",)

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self, sink: Sink) -> None:
        raise NotImplementedError

    def run(self, sink: Sink, stop: threading.Event) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as feed:
            feed.connect(self._path)
            with feed.makefile("rb") as pickled:
                while not stop.is_set():
                    sink.publish("feed", pickle.load(pickled), ())


def end_with_input() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


if __name__ == "__main__" and os.read(0, 1):
    before = supervise()
    threading.Thread(target=end_with_input, daemon=True).start()
    settings = parse_settings(Path(sys.argv[1]).read_text(encoding="utf-8"), {}, sys.argv[1])
    set_up_logging("human", "info").info("worker %d; the last one %s", before.count, before.last)
    Daemon(settings, Fed(sys.argv[2]) if sys.argv[2:] else make_source(settings)).run()
