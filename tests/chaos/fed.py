"""The real sidecar in a process of its own, so that it can be killed at any instant. It is fed with
pickled changes on its standard input; until the first come it waits, with all imports done.
"""

import contextlib
import os
import pickle
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from sidecar.common.logs import set_up_logging
from sidecar.daemon.loop import Daemon
from sidecar.model.change import Change, Sink
from sidecar.settings.schema import parse_settings


class Fed:
    """A `Source` that publishes what comes."""

    origins = ("stdin",)

    def __init__(self, first: Sequence[Change]) -> None:
        self._first = first

    def load(self, sink: Sink) -> None:
        raise NotImplementedError

    def run(self, sink: Sink, stop: threading.Event) -> None:
        sink.publish("stdin", self._first, ())
        while not stop.is_set():
            try:
                sink.publish("stdin", pickle.load(sys.stdin.buffer), ())
            except EOFError:
                os._exit(0)  # whoever fed us is gone


if __name__ == "__main__":
    settings = parse_settings(Path(sys.argv[1]).read_text(encoding="utf-8"), {}, sys.argv[1])
    set_up_logging("human", "info")
    with contextlib.suppress(EOFError):
        Daemon(settings, Fed(pickle.load(sys.stdin.buffer))).run()
