"""What `top` does with what comes from its threads, on a terminal that is none."""

import threading
from pathlib import Path
from typing import Any, cast

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from reported import Told, page_of, port, report

from sidecar.cli.top.screen import Screen
from sidecar.cli.whom import sidecar_at


class Wrong:
    """Settings that only a mistake of ours can be about."""

    def read_text(self, **_: Any) -> str:
        raise ZeroDivisionError("ours")


def test_an_error_of_ours_ends_it() -> None:
    """Else it would wait for the answer for ever, and nobody would know why."""
    over = threading.Event()
    with (
        page_of(Told(report(port(30000)))) as url,
        create_pipe_input() as keys,
        create_app_session(input=keys, output=DummyOutput()),
    ):
        screen = Screen(cast("Path", Wrong()), sidecar_at(url, None), "")

        def press() -> None:
            # Until the row is there, the key is about nothing.
            while not over.wait(0.05):
                keys.send_text("s")

        thread = threading.Thread(target=press)
        thread.start()
        try:
            with pytest.raises(ZeroDivisionError, match="ours"):
                screen.run()
        finally:
            over.set()
            thread.join()
